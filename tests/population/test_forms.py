"""Forms of the population, on genes whose likelihood is known in closed form."""

import numpy as np
import pandas as pd
import pytest
import torch

from splisosm_pyro.population.effects import SCALES, GeneUnderPopulation, fit_effects
from splisosm_pyro.population.gaussian import fit_gaussian, genes_log_likelihood
from splisosm_pyro.population.grid import GRID, NO_FIELD, NO_SPACE
from splisosm_pyro.population.mixture import em_shares, fit_mixture
from splisosm_pyro.population.moderated import Moderated
from splisosm_pyro.population.prior import check_population, fit_population
from splisosm_pyro.population.surface import ANGLES, SHARES, Surface


def surface(log_sigma, theta, width, share=0.3):
    """A gene that has measured log sigma and theta with normal errors."""
    rows = np.linspace(log_sigma - 3.5 * width, log_sigma + 3.5 * width, 9)
    far = ((rows[:, None] - log_sigma) / width) ** 2 + ((SHARES - theta) / share) ** 2
    values = 30.0 - 0.5 * far
    shape = len(rows), len(SHARES)
    return Surface(rows, values, np.zeros((*shape, 1, 1)), np.ones((*shape, 1, 1)), np.ones((1, 1)))


def likelihoods(log_sigma, logit, width, spread):
    """Log likelihoods (G, size) of genes that have measured both with normal errors."""
    x = (GRID.log_sigma[: GRID.inside] - log_sigma[:, None]) / width
    y = (GRID.theta_logit[: GRID.inside] - logit[:, None]) / spread
    inside = -0.5 * (x**2 + y**2)
    line = -0.5 * ((GRID.log_sigmas - log_sigma[:, None]) / width) ** 2
    line -= 0.5 * ((-6.5 - logit[:, None]) / spread) ** 2
    return np.column_stack([inside, line, np.full(len(inside), -200.0)])


def test_a_known_normal_population_is_recovered():
    rng = np.random.default_rng(0)
    true = rng.multivariate_normal([-0.2, 0.5], [[0.25, 0.15], [0.15, 1.0]], 400)
    seen = true + rng.standard_normal((400, 2)) * (0.3, 0.5)
    found = fit_gaussian(likelihoods(*seen.T, 0.3, 0.5), np.zeros((400, 0)), masses=()).named()
    truth = {
        "mean_log_sigma": -0.2,
        "mean_theta_logit": 0.5,
        "sd_log_sigma": 0.5,
        "sd_theta_logit": 1.0,
        "correlation": 0.3,
    }
    assert set(found) == set(truth)
    for name, value in truth.items():
        estimate, error = found[name]
        assert abs(estimate - value) < 3.0 * error
        assert 0.01 < error < 0.12


def test_a_slope_of_a_covariate_is_recovered():
    rng = np.random.default_rng(1)
    depth = rng.standard_normal(300)
    log_sigma = -0.3 + 0.4 * depth + 0.3 * rng.standard_normal(300)
    values = likelihoods(log_sigma, rng.standard_normal(300), 0.2, 0.5)
    found = fit_gaussian(values, depth[:, None], masses=())
    estimate, error = found.named()["slope_0_log_sigma"]
    assert abs(estimate - 0.4) < 3.0 * error < 0.2
    mass = np.exp(found.log_mass(np.array([[-1.0], [1.0]])))[:, : GRID.inside]
    shift = np.diff(mass @ GRID.log_sigma[: GRID.inside])
    assert shift[0] == pytest.approx(2.0 * estimate, abs=0.03)


def test_a_point_mass_is_recovered():
    rng = np.random.default_rng(2)
    none = rng.random(500) < 0.3
    logit = np.where(none, -6.5, 1.0 + 0.8 * rng.standard_normal(500))
    values = likelihoods(0.3 * rng.standard_normal(500), logit, 0.2, 0.6)
    estimate, error = fit_gaussian(values, np.zeros((500, 0)), masses=(NO_SPACE,)).named()[
        "share_without_space"
    ]
    assert abs(estimate - none.mean()) < 3.0 * error < 0.1


def test_the_gradient_in_the_hyperparameters_is_that_of_the_value():
    rng = np.random.default_rng(3)
    values = torch.as_tensor(likelihoods(*rng.standard_normal((2, 4)), 0.4, 1.0))
    given = torch.as_tensor(rng.standard_normal((4, 1)))
    start = torch.tensor([0.1, 0.2, -0.3, 0.1, -0.2, 0.3, 0.4, -1.0, -2.0], dtype=torch.float64)
    masses = (NO_SPACE, NO_FIELD)
    assert torch.autograd.gradcheck(
        lambda v: genes_log_likelihood(v, values, given, masses=masses), start.requires_grad_()
    )


@pytest.mark.parametrize("masses", [(), (NO_SPACE,), (NO_SPACE, NO_FIELD)])
def test_probabilities_sum_to_one(masses):
    values = likelihoods(*np.random.default_rng(4).standard_normal((2, 30)), 0.4, 1.0)
    for fitted in (
        fit_gaussian(values, np.zeros((30, 0)), masses=masses),
        fit_mixture(values, masses=masses),
    ):
        mass = np.exp(fitted.log_mass(np.zeros((1, 0))))[0]
        assert mass.sum() == pytest.approx(1.0, abs=1e-9)
        assert NO_SPACE in masses or mass[GRID.inside : -1].sum() < 1e-12
        assert NO_FIELD in masses or mass[-1] < 1e-12


def test_em_ends_at_the_maximum():
    rng = np.random.default_rng(5)
    likelihood = rng.random((50, 4)) + np.repeat(np.eye(4), [30, 10, 10, 0], axis=0)
    shares = em_shares(likelihood)
    slope = (likelihood / (likelihood @ shares)[:, None]).mean(axis=0)  # 1 inside, less at 0
    np.testing.assert_allclose(slope[shares > 1e-3], 1.0, atol=1e-3)
    assert (slope <= 1.0 + 1e-3).all()


def test_one_kind_of_genes_passes_and_two_are_flagged():
    rng = np.random.default_rng(6)
    one = [surface(*rng.normal((-0.2, 0.5), (0.4, 0.1)), 0.3) for _ in range(60)]
    two = [
        surface(center + 0.1 * rng.standard_normal(), theta, 0.15, 0.15)
        for center, theta in ((-1.4, 0.15), (0.5, 0.9))
        for _ in range(30)
    ]
    assert not check_population(one, masses=()).flagged
    found = check_population(two, masses=())
    assert found.flagged
    assert "does not describe these 60 genes" in str(found)


def test_a_gene_that_says_nothing_is_the_population():
    known = [surface(x, 0.6, 0.3) for x in np.random.default_rng(7).normal(0.0, 0.5, 20)]
    population = fit_population(known)
    alone = population.moderated(None)
    np.testing.assert_allclose(alone.weights, np.exp(population.log_mass()[0]), atol=1e-12)
    assert 0.0 < alone.sigma()["low"] < alone.sigma()["mean"] < alone.sigma()["high"]


def test_a_gene_that_says_all_keeps_its_own():
    known = [surface(x, 0.6, 0.1, 0.1) for x in np.random.default_rng(8).normal(0.0, 0.5, 20)]
    population = fit_population(known)
    own = population.moderated(surface(0.4, 0.6, 0.05, 0.1))
    assert own.sigma()["mean"] == pytest.approx(np.exp(0.4), rel=0.03)
    assert own.theta()["mean"] == pytest.approx(0.6, abs=0.05)
    assert own.p_spatial > 0.99


def test_quantiles_are_those_of_the_weights():
    weights = np.zeros(GRID.size)
    weights[: GRID.inside] = np.repeat(np.exp(-0.5 * ((GRID.log_sigmas) / 0.3) ** 2), 41)
    own = Moderated(weights / weights.sum()).sigma()
    assert own["low"] == pytest.approx(np.exp(-1.645 * 0.3), rel=0.02)
    assert own["high"] == pytest.approx(np.exp(1.645 * 0.3), rel=0.02)


def test_its_priors_have_its_moments():
    known = [surface(x, 0.6, 0.1, 0.1) for x in np.random.default_rng(9).normal(-0.3, 0.5, 60)]
    population = fit_population(known, masses=())
    assert np.log(population.priors.sigma.median) == pytest.approx(-0.3, abs=0.2)
    assert population.priors.sigma.log_sd == pytest.approx(0.5, abs=0.15)
    assert population.priors.theta.median == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "normal"}, "form must be"),
        ({"masses": ("theta",)}, "masses must be"),
        ({"form": "mixture", "covariates": pd.DataFrame({"x": [1.0]})}, "need form='gaussian'"),
        ({"covariates": pd.DataFrame({"x": [1.0, 2.0]})}, "a row for each of 1 genes, came 2"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        fit_population([surface(0.0, 0.5, 0.3)], **options)


def test_no_gene_at_all_is_told():
    with pytest.raises(ValueError, match="came none"):
        fit_population([None, None])


def effect_gene(estimate, error):
    """A gene with an intercept and one effect, measured with an error, at one place."""
    shape = len(ANGLES)
    one = Surface(
        np.array([-0.5, 0.5]),
        np.zeros((2, shape)),
        np.broadcast_to(np.array([[estimate], [0.2]]), (2, shape, 2, 1)).copy(),
        np.broadcast_to(np.diag([error**2, 0.1]), (2, shape, 2, 2)).copy(),
        np.ones((2, 1)),
    )
    return GeneUnderPopulation(one, Moderated.of_gene(np.zeros(GRID.size), np.zeros(GRID.size)))


def test_effects_under_a_mixture_have_the_conjugate_posterior():
    gene, scale = effect_gene(0.8, 0.4), SCALES[5]
    only = np.full(len(SCALES), -np.inf)
    only[5] = 0.0
    coefficients, sigma, nil = gene.draws(slice(0, 1), only, 20_000, seed=0)
    effect = coefficients[:, 0, 0] / np.sqrt(1.0 + 16**2 * 3 / (15 * np.pi) ** 2 * sigma**2)
    variance = 1.0 / (1.0 / 0.4**2 + 1.0 / scale**2)
    assert not nil.any()
    assert effect.mean() == pytest.approx(variance * 0.8 / 0.4**2, abs=0.01)
    assert effect.std() == pytest.approx(np.sqrt(variance), rel=0.02)


def test_an_effect_of_nothing_is_exactly_nothing():
    only = np.full(len(SCALES), -np.inf)
    only[0] = 0.0
    coefficients, _, nil = effect_gene(0.8, 0.4).draws(slice(0, 1), only, 100, seed=0)
    assert nil.all()
    np.testing.assert_allclose(coefficients[:, 0, 0], 0.0, atol=1e-12)


def test_the_distribution_of_effects_is_recovered():
    rng = np.random.default_rng(10)
    true = np.where(rng.random(400) < 0.5, 0.0, 0.8 * rng.standard_normal(400))
    genes = [effect_gene(one + 0.2 * rng.standard_normal(), 0.2) for one in true]
    shares = np.exp(fit_effects(genes, slice(0, 1)))
    assert shares[SCALES < 0.1].sum() == pytest.approx(0.5, abs=0.12)
    assert np.sqrt(shares @ SCALES**2) == pytest.approx(0.8 * np.sqrt(0.5), abs=0.12)


def test_a_covariate_that_is_held_has_no_draws():
    gene = effect_gene(0.8, 0.4)
    gene.surface.free[0, 0] = 0.0
    assert gene.block(slice(0, 1)) is None
    with pytest.raises(ValueError, match="do not determine"):
        gene.draws(slice(0, 1), np.zeros(len(SCALES)), 10, seed=0)
