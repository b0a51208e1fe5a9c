"""The outer density: its parts by hand, its gradient, its mode."""

from dataclasses import replace

import cases
import numpy as np
import oracles
import pytest
from problems import OUTER_PRIORS, central, density_of, point_of
from scipy import stats

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.maths.priors import GammaPrior, InvGammaPrior, NoPrior, Priors
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.laplace_and_nested import SLOPE_SITES, outer_mode


def log_prior_by_hand(case, u, prior, *, fix=False):
    """The density of (u) of the priors, each change of variable written out."""
    n_components = case.sigma.shape[1]
    sigma, theta = np.exp(u[:n_components]), 1 / (1 + np.exp(-u[n_components : 2 * n_components]))
    B = StandardDesign.of(case.design).back @ u[2 * n_components :].reshape(case.B(0).shape)
    value = stats.norm(0, 2.0).logpdf(B[:-1]).sum() + stats.norm(0, 3.0).logpdf(B[-1]).sum()
    value += np.log(theta * (1 - theta)).sum()
    if fix:
        return value
    if prior == "gamma":
        return value + (stats.gamma(2.0, scale=1 / 0.3).logpdf(sigma) + np.log(sigma)).sum()
    variance = sigma**2
    return value + (stats.invgamma(3.0, scale=0.5).logpdf(variance) + np.log(2 * variance)).sum()


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("prior", list(OUTER_PRIORS))
@pytest.mark.parametrize("name", ["two_isoforms", "batch", "empty_spots"])
def test_the_value_is_the_marginal_and_the_priors(name, prior, fix):
    case = cases.CASES[name]
    density = density_of(case, prior=prior, fix=fix)
    u = point_of(case)
    theta = np.clip(case.theta[0], 0.05, 0.95)
    truth = oracles.log_marginal(
        case.counts[0], case.design, case.B(0), case.sigma[0], theta, case.V
    ).value
    truth += log_prior_by_hand(case, u, prior, fix=fix)
    given = u[case.sigma.shape[1] :] if fix else u
    assert density.size == given.size
    assert density.value(given, None)[0] == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("name", ["two_isoforms", "three_isoforms"])
def test_a_rough_density_is_right_to_a_hundredth(name):
    """Values in nats and gradients, a sd being 0.3 or more."""
    density = density_of(cases.CASES[name], how=("quadrature", "ep"))
    mode = outer_mode(density, [point_of(cases.CASES[name])])
    rough = density.rough(SLOPE_SITES)
    root = np.linalg.cholesky(mode.covariance)
    for z in np.random.default_rng(0).normal(size=(6, density.size)):
        u = mode.mean + 1.5 * root @ z
        exact = density.evaluate(u, mode.at)
        value, slope, state = rough.with_slope(u, mode.at)
        assert state.mode.residual > 1e-12  # it has stopped early
        assert 0.0 < abs(value - exact.value) < 0.01
        np.testing.assert_allclose(root.T @ slope, root.T @ exact.gradient, atol=0.02)


@pytest.mark.parametrize("how", [("laplace", "laplace"), ("quadrature", "ep")])
@pytest.mark.parametrize("prior", list(OUTER_PRIORS))
def test_the_gradient_is_that_of_the_value(prior, how):
    case = cases.CASES["batch"]
    density = density_of(case, prior=prior, how=how)
    u = point_of(case)
    slope = density.evaluate(u).gradient
    for i in range(u.size):
        expected = central(lambda v: density.value(v, None)[0], u, i)
        assert slope[i] == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_every_form_of_the_kernel_has_the_same_density():
    case = cases.CASES["batch"]
    values = [
        density_of(case, form).value(point_of(case), None)[0] for form in ("dense", "full_rank")
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-10)


def test_outside_the_box_there_is_nothing():
    case = cases.CASES["batch"]
    density = density_of(case)
    u = point_of(case)
    at = density.evaluate(u)
    for i, value in ((0, np.log(60.0)), (2, 15.1), (0, np.nan)):
        far = u.copy()
        far[i] = value
        assert density.log_density(far, at) == (-np.inf, None)
    assert density.log_density(u, at)[0] == pytest.approx(at.value, rel=1e-10)


def test_the_mode_of_a_glm():
    case = cases.CASES["covariates"]
    design = StandardDesign.of(case.design)
    density = GLMDensity.of_gene(case.counts[0], design, OUTER_PRIORS["gamma"])
    mode = outer_mode(density, density.starts())
    assert mode.converged
    assert np.abs(density.evaluate(mode.mean).gradient).max() < 1e-4
    u = mode.at.u
    for i in range(u.size):
        expected = central(lambda v: density.value(v, None)[0], u + 0.1, i)
        slope = density.evaluate(u + 0.1).gradient
        assert slope[i] == pytest.approx(expected, rel=1e-6, abs=1e-8)
    truth = np.linalg.inv(density.information(mode.at))
    np.testing.assert_allclose(mode.covariance, truth, atol=1e-3 * truth.diagonal().min())
    B = design.back @ u.reshape(4, 2)
    log_lik = oracles.log_lik(oracles.linear_predictor(B, case.design, 17), case.counts[0])
    prior = stats.norm(0, 2.0).logpdf(B[:-1]).sum() + stats.norm(0, 3.0).logpdf(B[-1]).sum()
    assert mode.at.value == pytest.approx(log_lik + prior, rel=1e-10)


def test_the_mode_is_inside_whatever_the_likelihood_says():
    """An isoform that never occurs has no finite maximum of the likelihood; the prior holds it."""
    case = cases.CASES["empty_isoform"]
    density = density_of(case)
    mode = outer_mode(density, density.starts())
    assert mode.converged
    assert mode.min_eigenvalue > 0
    assert np.abs(density.evaluate(mode.mean).gradient).max() < 1e-3
    assert (np.abs(mode.at.u) < 14).all()


def test_priors_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"beta_sd must be positive and finite, came 0"):
        PosteriorPriors(beta_sd=0.0)
    assert replace(PosteriorPriors(beta_sd=2.0), sigma=GammaPrior(2.0, 2.0)).beta_sd == 2.0
    with pytest.raises(TypeError, match=r"bias_sd must be a number, came str"):
        PosteriorPriors(bias_sd="1")
    with pytest.raises(TypeError, match=r"sigma must have a proper prior.*came NoPrior"):
        PosteriorPriors(sigma=NoPrior())
    assert PosteriorPriors.of_model(Priors()).sigma == GammaPrior(2.0, 0.3)
    assert PosteriorPriors.of_model(Priors(InvGammaPrior(4.0))).sigma == InvGammaPrior(4.0)
