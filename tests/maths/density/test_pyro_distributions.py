"""Pyro distributions: limits, draws against densities, gradients through draws."""

import math

import numpy as np
import oracles
import pyro
import pytest
import torch
from cases import CASES
from kernels import KERNELS, eta_of, tensor
from pyro.distributions import constraints

from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.density.pyro_distributions import MultinomialLogits, SpatialField
from splisosm_pyro.maths.priors.pyro_improper import ClosedUnitUniform, Flat


@pytest.mark.parametrize("theta", [0.0, 1.0])
def test_theta_at_its_ends_is_an_ordinary_point(theta):
    uniform = ClosedUnitUniform([2])
    ends = tensor([theta, 0.5])
    assert torch.equal(uniform.log_prob(ends), torch.zeros(2, dtype=torch.float64))
    with pyro.validation_enabled(False):
        assert uniform.log_prob(tensor([-0.1, 1.1])).tolist() == [-math.inf, -math.inf]


def test_flat_is_zero_everywhere_and_stands_in_by_a_fixed_point():
    flat = Flat(constraints.positive, (), (2,)).expand((3,))
    value = tensor(np.ones((5, 1, 2)))
    assert torch.equal(flat.log_prob(value), torch.zeros(5, 3, dtype=torch.float64))
    assert flat.sample().tolist() == [[1.0, 1.0]] * 3
    assert Flat(constraints.real, (), (2, 0)).sample((4,)).shape == (4, 2, 0)
    assert Flat(constraints.real, (), (1,)).sample().item() == 0.0


@pytest.mark.usefixtures("seeded")
def test_multinomial_draws_have_the_totals_and_the_moments():
    eta = tensor([[0.5, -1.0], [30.0, -30.0], [0.0, 0.0]])
    totals = tensor([40.0, 7.0, 0.0])
    draws = MultinomialLogits(eta, totals).sample((20_000,))
    assert torch.equal(draws.sum(-1), totals.expand(20_000, 3))
    assert bool((draws == draws.round()).all())
    ratio = oracles.softmax_ratio(eta.numpy())
    mean = totals.numpy()[:, None] * ratio
    np.testing.assert_allclose(draws[:, 1].mean(0), [7.0, 0.0, 0.0], atol=1e-6)
    # five standard errors of a mean and of a covariance
    spread = np.sqrt(mean[0] * (1 - ratio[0]))
    assert (np.abs(draws[:, 0].numpy().mean(0) - mean[0]) < 5 * spread / 20_000**0.5).all()
    expected = 40 * (np.diag(ratio[0]) - np.outer(ratio[0], ratio[0]))
    error = 5 * np.outer(spread, spread) * (2 / 20_000) ** 0.5
    assert (np.abs(np.cov(draws[:, 0].numpy().T) - expected) < error).all()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("kernel", KERNELS)
def test_field_draws_have_the_covariance_of_the_density(kernel):
    case = CASES["two_isoforms"]
    kernel = KERNELS[kernel](case)
    field = SpatialField(kernel, tensor([0.8, 0.0]), tensor([0.3, 0.5]))
    draws = field.sample((20_000,)).numpy()
    cov = 0.8 * kernel.dense().numpy() + 0.3 * np.eye(13)
    error = 5 * np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 20_000)
    assert (np.abs(draws[..., 0].T @ draws[..., 0] / 20_000 - cov) < error).all()
    white = draws[..., 1].T @ draws[..., 1] / 20_000
    assert (np.abs(white - 0.5 * np.eye(13)) < 5 * 0.5 * (2 / 20_000) ** 0.5).all()
    between = draws[..., 0].T @ draws[..., 1] / 20_000
    assert (np.abs(between) < 5 * (1.1 * 0.5 / 20_000) ** 0.5).all()


def test_gradients_flow_through_field_draws():
    kernel = DenseKernel(CASES["two_isoforms"].V)

    def draw(spatial, nugget):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return SpatialField(kernel, spatial, nugget).rsample()

    point = [tensor([0.8, 0.2]).requires_grad_(), tensor([0.3, 0.5]).requires_grad_()]
    assert torch.autograd.gradcheck(draw, point)


def test_distributions_expand():
    case = CASES["batch"]
    field = SpatialField(DenseKernel(case.V), tensor([0.8, 0.1]), tensor([0.3, 0.2]))
    assert field.expand((3, 5)).log_prob(tensor(case.nu)).shape == (3, 5)
    torch.testing.assert_close(
        field.expand((3, 5)).log_prob(tensor(case.nu))[1], field.log_prob(tensor(case.nu))
    )
    counts = MultinomialLogits(eta_of(case), tensor(case.counts).sum(-1))
    assert counts.expand((3, 5)).sample().shape == (3, *case.shape)
    assert ClosedUnitUniform().expand((4,)).sample().shape == (4,)


def test_counts_that_miss_the_totals_and_fractional_draws_are_refused():
    counts = MultinomialLogits(torch.zeros(1, 1), torch.tensor([3.0]), validate_args=True)
    with pytest.raises(ValueError, match="counts must sum to the totals"):
        counts.log_prob(torch.tensor([[2.0, 2.0]]))
    with pytest.raises(ValueError, match="totals must be whole numbers"):
        MultinomialLogits(torch.zeros(1, 1), torch.tensor([0.5])).sample()
