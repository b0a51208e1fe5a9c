"""The border: what is accepted, what it becomes, and the sentence each bad input gets."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from splisosm_pyro.maths.axes import (
    SplisosmWarning,
    as_counts,
    as_design,
    as_device,
    covariate_names,
)

G, S, P = 2, 5, 3


def whole(rng_seed=0):
    return np.random.default_rng(rng_seed).integers(0, 6, size=(G, S, P))


# --- counts ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.uint8, None),
        (np.uint16, None),
        (np.int64, None),
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (">f8", torch.float64),
        (np.float16, torch.float16),
    ],
)
def test_arrays_keep_their_numbers_and_floating_dtype(given, expected):
    values = whole()
    data = as_counts(values.astype(given))
    assert data.dtype == expected
    assert data.values.dtype == torch.float64
    np.testing.assert_array_equal(data.values.numpy(), values)
    np.testing.assert_array_equal(data.totals.numpy(), values.sum(-1))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.uint8, None),
        (torch.int32, None),
        (torch.int64, None),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("layout", ["dense", "coo", "csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_tensors_of_every_layout(dtype, expected, layout):
    values = torch.as_tensor(whole()[0]).to(dtype)
    convert = {
        "dense": lambda x: x,
        "coo": torch.Tensor.to_sparse,
        "csr": torch.Tensor.to_sparse_csr,
    }
    data = as_counts(convert[layout](values))
    assert data.dtype == expected
    assert data.values.is_contiguous()
    assert torch.equal(data.values, values.to(torch.float64)[None])


def test_uncoalesced_duplicates_add_up():
    twice = torch.sparse_coo_tensor(
        [[0, 0, 1], [1, 1, 0]], [1.0, 2.0, 4.0], (2, 2), check_invariants=True
    )
    assert as_counts(twice).values.tolist() == [[[0.0, 3.0], [4.0, 0.0]]]


def test_axes_occupied_spots_and_pass_through():
    values = whole()
    values[1, 3] = 0
    data = as_counts(values)
    assert (data.n_genes, data.n_spots, data.n_isos) == (G, S, P)
    np.testing.assert_array_equal(data.occupied.numpy(), values.sum(-1) > 0)
    assert not data.occupied[1, 3]
    assert as_counts(data) is data


def test_the_counts_are_a_copy():
    given = torch.ones(S, P, dtype=torch.float64)
    data = as_counts(given)
    given[0, 0] = 7.0
    assert data.values[0, 0, 0] == 1.0


def test_fractional_counts_warn_once_and_whole_ones_never():
    with pytest.warns(SplisosmWarning, match="counts holds fractional numbers") as caught:
        data = as_counts(torch.full((S, P), 0.5))
    assert len(caught) == 1
    assert data.fractional
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not as_counts(torch.full((S, P), 2.0)).fractional


@pytest.mark.parametrize("speck", [5e-324, 1e-310, 1e-160, 1e-10])
def test_a_spot_with_a_speck_of_reads_is_empty(speck):
    values = whole().astype(float)
    values[0, 1], values[1, 2] = 0.0, 0.0
    clean = as_counts(values)
    values[0, 1, 0], values[1, 2] = speck, speck / P
    data = as_counts(values)
    for name in ("values", "totals", "occupied"):
        assert torch.equal(getattr(data, name), getattr(clean, name)), name
    assert not data.fractional
    assert values[0, 1, 0] == speck  # the user's own stay


def spoiled(value):
    values = whole().astype(float)
    values[1, 2, 0] = value
    return values


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (
            spoiled(-1.0),
            ValueError,
            "counts must be finite and not negative, came -1.0 for gene 1, spot 2, isoform 0",
        ),
        (spoiled(np.nan), ValueError, "came nan for gene 1, spot 2, isoform 0"),
        (spoiled(np.inf), ValueError, "came inf for gene 1, spot 2, isoform 0"),
        (spoiled(1e300), ValueError, "counts must be at most 1e+09, came 1e+300 for gene 1"),
        (
            np.ones(4),
            ValueError,
            "counts must have shape (n_genes, n_spots, n_isos) or (n_spots, n_isos), came (4,)",
        ),
        (np.ones((2, 2, 2, 2)), ValueError, "came (2, 2, 2, 2)"),
        (np.ones((0, 3, 2)), ValueError, "counts must have at least one of genes, came zero genes"),
        (np.ones((2, 0, 2)), ValueError, "came zero spots"),
        (np.ones((0, 2)), ValueError, "came zero spots"),
        (np.ones((3, 0)), ValueError, "came zero isoforms"),
        (np.ones((3, 1)), NotImplementedError, "counts must have at least two isoforms, came one"),
        (
            np.ones((3, 2), dtype=bool),
            TypeError,
            "counts must have an integer or floating dtype, came bool",
        ),
        (torch.ones(3, 2, dtype=torch.bool), TypeError, "came bool"),
        (torch.ones(3, 2, dtype=torch.complex64), TypeError, "came complex64"),
        (np.full((3, 2), "a"), TypeError, "counts must have a numeric dtype, came <U1"),
        (
            np.ones((3, 2), dtype=complex),
            TypeError,
            "counts must have a numeric dtype, came complex128",
        ),
        ([[1, 2]], TypeError, "counts must be a torch tensor or a numpy array, came list"),
        (None, TypeError, "came NoneType"),
    ],
)
def test_bad_counts(counts, error, message):
    with pytest.raises(error, match=re.escape(message)):
        as_counts(counts)


# --- design ---


def good_design():
    return np.random.default_rng(3).normal(size=(7, 2))


def test_designs_of_every_kind_give_the_same_numbers():
    values = good_design()
    frame = pd.DataFrame(values, columns=["layer", "depth"], index=list("gfedcba"))
    for given in (values, torch.as_tensor(values), torch.as_tensor(values).to_sparse(), frame):
        design = as_design(given, 7)
        assert design.dtype == torch.float64
        np.testing.assert_array_equal(design.numpy(), values)
    single = as_design(values.astype(np.float32), 7)
    np.testing.assert_array_equal(single.numpy(), values.astype(np.float32))


def test_no_design_and_indicator_designs():
    assert as_design(None, 4).shape == (4, 0)
    assert as_design(np.empty((4, 0)), 4).shape == (4, 0)
    assert as_design(np.array([[True], [False], [True]]), 3)[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_names_of_covariates():
    assert covariate_names(None) == []
    assert covariate_names(good_design()) == ["covariate_0", "covariate_1"]
    assert covariate_names(pd.DataFrame({"a": [1], 2: [3]})) == ["a", "2"]


def indicators():
    frame = pd.get_dummies(pd.Series(list("aabbbcc")), dtype=float)
    frame.insert(1, "x", np.random.default_rng(4).normal(size=7))
    return frame


def with_column(value):
    values = good_design()
    values[3, 1] = value
    return values


@pytest.mark.parametrize(
    ("design", "error", "message"),
    [
        (
            np.ones((6, 2)),
            ValueError,
            "design_mtx must have shape (n_spots, n_factors) = (7, n_factors), came (6, 2)",
        ),
        (np.ones((7, 2, 1)), ValueError, "came (7, 2, 1)"),
        (
            np.arange(7.0),
            ValueError,
            "came (7,): give one covariate as a column, design_mtx[:, None]",
        ),
        (
            with_column(np.nan),
            ValueError,
            "design_mtx must be finite, came nan at spot 3 in column 'covariate_1'",
        ),
        (with_column(-np.inf), ValueError, "came -inf at spot 3 in column 'covariate_1'"),
        (np.full((7, 1), 2.5), ValueError, "column 'covariate_0' is constant"),
        (np.zeros((7, 1)), ValueError, "column 'covariate_0' is constant"),
        (indicators().assign(one=0.1), ValueError, "column 'one' is constant"),
        (np.full((7, 1), "a"), TypeError, "design_mtx must have a numeric dtype, came <U1"),
        (
            pd.DataFrame({"layer": list("abcabca")}),
            TypeError,
            "design_mtx must hold numbers, came column 'layer'",
        ),
        (
            np.ones((7, 1), dtype=complex),
            TypeError,
            "design_mtx must have a numeric dtype, came complex128",
        ),
        ("layer", TypeError, "design_mtx must be a torch tensor or a numpy array, came str"),
    ],
)
def test_bad_designs(design, error, message):
    with pytest.raises(error, match=re.escape(message)):
        as_design(design, 7)


def test_dependent_columns_are_named_and_bystanders_are_not():
    with pytest.raises(ValueError, match="linear combination of the intercept and") as caught:
        as_design(indicators(), 7)
    message = str(caught.value)
    assert all(f"'{name}'" in message for name in "abc")
    assert "'x'" not in message


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dependence_is_found_at_any_scale_and_near_dependence_is_not(dtype):
    rng = np.random.default_rng(5)
    base = rng.normal(size=(50, 2)) * [1e6, 1e-6]
    dependent = np.column_stack([base, base[:, 0] * 3e-6 + base[:, 1] - 7.0]).astype(dtype)
    with pytest.raises(ValueError, match="linear combination"):
        as_design(dependent, 50)
    near = np.column_stack([base, base[:, 1] * (1 + 0.01 * rng.normal(size=50))]).astype(dtype)
    assert as_design(near, 50).shape == (50, 3)


def test_more_covariates_than_spots_are_dependent():
    with pytest.raises(ValueError, match="linear combination"):
        as_design(np.random.default_rng(6).normal(size=(4, 4)), 4)


# --- device ---


def test_devices():
    assert as_device("cpu") == torch.device("cpu")
    assert as_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "cpu:x", "", "cuda:-1"])
def test_unknown_devices(device):
    with pytest.raises(ValueError, match=re.escape("device must be one of ('cpu', 'cuda', 'mps')")):
        as_device(device)


def test_a_device_of_another_type():
    with pytest.raises(TypeError, match=r"device must be one of .* came int"):
        as_device(0)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_device_that_is_not_there(kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device '{kind}' is not there: this machine has 0"):
        as_device(kind)


def test_a_second_device_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert as_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match="device 'cuda:1' is not there"):
        as_device("cuda:1")
