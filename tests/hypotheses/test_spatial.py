from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import gammaln

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.without_space import fit_white_noise
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.hypotheses.exchangeable_noise import (
    ExchangeableSpots,
    contrasts,
    expected_information,
)
from splisosm_pyro.hypotheses.quadratic_form import QuadraticForm
from splisosm_pyro.hypotheses.spatial import spatial_score_test
from splisosm_pyro.hypotheses.spatial_form import (
    FactoredForm,
    null_eigenvalues,
    spatial_form,
)
from splisosm_pyro.hypotheses.white_null import fit_white_null
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel, LowRankKernel, as_kernel
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.maths.spot.gaussian import blur_spots
from splisosm_pyro.simulate import hexagonal_lattice

N_SPOTS = 90
COORDS = hexagonal_lattice(N_SPOTS)[1]
KERNEL = CARKernel.from_coords(COORDS, k=6)
NO_COVARIATES = StandardDesign.of(np.empty((N_SPOTS, 0)))


def gene(n_isos, seed, depth=1.2, sigma=0.8, theta=0.0):
    """Counts (S, P) of the model."""
    rng = np.random.default_rng(seed)
    smooth = KERNEL.sample((n_isos - 1,), torch.Generator().manual_seed(seed)).numpy().T
    white = rng.standard_normal(smooth.shape)
    nu = sigma * (np.sqrt(theta) * smooth + np.sqrt(1 - theta) * white)
    logits = np.column_stack([0.4 + nu, np.zeros(N_SPOTS)])
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return rng.multinomial(rng.poisson(depth, N_SPOTS), share).astype(float)


def covariates(seed=5):
    """A number in no particular units and a region."""
    x = np.random.default_rng(seed).normal(size=N_SPOTS)
    return StandardDesign.of(np.column_stack([x, COORDS[:, 0] > COORDS[:, 0].mean()]))


def test_noise_alike_for_all_isoforms_is_a_correlated_noise_of_the_logits():
    counts = gene(3, 1, depth=4.0)
    counts = counts[counts.sum(1) > 0]
    x = np.random.default_rng(0).normal(size=(len(counts), 2))
    value, score, info = ExchangeableSpots(counts).each(x, 1.7)
    cov = np.broadcast_to(0.85 * (np.eye(2) + 1.0), (len(counts), 2, 2)).copy()
    truth = blur_spots(counts, x, cov, (0.86, 0.95, 34.0, 0))
    np.testing.assert_allclose(value, truth[0], atol=1e-7)
    np.testing.assert_allclose(score[:, :2], truth[1], atol=1e-7)
    np.testing.assert_allclose(info[:, :2, :2], truth[2], atol=1e-7)
    np.testing.assert_allclose(score.sum(1), 0.0, atol=1e-8)


@pytest.mark.parametrize("n_isos", [2, 4])
def test_information_is_that_of_all_outcomes(n_isos):
    total, x, variance = 3, np.array([0.5, -0.3, 1.0])[: n_isos - 1], 1.3
    ways = [w for w in product(range(total + 1), repeat=n_isos) if sum(w) == total]
    share, mean, square, curve = 0.0, 0.0, 0.0, 0.0
    for way in np.array(ways, dtype=float):
        value, score, info = ExchangeableSpots(way[None]).each(x[None], variance)
        p = np.exp(value[0] + gammaln(total + 1) - gammaln(way + 1).sum())
        share, mean = share + p, mean + p * score[0]
        square, curve = square + p * np.outer(score[0], score[0]), curve + p * info[0]
    np.testing.assert_allclose(share, 1.0, atol=1e-8)
    np.testing.assert_allclose(mean, 0.0, atol=1e-8)
    np.testing.assert_allclose(square, curve, atol=1e-7)
    counts = np.vstack([ways[0], np.full(n_isos, 20)]).astype(float)
    observed = np.zeros((2, n_isos, n_isos))
    got = expected_information(counts, np.stack([x, x]), variance, observed)
    np.testing.assert_allclose(got[0], square, atol=1e-8)
    assert not got[1].any()


def test_two_isoforms_null_is_the_models_own_fit_without_space():
    counts, X = gene(2, 3, depth=3.0), covariates()
    options = GLMMOptions.from_configs("marginal_newton", {"nugget": "quadrature"})
    spec = GLMMSpec(KERNEL, X, True, False, Priors.of("none", None), options)
    start = {"sigma": np.ones(1), "theta_logit": np.zeros(1)}
    start |= {"beta": np.zeros((2, 1)), "bias_eta": np.zeros(1)}
    fit = fit_white_noise(spec, counts, start)
    null = fit_white_null(counts, X)
    np.testing.assert_allclose(null.sigma, fit.params["sigma"][0], rtol=1e-4)
    terms = spec.problem(counts).spots.evaluate(
        (X.given @ fit.params["beta"] + fit.params["bias_eta"])[null.occupied],
        fit.params["sigma"] ** 2,
    )
    scores = np.abs(null.score[:, 0]), np.sqrt(2) * np.abs(terms.score[:, 0])
    np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.mark.parametrize("n_isos", [2, 3, 4])
def test_null_fit_is_at_its_maximum(n_isos):
    counts, X = gene(n_isos, 7), covariates()
    null = fit_white_null(counts, X)
    gradient = np.einsum("sqk,sq->k", null.design, null.score)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    assert null.design.shape == (null.occupied.size, n_isos - 1, 3 * (n_isos - 1))


def test_form_is_the_sum_over_pairs_of_all_isoforms_scores():
    counts = gene(3, 2)
    null, V = fit_white_null(counts, NO_COVARIATES), KERNEL.dense().numpy()
    scores = null.score @ contrasts(3).T
    total = 0.0
    for (i, s), (j, t) in product(enumerate(null.occupied), repeat=2):
        if s != t:
            total += V[s, t] * scores[i] @ scores[j]
    np.testing.assert_allclose(spatial_form(KERNEL, null), total, rtol=1e-10)


def test_eigenvalues_are_those_of_the_projected_covariance():
    null, V = fit_white_null(gene(3, 4), covariates()), KERNEL.dense().numpy()
    n, q = null.score.shape
    J, X = np.zeros((n * q, n * q)), null.design.reshape(n * q, -1)
    for s, block in enumerate(null.information):
        J[s * q : s * q + q, s * q : s * q + q] = block
    P = np.eye(n * q) - J @ X @ np.linalg.solve(X.T @ J @ X, X.T)
    off = V[np.ix_(null.occupied, null.occupied)] - np.eye(n)
    truth = np.linalg.eigvals(P @ J @ P.T @ np.kron(off, np.eye(q)))
    got = null_eigenvalues(KERNEL, null)
    np.testing.assert_allclose(np.sort(got), np.sort(truth.real), atol=1e-8)


def low_rank(rank=30):
    values, vectors = KERNEL.eigenpairs(rank)
    return LowRankKernel(values, vectors)


@pytest.mark.parametrize("kernel", [KERNEL, low_rank()], ids=["sparse", "low rank"])
def test_cumulants_and_leading_eigenvalues_need_no_matrix(kernel):
    null = fit_white_null(gene(3, 4), covariates())
    eigenvalues, form = null_eigenvalues(kernel, null), FactoredForm(kernel, null)
    exact = QuadraticForm.of(eigenvalues)
    mean, variance, third = form.cumulants()
    np.testing.assert_allclose(mean, exact.mean, rtol=1e-9)
    np.testing.assert_allclose(variance, exact.variance, rtol=1e-4)
    np.testing.assert_allclose(third, exact.third_cumulant, rtol=1e-2)
    np.testing.assert_allclose(np.sort(form.leading(8)), np.sort(eigenvalues)[-8:], rtol=1e-8)
    at = exact.mean + exact.variance**0.5 * np.array([-1.0, 0.0, 2.0, 30.0])
    np.testing.assert_allclose(form.led().tail(at), exact.tail(at), rtol=5e-3)


def test_every_form_of_the_kernel_gives_the_same_test():
    counts, X = gene(3, 6, theta=0.6), covariates()
    test = spatial_score_test(counts, X, KERNEL)
    pairs = KERNEL.eigenpairs(N_SPOTS)
    others = [DenseKernel(KERNEL.dense()), as_kernel(None, *pairs, N_SPOTS), low_rank(89)]
    for kernel in others:
        got = spatial_score_test(counts, X, kernel)
        np.testing.assert_allclose([got.statistic, got.p], [test.statistic, test.p], rtol=1e-6)
    sparse = spatial_score_test(counts, X, KERNEL, most_eigenvalues=0)
    np.testing.assert_allclose([sparse.statistic, sparse.p], [test.statistic, test.p], rtol=5e-3)


@pytest.mark.parametrize("n_isos", [2, 3, 4])
def test_what_must_not_matter_does_not(n_isos):
    rng, X = np.random.default_rng(0), covariates()
    counts = gene(n_isos, 10 + n_isos, depth=2.0, theta=0.5)
    test = spatial_score_test(counts, X, KERNEL)
    order = rng.permutation(N_SPOTS)
    moved = CARKernel.from_coords(COORDS[order], k=6)
    again = [
        spatial_score_test(counts[:, rng.permutation(n_isos)], X, KERNEL),
        spatial_score_test(counts[order], StandardDesign.of(X.given[order]), moved),
        spatial_score_test(counts, StandardDesign.of(X.given * [1e3, -0.01] + [7.0, 1.0]), KERNEL),
        spatial_score_test(np.column_stack([np.zeros(N_SPOTS), counts]), X, KERNEL),
    ]
    for other in again:
        np.testing.assert_allclose(
            [other.statistic, other.p], [test.statistic, test.p], rtol=1e-8, atol=1e-8
        )


def test_what_covariates_explain_is_no_spatial_variation():
    rng, side = np.random.default_rng(3), COORDS[:, 0] > COORDS[:, 0].mean()
    share = np.where(side, 0.85, 0.15)
    first = rng.binomial(4, share)
    counts = np.column_stack([first, 4 - first]).astype(float)
    assert spatial_score_test(counts, NO_COVARIATES, KERNEL).p < 1e-10
    assert (
        spatial_score_test(counts, StandardDesign.of(side[:, None].astype(float)), KERNEL).p > 0.01
    )


REASONS = {
    "no reads": np.zeros((N_SPOTS, 2)),
    "all reads are of one isoform": np.eye(N_SPOTS, 3, k=-40).cumsum(0)[:, [0, 0, 0]] * [1, 0, 0]
    + [1.0, 0.0, 0.0],
    "only 2 spots have reads": np.repeat([[1.0, 2.0], [0.0, 0.0]], [2, N_SPOTS - 2], axis=0),
    "no spot with reads has two neighbours": np.where(
        np.isin(np.arange(N_SPOTS), [0, 40, 41, 85])[:, None], [[2.0, 1.0]], 0.0
    ),
}


@pytest.mark.parametrize("why", REASONS)
def test_what_cannot_be_tested_has_a_reason_and_no_p(why):
    test = spatial_score_test(REASONS[why], NO_COVARIATES, KERNEL)
    assert why in test.reason
    assert np.isnan([test.p, test.statistic]).all()


def test_a_covariate_for_every_spot_leaves_nothing_to_test():
    counts = gene(2, 1)
    counts[12:] = 0.0
    counts[:12] += 1.0
    test = spatial_score_test(counts, StandardDesign.of(np.eye(N_SPOTS)[:, :12]), KERNEL)
    assert "covariates leave nothing" in test.reason


def test_nulls_keep_their_level_and_space_is_found():
    n_genes, levels, p = 120, np.array([0.05, 0.2]), []
    for k in range(n_genes):
        counts = gene(2 + (k % 4 == 3), 100 + k, 0.6, sigma=k % 2)
        p.append(spatial_score_test(counts, NO_COVARIATES, KERNEL).p)
    share = (np.array(p)[:, None] < levels).mean(0)
    assert np.all(np.abs(share - levels) < 3.5 * np.sqrt(levels * (1 - levels) / n_genes))
    found = [
        spatial_score_test(gene(2, k, 4.0, 1.5, 0.9), NO_COVARIATES, KERNEL).p for k in range(20)
    ]
    assert np.mean(np.array(found) < 0.05) > 0.5
