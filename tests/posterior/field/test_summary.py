"""Summaries of draws and of Gaussians, against quadrature and brute force."""

import cases
import numpy as np
import pytest
import torch
from problems import FORMS, kernel_of, objective_of
from scipy import integrate, stats
from scipy.special import expit

from splisosm_pyro.posterior.field.drawn_or_gaussian import DrawnField, log_lik, log_lik_by_spot
from splisosm_pyro.posterior.field.gaussian_draws import (
    FieldAtMode,
    eta_mean,
    eta_means,
    gaussian_draws,
)
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.field.summary import (
    QUANTILES,
    ratios,
    summaries_of_draws,
    summaries_of_gaussian,
    summary_of_draws,
)


@pytest.mark.parametrize("n_draws", [1, 2, 7, 40])
def test_draws_are_summarised_as_numpy_does(n_draws):
    value = np.random.default_rng(n_draws).normal(size=(5, 2, n_draws))
    found = summary_of_draws(value)
    np.testing.assert_allclose(found.quantile, np.quantile(value, QUANTILES, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(found.mean, value.mean(-1), rtol=1e-12)
    if n_draws > 1:
        np.testing.assert_allclose(found.sd, value.std(-1, ddof=1), rtol=1e-12)


@pytest.mark.parametrize("n_logits", [1, 3])
def test_ratios_are_summarised_isoform_by_isoform(n_logits):
    eta = 30.0 * np.random.default_rng(0).normal(size=(4, n_logits, 11))
    found, usage = summaries_of_draws(eta)["isoform_ratio"], ratios(eta)
    np.testing.assert_allclose(usage.sum(1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        found.quantile, np.quantile(usage, QUANTILES, axis=-1), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(found.sd, usage.std(-1, ddof=1), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("sd", [0.0, 0.4, 6.0])
def test_two_isoforms_against_quadrature(sd):
    found = summaries_of_gaussian(np.array([[0.7]]), np.array([[[sd**2]]]))["isoform_ratio"]
    if sd == 0.0:
        np.testing.assert_allclose(found.mean[0], [expit(0.7), expit(-0.7)], rtol=1e-12)
        np.testing.assert_allclose(found.sd, 0.0, atol=1e-12)
        return
    density = stats.norm(0.7, sd).pdf

    def expected(power):
        ends = (0.7 - 12 * sd, 0.7 + 12 * sd)
        return integrate.quad(lambda x: expit(x) ** power * density(x), *ends, epsabs=1e-13)[0]

    mean = expected(1)
    np.testing.assert_allclose(found.mean[0], [mean, 1 - mean], atol=1e-9)
    np.testing.assert_allclose(found.sd[0], np.sqrt(expected(2) - mean**2), atol=1e-8)
    exact = expit(stats.norm(0.7, sd).ppf(QUANTILES))
    np.testing.assert_allclose(found.quantile[:, 0], np.stack([exact, 1 - exact[::-1]], -1))


def test_three_isoforms_against_many_draws():
    rng = np.random.default_rng(1)
    root = np.array([[1.5, 0.0], [-0.8, 0.6]])
    mean = np.array([[0.5, -1.0]])
    found = summaries_of_gaussian(mean, (root @ root.T)[None])
    eta = mean[:, :, None] + root @ rng.standard_normal((2, 400_000))
    truth = summaries_of_draws(eta)
    for name, level in (("eta", 0.02), ("isoform_ratio", 0.004)):
        np.testing.assert_allclose(found[name].mean, truth[name].mean, atol=level)
        np.testing.assert_allclose(found[name].sd, truth[name].sd, atol=level)
        np.testing.assert_allclose(found[name].quantile, truth[name].quantile, atol=2 * level)


def test_the_likelihood_of_all_spots_in_either_precision():
    rng = np.random.default_rng(2)
    counts = rng.poisson(3.0, (40, 3)).astype(float)
    eta = rng.normal(size=(40, 2, 9))
    whole = log_lik_by_spot(counts, eta).sum(0)
    np.testing.assert_allclose(log_lik(counts, eta), whole, rtol=1e-12)
    np.testing.assert_allclose(log_lik(counts, eta.astype(np.float32)), whole, rtol=1e-6)
    empty = np.concatenate([counts, np.zeros((3, 3))])
    padded = np.concatenate([eta, rng.normal(size=(3, 2, 9))])
    np.testing.assert_allclose(DrawnField(padded).log_lik(empty), whole, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("whole", [0, 1000])
def test_draws_at_occupied_spots_have_the_covariance_of_draws_at_all(form, whole, monkeypatch):
    """By solves with the factor and from the whole covariance, spots together."""
    monkeypatch.setattr("splisosm_pyro.posterior.field.gaussian_draws.WHOLE", whole)
    case = cases.CASES["empty_spots"]
    objective, u = objective_of(case, kernel_of(case.name, form))
    design = np.column_stack([case.design, np.ones(len(case.design))])
    problem, n_draws = objective.problem, 40_000
    given = FieldAtMode(problem, objective.value(u, None)[1], design)
    noise = Noise.of_gene(0, case.counts)
    found = given.occupied_draws(n_draws, noise).reshape(-1, n_draws)
    state = given.state
    drawn = gaussian_draws(problem, state, design, n_draws, torch.Generator().manual_seed(1)).eta
    drawn -= eta_mean(problem, state, design)[:, :, None]
    truth = np.cov(drawn[problem.gene.occupied].reshape(-1, n_draws))
    scale = np.sqrt(np.outer(truth.diagonal(), truth.diagonal()))
    np.testing.assert_allclose(np.cov(found) / scale, truth / scale, atol=0.04)
    assert np.abs(found.mean(1) / np.sqrt(truth.diagonal())).max() < 5 / np.sqrt(n_draws)


def test_means_of_several_modes_at_once():
    case = cases.CASES["empty_spots"]
    objective, u = objective_of(case, kernel_of(case.name, "dense"))
    design = np.column_stack([case.design, np.ones(len(case.design))])
    states = [objective.value(u + move, None)[1] for move in (0.0, 0.1, -0.2)]
    together = eta_means(objective.problem, states, design)
    for one, state in zip(together, states, strict=True):
        smooth = state.mode.root * objective.problem.kernel.smooth(
            state.mode.alpha, objective.problem.gene.occupied
        )
        expected = design @ state.mode.coefficients + smooth
        expected[objective.problem.gene.occupied] += state.variances.nugget * state.mode.terms.score
        np.testing.assert_allclose(one, expected, rtol=1e-12)
