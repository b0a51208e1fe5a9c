"""Covariates as they stand in tables, and messages that name the column."""

import datetime

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from splisosm_pyro.genes.data.covariates import covariate
from splisosm_pyro.maths.axes import SplisosmWarning

DAYS = pd.to_datetime(["2024-03-01", "2024-03-05", "2024-02-29", "2024-03-01"])


@pytest.mark.parametrize(
    "dates",
    [
        DAYS,
        DAYS.tz_localize("UTC"),
        DAYS.to_period("D"),
        pd.Series(DAYS.to_numpy()),
        DAYS.to_numpy(),
        [day.date() for day in DAYS],
        pd.Series([datetime.datetime(2024, 3, day) for day in (2, 6, 1, 2)], dtype=object),
    ],
)
def test_dates_are_days_since_the_first_and_it_is_said(dates):
    with pytest.warns(SplisosmWarning, match="'day' holds dates: .* days since the first, 2024-0"):
        own = covariate("day", dates)
    assert own.columns["day"].tolist() == [1.0, 5.0, 0.0, 1.0]
    assert own.levels == ()


def test_spans_of_time_are_days():
    own = covariate("wait", pd.to_timedelta([12, 24, 36], unit="h"))
    assert own.columns["wait"].tolist() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    "values",
    [
        [1, 0, 1],
        np.array([True, False, True]),
        pd.Series([True, False, True], dtype="boolean"),
        pd.Series([True, False, True], dtype=object),
        pd.Series([1, 0.0, 1], dtype=object),
        pd.Series([1, 0, 1], dtype="Int64"),
    ],
)
def test_numbers_of_any_kind(values):
    own = covariate("old", values)
    assert own.columns["old"].tolist() == [1.0, 0.0, 1.0]
    assert own.columns.dtypes.tolist() == [np.float64]


@pytest.mark.parametrize(
    "values", [np.array([b"u", b"v", b"u"]), pd.Categorical(["u", "v", "u"], ["v", "w", "u"])]
)
def test_words_of_any_kind(values):
    own = covariate("kind", values, reference="v")
    assert own.columns["kind=u"].tolist() == [1.0, 0.0, 1.0]


def test_the_reference_of_numbered_levels_may_be_a_number():
    assert list(covariate("cluster", pd.Categorical([0, 1, 2] * 2), reference=1).columns) == [
        "cluster=0",
        "cluster=2",
    ]


def test_matrices_dense_sparse_and_tables():
    dense = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    for values in (dense, sparse.csr_matrix(dense), pd.DataFrame(dense, columns=[0, 1])):
        own = covariate("m", values)
        np.testing.assert_array_equal(own.columns.to_numpy(), dense)
        assert list(own.columns) == ["m=0", "m=1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.nan] * 3, "'x' must have a value at every spot, 3 of 3 lack it: leave it out"),
        ([None] * 3, "'x' must have a value at every spot, 3 of 3 lack it: leave it out"),
        (["a", "nan", "b"], "'x' must have a value .*, 1 of 3 lack it: remove these spots"),
        (["a", " ", "b"], "'x' must have a value at every spot, 1 of 3 lack it"),
        (pd.to_datetime(["2024-01-01", None, "2024-01-02"]), "'x' must have .* 1 of 3 lack it"),
        ([1.0, np.inf, 2.0], "'x' must be finite, came inf at 1 of 3 spots"),
        ([2, 2, 2], "'x' must differ between spots, came 2 at all: leave it out"),
        ([1j, 2j, 0j], "'x' must hold real numbers, came complex"),
        ([["a"], ["b", "c"], ["a"]], "'x' must hold a word or a number at every spot, came list"),
        ([("a",), ("b",), ("a",)], "'x' must hold a word or a number at every spot, came tuple"),
        (np.zeros((3, 0)), "'x' must have a column, came none"),
        (np.zeros((3, 2, 2)), "'x' must have one or two axes, came 3"),
        (np.ones((3, 1)), "'x' must differ between spots, came 1 at all in column '0': leave"),
        (np.array([[1.0], [np.nan], [2.0]]), "'x' must have a value at every spot, 1 of 3 lack"),
        (np.array([[1.0], [np.inf], [2.0]]), "'x' must be finite, came inf in column '0' at 1"),
        (np.array([["a"], ["b"], ["a"]]), "'x' must hold numbers .*, came words in '0'"),
        (
            pd.DataFrame({"p": pd.Categorical(["a", "b", "a"]), "q": [1.0, 2.0, 3.0]}),
            "'x' must hold numbers in every column, came words in 'p': put that column into obs",
        ),
    ],
)
def test_the_message_names_the_covariate(values, message):
    if isinstance(values, list) and isinstance(values[0], list | tuple):
        values = pd.Series(values)
    with pytest.raises(ValueError, match=f"covariate {message}"):
        covariate("x", values)
