"""An interpolated density: exact at its points, close between them, caught where it is not."""

import numpy as np
import pytest
from scipy import stats

from splisosm_pyro.posterior.anchors import MOST_ANCHORS, anchors
from splisosm_pyro.posterior.surrogate import CHECKED, FEWEST, Surrogate, explore

BOX = (np.full(2, -50.0), np.full(2, 50.0))
# E log G = digamma(2), var = trigamma(2) for a gamma of shape 2; the logistic has pi^2 / 3
# and the log density at the mode, log 2 and half of it
TOP = 2.0 * np.log(2.0) - 2.0 - np.log(4.0)
MEAN, VARIANCE = 0.4227843351, 0.6449340668


def skewed(u):
    """A log gamma and a logistic variable that leans on it."""
    apart = u[1] - 0.5 * u[0]
    lean = -np.tanh(apart / 2.0)  # of the logistic's log density
    slope = np.array([2.0 - np.exp(u[0]) - 0.5 * lean, lean])
    return 2.0 * u[0] - np.exp(u[0]) + stats.logistic.logpdf(apart), slope, None


def bent(u):
    """A ridge that no Gaussian follows."""
    apart = u[1] - 0.5 * u[0] ** 2
    value = -0.5 * u[0] ** 2 - 2.0 * apart**2
    return value, np.array([-u[0] + 4.0 * apart * u[0], -4.0 * apart]), None


def evaluated(density, points):
    values, slopes, _ = zip(*(density(u) for u in points), strict=True)
    return points, np.array(values), np.stack(slopes)


def test_it_goes_through_values_and_slopes():
    points = np.random.default_rng(0).normal(size=(20, 2))
    root = np.array([[0.9, 0.0], [0.3, 1.4]])
    found = Surrogate.through(*evaluated(skewed, points), np.array([0.6, 0.3]), root)
    values = [skewed(u)[0] for u in points]
    np.testing.assert_allclose(found.log_density(points), values, atol=0.01)
    step = 1e-5
    for i in range(2):
        move = step * np.eye(2)[i]
        rise = found.log_density(points + move) - found.log_density(points - move)
        slopes = [skewed(u)[1][i] for u in points]
        np.testing.assert_allclose(rise / (2 * step), slopes, atol=0.02)


def test_between_the_points_slopes_help():
    rng = np.random.default_rng(1)
    points, there = rng.normal(size=(30, 2)), rng.normal(size=(200, 2))
    truth = np.array([skewed(u)[0] for u in there])
    found = Surrogate.through(*evaluated(skewed, points), np.array([0.6, 0.3]), np.eye(2))
    off = np.abs(found.log_density(there) - truth)
    gaussian = -0.5 * ((there - [0.6, 0.3]) ** 2).sum(1)
    assert np.quantile(off, 0.9) < 0.05
    assert np.quantile(np.abs(gaussian - truth - (gaussian - truth).mean()), 0.9) > 0.5


def test_far_from_all_points_it_is_the_gaussian():
    points = np.random.default_rng(0).normal(size=(20, 2))
    found = Surrogate.through(*evaluated(skewed, points), np.zeros(2), np.eye(2))
    far = np.array([[60.0, 0.0]])
    assert found.log_density(far)[0] == pytest.approx(found.level - 1800.0, rel=1e-12)


def test_points_without_a_value_are_left_out():
    points, values, slopes = evaluated(skewed, np.random.default_rng(0).normal(size=(20, 2)))
    some = Surrogate.through(points[1:], values[1:], slopes[1:], np.zeros(2), np.eye(2))
    values[0], slopes[0] = -np.inf, 0.0
    found = Surrogate.through(points, values, slopes, np.zeros(2), np.eye(2))
    np.testing.assert_array_equal(found.log_density(points), some.log_density(points))


def test_draws_have_the_moments_of_a_skewed_density():
    draws, log_density, found = explore(
        skewed, np.array([0.7, 0.3]), TOP, np.diag([0.5, 2.0]), BOX, 4000, np.random.default_rng(3)
    )
    expected = np.array([[VARIANCE, VARIANCE / 2], [VARIANCE / 2, VARIANCE / 4 + np.pi**2 / 3]])
    away = (draws.mean(0) - [MEAN, 0.5 * MEAN]) / np.sqrt(expected.diagonal())
    assert np.abs(away).max() < 0.07
    np.testing.assert_allclose(draws.std(0) / np.sqrt(expected.diagonal()), 1.0, atol=0.05)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(expected[0, 1] / 1.4919, abs=0.03)
    assert found.weights.trusted
    assert len(np.unique(draws, axis=0)) > 3000
    truth = np.array([skewed(u)[0] for u in draws[:200]])
    assert np.abs(log_density[:200] - truth).mean() < 0.02


def test_no_draw_is_outside_the_box():
    box = (np.array([-0.5, -50.0]), np.array([50.0, 50.0]))

    def boxed(u):
        return skewed(u) if u[0] >= -0.5 else (-np.inf, np.zeros(2), None)

    draws, _, found = explore(
        boxed, np.array([0.7, 0.3]), TOP, np.diag([0.5, 2.0]), box, 500, np.random.default_rng(0)
    )
    assert draws[:, 0].min() >= -0.5
    assert found.weights.trusted


def test_a_bent_ridge_is_followed():
    args = (np.zeros(2), 0.0, np.diag([1.0, 0.25]), BOX, 4000)
    draws, _, found = explore(bent, *args, np.random.default_rng(0))
    assert found.values.size >= FEWEST + CHECKED
    assert draws[:, 0].std() == pytest.approx(1.0, abs=0.1)
    assert (draws[:, 1] - 0.5 * draws[:, 0] ** 2).std() == pytest.approx(0.5, rel=0.1)


def test_what_it_cannot_follow_is_said(monkeypatch):
    """Ripples shorter than the points are apart, and no more points allowed."""
    monkeypatch.setattr("splisosm_pyro.posterior.surrogate.MOST_CHECKS", 1)

    def rippled(u):
        wave = 5.0 * np.sin(9.0 * u)
        return -0.5 * u @ u + wave.sum(), -u + 45.0 * np.cos(9.0 * u), None

    found = explore(rippled, np.zeros(2), 9.7, np.eye(2), BOX, 100, np.random.default_rng(0))[2]
    assert not found.weights.trusted


def test_anchors_are_few_near_and_worth_it():
    rng = np.random.default_rng(0)
    points, draws = rng.normal(size=(200, 2)), rng.normal(size=(1000, 2))
    values = -0.5 * (points**2).sum(1)
    values[7] = -np.inf
    owner = anchors(points, values, draws)
    assert np.unique(owner).size <= MOST_ANCHORS
    assert 7 not in owner
    apart = np.linalg.norm(points[owner] - draws, axis=1)
    anyone = np.linalg.norm(points[rng.integers(200, size=1000)] - draws, axis=1)
    assert apart.mean() < 0.3 * anyone.mean()
