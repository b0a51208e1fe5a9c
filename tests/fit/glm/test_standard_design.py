"""Columns about their mean in units of their spread, and the way back."""

from fractions import Fraction

import numpy as np
import pytest

from splisosm_pyro.fit.glm.standard_design import StandardDesign

RNG = np.random.default_rng(0)
COLUMNS = np.column_stack(
    [RNG.normal(size=40), 5000 + RNG.normal(size=40), 1e6 + 1e-2 * RNG.normal(size=40),
     1e-8 * RNG.normal(size=40), 1e-170 * RNG.normal(size=40), np.arange(40) % 4 == 1,
     np.where(np.arange(40) % 3 == 0, 7.0, -2.0)]
)  # fmt: skip


def test_numbers_have_mean_0_and_sd_1_and_two_values_are_a_step_apart():
    design = StandardDesign.of(COLUMNS)
    np.testing.assert_allclose(design.columns.mean(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(design.columns[:, :5].std(axis=0), 1.0, rtol=1e-14)
    np.testing.assert_allclose(np.ptp(design.columns[:, 5:], axis=0), 1.0, rtol=1e-15)
    for given, ours, scale in zip(COLUMNS.T, design.columns.T, design.scale, strict=True):
        exact = [Fraction(x) for x in given.tolist()]
        apart = [float((x - sum(exact) / 40) / Fraction(scale)) for x in exact]
        np.testing.assert_allclose(ours, apart, rtol=1e-13, atol=1e-15)


def test_a_constant_column_is_nothing():
    design = StandardDesign.of(np.full((9, 2), [0.1, -3e5]))
    assert not design.columns.any()
    assert design.scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("n_logits", [1, 3])
def test_coefficients_go_there_and_back(n_logits):
    design = StandardDesign.of(COLUMNS[:, :4])
    beta, bias = RNG.normal(size=(2, 4, n_logits)), RNG.normal(size=(2, n_logits))
    beta /= design.scale[:, None]
    C = design.standard(beta, bias)
    eta = COLUMNS[:, :4] @ beta + bias[:, None]
    np.testing.assert_allclose(design.with_intercept @ C, eta, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose((design.back @ C)[:, :-1], beta, rtol=1e-14)
    np.testing.assert_allclose((design.back @ C)[:, -1], bias, atol=1e-7)
