"""Random small problems of every kind; RANDOM_PROBLEMS=2000 in the environment tries so many."""

import os

import pytest
from random_problems import findings, random_problem

N_PROBLEMS = int(os.environ.get("RANDOM_PROBLEMS", "200"))
AT_A_TIME = 50


@pytest.mark.filterwarnings("ignore:counts holds fractional numbers")
@pytest.mark.parametrize("first", range(0, N_PROBLEMS, AT_A_TIME))
def test_every_fit_obeys_the_laws(first):
    wrong = {}
    for seed in range(first, min(first + AT_A_TIME, N_PROBLEMS)):
        problem = random_problem(seed)
        if found := findings(problem):
            wrong[str(problem)] = found
    assert not wrong
