"""What a run compares: rows of the design with one covariate set, and words for what is wrong."""

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import fit_genes
from splisosm_pyro.genes.contrasts import checked_contrasts, contrasts_of
from splisosm_pyro.genes.data.covariates import covariate, design_of


@pytest.fixture
def covariates():
    region = covariate("region", ["A", "B", "C", "A", "B", "A"])
    return [region, covariate("age", [10.0, 20.0, 30.0, 35.0, 50.0, 5e3])]


def own_units(design, rows):
    """Rows (S, F+1) of the standard design in the user's units."""
    return rows[:, :-1] * design.standard.scale + design.standard.centre


def test_levels_and_values_are_set_at_every_spot(covariates):
    design = design_of(covariates, 6)
    asked = [("region", "C", "B"), ("region", "B", "A"), ("age", 60, 30.5)]
    sides = [
        [own_units(design, rows) for rows in one.at_spots(design.standard.with_intercept)]
        for one in contrasts_of(covariates, design, asked)
    ]
    given = own_units(design, design.standard.with_intercept)
    for (low, high), columns, values in zip(
        sides,
        ([0, 1], [0, 1], [2]),
        (([1, 0], [0, 1]), ([0, 0], [1, 0]), ([30.5], [60.0])),
        strict=True,
    ):
        rest = np.setdiff1d(np.arange(3), columns)
        for side, value in zip((low, high), values, strict=True):
            np.testing.assert_allclose(side[:, columns], np.tile(value, (6, 1)), atol=1e-9)
            np.testing.assert_allclose(side[:, rest], given[:, rest], atol=1e-9)


def test_what_is_compared_by_word(covariates):
    design = design_of(covariates, 6)
    names = [one.name for one in contrasts_of(covariates, design)]
    assert names == ["region=B", "region=C", "age+sd"]
    every = contrasts_of(covariates, design, "pairwise")
    assert [one.name for one in every if not one.against_first] == ["region=C-B"]
    twice = contrasts_of(covariates, design, [("age", 2, 1), ("age", 2.0, 1.0)])
    assert [one.name for one in twice] == ["age=2-1"]


def test_levels_that_are_numbers_are_words():
    batch = covariate("batch", pd.Series(["1", "2", "1", "2"], dtype="category"))
    (one,) = contrasts_of([batch], design_of([batch], 4), [("batch", 2, 1)])
    assert (one.level, one.reference) == ("2", "1")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([("depth", 1, 2)], "contrasts names 'depth', the covariates are region, age"),
        ([("region", "D", "A")], "'region' must name its levels A, B, C, came 'D'"),
        ([("region", "A", "A")], "two different levels"),
        ([("age", "old", 3)], "contrasts of 'age' must name finite numbers, came"),
        ([("age", np.inf, 3)], "contrasts of 'age' must name finite numbers, came"),
    ],
)
def test_what_cannot_be_compared_is_named(covariates, asked, words):
    with pytest.raises(ValueError, match=words):
        contrasts_of(covariates, design_of(covariates, 6), asked)


@pytest.mark.parametrize("asked", ["all", 3, [("age", 1)], ["age"], [("age", True, 2)], None])
def test_what_is_no_list_of_comparisons(asked):
    with pytest.raises(ValueError, match="contrasts must be 'reference', 'pairwise' or a list of"):
        checked_contrasts(asked)


def test_a_run_compares_what_is_asked_for(tissue):
    """Half the step has less than half the change, and opposite steps opposite changes."""
    asked = [("age", 1.0, -1.0), ("age", -1.0, 1.0), ("age", 0.5, 0.0)]
    found = fit_genes(
        tissue.counts.numpy()[:1],
        coords=tissue.coords,
        covariates=pd.DataFrame({"age": tissue.coords[:, 0] - tissue.coords[:, 0].mean()}),
        model="glm",
        contrasts=asked,
        progress=False,
    )
    changes = found.effects[found.effects["number"] == 0].set_index(["level", "reference"])
    up, down = changes.loc[("1", "-1")], changes.loc[("-1", "1")]
    assert up["change"] == pytest.approx(-down["change"], abs=1e-12)
    assert up["low"] == pytest.approx(-down["high"], abs=1e-9)
    assert abs(changes.loc[("0.5", "0")]["change"]) < abs(up["change"])
    assert {"delta_age=1--1", "delta_age=1--1_low"} <= set(found.isoforms)
