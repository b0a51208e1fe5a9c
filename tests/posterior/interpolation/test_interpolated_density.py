"""The check of a Gaussian by the interpolated density: what it accepts, what it catches."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from problems import OUTER_PRIORS, central, density_of, point_of
from scipy import stats
from scipy.special import digamma, polygamma

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.psis import smoothed_weights
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.density.space import PosteriorSpace
from splisosm_pyro.posterior.draws.laplace_and_nested import outer_mode
from splisosm_pyro.posterior.interpolation import interpolated_density as interpolated
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedCoefficients
from splisosm_pyro.posterior.interpolation.interpolated_density import Interpolated, weighed


class Plain:
    """A density of two coefficients, their normal priors among what it says."""

    space = PosteriorSpace(
        0,
        np.empty(0),
        np.ones((1, 2), dtype=bool),
        np.zeros((1, 2)),
        PosteriorPriors(bias_sd=50.0),
        np.eye(1),
    )

    def __init__(self, value, slope):
        self.value, self.slope, self.calls = value, slope, 0

    def with_slope(self, u, near):
        self.calls += 1
        return self.value(u), self.slope(u), None


def mode_at(density, u, covariance):
    at = Evaluation(u, density.value(u), density.slope(u), None)
    return OuterMode(at, [], u, covariance, 1.0, True)


def checked(density, u, covariance, n_draws=4000):
    """Log density and weights of draws of the Gaussian, and the draws."""
    z = np.random.default_rng(0).standard_normal((n_draws, 2))
    draws = u + z @ np.linalg.cholesky(covariance).T
    found = weighed(density, mode_at(density, u, covariance), draws, -0.5 * (z**2).sum(axis=1))
    return *found, draws


def test_a_gaussian_passes():
    covariance = np.array([[0.5, 0.3], [0.3, 0.4]])
    normal = stats.multivariate_normal([1.0, -2.0], covariance)
    precision = np.linalg.inv(covariance)
    density = Plain(normal.logpdf, lambda u: -precision @ (u - normal.mean))
    log_density, weights, draws = checked(density, normal.mean, covariance)
    np.testing.assert_allclose(log_density, normal.logpdf(draws), atol=1e-3)
    assert density.calls == 4
    assert weights.effective > 0.9999 * 4000
    assert weights.khat < 0.5
    assert weights.equal
    assert weights.trusted


def skewed(shape):
    """A log gamma variable and a normal one that leans on it; its mode and Gaussian there."""
    root = np.array([[1.0, 0.0], [0.6, 0.5]])
    back = np.linalg.inv(root)

    def value(u):
        x = back @ u
        return shape * x[0] - np.exp(x[0]) - 0.5 * x[1] ** 2

    def slope(u):
        x = back @ u
        return np.array([shape - np.exp(x[0]), -x[1]]) @ back

    at = root @ [np.log(shape), 0.0]
    return Plain(value, slope), at, root @ np.diag([1.0 / shape, 1.0]) @ root.T


def true_weights(density, u, covariance, draws):
    """What the density itself says of the draws."""
    log_density = np.array([density.value(row) for row in draws])
    return smoothed_weights(log_density - stats.multivariate_normal(u, covariance).logpdf(draws))


@pytest.mark.parametrize(("shape", "equal"), [(1.0, False), (4.0, False), (100.0, True)])
def test_a_skewed_density_is_weighed_as_it_deserves(shape, equal):
    density, at, covariance = skewed(shape)
    _, weights, draws = checked(density, at, covariance)
    truth = true_weights(density, at, covariance, draws)
    assert weights.equal == truth.equal == equal
    assert weights.effective == pytest.approx(truth.effective, abs=0.06 * 4000)
    assert weights.khat == pytest.approx(truth.khat, abs=0.1)
    if not equal:
        mean = weights.values @ draws  # the weights mend the Gaussian's mean
        expected = np.array([1.0, 0.6]) * digamma(shape)
        sd = np.sqrt(polygamma(1, shape))
        assert np.abs(mean - expected).max() < 0.08 * sd
        assert np.abs(at - expected).max() > 0.2 * sd


@pytest.mark.parametrize(("degrees", "trusted"), [(4.0, True), (1.0, False)])
def test_heavy_tails_are_weighed_as_they_deserve(degrees, trusted):
    spread, covariance = stats.t(degrees), degrees / (degrees + 1.0) * np.eye(2)
    density = Plain(
        lambda u: spread.logpdf(u).sum(), lambda u: -(degrees + 1.0) * u / (degrees + u**2)
    )
    _, weights, draws = checked(density, np.zeros(2), covariance)
    truth = true_weights(density, np.zeros(2), covariance, draws)
    assert weights.effective == pytest.approx(truth.effective, abs=0.15 * 4000)
    assert weights.khat == pytest.approx(truth.khat, abs=0.1)
    assert not weights.equal
    assert weights.trusted == truth.trusted == trusted
    assert ("k-hat" in weights.words()) != trusted


def test_where_the_density_has_no_value_the_check_goes_on():
    density, at, covariance = skewed(5.0)
    whole = density.with_slope
    density.with_slope = lambda u, near: (
        whole(u, near) if u[0] < at[0] else (-np.inf, np.zeros(2), None)
    )
    log_density, weights, _ = checked(density, at, covariance)
    assert np.isfinite(log_density).all()
    assert np.isfinite(weights.values).all()


def test_very_many_unknowns_are_checked_at_draws(monkeypatch):
    monkeypatch.setattr(interpolated, "MOST_AXES", 1)
    density, at, covariance = skewed(5.0)
    log_density, weights, draws = checked(density, at, covariance)
    assert density.calls == weights.values.size == interpolated.CHECKED
    truth = [density.value(u) for u in draws[: interpolated.CHECKED]]
    np.testing.assert_allclose(log_density[: interpolated.CHECKED], truth)
    assert np.isnan(log_density[interpolated.CHECKED :]).all()


# ---- of the model


@pytest.mark.parametrize("name", ["two_isoforms", "three_isoforms"])
def test_it_is_the_density_at_every_draw(name):
    case = cases.CASES[name]
    density = density_of(case, how=("quadrature", "ep"))
    mode = outer_mode(density, density.starts())
    z = np.random.default_rng(0).standard_normal((100, density.size))
    u = mode.mean + z @ np.linalg.cholesky(mode.covariance).T
    truth = np.array([density.log_density(row, mode.at)[0] for row in u])
    error = Interpolated.about(density, mode).log_density(u) - truth
    wrong = truth - mode.at.value + 0.5 * (z**2).sum(axis=1)  # of the Gaussian
    assert np.sqrt(np.mean(error**2)) < 0.4 * np.sqrt(np.mean(wrong**2))
    at = Interpolated.about(density, mode).log_density(mode.at.u[None])
    assert at[0] == pytest.approx(mode.at.value, abs=1e-3)


@pytest.mark.parametrize("name", ["two_isoforms", "three_isoforms"])
def test_its_slope_is_that_of_its_value_and_its_likelihood_has_a_top(name):
    case = cases.CASES[name]
    density = density_of(case, how=("quadrature", "ep"))
    mode = outer_mode(density, density.starts())
    found = Interpolated.about(density, mode)
    capped = replace(found, highest=found.highest - 100.0)
    u = mode.mean + 0.7 * np.linalg.cholesky(mode.covariance)[:, 0]
    for between in (found, capped):
        value, slope = between.with_slope(u)
        assert value == between.log_density(u[None])[0]
        for i in range(u.size):
            expected = central(lambda p, one=between: one.with_slope(p)[0], u, i)
            assert slope[i] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    flat = float(density.space.log_prior_at(u[None])[0])
    assert capped.with_slope(u)[0] == pytest.approx(flat + capped.highest)


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("name", ["two_isoforms", "batch"])
def test_the_priors_have_their_derivatives(name, fix):
    case = cases.CASES[name]
    density = density_of(case, fix=fix)
    u = point_of(case)[case.sigma.shape[1] if fix else 0 :]

    def whole(v):
        return float(density.space.log_prior_at(v[None])[0])

    slope = density.space.prior_slopes_at(u[None])[0]
    coefficients, variances = density.space.unpack(u)
    assert density.space.log_prior(variances, coefficients) == pytest.approx(whole(u), rel=1e-12)
    np.testing.assert_allclose(density.space.prior_gradient(variances, coefficients), slope)
    for i in range(u.size):
        assert slope[i] == pytest.approx(central(whole, u, i), rel=1e-6, abs=1e-7)


def test_a_glm_has_no_field_to_average_over():
    case = cases.CASES["covariates"]
    design = StandardDesign.of(case.design)
    density = GLMDensity.of_gene(case.counts[0], design, OUTER_PRIORS["gamma"])
    u = np.random.default_rng(0).normal(size=(3, density.size))
    np.testing.assert_array_equal(AttenuatedCoefficients(density.space).from_u(u), u)
    parts, jacobian = density.space.log_priors(u)
    assert set(parts) == {"beta", "bias_eta"}
    B = design.back @ u.reshape(3, 4, 2)
    expected = stats.norm(0, 2.0).logpdf(B[:, :-1]).sum((1, 2))
    expected += stats.norm(0, 3.0).logpdf(B[:, -1]).sum(1)
    np.testing.assert_allclose(density.space.log_prior_at(u), expected)
    np.testing.assert_allclose(sum(parts.values()) + jacobian, expected)
