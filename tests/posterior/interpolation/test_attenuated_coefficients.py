"""Coordinates of averaged ratios, and the outer density climbed in them."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from problems import central, density_of, point_of

from splisosm_pyro.posterior.interpolation.attenuated_coefficients import (
    AttenuatedCoefficients,
    AttenuatedDensity,
)


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("name", ["two_isoforms", "batch"])
def test_the_map_has_its_derivative_and_its_inverse(name, fix):
    case = cases.CASES[name]
    density = density_of(case, fix=fix)
    u = point_of(case)[case.sigma.shape[1] if fix else 0 :]
    coordinates = AttenuatedCoefficients(density.space)
    y, slope = coordinates.from_u(u), coordinates.slope(u)
    np.testing.assert_allclose(coordinates.to_u(y), u, atol=1e-12)
    np.testing.assert_array_equal(coordinates.from_u(np.stack([u, u]))[1], y)
    for i in range(u.size):
        for j in range(u.size):
            found = central(lambda v, j=j: coordinates.to_u(v)[j], y, i)
            assert slope[j, i] == pytest.approx(found, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", ["two_isoforms", "batch"])
def test_ratios_average_as_at_the_coefficient(name):
    """Over the noise of the field, to a hundredth, whatever sigma."""
    case = cases.CASES[name]
    space = density_of(case).space
    u = point_of(case)
    for log_sigma in (-1.0, 0.0, 0.7):
        u[: space.n_sigma], u[space.n_variance :] = log_sigma, 1.3
        z = np.linspace(-8.0, 8.0, 2001)
        weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
        average = weight @ (1.0 / (1.0 + np.exp(-1.3 - np.exp(log_sigma) * z)))
        b = AttenuatedCoefficients(space).from_u(u)[-1]
        assert 1.0 / (1.0 + np.exp(-b)) == pytest.approx(average, abs=0.012)


@pytest.mark.parametrize("name", ["two_isoforms", "batch"])
def test_what_is_climbed_has_its_gradient(name):
    case = cases.CASES[name]
    density = AttenuatedDensity(density_of(case, how=("quadrature", "ep")))
    y = density.coordinates.from_u(point_of(case))
    value, state = density.value(y, None)
    assert value == density.density.value(point_of(case), None)[0]
    slope, _ = density.gradient(y, state)
    for i in range(y.size):
        expected = central(lambda v: density.value(v, None)[0], y, i)
        assert slope[i] == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_near_a_mode_the_curvature_is_differenced():
    case = cases.CASES["two_isoforms"]
    far = AttenuatedDensity(density_of(case))
    near = AttenuatedDensity(replace(far.density, near=point_of(case)))
    y = far.coordinates.from_u(point_of(case))
    at = far.density.evaluate(point_of(case))
    at = replace(at, u=y, gradient=far.gradient(y, at.state)[0])
    k = far.space.n_variance
    found = near.information(at)
    for i in range(k):
        bent = central(lambda v: far.gradient(v, far.value(v, None)[1])[0][:k], y, i)
        np.testing.assert_allclose(found[i, :k], -bent, rtol=0.05, atol=0.02)
    assert np.abs(far.information(at)[:k, :k] - found[:k, :k]).max() > 0.1
