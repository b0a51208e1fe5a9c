"""Laws that every form of spatial correlation obeys, against dense brute force.

A form inherits :class:`KernelLaws` and says how to build its kernel; adding a form costs ten lines.
"""

import math

import numpy as np
import oracles
import pytest
import torch

from splisosm_pyro.maths.covariance.kernel import Kernel

TIGHT = {"rtol": 1e-9, "atol": 1e-11}
OCCUPIED = {
    "all": lambda n_spots: np.arange(n_spots),
    "some": lambda n_spots: np.arange(n_spots)[1::3],
    "one": lambda n_spots: np.array([n_spots // 2]),
    "none": lambda n_spots: np.array([], dtype=np.intp),
}


def information_blocks(n_spots, n_logits, depth, seed=0):
    """Positive semi-definite blocks as multinomial counts give them, at some depth."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(depth, size=(n_spots, n_logits + 1)).astype(float)
    eta = rng.normal(size=(n_spots, n_logits))
    return oracles.score_and_information(eta, counts)[1]


class KernelLaws:
    """Inherit, and define ``build``, which returns the kernel."""

    @staticmethod
    def build():
        raise NotImplementedError

    @pytest.fixture
    def kernel(self):
        return self.build()

    @pytest.fixture
    def V(self, kernel):
        return kernel.dense().numpy()

    @pytest.fixture
    def smooth(self, kernel, V):
        """V without its residual part."""
        return V - kernel.residual * np.eye(len(V))

    @pytest.fixture(params=OCCUPIED)
    def occupied(self, request, kernel):
        return OCCUPIED[request.param](kernel.n_spots).astype(np.intp)

    @pytest.fixture(params=[1, 2, 4])
    def n_logits(self, request):
        return request.param

    @staticmethod
    def posterior(smooth, occupied, blocks):
        """log|I + V G| and H^-1 (S Q, S Q), spot-major, by dense inversion."""
        n_spots, n_logits = len(smooth), blocks.shape[-1]
        everywhere = np.zeros((n_spots, n_logits, n_logits))
        everywhere[occupied] = blocks
        cov = np.kron(smooth, np.eye(n_logits))
        matrix = np.eye(n_spots * n_logits) + cov @ oracles.spot_major(everywhere)
        return np.linalg.slogdet(matrix)[1], np.linalg.solve(matrix, cov)

    def test_it_obeys_the_protocol(self, kernel, V):
        assert isinstance(kernel, Kernel)
        assert V.shape == (kernel.n_spots, kernel.n_spots)
        assert kernel.dense().dtype == torch.float64
        np.testing.assert_array_equal(V, V.T)

    def test_the_dense_matrix_is_a_copy(self, kernel):
        kernel.dense().fill_(0.0)
        assert kernel.dense().abs().sum() > 0

    @pytest.mark.parametrize("depth", [0.5, 300.0])
    def test_factor(self, kernel, smooth, occupied, n_logits, depth):
        blocks = information_blocks(len(occupied), n_logits, depth)
        factor = kernel.system(occupied, n_logits).factorise(blocks)
        log_det, cov = self.posterior(smooth, occupied, blocks)
        seen = (occupied[:, None] * n_logits + np.arange(n_logits)).ravel()
        np.testing.assert_allclose(factor.log_det, log_det, **TIGHT)
        b = np.random.default_rng(1).normal(size=(len(occupied), n_logits, 3))
        flat = b.reshape(-1, 3)
        expected = (cov[np.ix_(seen, seen)] @ flat).reshape(b.shape)
        np.testing.assert_allclose(factor.solve(b), expected, **TIGHT)
        np.testing.assert_allclose(factor.solve(b[..., 0]), expected[..., 0], **TIGHT)
        n_spots = len(smooth)
        tensor = cov.reshape(n_spots, n_logits, n_spots, n_logits)
        diagonal = tensor[np.arange(n_spots), :, np.arange(n_spots)]
        np.testing.assert_allclose(factor.blocks(), diagonal[occupied], **TIGHT)
        np.testing.assert_allclose(factor.all_blocks(), diagonal, **TIGHT)

    @pytest.mark.parametrize("depth", [0.0, 0.5, 300.0])
    def test_draws_of_the_posterior(self, kernel, smooth, occupied, n_logits, depth):
        """Draws are linear in their noise, so unit vectors give their covariance exactly."""
        blocks = information_blocks(len(occupied), n_logits, depth)
        factor = kernel.system(occupied, n_logits).factorise(blocks)
        cov = self.posterior(smooth, occupied, blocks)[1]
        seen = (occupied[:, None] * n_logits + np.arange(n_logits)).ravel()
        images = factor.sample(np.eye(factor.n_noise))
        assert images.shape == (len(occupied), n_logits, factor.n_noise)
        flat = images.reshape(seen.size, factor.n_noise)
        np.testing.assert_allclose(flat @ flat.T, cov[np.ix_(seen, seen)], **TIGHT)
        z = np.random.default_rng(12).normal(size=(factor.n_noise, 3))
        np.testing.assert_allclose(factor.sample(z), images @ z, **TIGHT)

    def test_without_information_the_posterior_is_the_prior(self, kernel, smooth, n_logits):
        occupied = np.arange(kernel.n_spots)
        factor = kernel.system(occupied, n_logits).factorise(
            np.zeros((kernel.n_spots, n_logits, n_logits))
        )
        assert abs(factor.log_det) < 1e-10
        prior = np.diag(smooth)[:, None, None] * np.eye(n_logits)
        np.testing.assert_allclose(factor.blocks(), prior, **TIGHT)
        b = np.random.default_rng(2).normal(size=(kernel.n_spots, n_logits))
        np.testing.assert_allclose(factor.solve(b), smooth @ b, **TIGHT)

    def test_a_system_is_factorised_again(self, kernel, n_logits):
        occupied = np.arange(kernel.n_spots)[::2]
        system = kernel.system(occupied, n_logits)
        first = information_blocks(len(occupied), n_logits, 5.0, seed=3)
        log_det = system.factorise(first).log_det
        system.factorise(information_blocks(len(occupied), n_logits, 50.0, seed=4))
        again = system.factorise(first)
        assert again.log_det == log_det
        fresh = kernel.system(occupied, n_logits).factorise(first)
        np.testing.assert_array_equal(again.blocks(), fresh.blocks())

    def test_smooth(self, kernel, smooth, occupied, n_logits):
        alpha = np.random.default_rng(5).normal(size=(len(occupied), n_logits))
        expected = smooth[:, occupied] @ alpha
        np.testing.assert_allclose(kernel.smooth(alpha, occupied), expected, **TIGHT)

    @pytest.mark.parametrize(("spatial", "nugget"), [(0.7, 0.2), (3.0, 1e-6), (0.0, 0.5)])
    def test_log_det_terms(self, kernel, V, spatial, nugget):
        matrix = spatial * V + nugget * np.eye(len(V))
        inverse = np.linalg.inv(matrix)
        terms = kernel.log_det_terms(spatial, nugget)
        expected = np.linalg.slogdet(matrix)[1], np.sum(inverse * V), np.trace(inverse)
        np.testing.assert_allclose(terms, expected, rtol=1e-8)

    def test_log_det_derivatives_are_differences(self, kernel):
        spatial, nugget, step = 0.6, 0.3, 1e-5
        _, by_spatial, by_nugget = kernel.log_det_terms(spatial, nugget)

        def value(a, b):
            return kernel.log_det_terms(spatial + a, nugget + b)[0]

        assert math.isclose(
            (value(step, 0) - value(-step, 0)) / (2 * step), by_spatial, rel_tol=1e-7
        )
        assert math.isclose(
            (value(0, step) - value(0, -step)) / (2 * step), by_nugget, rel_tol=1e-7
        )

    def test_precision_quad(self, kernel, V):
        nu = np.random.default_rng(6).normal(size=(len(V), 3))
        spatial, nugget = np.array([0.7, 2.0, 0.0]), np.array([0.2, 1e-3, 0.5])
        expected = [
            nu[:, q] @ np.linalg.solve(spatial[q] * V + nugget[q] * np.eye(len(V)), nu[:, q])
            for q in range(3)
        ]
        np.testing.assert_allclose(kernel.precision_quad(nu, spatial, nugget), expected, rtol=1e-9)

    def test_field_log_prob_of_a_batch(self, kernel, V):
        generator = torch.Generator().manual_seed(7)
        nu = torch.randn(2, 3, len(V), 2, dtype=torch.float64, generator=generator)
        spatial = torch.rand(3, 2, dtype=torch.float64, generator=generator)
        nugget = torch.rand(2, 1, 2, dtype=torch.float64, generator=generator)
        ours = kernel.field_log_prob(nu, spatial, nugget)
        assert ours.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                expected = math.fsum(
                    oracles.mvn_log_density(
                        nu[i, j, :, q].numpy(),
                        spatial[j, q].item() * V + nugget[i, 0, q].item() * np.eye(len(V)),
                    )
                    for q in range(2)
                )
                assert math.isclose(ours[i, j].item(), expected, rel_tol=1e-10)

    @pytest.mark.parametrize(("spatial", "nugget"), [(0.7, 0.4), (0.0, 0.4)])
    def test_gradient_of_field_log_prob(self, kernel, spatial, nugget):
        generator = torch.Generator().manual_seed(8)
        nu = torch.randn(kernel.n_spots, 2, dtype=torch.float64, generator=generator)
        point = [
            nu.requires_grad_(),
            torch.tensor([spatial, spatial + 0.1], dtype=torch.float64, requires_grad=True),
            torch.tensor([nugget, nugget + 0.1], dtype=torch.float64, requires_grad=True),
        ]
        # a spatial variance just below 0 still leaves a positive definite matrix for differences
        assert torch.autograd.gradcheck(kernel.field_log_prob, point, atol=1e-6, rtol=1e-6)

    def test_field_log_prob_without_nugget(self, kernel, V):
        """V is positive definite in every form tested by this suite."""
        nu = torch.from_numpy(
            np.linalg.cholesky(V) @ np.random.default_rng(9).normal(size=(len(V), 1))
        )
        spatial = torch.ones(1, dtype=torch.float64, requires_grad=True)
        nugget = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        ours = kernel.field_log_prob(nu, spatial, nugget)
        assert math.isclose(ours.item(), oracles.mvn_log_density(nu[:, 0].numpy(), V), rel_tol=1e-8)
        for gradient in torch.autograd.grad(ours, (spatial, nugget)):
            assert bool(torch.isfinite(gradient).all())

    def test_samples_have_the_covariance(self, kernel, V):
        """Each entry of the covariance within 5 standard errors: false alarms below 1e-4."""
        n_draws = 40_000
        draws = kernel.sample((n_draws // 4, 4), torch.Generator().manual_seed(10))
        assert draws.shape == (n_draws // 4, 4, kernel.n_spots)
        flat = draws.reshape(n_draws, -1).numpy()
        error = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / n_draws)
        assert (np.abs(flat.T @ flat / n_draws - V) < 5 * error).all()
        assert (np.abs(flat.mean(0)) < 5 * np.sqrt(np.diag(V) / n_draws)).all()

    def test_samples_come_from_the_generator_alone(self, kernel):
        state = torch.get_rng_state()
        first = kernel.sample((2,), torch.Generator().manual_seed(11))
        second = kernel.sample((2,), torch.Generator().manual_seed(11))
        assert torch.equal(first, second)
        assert not torch.equal(first[0], first[1])
        assert torch.equal(torch.get_rng_state(), state)
