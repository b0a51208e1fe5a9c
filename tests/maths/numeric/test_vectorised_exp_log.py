"""exp and log of whole arrays against the C library."""

import numpy as np
import pytest

from splisosm_pyro.maths.numeric.vectorised_exp_log import exp_in_place, log_in_place


@pytest.mark.parametrize("size", [0, 1, 7, 1000])
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 30.0, 690.0])
def test_exp_agrees_with_the_library(size, scale):
    x = np.random.default_rng(0).uniform(-scale, scale, size)
    y = x.copy()
    exp_in_place(y)
    np.testing.assert_allclose(y, np.exp(x), rtol=5e-16, atol=0)


def test_exp_at_special_points():
    x = np.array([0.0, -0.0, 700.0, -700.0, -701.0, -1e300, -np.inf, 0.5 * np.log(2.0)])
    y = x.copy()
    exp_in_place(y)
    np.testing.assert_allclose(y, np.exp(np.maximum(x, -700.0)), rtol=5e-16, atol=0)
    assert y[0] == 1.0


@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_log_agrees_with_the_library(size):
    x = np.exp(np.random.default_rng(0).uniform(-700.0, 700.0, size))
    y = x.copy()
    log_in_place(y)
    np.testing.assert_allclose(y, np.log(x), rtol=5e-16, atol=0)


def test_log_near_one_and_at_powers_of_two():
    x = np.concatenate([1.0 + np.linspace(-1e-6, 1e-6, 101), 2.0 ** np.arange(-1000.0, 1000.0)])
    y = x.copy()
    log_in_place(y)
    np.testing.assert_allclose(y, np.log(x), rtol=5e-16, atol=0)
