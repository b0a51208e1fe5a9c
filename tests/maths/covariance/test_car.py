"""The sparse CAR correlation: laws of every form, graphs, both forms of algebra, bad input."""

import functools
import math
import re

import numpy as np
import pytest
import torch
from cases import car_correlation, lattice
from kernel_laws import TIGHT, KernelLaws, information_blocks
from scipy.sparse import coo_matrix, csr_array
from scipy.stats import special_ortho_group

from splisosm_pyro.maths.covariance import sparse
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.covariance.dense_factor import DenseOccupiedSystem
from splisosm_pyro.maths.covariance.neighbours import mutual_neighbours
from splisosm_pyro.maths.covariance.sparse_factor import SparseSystem, prefer_dense

COORDS = np.random.default_rng(0).uniform(size=(15, 2))


def hexagonal(n_rows, n_columns):
    """Coordinates of a hexagonal lattice."""
    i, j = np.meshgrid(np.arange(n_rows), np.arange(n_columns), indexing="ij")
    return np.stack([j + 0.5 * (i % 2), i * 0.75**0.5], axis=-1).reshape(-1, 2)


def two_slides():
    """A weighted lattice, a ring and a spot on its own."""
    out = np.zeros((15, 15))
    out[:8, :8] = lattice(2, 4)[1] * 1.7
    for i in range(6):
        out[8 + i, 8 + (i + 1) % 6] = out[8 + (i + 1) % 6, 8 + i] = 0.2
    return out


class TestRandomPlaces(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return CARKernel.from_coords(COORDS, k=4, rho=0.9)


class TestLattice(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return CARKernel.from_adjacency(lattice(4, 3)[1], rho=0.99)

    def test_it_is_the_correlation_of_its_definition(self, V):
        np.testing.assert_allclose(V, car_correlation(lattice(4, 3)[1], 0.99), rtol=1e-12)


class TestSlides(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return CARKernel.from_adjacency(two_slides(), rho=0.8)

    def test_slides_are_independent(self, V):
        weights = two_slides()
        weights[14, 14] = 1.0  # the self loop of the isolated spot
        np.testing.assert_allclose(V, car_correlation(weights, 0.8), rtol=1e-12, atol=1e-15)
        assert np.abs(V[:8, 8:]).max() == 0.0
        assert np.abs(V[14, :14]).max() == 0.0
        assert V[14, 14] == 1.0


class TestOneSpot(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return CARKernel.from_coords(np.array([[3.0, 4.0]]))


class TestIndependence(KernelLaws):
    @staticmethod
    @functools.cache
    def build():
        return CARKernel.from_coords(COORDS, rho=0.0)

    def test_it_is_the_identity(self, V):
        np.testing.assert_array_equal(V, np.eye(15))


@pytest.fixture(params=["sparse", "dense"])
def form(request):
    return request.param


@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
@pytest.mark.parametrize("depth", [0.0, 0.3, 100.0])
def test_both_forms_agree_with_inversion(form, n_logits, depth):
    kernel = TestRandomPlaces.build()
    occupied = np.array([14, 2, 3, 8, 0, 11])
    blocks = information_blocks(6, n_logits, depth)
    system = kernel.system(occupied, n_logits, form)
    assert isinstance(system, SparseSystem if form == "sparse" else DenseOccupiedSystem)
    factor = system.factorise(blocks)
    log_det, cov = KernelLaws.posterior(kernel.dense().numpy(), occupied, blocks)
    tensor = cov.reshape(15, n_logits, 15, n_logits)
    diagonal = tensor[np.arange(15), :, np.arange(15)]
    b = np.random.default_rng(1).normal(size=(6, n_logits, 2))
    expected = np.einsum("satb,tbk->sak", tensor[occupied][:, :, occupied], b)
    np.testing.assert_allclose(factor.log_det, log_det, **TIGHT)
    np.testing.assert_allclose(factor.solve(b), expected, **TIGHT)
    np.testing.assert_allclose(factor.solve(b[..., 0]), expected[..., 0], **TIGHT)
    np.testing.assert_allclose(factor.blocks(), diagonal[occupied], **TIGHT)
    images = factor.sample(np.eye(factor.n_noise))
    expected = tensor[occupied][:, :, occupied]
    np.testing.assert_allclose(np.einsum("sak,tbk->satb", images, images), expected, **TIGHT)
    np.testing.assert_allclose(factor.all_blocks(), diagonal, **TIGHT)


def test_a_tissue_too_large_to_store_its_correlation(form, monkeypatch):
    """The covariance of the occupied spots then comes from solves."""
    monkeypatch.setattr(sparse, "STORED_SPOTS", 5)
    kernel = CARKernel.from_coords(COORDS, k=4, rho=0.9)
    occupied = np.arange(1, 15, 3)
    blocks = information_blocks(5, 2, 3.0)
    ours = kernel.system(occupied, 2, form).factorise(blocks)
    expected = TestRandomPlaces.build().system(occupied, 2, form).factorise(blocks)
    np.testing.assert_allclose(ours.log_det, expected.log_det, **TIGHT)
    np.testing.assert_allclose(ours.all_blocks(), expected.all_blocks(), **TIGHT)


def test_the_cheaper_form_is_chosen():
    symbolic = CARKernel.from_coords(hexagonal(30, 30)).symbolic
    choices = [prefer_dense(symbolic, n, 1, stored=True) for n in (1, 50, 400, 900)]
    assert choices == [True, True, False, False]
    assert prefer_dense(symbolic, 50, 1, stored=False) <= prefer_dense(symbolic, 50, 1, stored=True)


def test_the_precision_is_the_inverse():
    kernel = TestSlides.build()
    product = kernel.precision @ kernel.dense().numpy()
    np.testing.assert_allclose(product, np.eye(15), atol=1e-13)
    assert (kernel.n_spots, kernel.rho, kernel.residual) == (15, 0.8, 0.0)


def test_a_zero_field_without_variance():
    kernel = TestRandomPlaces.build()
    nu = np.zeros((15, 2))
    nu[3, 1] = 1.0
    zero = np.zeros(2)
    np.testing.assert_array_equal(kernel.precision_quad(nu, zero, zero), [0.0, math.inf])
    assert kernel.log_det_terms(0.0, 0.0)[0] == -math.inf
    field = kernel.field_log_prob(*(torch.from_numpy(x) for x in (nu[:, 1:], zero[1:], zero[1:])))
    assert field.item() == -math.inf


@pytest.mark.parametrize("rank", [1, 4, 15])
def test_eigenpairs_are_those_of_the_dense_matrix(rank):
    kernel = TestRandomPlaces.build()
    values, vectors = kernel.eigenpairs(rank)
    expected = np.linalg.eigvalsh(kernel.dense().numpy())[::-1][:rank]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(kernel.dense() @ vectors, vectors * values, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-12)


def test_eigenpairs_of_a_large_tissue_come_from_iterations(monkeypatch):
    kernel = CARKernel.from_coords(hexagonal(9, 13))
    expected, _ = kernel.eigenpairs(5)
    monkeypatch.setattr(sparse, "STORED_SPOTS", 5)
    values, vectors = kernel.eigenpairs(5)
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_allclose(kernel.dense() @ vectors, vectors * values, atol=1e-9)
    np.testing.assert_array_equal(kernel.eigenpairs(5)[1], vectors)


def test_a_dense_matrix_that_would_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_BYTES", 1e3)
    with pytest.raises(MemoryError, match=r"V of 15 spots takes .* pass the kernel itself"):
        TestRandomPlaces.build().dense()


class TestGraph:
    """Mutual nearest neighbours."""

    def edges(self, coords, k):
        return mutual_neighbours(coords, k).toarray()

    def test_random_places_against_brute_force(self):
        coords = np.random.default_rng(3).uniform(size=(60, 3))
        gaps = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
        for k in (1, 4, 59, 100):
            order = np.argsort(gaps, axis=1)[:, 1 : k + 1]
            near = np.zeros((60, 60))
            np.put_along_axis(near, order, 1.0, axis=1)
            np.testing.assert_array_equal(self.edges(coords, k), near * near.T)

    def test_ties_are_kept(self):
        """With 4 of the 6 equidistant neighbours of a hexagonal lattice asked for, all 6 come."""
        coords = hexagonal(8, 8)
        gaps = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
        inside = (np.abs(gaps - 1.0) < 1e-9).sum(axis=1) == 6
        ours = self.edges(coords, 4)
        np.testing.assert_array_equal(ours[inside].sum(axis=1), 6.0)
        np.testing.assert_array_equal(ours, ours.T)

    @pytest.mark.parametrize("k", [1, 3, 4, 6])
    def test_it_does_not_depend_on_the_frame(self, k):
        coords = hexagonal(9, 10)
        expected = self.edges(coords, k)
        turn = special_ortho_group(2, seed=4).rvs()
        frames = {
            "turned": coords @ turn,
            "scaled": coords * 137.3,
            "tiny": coords * 1e-9,
            "shifted": coords + 1e5,
            "reflected": coords[:, ::-1],
            "all of it": (coords @ turn) * 55.0 - 12345.6,
            "float32": ((coords @ turn) * 55.0 + 3e3).astype(np.float32),
            "tensor": torch.from_numpy(coords),
        }
        for name, frame in frames.items():
            np.testing.assert_array_equal(self.edges(frame, k), expected, err_msg=name)

    def test_permuted_spots_give_the_permuted_graph(self):
        order = np.random.default_rng(5).permutation(72)
        coords = hexagonal(8, 9)
        np.testing.assert_array_equal(
            self.edges(coords[order], 4), self.edges(coords, 4)[np.ix_(order, order)]
        )

    def test_integer_places(self):
        coords = np.argwhere(np.ones((4, 4)))
        np.testing.assert_array_equal(self.edges(coords, 2), self.edges(coords.astype(float), 2))

    def test_spots_at_one_place_are_each_others_nearest(self):
        coords = np.array([[0.0, 0.0]] * 20 + [[5.0, 0.0]] * 2)
        block = np.ones((22, 22)) - np.eye(22)
        block[:20, 20:] = block[20:, :20] = 0.0
        np.testing.assert_array_equal(self.edges(coords, 1), block)

    @pytest.mark.parametrize(
        ("coords", "k", "error", "message"),
        [
            (np.array([[0.0, np.nan]]), 4, ValueError, "coords must be finite, came nan at (0, 1)"),
            (np.array([[0.0, np.inf]]), 4, ValueError, "coords must be finite, came inf at (0, 1)"),
            (np.zeros(5), 4, ValueError, "coords must have two axes, came shape (5,)"),
            (np.zeros((0, 2)), 4, ValueError, "coords must have shape (n_spots, n_axes)"),
            (np.array([["a"]]), 4, TypeError, "coords must have a real numeric dtype, came <U1"),
            ([[0.0, 1.0]], 4, TypeError, "coords must be a torch tensor or a numpy array"),
            (COORDS, 0, ValueError, "k must be at least 1, came 0"),
            (COORDS, 2.5, TypeError, "k must be a whole number, came float"),
            (COORDS, True, TypeError, "k must be a whole number, came bool"),
        ],
    )
    def test_bad_input(self, coords, k, error, message):
        with pytest.raises(error, match=re.escape(message)):
            CARKernel.from_coords(coords, k=k)


class TestAdjacency:
    """Graphs that are given."""

    def test_every_container_gives_the_same(self):
        weights = two_slides()
        expected = CARKernel(weights, 0.7).dense()
        tensor = torch.from_numpy(weights)
        for given in (
            csr_array(weights),
            coo_matrix(weights),
            tensor,
            tensor.to_sparse(),
            tensor.float().double(),
        ):
            ours = CARKernel.from_adjacency(given, 0.7).dense()
            torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)

    def test_booleans_and_integers_are_weights_of_one(self):
        weights = lattice(3, 3)[1]
        expected = CARKernel(weights).dense()
        for given in (
            weights.astype(bool),
            weights.astype(int),
            csr_array(weights.astype(bool)),
            torch.from_numpy(weights) > 0,
        ):
            assert torch.equal(CARKernel.from_adjacency(given).dense(), expected)

    def test_the_scale_of_the_weights_does_not_matter(self):
        weights = two_slides()
        weights[14, 14] = 1.0
        torch.testing.assert_close(
            CARKernel(1e6 * weights).dense(), CARKernel(weights).dense(), rtol=1e-10, atol=1e-12
        )

    @pytest.mark.parametrize(
        ("weights", "error", "message"),
        [
            (np.zeros((2, 3)), ValueError, "adjacency must be square, (n_spots, n_spots), came"),
            (csr_array((2, 3)), ValueError, "adjacency must be square, (n_spots, n_spots), came"),
            (np.zeros((0, 0)), ValueError, "adjacency must be square"),
            (-lattice(2, 2)[1], ValueError, "adjacency must not be negative, came -1"),
            (
                np.triu(lattice(2, 2)[1]),
                ValueError,
                "adjacency W must be symmetric, came entries 1 apart: take W.maximum(W.T)",
            ),
            (np.full((2, 2), np.nan), ValueError, "adjacency must be finite"),
            (csr_array(np.full((2, 2), np.inf)), ValueError, "adjacency must be finite"),
            (csr_array(np.full((2, 2), 1j)), TypeError, "adjacency must have a real numeric dtype"),
            ("graph", TypeError, "adjacency must be a torch tensor or a numpy array, came str"),
        ],
    )
    def test_bad_input(self, weights, error, message):
        with pytest.raises(error, match=re.escape(message)):
            CARKernel.from_adjacency(weights)

    @pytest.mark.parametrize("rho", [-0.1, 1.0, 1.5, math.nan])
    def test_bad_rho(self, rho):
        with pytest.raises(ValueError, match=re.escape(f"rho must be in [0, 1), came {rho}")):
            CARKernel.from_adjacency(lattice(2, 2)[1], rho=rho)


def test_the_gold_correlations(gold):
    for name in gold.names():
        case = gold.load(name)
        ours = CARKernel.from_coords(case.coords, k=4, rho=0.9).dense()
        np.testing.assert_allclose(ours, case.V, atol=1e-13, err_msg=name)
