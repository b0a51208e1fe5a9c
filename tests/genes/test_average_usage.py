"""Changes of usage averaged over random effect and tissue, held against sums written out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from splisosm_pyro.genes.average_usage import Parameters, Rows, change_of_usage
from splisosm_pyro.maths.spot.usage import usage_given_counts


def parameters(n_logits, n_scales, spread=0.3, seed=0):
    """Two covariates and an intercept; one or no scale, or one a logit."""
    rng = np.random.default_rng(seed)
    size = 3 * n_logits + n_scales
    half = spread * rng.normal(size=(size, size)) / np.sqrt(size)
    sigma = rng.uniform(0.5, 1.5, n_scales)
    return Parameters(rng.normal(size=(3, n_logits)), sigma, half @ half.T)


def rows(n_spots=60, seed=1):
    """Level against level, beside a number."""
    rng = np.random.default_rng(seed)
    low = np.column_stack([np.zeros(n_spots), rng.normal(size=n_spots), np.ones(n_spots)])
    return low, low + np.array([1.0, 0.0, 0.0])


def direct(coefficients, sigma, low, high):
    """Average over the spots of the exact mean over the random effect."""
    n_logits = coefficients.shape[1]
    cov = np.broadcast_to(
        np.diag(np.broadcast_to(sigma, n_logits) ** 2), (len(low),) + (n_logits,) * 2
    )
    none = np.zeros((len(low), n_logits + 1))
    usage = [
        usage_given_counts(none, side @ coefficients, np.array(cov)).mean.mean(axis=0)
        for side in (low, high)
    ]
    return usage[1] - usage[0]


@pytest.mark.parametrize(("n_logits", "n_scales"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_the_estimate_is_the_average_over_field_and_tissue(n_logits, n_scales):
    own, (low, high) = parameters(n_logits, n_scales), rows()
    change = change_of_usage(own, Rows.of_spots(low, high))[0]
    np.testing.assert_allclose(change, direct(own.coefficients, own.sigma, low, high), atol=2e-3)
    assert abs(change.sum()) < 1e-12


@pytest.mark.parametrize(("n_logits", "n_scales"), [(1, 1), (2, 2)])
def test_the_interval_is_that_of_draws_of_the_parameters(n_logits, n_scales):
    own, (low, high) = parameters(n_logits, n_scales, spread=0.5), rows(8)
    rng = np.random.default_rng(2)
    moved = rng.multivariate_normal(np.zeros(len(own.covariance)), own.covariance, 4000)
    k = own.coefficients.size
    drawn = [
        direct(own.coefficients + m[:k].reshape(3, -1), own.sigma * np.exp(m[k:]), low, high)
        for m in moved
    ]
    expected = np.quantile(drawn, [0.025, 0.975], axis=0)
    found = change_of_usage(own, Rows.of_spots(low, high))[1:]
    width = expected[1] - expected[0]
    assert (np.abs(np.array(found) - expected) < 0.06 * width).all()


def test_draws_of_a_mixture_have_its_quantiles():
    own, *parts = (parameters(1, 1, spread=0.8, seed=seed) for seed in range(9))
    weights = np.array([1.0, 2, 3, 20, 8, 1, 4, 1]) / 40
    mixed = replace(own, mixture=tuple(parts), weights=weights)
    drawn = mixed.draws(1000)[0].reshape(1000, 3)
    for j in range(3):
        means = np.array([one.coefficients[j, 0] for one in parts])
        sds = np.sqrt([one.covariance[j, j] for one in parts])
        for tail in (0.025, 0.5, 0.975):
            at = np.quantile(drawn[:, j], tail)
            assert abs(weights @ ndtr((at - means) / sds) - tail) < 0.012
    ends = change_of_usage(mixed, Rows.of_spots(*rows(8)))
    assert np.abs(ends[1] - change_of_usage(own, Rows.of_spots(*rows(8)))[1]).max() > 0.01


def test_without_random_effect_it_is_the_difference_of_the_two_usages():
    own = Parameters(np.array([[2.0], [0.0], [-1.0]]), np.empty(0), np.zeros((3, 3)))
    change, low, high = change_of_usage(own, Rows.of_spots(*rows(1)))
    expected = 1 / (1 + np.exp(-1.0)) - 1 / (1 + np.exp(1.0))
    for found in (change, low, high):
        np.testing.assert_allclose(found, [expected, -expected], atol=1e-12)


def test_the_order_of_spots_decides_nothing():
    own, (low, high) = parameters(2, 1), rows(700)
    order = np.random.default_rng(3).permutation(700)
    for one, other in zip(
        change_of_usage(own, Rows.of_spots(low, high)),
        change_of_usage(own, Rows.of_spots(low[order], high[order])),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_an_interval_stays_inside_and_agrees_with_the_coefficient():
    for z in (1.7, 1.9, 2.05, 2.4):
        own = Parameters(
            np.array([[3.0 * z], [0.0], [0.0]]), np.array([2.0]), np.diag([9.0, 0, 0.5, 0.2])
        )
        change, low, high = change_of_usage(own, Rows.of_spots(*rows(1)))
        assert (low >= -1.0).all()
        assert (high <= 1.0).all()
        assert (low <= change).all()
        assert (change <= high).all()
        assert (low[0] > 0.0) == (z > 1.96)


def test_the_sign_of_an_eigenvector_does_not_turn_the_draws(monkeypatch):
    """It is rounding's, so that units of covariates would decide it."""
    own, plain = parameters(2, 1), np.linalg.eigh

    def turned(matrix):
        values, vectors = plain(matrix)
        return values, vectors * np.where(np.arange(len(values)) % 2, 1.0, -1.0)

    truth = own.draws(16)
    monkeypatch.setattr(np.linalg, "eigh", turned)
    for ours, expected in zip(own.draws(16), truth, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
