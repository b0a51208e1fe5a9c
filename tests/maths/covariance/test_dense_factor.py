"""The dense system on the occupied spots against inversion of the whole posterior precision."""

import numpy as np
import pytest

from splisosm_pyro.maths.covariance import dense_factor
from splisosm_pyro.maths.covariance.dense_factor import DenseOccupiedSystem, block_square_roots
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite

N_SPOTS = 14
OCCUPIED = np.array([11, 0, 3, 4, 9, 7, 13])


def covariance():
    """A well-conditioned covariance matrix."""
    root = np.random.default_rng(0).normal(size=(N_SPOTS, 3 * N_SPOTS))
    return root @ root.T / (3 * N_SPOTS)


def information(n_logits, scale):
    """Blocks of full rank, one singular and one zero."""
    root = np.random.default_rng(n_logits).normal(size=(len(OCCUPIED), n_logits, n_logits))
    root[1, :, -1] = 0.0
    root[4] = 0.0
    return scale * root @ root.transpose(0, 2, 1)


def posterior(V, blocks):
    """log|I + V G| and H^-1 (S,Q,S,Q) by inversion."""
    n_logits = blocks.shape[1]
    H = np.kron(np.linalg.inv(V), np.eye(n_logits))
    for block, s in zip(blocks, OCCUPIED, strict=True):
        H[s * n_logits : (s + 1) * n_logits, s * n_logits : (s + 1) * n_logits] += block
    log_det = np.linalg.slogdet(H)[1] + n_logits * np.linalg.slogdet(V)[1]
    return log_det, np.linalg.inv(H).reshape(N_SPOTS, n_logits, N_SPOTS, n_logits)


def build(V, n_logits, **kwargs):
    """A system with all that ``all_blocks`` asks for."""
    return DenseOccupiedSystem(
        V[np.ix_(OCCUPIED, OCCUPIED)], n_logits, lambda: (V[:, OCCUPIED], V.diagonal()), **kwargs
    )


@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3, 1.0, 1e4])
def test_against_inversion(n_logits, scale):
    V, blocks = covariance(), information(n_logits, scale)
    log_det, cov = posterior(V, blocks)
    factor = build(V, n_logits).factorise(blocks)
    np.testing.assert_allclose(factor.log_det, log_det, rtol=1e-10, atol=1e-12)
    b = np.random.default_rng(5).normal(size=(len(OCCUPIED), n_logits, 3))
    expected = np.einsum("satb,tbk->sak", cov[OCCUPIED][:, :, OCCUPIED], b)
    np.testing.assert_allclose(factor.solve(b), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(factor.solve(b[..., 1]), expected[..., 1], rtol=1e-10, atol=1e-12)
    diagonal = cov[np.arange(N_SPOTS), :, np.arange(N_SPOTS)]
    np.testing.assert_allclose(factor.blocks(), diagonal[OCCUPIED], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(factor.all_blocks(), diagonal, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_logits", [1, 3])
def test_all_blocks_by_chunks(n_logits, monkeypatch):
    V, blocks = covariance(), information(n_logits, 1.0)
    whole = build(V, n_logits).factorise(blocks).all_blocks()
    monkeypatch.setattr(dense_factor, "CHUNK_ENTRIES", 50)
    np.testing.assert_allclose(
        build(V, n_logits).factorise(blocks).all_blocks(), whole, rtol=1e-12, atol=1e-14
    )


def test_all_blocks_repeats_blocks_where_the_spots_are_known():
    factor = build(covariance(), 2, occupied=OCCUPIED).factorise(information(2, 1e3))
    np.testing.assert_array_equal(factor.all_blocks()[OCCUPIED], factor.blocks())


def test_the_data_drown_the_prior_without_cancellation():
    """Posterior variance 1 / G to first order, 1e-12 of the prior's."""
    V = covariance()
    factor = build(V, 1).factorise(np.full((len(OCCUPIED), 1, 1), 1e12))
    precise = 1e-12 - 1e-24 * np.linalg.inv(V[np.ix_(OCCUPIED, OCCUPIED)]).diagonal()
    np.testing.assert_allclose(factor.blocks()[:, 0, 0], precise, rtol=1e-13)


def test_singular_covariance():
    """V of rank one: one number, seen as often as there are spots."""
    system = DenseOccupiedSystem(np.ones((5, 5)), 1)
    factor = system.factorise(np.full((5, 1, 1), 2.0))
    np.testing.assert_allclose(factor.log_det, np.log(11.0), rtol=1e-13)
    np.testing.assert_allclose(factor.blocks(), np.full((5, 1, 1), 1 / 11), rtol=1e-13)


def test_no_occupied_spot():
    system = DenseOccupiedSystem(
        np.empty((0, 0)), 2, lambda: (np.empty((3, 0)), np.array([1.0, 2.0, 3.0]))
    )
    factor = system.factorise(np.empty((0, 2, 2)))
    assert factor.log_det == 0.0
    assert factor.solve(np.empty((0, 2))).shape == (0, 2)
    assert factor.blocks().shape == (0, 2, 2)
    np.testing.assert_array_equal(
        factor.all_blocks(), np.array([1.0, 2.0, 3.0])[:, None, None] * np.eye(2)
    )


def test_all_blocks_needs_the_other_spots():
    factor = DenseOccupiedSystem(np.eye(2), 1).factorise(np.ones((2, 1, 1)))
    with pytest.raises(ValueError, match="all_blocks needs cov_cross"):
        factor.all_blocks()


@pytest.mark.parametrize("n_logits", [1, 2, 3, 4])
def test_square_roots(n_logits):
    blocks = information(n_logits, 3.0)
    root = block_square_roots(blocks)
    np.testing.assert_allclose(root @ root, blocks, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(root, root.transpose(0, 2, 1), rtol=1e-12, atol=1e-14)
    assert (np.linalg.eigvalsh(root) > -1e-12).all()


def test_square_roots_of_tiny_and_huge_blocks():
    blocks = np.array([[[1e-300, 0.0], [0.0, 1e-302]], [[4e200, 0.0], [0.0, 0.0]]])
    root = block_square_roots(blocks)
    np.testing.assert_allclose(root[0], [[1e-150, 0.0], [0.0, 1e-151]], rtol=1e-12)
    np.testing.assert_allclose(root[1], [[2e100, 0.0], [0.0, 0.0]], rtol=1e-12)


@pytest.mark.parametrize("n_logits", [1, 2, 3])
@pytest.mark.parametrize("bad", [-0.1, np.nan])
def test_blocks_that_are_not_semidefinite_are_refused(n_logits, bad):
    blocks = np.tile(np.eye(n_logits), (4, 1, 1))
    blocks[2, 0, 0] = bad
    with pytest.raises(NotPositiveDefinite, match=r"spot 2 has the eigenvalue|finite"):
        DenseOccupiedSystem(np.eye(4), n_logits).factorise(blocks)


@pytest.mark.parametrize("bad", [np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), np.nan)])
def test_covariances_that_are_not_are_refused(bad):
    with pytest.raises(NotPositiveDefinite, match=r"not positive|NaN"):
        DenseOccupiedSystem(bad, 1).factorise(np.full((2, 1, 1), 100.0))
