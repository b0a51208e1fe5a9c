"""Usage given a spot's counts: against dense sums over the logits."""

import numpy as np
import pytest
from scipy.special import log_softmax

from splisosm_pyro.maths.spot.usage import Usage, usage_given_counts

TOTALS = (0.0, 0.0, 1e-7, 0.3, 1.0, 2.0, 6.0, 40.0)


def draw(n_logits, sd, seed=0):
    """Counts of every total, some fractional, with logits of full covariance."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(n_logits + 1), len(TOTALS))
    whole = [rng.multinomial(int(m), p) for m, p in zip(TOTALS, shares, strict=True)]
    small = np.array(TOTALS)[:, None] * shares
    counts = np.where((np.array(TOTALS) % 1.0 == 0.0)[:, None], whole, small)
    root = rng.normal(size=(len(TOTALS), n_logits, n_logits))
    cov = sd**2 / n_logits * root @ root.swapaxes(1, 2)
    return counts, rng.normal(size=(len(TOTALS), n_logits)), cov


def dense(y, x, cov, points):
    """Mean and covariance of the usage by a lattice of the prior."""
    z = np.linspace(-9.0, 9.0, points)
    grid = np.stack(np.meshgrid(*[z] * x.size, indexing="ij"), axis=-1).reshape(-1, x.size)
    values, vectors = np.linalg.eigh(cov)
    eta = x + grid @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    log_share = log_softmax(np.pad(eta, ((0, 0), (0, 1))), axis=1)
    log_weight = log_share @ y - 0.5 * (grid**2).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    share = np.exp(log_share)
    mean = weight @ share
    return mean, (weight[:, None] * share).T @ share - np.outer(mean, mean)


@pytest.mark.parametrize(
    ("n_logits", "sd", "points", "tolerance"),
    [
        (1, 0.3, 2001, 1e-10),
        (1, 3.0, 2001, 1e-10),
        (2, 1.0, 301, 1e-7),
        (2, 3.0, 401, 1e-7),
        (3, 1.0, 61, 1e-2),
    ],
)
def test_moments_are_those_of_a_dense_sum(n_logits, sd, points, tolerance):
    counts, x, cov = draw(n_logits, sd)
    usage = usage_given_counts(counts, x, cov)
    for s in range(len(counts)):
        mean, covariance = dense(counts[s], x[s], cov[s], points)
        np.testing.assert_allclose(usage.mean[s], mean, atol=tolerance)
        np.testing.assert_allclose(usage.covariance[s], covariance, atol=tolerance)
    np.testing.assert_allclose(usage.mean.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(usage.covariance.sum(axis=2), 0.0, atol=1e-9)


@pytest.mark.parametrize("n_logits", [1, 2])
def test_both_ways_agree_where_they_meet(n_logits):
    """Just below and just above half a read."""
    counts, x, cov = draw(n_logits, 1.5, seed=3)
    counts = np.tile(counts[-1:] / counts[-1].sum(), (2, 1)) * np.array([[0.5 - 1e-10], [0.5]])
    usage = usage_given_counts(counts, x[:1].repeat(2, axis=0), cov[:1].repeat(2, axis=0))
    np.testing.assert_allclose(usage.mean[0], usage.mean[1], atol=1e-8)
    np.testing.assert_allclose(usage.covariance[0], usage.covariance[1], atol=1e-7)


def test_logits_that_are_known_leave_no_error():
    usage = usage_given_counts(np.array([[3.0, 0.0]]), np.array([[0.4]]), np.zeros((1, 1, 1)))
    np.testing.assert_allclose(usage.mean[0, 0], 1.0 / (1.0 + np.exp(-0.4)), rtol=1e-12)
    np.testing.assert_allclose(usage.covariance, 0.0, atol=1e-12)


@pytest.mark.parametrize("n_logits", [1, 2, 4])
def test_errors_of_logits_that_move_are_those_of_draws(n_logits):
    """Small moves of the logits about known ones: the slope of the softmax."""
    rng = np.random.default_rng(3)
    eta, root = rng.normal(size=(1, n_logits)), 0.02 * rng.normal(size=(n_logits, n_logits))
    drawn = np.pad(eta + rng.normal(size=(4000, n_logits)) @ root.T, ((0, 0), (0, 1)))
    spread = np.exp(log_softmax(drawn, axis=1)).std(axis=0)
    known = Usage.known(np.exp(log_softmax(np.pad(eta, ((0, 0), (0, 1))), axis=1)))
    errors = known.standard_errors((root @ root.T)[None])[0]
    np.testing.assert_allclose(errors, spread, rtol=4 / np.sqrt(2 * 4000) + 0.01)


def test_errors_at_equal_shares_are_those_of_hand():
    known = Usage.known(np.full((1, 3), 1.0 / 3.0))
    errors = known.standard_errors(np.eye(2)[None])
    # var of each of the first two = (4 + 1) / 81, of the reference 2 / 81
    np.testing.assert_allclose(errors[0] ** 2, np.array([5, 5, 2]) / 81, rtol=1e-12)
