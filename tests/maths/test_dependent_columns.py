"""Which columns of a design can be left out beside an intercept."""

import numpy as np
import pytest

from splisosm_pyro.maths.dependent_columns import constant_columns, dependent_columns

EPS = np.finfo(np.float64).eps
S = 23


def made():
    """A one-hot of three levels, two numbers, their difference and a constant, in some order."""
    rng = np.random.default_rng(0)
    levels, numbers = np.eye(3)[np.arange(S) % 3], rng.normal(size=(S, 2)) * [1e5, 1e-4]
    apart = numbers[:, 0] * 1e-9 - numbers[:, 1]
    return np.column_stack([levels[:, 0], np.full(S, 7.0), levels[:, 1:], numbers, apart])


def rank_with_intercept(columns):
    centred = columns - columns.mean(axis=0)
    scale = np.abs(centred).max(axis=0)
    return np.linalg.matrix_rank(centred / np.where(scale > 1e-12, scale, 1.0), tol=1e-8)


@pytest.mark.parametrize("order", [range(7), range(6, -1, -1), [3, 0, 6, 1, 5, 2, 4]], ids=str)
def test_what_stays_spans_the_same_and_is_independent(order):
    columns = made()[:, list(order)]
    out = [one.column for one in dependent_columns(columns, EPS)]
    kept = np.delete(columns, out, axis=1)
    assert len(out) == 3
    assert rank_with_intercept(kept) == kept.shape[1] == rank_with_intercept(columns)


def test_the_last_of_a_set_is_left_out_and_the_others_are_named():
    found = dependent_columns(made(), EPS)
    assert {one.column: one.partners for one in found} == {1: (), 3: (0, 2), 6: (4, 5)}
    words = [one.in_words("aubcxyz") for one in found]
    assert words[0] == "column 'u' is constant"
    assert "column 'c' is a linear combination of the intercept and 'a', 'b'" in words


def test_independent_columns_all_stay():
    assert dependent_columns(made()[:, [0, 2, 4, 5]], EPS) == []
    assert dependent_columns(np.zeros((S, 0)), EPS) == []


def test_more_columns_than_spots():
    columns = np.random.default_rng(1).normal(size=(5, 7))
    assert sorted(one.column for one in dependent_columns(columns, EPS)) == [4, 5, 6]


def test_constant_up_to_rounding():
    columns = np.column_stack([np.full(S, 1e9), np.linspace(0, 1e-3, S)])
    columns[3, 0] += 1e-7
    assert constant_columns(columns, EPS).tolist() == [True, False]
