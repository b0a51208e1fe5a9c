"""Importance weights, weighted points, resampling: statistical laws with negative controls."""

import numpy as np
import pytest
from scipy import stats

from splisosm_pyro.maths.numeric.psis import (
    pareto_quantiles,
    pareto_tail,
    smoothed_weights,
    systematic,
)
from splisosm_pyro.maths.numeric.sobol import shifted_sobol
from splisosm_pyro.posterior.interpolation.importance_sampling import StudentT, calibrated, weigh


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.2])
def test_the_tail_of_a_known_shape(shape):
    values = np.sort(stats.genpareto(shape, scale=2.0).rvs(4000, random_state=1))
    found, scale = pareto_tail(values)
    assert found == pytest.approx(shape, abs=0.08)
    assert scale == pytest.approx(2.0, rel=0.1)
    share = np.linspace(0.01, 0.99, 7)
    expected = stats.genpareto(shape, scale=2.0).ppf(share)
    np.testing.assert_allclose(pareto_quantiles(share, shape, 2.0), expected, rtol=1e-10)


def test_quantiles_of_an_exponential_tail():
    share = np.array([0.1, 0.9])
    np.testing.assert_allclose(pareto_quantiles(share, 0.0, 3.0), stats.expon(scale=3).ppf(share))


def test_khat_tells_a_wide_proposal_from_a_narrow_one():
    """Exponential against exponential: the weights' tail is Pareto, of a shape that is known."""
    x = np.random.default_rng(0).exponential(size=4000)
    wide, narrow = smoothed_weights(0.2 * x), smoothed_weights(0.9 * x)
    assert wide.khat == pytest.approx(0.2, abs=0.2)
    assert narrow.khat == pytest.approx(0.9, abs=0.2)
    assert not narrow.trusted
    assert wide.trusted


def test_weights_are_normalised_and_ordered():
    log_ratio = np.random.default_rng(1).normal(size=300)
    log_ratio[7] = -np.inf
    weights = smoothed_weights(log_ratio)
    assert weights.values.sum() == pytest.approx(1.0, rel=1e-12)
    assert weights.values[7] == 0.0
    assert (np.diff(weights.values[np.argsort(log_ratio)]) >= -1e-15).all()
    shifted = smoothed_weights(log_ratio + 1000.0)
    np.testing.assert_allclose(shifted.values, weights.values, rtol=1e-9)


def test_weights_of_which_nothing_can_be_said():
    assert smoothed_weights(np.full(10, -np.inf)).khat == np.inf
    assert smoothed_weights(np.zeros(3)).khat == np.inf
    equal = smoothed_weights(np.zeros(100))
    assert equal.khat == -np.inf
    assert equal.effective == pytest.approx(100.0)


def test_systematic_resampling_keeps_the_weights():
    weights = np.array([0.5, 0.0, 0.3, 0.2])
    index = systematic(weights, 1000, np.random.default_rng(0))
    counts = np.bincount(index, minlength=4)
    np.testing.assert_allclose(counts, 1000 * weights, atol=1.0)


def test_the_density_of_the_proposal():
    root = np.array([[2.0, 0.0], [0.5, 0.3]])
    proposal = StudentT(np.array([1.0, -1.0]), root, 5.0)
    points = np.random.default_rng(0).normal(size=(6, 2))
    truth = stats.multivariate_t([1.0, -1.0], root @ root.T, df=5.0).logpdf(points)
    np.testing.assert_allclose(proposal.log_prob(points), truth, rtol=1e-12)
    drawn = proposal.points(4096, np.random.default_rng(0))
    covariance = np.cov(drawn.T) * (5.0 - 2.0) / 5.0
    np.testing.assert_allclose(covariance, root @ root.T, rtol=0.05)
    np.testing.assert_allclose(drawn.mean(0), proposal.centre, atol=0.02)


def test_the_sequence_is_even():
    cube = shifted_sobol(1000, 3, np.random.default_rng(0))
    assert cube.shape == (1000, 3)
    for column in cube.T:
        assert np.abs(np.sort(column) - (np.arange(1000) + 0.5) / 1000).max() < 0.01


def skewed(u):
    """A log gamma and a logistic variable that leans on it."""
    apart = u[1] - 0.5 * u[0]
    lean = -np.tanh(apart / 2.0)  # of the logistic's log density
    slope = np.array([2.0 - np.exp(u[0]) - 0.5 * lean, lean])
    return 2.0 * u[0] - np.exp(u[0]) + stats.logistic.logpdf(apart), slope, None


def test_weighted_points_have_the_moments_of_a_skewed_density():
    # E log G = digamma(2), var = trigamma(2); the logistic has variance pi^2 / 3
    mean, variance = 0.4227843351, 0.6449340668
    found = weigh(
        skewed, np.array([0.7, 0.3]), np.diag([0.5, 2.0]), (64, 128), np.random.default_rng(3)
    )
    at, covariance = found.moments()
    np.testing.assert_allclose(at, [mean, 0.5 * mean], atol=0.05)
    expected = [[variance, variance / 2], [variance / 2, variance / 4 + np.pi**2 / 3]]
    np.testing.assert_allclose(covariance, expected, atol=0.25)
    assert found.weights.khat < 0.7
    assert len(found.proposals) == 2


def test_the_gradients_make_the_moments_exact_for_a_gaussian():
    root = np.array([[1.0, 0.0], [0.6, 0.4]])
    precision = np.linalg.inv(root @ root.T)
    points = np.random.default_rng(0).normal(size=(50, 2)) * 1.3 + 0.2
    log_ratio = -0.5 * np.einsum("ni,ij,nj->n", points, precision, points)
    log_ratio += 0.5 * ((points - 0.2) ** 2).sum(1) / 1.69
    weights = np.exp(log_ratio) / np.exp(log_ratio).sum()
    better = calibrated(weights, points, -points @ precision)
    covariance = (points * better[:, None]).T @ points
    assert (better >= 0).all()
    np.testing.assert_allclose(better @ points, 0, atol=0.01)
    np.testing.assert_allclose(covariance, root @ root.T, atol=0.02)
    assert np.abs((points * weights[:, None]).T @ points - root @ root.T).max() > 0.05


def test_too_few_points_are_left_as_they_are():
    weights = np.array([0.5, 0.5, 0.0])
    points = np.eye(3, 2)
    assert calibrated(weights, points, -points) is weights


def test_the_stages_adapt():
    """From a start beside it the later stages find the density; the first alone does not."""
    args = (skewed, np.array([1.5, 2.0]), 0.3 * np.eye(2))
    alone = weigh(*args, (128,), np.random.default_rng(0))
    all_of = weigh(*args, (128, 128, 128, 128), np.random.default_rng(0))
    assert alone.weights.effective < 30
    assert all_of.weights.effective > 150
    assert abs(all_of.moments()[0][0] - 0.4228) < 0.05
