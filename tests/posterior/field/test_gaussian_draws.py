"""Draws of the field: their covariance in every form of the kernel, and the exact spot."""

from dataclasses import replace

import cases
import numpy as np
import pytest
import torch
from problems import FORMS, kernel_of, objective_of

from splisosm_pyro.fit.glmm.uncertainty import field_posterior
from splisosm_pyro.maths.numeric.symmetric_root import symmetric_root
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.posterior.field.gaussian_draws import (
    FieldDraws,
    eta_mean,
    gaussian_draws,
    singles,
    smooth_draws,
)
from splisosm_pyro.posterior.field.nearest_modes import coefficient_response
from splisosm_pyro.posterior.field.spot_sampler import refine


def with_intercept(case):
    return np.column_stack([case.design, np.ones(len(case.design))])


@pytest.mark.parametrize("form", FORMS)
def test_smooth_draws_have_the_smooth_covariance(form):
    kernel = kernel_of("batch", form)
    draws = smooth_draws(kernel, 2, 10_000, torch.Generator().manual_seed(0))
    smooth = kernel.dense().numpy() - kernel.residual * np.eye(kernel.n_spots)
    assert np.abs(np.corrcoef(draws[0])[0, 1]) < 0.05  # logits are independent
    np.testing.assert_allclose(np.cov(draws.reshape(len(draws), -1)), smooth, atol=0.05)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["batch", "empty_spots"])
def test_gaussian_draws_have_the_posterior_covariance(name, form):
    case = cases.CASES[name]
    objective, u = objective_of(case, kernel_of(name, form))
    at = objective.evaluate(u)
    truth = field_posterior(objective, at, with_intercept(case))
    _, state = objective.value(u, at)
    generator = torch.Generator().manual_seed(1)
    n_draws = 20_000
    draws = gaussian_draws(objective.problem, state, with_intercept(case), n_draws, generator).eta
    sd = np.sqrt(np.diagonal(truth.covariance, axis1=1, axis2=2))
    apart = (draws.mean(-1) - truth.eta) / sd
    assert np.abs(apart).max() < 5 / np.sqrt(n_draws)
    found = np.stack([np.cov(spot) for spot in draws])
    scale = sd[:, :, None] * sd[:, None, :]
    np.testing.assert_allclose(found / scale, truth.covariance / scale, atol=0.06)


def test_draws_of_two_spots_hang_together():
    """The covariance across spots, against that of the whole dense posterior."""
    case = cases.CASES["two_isoforms"]
    objective, u = objective_of(case, kernel_of(case.name, "dense"))
    at = objective.evaluate(u)
    _, state = objective.value(u, at)
    occupied = objective.problem.gene.occupied
    assert occupied.size == len(case.V)
    nugget, spatial = state.variances.nugget[0], state.variances.spatial[0]
    big_a = state.mode.terms.neg_hessian[:, 0, 0]
    smooth = np.linalg.inv(np.linalg.inv(spatial * case.V) + np.diag(big_a))
    shrink = np.diag(1 - nugget * big_a)
    truth = shrink @ smooth @ shrink + nugget * shrink
    generator = torch.Generator().manual_seed(2)
    draws = gaussian_draws(objective.problem, state, with_intercept(case), 40_000, generator).eta
    np.testing.assert_allclose(np.cov(draws[:, 0]), truth, atol=0.03 * truth.max())


def test_refined_draws_are_exact_at_a_spot():
    """All white noise: eta given x by integration on a grid, at every spot."""
    kernel = kernel_of("two_isoforms", "dense")
    objective, _ = objective_of(cases.CASES["two_isoforms"], kernel)
    gene = objective.problem.gene
    n, n_draws, nugget = len(gene.counts), 20_000, np.array([6.0])
    x = np.repeat(np.linspace(-1.0, 1.0, n)[:, None, None], n_draws, axis=2)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn((n, 1, n_draws), generator=generator)
    root = np.full((n, 1, 1), 3.0)
    given = FieldDraws(np.zeros((kernel.n_spots, 1, n_draws)), x, x, root, noise.numpy())
    given.eta[gene.occupied] = x + 3.0 * noise.numpy()
    found = refine(objective.problem, nugget, given, 60, generator)[gene.occupied, 0]
    grid = np.linspace(-25, 25, 4001)
    for s in range(n):
        y, total = gene.counts[s, 0], gene.counts[s].sum()
        log_p = y * grid - total * np.logaddexp(0, grid) - 0.5 * (grid - x[s, 0, 0]) ** 2 / 6.0
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = p @ grid
        sd = np.sqrt(p @ (grid - mean) ** 2)
        assert abs(found[s].mean() - mean) < 0.05 * sd
        assert abs(found[s].std() / sd - 1) < 0.05


@pytest.mark.parametrize("factor", [1.0, 3000.0])  # the latter in double precision
@pytest.mark.parametrize("name", ["two_isoforms", "three_isoforms"])
def test_refined_draws_have_the_moments_that_quadrature_gives(name, factor):
    """``E[eta | x] = x + T g'`` and ``Cov[eta | x] = T - T A T``, from proposals that are off."""
    objective, _ = objective_of(cases.CASES[name], kernel_of(name, "dense"))
    problem, gene = objective.problem, objective.problem.gene
    counts, n_draws, n_logits = factor * gene.counts, 40_000, gene.n_logits
    nugget = np.linspace(4.0, 2.5, n_logits)
    at = np.linspace(-1.0, 1.0, counts[:, 1:].size).reshape(-1, n_logits)
    truth = QuadratureNugget(counts).evaluate(at, nugget)
    mean = at + nugget * truth.score
    cov = np.diag(nugget) - nugget[:, None] * truth.neg_hessian * nugget
    root = symmetric_root(1.3 * cov)
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    x, centre = (np.repeat(v[:, :, None], n_draws, axis=2) for v in (at, mean + 0.2 * sd))
    generator = torch.Generator().manual_seed(4)
    white = singles(x.shape, generator)
    eta = np.zeros((problem.kernel.n_spots, n_logits, n_draws))
    problem = replace(problem, gene=replace(gene, counts=counts))
    found = refine(problem, nugget, FieldDraws(eta, x, centre, root, white), 25, generator)
    found = found[gene.occupied]
    assert np.abs((found.mean(axis=2) - mean) / sd).max() < 0.05
    spread = np.stack([np.cov(spot).reshape(n_logits, -1) for spot in found])
    scale = sd[:, :, None] * sd[:, None]
    np.testing.assert_allclose(spread / scale, cov / scale, atol=0.06)


def test_without_a_nugget_nothing_moves():
    case = cases.CASES["two_isoforms"]
    objective, u = objective_of(case, kernel_of(case.name, "dense"))
    _, state = objective.value(u, None)
    generator = torch.Generator().manual_seed(0)
    draws = gaussian_draws(objective.problem, state, with_intercept(case), 3, generator)
    eta = draws.eta.copy()
    eta[objective.problem.gene.occupied] = draws.centre
    still = FieldDraws(eta, draws.centre, draws.centre, np.zeros_like(draws.root), draws.white)
    moved = refine(objective.problem, np.zeros(1), still, 3, generator)
    np.testing.assert_allclose(moved[objective.problem.gene.occupied], draws.centre, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_mean_follows_the_coefficients(form):
    """Where the sites are Gaussian already the response is that of the next mode."""
    case = cases.CASES["empty_spots"]
    objective, u = objective_of(case, kernel_of(case.name, form))
    design, problem, step = with_intercept(case), objective.problem, 1e-5
    _, state = objective.value(u, None)
    found = coefficient_response(problem, state, design)
    k = objective.space.n_variance
    for i in range(found.shape[2]):
        sides = []
        for sign in (1.0, -1.0):
            moved = u.copy()
            moved[k + i] += sign * step
            sides.append(eta_mean(problem, objective.value(moved, None)[1], design))
        np.testing.assert_allclose(found[:, :, i], (sides[0] - sides[1]) / (2 * step), atol=1e-4)
