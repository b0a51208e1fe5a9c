"""An interpolated function: exact at its points, close between them."""

import numpy as np
import pytest
from problems import central, skewed

from splisosm_pyro.posterior.interpolation.gaussian_process import Surrogate


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


def test_the_slope_is_that_of_the_value():
    points = np.random.default_rng(0).normal(size=(20, 2))
    root = np.array([[0.9, 0.0], [0.3, 1.4]])
    found = Surrogate.through(*evaluated(skewed, points), np.array([0.6, 0.3]), root)
    for u in (points[3], points[3] + 0.4, np.array([5.0, -4.0])):
        value, slope = found.with_slope(u)
        assert value == pytest.approx(found.log_density(u[None])[0], rel=1e-10)
        for i in range(2):
            assert slope[i] == pytest.approx(
                central(lambda p: found.with_slope(p)[0], u, i), rel=1e-5, abs=1e-6
            )


def test_what_happens_far_out_makes_no_ripples_in_the_bulk():
    """Points as deep as 20 nats whose values no smooth function goes through."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2)) * 2.2
    values = -0.5 * (points**2).sum(1)
    deep = values < -6.0
    values[deep] += rng.normal(size=deep.sum())
    known, there = (points, values, -points), 0.8 * rng.normal(size=(200, 2))
    gaussian = np.zeros(2), 1.3 * np.eye(2)
    off, strict = (
        np.abs(Surrogate.through(*known, *gaussian, fading=how).log_density(there) + true).max()
        for true in [0.5 * (there**2).sum(1)]
        for how in (True, False)
    )
    assert deep.sum() > 5
    assert off < 0.15
    assert strict > 2.0 * off
