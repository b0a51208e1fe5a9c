"""Dense and low-rank correlations: the laws of every form, limits, and bad input."""

import functools
import math
import re

import numpy as np
import pytest
import torch
from cases import car_correlation, correlation, lattice
from kernel_laws import KernelLaws

from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.as_kernel import (
    DenseKernel,
    LowRankKernel,
    PrecisionKernel,
    as_kernel,
    recognise_sparse,
)
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.covariance.low_rank import TILE
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite

COORDS = np.random.default_rng(0).uniform(size=(12, 2))


def eigenpairs(V, rank):
    """The leading eigenpairs of V."""
    values, vectors = np.linalg.eigh(V)
    return values[::-1][:rank].copy(), vectors[:, ::-1][:, :rank].copy()


class TestDense(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return DenseKernel(correlation(COORDS))


class TestDenseFromEigenpairs(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        kernel = as_kernel(None, *eigenpairs(correlation(COORDS), 12), 12)
        assert isinstance(kernel, DenseKernel)
        return kernel

    def test_it_is_the_matrix(self, V):
        np.testing.assert_allclose(V, correlation(COORDS), atol=1e-14)


class TestLowRank(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return LowRankKernel(*eigenpairs(correlation(COORDS), 5))

    def test_it_keeps_the_trace_and_the_leading_eigenpairs(self, kernel, V):
        values, vectors = eigenpairs(correlation(COORDS), 5)
        assert math.isclose(np.trace(V), 12.0, rel_tol=1e-13)
        np.testing.assert_allclose(V @ vectors, vectors * values, atol=1e-13)
        assert math.isclose(kernel.residual, (12.0 - values.sum()) / 7, rel_tol=1e-13)


class TestLowRankOfRankOne(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return LowRankKernel(*eigenpairs(2.0 * correlation(COORDS), 1), trace=24.0)


class TestCarMatrix(KernelLaws):
    """What a user hands in as the dense inverse of a sparse precision."""

    @staticmethod
    @functools.cache
    def build():
        kernel = as_kernel(car_correlation(lattice(7, 6)[1]), None, None, 42)
        assert isinstance(kernel, PrecisionKernel)
        return kernel

    def test_it_is_the_matrix(self, V):
        np.testing.assert_allclose(V, car_correlation(lattice(7, 6)[1]), atol=1e-13)


class TestCar(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return CARKernel.from_adjacency(lattice(4, 3)[1], rho=0.9)

    def test_it_is_the_matrix(self, V):
        np.testing.assert_allclose(V, car_correlation(lattice(4, 3)[1]), atol=1e-13)


# --- limits ---


def singular():
    """Two spots at one place: correlation 1, rank 11."""
    coords = COORDS.copy()
    coords[1] = coords[0]
    return correlation(coords)


def test_a_singular_matrix_is_legal():
    kernel = DenseKernel(singular())
    log_det, by_spatial, by_nugget = kernel.log_det_terms(0.5, 0.1)
    matrix = 0.5 * singular() + 0.1 * np.eye(12)
    assert math.isclose(log_det, np.linalg.slogdet(matrix)[1], rel_tol=1e-12)
    assert math.isclose(by_spatial, np.sum(np.linalg.inv(matrix) * singular()), rel_tol=1e-12)
    assert math.isclose(by_nugget, np.trace(np.linalg.inv(matrix)), rel_tol=1e-12)
    draws = kernel.sample((5,), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(draws[:, 0].numpy(), draws[:, 1].numpy(), atol=1e-7)
    factor = kernel.system(np.arange(12), 1).factorise(np.ones((12, 1, 1)))
    expected = np.linalg.slogdet(np.eye(12) + singular())[1]
    assert math.isclose(factor.log_det, expected, rel_tol=1e-12)


@pytest.mark.parametrize(
    "build",
    [
        lambda: DenseKernel(np.eye(3)),
        lambda: LowRankKernel(np.array([2.0]), np.full((3, 1), 3**-0.5)),
        lambda: CARKernel(np.eye(3, k=1) + np.eye(3, k=-1)),
    ],
    ids=["dense", "low rank", "sparse"],
)
def test_without_any_variance_only_zero_has_a_density(build):
    kernel = build()
    zero = torch.zeros(2, dtype=torch.float64)
    nothing = torch.zeros(3, 2, dtype=torch.float64)
    something = nothing.clone()
    something[1, 0] = 0.1
    assert kernel.field_log_prob(nothing, zero, zero).item() == math.inf
    assert kernel.field_log_prob(something, zero, zero).item() == -math.inf
    quad = kernel.precision_quad(something.numpy(), zero.numpy(), zero.numpy())
    assert quad.tolist() == [math.inf, 0.0]
    assert kernel.log_det_terms(0.0, 0.0)[0] == -math.inf


def test_an_eigenvalue_of_zero_does_not_see_the_spatial_variance():
    kernel = DenseKernel.from_eigenpairs(np.array([2.0, 1e-6, 0.0]), np.eye(3))
    assert kernel.log_det_terms(0.5, 0.0) == (-math.inf, 4.0, math.inf)
    assert kernel.log_det_terms(0.0, 0.5)[1] == pytest.approx(4.000002, rel=1e-12)
    nu = np.array([[2.0], [0.0], [0.0]])
    assert kernel.precision_quad(nu, np.array([0.5]), np.zeros(1)).tolist() == [4.0]


def test_a_nan_passes_on_as_a_nan():
    nu = torch.full((3, 1), math.nan, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    assert math.isnan(DenseKernel(np.eye(3)).field_log_prob(nu, one, one).item())


def test_float32_input_is_taken_at_its_own_rounding():
    coords = np.random.default_rng(1).uniform(size=(60, 2))
    single = correlation(coords, length=3.0).astype(np.float32)
    single[0, 1] *= np.float32(1 + 1e-7)
    kernel = DenseKernel(torch.from_numpy(single))
    assert kernel.dense().dtype == torch.float64
    np.testing.assert_allclose(kernel.dense().numpy(), single, rtol=2e-7)
    assert torch.equal(kernel.dense(), kernel.dense().T)
    values, vectors = eigenpairs(correlation(coords), 8)
    low = LowRankKernel(values.astype(np.float32), vectors.astype(np.float32))
    np.testing.assert_allclose(low.dense(), LowRankKernel(values, vectors).dense(), atol=1e-6)


def test_low_rank_of_the_identity_and_of_a_matrix_of_low_rank():
    identity = LowRankKernel(np.ones(2), np.eye(5)[:, :2])
    np.testing.assert_array_equal(identity.dense(), np.eye(5))
    exact = LowRankKernel(np.array([5.0]), np.full((5, 1), 5**-0.5))
    assert exact.residual == 0.0
    np.testing.assert_allclose(exact.dense(), np.ones((5, 5)), rtol=1e-14)
    assert exact.log_det_terms(1.0, 0.0)[0] == -math.inf


def test_low_rank_approaches_dense():
    V = correlation(COORDS, length=2.0)
    nu = torch.from_numpy(np.linalg.cholesky(V) @ np.random.default_rng(2).normal(size=(12, 1)))
    one = torch.ones(1, dtype=torch.float64)
    exact = DenseKernel(V).field_log_prob(nu, one, one).item()
    gaps = [
        abs(LowRankKernel(*eigenpairs(V, rank)).field_log_prob(nu, one, one).item() - exact)
        for rank in (1, 5, 11)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-10


def test_a_low_rank_system_of_many_spots():
    """More rows than are worked on at a time, weights of both signs, three logits."""
    rng = np.random.default_rng(0)
    n_spots, rank, n_logits = 2 * TILE + 7, 4, 3
    vectors = np.linalg.qr(rng.normal(size=(n_spots, rank)))[0]
    kernel = LowRankKernel(np.array([300.0, 200.0, 90.0, 30.0]), vectors)
    occupied = np.sort(rng.permutation(n_spots)[: TILE + 3])
    half = rng.normal(size=(len(occupied), n_logits, n_logits))
    precision = half @ half.transpose(0, 2, 1)
    factor = kernel.system(occupied, n_logits).factorise(precision)
    basis = np.kron(kernel.basis, np.eye(n_logits))
    seen = basis.reshape(n_spots, n_logits, -1)[occupied]
    H = np.eye(rank * n_logits) + np.einsum("sak,sab,sbl->kl", seen, precision, seen)
    whole = (basis @ np.linalg.solve(H, basis.T)).reshape(n_spots, n_logits, n_spots, n_logits)
    expected = whole[np.arange(n_spots), :, np.arange(n_spots)]
    assert math.isclose(factor.log_det, np.linalg.slogdet(H)[1], rel_tol=1e-13)
    np.testing.assert_allclose(factor.all_blocks(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(factor.blocks(), expected[occupied], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "kernel", [DenseKernel(np.eye(4)), LowRankKernel(np.ones(2), np.eye(4)[:, :2], trace=3.0)]
)
def test_indefinite_information_is_refused(kernel):
    blocks = np.zeros((4, 2, 2))
    blocks[0] = -np.diag([9.0, 0.0])
    with pytest.raises(NotPositiveDefinite):
        kernel.system(np.arange(4), 2).factorise(blocks)
    with pytest.raises(NotPositiveDefinite):
        kernel.system(np.arange(4), 2).factorise(np.full((4, 2, 2), np.nan))


# --- the choice of a form, and bad input ---


def test_the_choice_of_a_form():
    V = correlation(COORDS)
    kernel = DenseKernel(V)
    assert as_kernel(kernel, None, None, 12) is kernel
    assert isinstance(as_kernel(V, None, None, 12), DenseKernel)
    assert isinstance(as_kernel(torch.from_numpy(V), None, None, 12), DenseKernel)
    assert isinstance(as_kernel(torch.from_numpy(V).to_sparse(), None, None, 12), DenseKernel)
    assert isinstance(as_kernel(None, *eigenpairs(V, 12), 12), DenseKernel)
    values, vectors = (torch.from_numpy(x) for x in eigenpairs(V, 4))
    assert isinstance(as_kernel(None, values, vectors, 12), LowRankKernel)


def test_a_dense_matrix_with_a_sparse_inverse_is_recognised_and_others_are_not():
    V = car_correlation(lattice(8, 6)[1], rho=0.99)
    kernel = recognise_sparse(V)
    assert kernel.precision.nnz == 48 + 2 * (7 * 6 + 8 * 5)
    np.testing.assert_allclose(kernel.precision @ V, np.eye(48), atol=1e-10)
    noise = np.random.default_rng(4).normal(size=V.shape)
    noise += noise.T
    np.fill_diagonal(noise, 0.0)
    assert recognise_sparse(V + 1e-8 * noise) is None
    assert recognise_sparse(V.astype(np.float32).astype(float)) is None
    assert recognise_sparse(2 * V) is None
    assert recognise_sparse(correlation(np.random.default_rng(3).uniform(size=(48, 2)))) is None
    single = as_kernel(torch.from_numpy(V).float(), None, None, 48)
    assert isinstance(single, DenseKernel)


def test_the_residual_decides_whether_small_entries_were_zero(monkeypatch):
    V = car_correlation(lattice(8, 6)[1], rho=0.99)
    noise = np.random.default_rng(4).normal(size=V.shape)
    noise += noise.T
    np.fill_diagonal(noise, 0.0)
    monkeypatch.setattr("splisosm_pyro.maths.covariance.as_kernel.NEGLIGIBLE", 1e-3)
    assert recognise_sparse(V) is not None
    assert recognise_sparse(V + 1e-8 * noise) is None


def spoiled(row, column, value):
    V = correlation(COORDS)
    V[row, column] = value
    return V


def indefinite():
    V = correlation(COORDS)
    V[0, 1] = V[1, 0] = 1.5
    return V


@pytest.mark.parametrize(
    ("corr_sp", "error", "message"),
    [
        (
            np.ones((12, 11)),
            ValueError,
            "corr_sp must be square, (n_spots, n_spots), came (12, 11)",
        ),
        (np.ones(12), ValueError, "corr_sp must have two axes, came shape (12,)"),
        (np.eye(11), ValueError, "corr_sp must have as many spots as counts, 12, came 11"),
        (
            DenseKernel(np.eye(11)),
            ValueError,
            "corr_sp must have as many spots as counts, 12, came 11",
        ),
        (np.empty((0, 0)), ValueError, "corr_sp must be square"),
        (spoiled(2, 3, np.nan), ValueError, "corr_sp must be finite, came nan at (2, 3)"),
        (spoiled(2, 3, np.inf), ValueError, "corr_sp must be finite, came inf at (2, 3)"),
        (spoiled(2, 3, 0.9), ValueError, "corr_sp must be symmetric, came 0.9 at (2, 3) but"),
        (
            indefinite(),
            ValueError,
            "corr_sp must be positive semi-definite, came a matrix with smallest eigenvalue -0.",
        ),
        (
            -np.eye(12),
            ValueError,
            "corr_sp must be positive semi-definite, came a matrix with smallest eigenvalue -1",
        ),
        (np.zeros((12, 12)), ValueError, "corr_sp must not be zero"),
        (np.eye(12, dtype=bool), TypeError, "corr_sp must have a real numeric dtype, came bool"),
        (
            np.eye(12, dtype=complex),
            TypeError,
            "corr_sp must have a real numeric dtype, came complex128",
        ),
        ([[1.0]], TypeError, "corr_sp must be a torch tensor or a numpy array, came list"),
        (
            None,
            ValueError,
            "expected corr_sp, or corr_sp_eigvals and corr_sp_eigvecs together, came none of them",
        ),
    ],
)
def test_bad_matrices(corr_sp, error, message):
    with pytest.raises(error, match=re.escape(message)):
        as_kernel(corr_sp, None, None, 12)


VALUES, VECTORS = eigenpairs(correlation(COORDS), 4)


@pytest.mark.parametrize(
    ("eigvals", "eigvecs", "error", "message"),
    [
        (VALUES, None, ValueError, "came one of the eigenpairs' two parts"),
        (None, VECTORS, ValueError, "came one of the eigenpairs' two parts"),
        (
            VALUES[:3],
            VECTORS,
            ValueError,
            "must have shapes (rank,) and (n_spots, rank), came (3,) and (12, 4)",
        ),
        (VALUES[:, None], VECTORS, ValueError, "came (4, 1) and (12, 4)"),
        (VALUES, VECTORS.T, ValueError, "came (4,) and (4, 12)"),
        (VALUES, VECTORS[:11], ValueError, "corr_sp_eigvecs must have orthonormal columns"),
        (
            VALUES,
            np.eye(11)[:, :4],
            ValueError,
            "corr_sp_eigvecs must have as many spots as counts, 12, came 11",
        ),
        (
            np.ones(13),
            np.ones((12, 13)),
            ValueError,
            "corr_sp_eigvecs must have at most as many columns as spots (12), came 13",
        ),
        (
            VALUES,
            2 * VECTORS,
            ValueError,
            "corr_sp_eigvecs must have orthonormal columns, came a matrix whose U'U is off by 3",
        ),
        (
            VALUES * [1, 1, 1, -1],
            VECTORS,
            ValueError,
            "corr_sp_eigvals must not be negative, came -",
        ),
        (
            VALUES * [1, np.nan, 1, 1],
            VECTORS,
            ValueError,
            "corr_sp_eigvals must be finite, came nan",
        ),
        (
            VALUES,
            VECTORS * [1, np.nan, 1, 1],
            ValueError,
            "corr_sp_eigvecs must be finite, came nan",
        ),
        (np.zeros(4), VECTORS, ValueError, "corr_sp_eigvals must not all be zero"),
        (
            list(VALUES),
            VECTORS,
            TypeError,
            "corr_sp_eigvals must be a torch tensor or a numpy array, came list",
        ),
        (
            VALUES,
            VECTORS.tolist(),
            TypeError,
            "corr_sp_eigvecs must be a torch tensor or a numpy array, came list",
        ),
        (10 * VALUES, VECTORS, ValueError, "eigvals must not sum to more than the trace of V, 12"),
        (0.1 * VALUES, VECTORS, ValueError, "eigvals must be the leading eigenvalues"),
    ],
)
def test_bad_eigenpairs(eigvals, eigvecs, error, message):
    with pytest.raises(error, match=re.escape(message)):
        as_kernel(None, eigvals, eigvecs, 12)


def test_of_a_matrix_and_eigenpairs_the_matrix_is_taken_with_a_warning():
    with pytest.warns(SplisosmWarning, match="the eigenpairs are not read"):
        kernel = as_kernel(np.eye(12), VALUES, VECTORS, 12)
    assert torch.equal(kernel.dense(), torch.eye(12, dtype=torch.float64))


def test_a_full_set_of_eigenpairs_is_no_low_rank_kernel():
    with pytest.raises(ValueError, match=r"fewer columns than spots .* came 12 of 12"):
        LowRankKernel(*eigenpairs(correlation(COORDS), 12))
