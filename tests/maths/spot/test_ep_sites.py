"""Cavities and sites of expectation propagation, against matrix inverses."""

import numpy as np
import pytest

from splisosm_pyro.maths.spot.ep_sites import cavities, mismatch, sites


def blocks(rng, n, q):
    root = rng.normal(size=(n, q, q))
    return root @ root.swapaxes(1, 2)


def problem(q, n=7):
    """Posterior covariances, sites that leave a proper cavity, means and scores."""
    rng = np.random.default_rng(q)
    cavity, tau = blocks(rng, n, q), blocks(rng, n, q)
    cov = np.linalg.inv(np.linalg.inv(cavity) + tau)
    return cavity, cov, tau, rng.normal(size=(n, q)), rng.normal(size=(n, q))


@pytest.mark.parametrize("q", [1, 2, 3, 5])
def test_cavities_leave_the_own_site_out(q):
    cavity, cov, tau, x, r = problem(q)
    v, mu, log_det, quad = cavities(cov, tau, x, r)
    np.testing.assert_allclose(v, cavity, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mu, x - np.einsum("sab,sb->sa", cavity, r), atol=1e-9)
    assert log_det == pytest.approx(np.linalg.slogdet(np.eye(q) + cavity @ tau)[1].sum())
    assert quad == pytest.approx(np.einsum("sa,sab,sb->", r, cavity, r))


@pytest.mark.parametrize("q", [1, 2, 3, 5])
def test_sites_give_the_tilted_moments_back(q):
    """With the site the cavity has the mean ``mu + v a`` and the covariance ``v - v A v``."""
    v, _, information, mu, score = problem(q)
    neg_hessian = np.linalg.inv(np.linalg.inv(information) + v)
    tau, shift = sites(v, mu, score, neg_hessian)
    np.testing.assert_allclose(tau, information, rtol=1e-8, atol=1e-9)
    cov = np.linalg.inv(np.linalg.inv(v) + tau)
    np.testing.assert_allclose(cov, v - v @ neg_hessian @ v, rtol=1e-7, atol=1e-9)
    mean = cov @ (np.linalg.solve(v, mu[:, :, None]) + shift[:, :, None])
    np.testing.assert_allclose(mean[:, :, 0], mu + np.einsum("sab,sb->sa", v, score), atol=1e-8)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_the_mismatch_is_the_largest_of_three(q):
    _, cov, tau, r, score = problem(q)
    rather = 1.1 * tau
    off = score - r
    parts = (
        np.sqrt(np.einsum("sa,sab,sb->s", off, cov, off)).max(),
        np.abs(0.1 * cov @ tau).max(),
        np.abs(off / (1.0 + np.abs(score))).max(),
    )
    assert mismatch(cov, tau, rather, r, score) == pytest.approx(max(parts))
    assert mismatch(cov, tau, tau, r, r) == 0.0
    assert np.isnan(mismatch(cov, tau, np.nan * tau, r, score))


def test_a_site_that_outweighs_the_posterior_is_no_number():
    v, _, log_det, _ = cavities(np.ones((1, 1, 1)), 2.0 * np.ones((1, 1, 1)), *np.zeros((2, 1, 1)))
    assert np.isnan(log_det)
    assert v.shape == (1, 1, 1)
