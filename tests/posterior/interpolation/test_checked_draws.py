"""Draws of an interpolated density: refined until they are right, caught where they are not."""

import numpy as np
import pytest
from problems import skewed

from splisosm_pyro.posterior.field.nearest_modes import MOST_MODES, nearest_modes
from splisosm_pyro.posterior.interpolation.checked_draws import CHECKED, FEWEST, checked_draws
from splisosm_pyro.posterior.interpolation.gaussian_process import Surrogate
from splisosm_pyro.posterior.interpolation.importance_sampling import StudentT

BOX = (np.full(2, -50.0), np.full(2, 50.0))
# E log G = digamma(2), var = trigamma(2) for a gamma of shape 2; the logistic has pi^2 / 3
MEAN, VARIANCE = 0.4227843351, 0.6449340668


def draws_of(density, centre, covariance, box, n_draws, generator):
    """Interpolate about a Gaussian 1.3 times as wide as the one given."""
    root = np.linalg.cholesky(covariance)

    def how(points, values, slopes, lengths):
        return Surrogate.through(points, values, slopes, centre, 1.3 * root, lengths, fading=True)

    return checked_draws(density, how, StudentT(centre, root), box, n_draws, generator)


def bent(u):
    """A ridge that no Gaussian follows."""
    apart = u[1] - 0.5 * u[0] ** 2
    value = -0.5 * u[0] ** 2 - 2.0 * apart**2
    return value, np.array([-u[0] + 4.0 * apart * u[0], -4.0 * apart]), None


def test_draws_have_the_moments_of_a_skewed_density():
    draws, log_density, found = draws_of(
        skewed, np.array([0.7, 0.3]), np.diag([0.5, 2.0]), BOX, 4000, np.random.default_rng(3)
    )
    expected = np.array([[VARIANCE, VARIANCE / 2], [VARIANCE / 2, VARIANCE / 4 + np.pi**2 / 3]])
    away = (draws.mean(0) - [MEAN, 0.5 * MEAN]) / np.sqrt(expected.diagonal())
    assert np.abs(away).max() < 0.07
    np.testing.assert_allclose(draws.std(0) / np.sqrt(expected.diagonal()), 1.0, atol=0.05)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(
        expected[0, 1] / 1.4919, abs=0.05
    )  # 3 of its errors
    assert found.weights.trusted
    assert len(np.unique(draws, axis=0)) > 3000
    truth = np.array([skewed(u)[0] for u in draws[:200]])
    assert np.abs(log_density[:200] - truth).mean() < 0.02


def test_no_draw_is_outside_the_box():
    box = (np.array([-0.5, -50.0]), np.array([50.0, 50.0]))

    def boxed(u):
        return skewed(u) if u[0] >= -0.5 else (-np.inf, np.zeros(2), None)

    draws, _, found = draws_of(
        boxed, np.array([0.7, 0.3]), np.diag([0.5, 2.0]), box, 500, np.random.default_rng(0)
    )
    assert draws[:, 0].min() >= -0.5
    assert found.weights.trusted


def test_a_bent_ridge_is_followed():
    args = (np.zeros(2), np.diag([1.0, 0.25]), BOX, 4000)
    draws, _, found = draws_of(bent, *args, np.random.default_rng(0))
    assert found.values.size >= FEWEST + CHECKED
    assert draws[:, 0].std() == pytest.approx(1.0, abs=0.12)  # its ends are thin
    assert (draws[:, 1] - 0.5 * draws[:, 0] ** 2).std() == pytest.approx(0.5, rel=0.1)


def test_what_it_cannot_follow_is_said(monkeypatch):
    """Ripples shorter than the points are apart, and no more points allowed."""
    monkeypatch.setattr("splisosm_pyro.posterior.interpolation.checked_draws.MOST_CHECKS", 1)

    def rippled(u):
        wave = 5.0 * np.sin(9.0 * u)
        return -0.5 * u @ u + wave.sum(), -u + 45.0 * np.cos(9.0 * u), None

    found = draws_of(rippled, np.zeros(2), np.eye(2), BOX, 100, np.random.default_rng(0))[2]
    assert not found.weights.trusted


def test_anchors_are_few_near_and_worth_it():
    rng = np.random.default_rng(0)
    points, draws = rng.normal(size=(200, 2)), rng.normal(size=(1000, 2))
    values = -0.5 * (points**2).sum(1)
    values[7] = -np.inf
    owner = nearest_modes(points, values, draws)
    assert np.unique(owner).size <= MOST_MODES
    assert 7 not in owner
    apart = np.linalg.norm(points[owner] - draws, axis=1)
    anyone = np.linalg.norm(points[rng.integers(200, size=1000)] - draws, axis=1)
    assert apart.mean() < 0.3 * anyone.mean()
