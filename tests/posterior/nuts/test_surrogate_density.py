"""The density that ``marginal_nuts`` moves by, its coordinates, and what makes the draws right."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from problems import central
from scipy import stats

from splisosm_pyro.maths.priors import BetaPrior, GammaPrior, HalfNormalPrior
from splisosm_pyro.model import MultinomGLMM
from splisosm_pyro.posterior import PosteriorPriors
from splisosm_pyro.posterior.density.outer import OuterDensity
from splisosm_pyro.posterior.draws.laplace_and_nested import interpolated_draws, outer_mode
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedCoefficients
from splisosm_pyro.posterior.interpolation.importance_sampling import DEGREES
from splisosm_pyro.posterior.nuts import samplers as sampling
from splisosm_pyro.posterior.nuts.chains import Exact, run_chains
from splisosm_pyro.posterior.nuts.coordinates import Coordinates, NormalScores, Shear
from splisosm_pyro.posterior.nuts.surrogate_density import CEILING, FLOOR, SurrogateDensity


def wide(x):
    """A normal with sd 1.3 about 0.4: what the chain moves by."""
    apart = (x - 0.4) / 1.3**2
    return -0.5 * float((x - 0.4) @ apart), -apart


def towards_the_standard_normal(x):
    return Exact(-0.5 * float(x @ x), -0.5 * float(x @ x) - wide(x)[0], 2.0 * x)


def test_a_corrected_chain_has_the_law_of_the_other_density():
    starts = np.zeros((2, 2))
    chains = run_chains(wide, starts, 400, 40, [1, 2], correction=towards_the_standard_normal)
    # about half of the draws are effective: an sd of 0.05 of the mean, of 0.04 of the sd
    assert np.abs(chains.flat.mean(0)).max() < 0.14
    assert np.abs(chains.flat.std(0) - 1.0).max() < 0.1
    np.testing.assert_array_equal(chains.kept, 2.0 * chains.flat)
    np.testing.assert_allclose(chains.stats["lp"].ravel(), -0.5 * (chains.flat**2).sum(1))
    stayed = (np.diff(chains.positions, axis=1) == 0.0).all(axis=-1)
    rejected = chains.stats["accepted"][:, 1:] == 0.0
    assert stayed[rejected].all()
    assert stayed[~rejected].mean() < 0.3  # a transition of NUTS may end where it began
    assert 0.5 < chains.stats["accepted"].mean() < 0.95
    # without a correction worth the name it has the law of what it moves by
    idle = run_chains(wide, starts, 150, 40, [1, 2], correction=lambda x: Exact(0.0, 0.0, x))
    assert np.abs(idle.flat.mean(0) - 0.4).max() < 0.25
    assert idle.flat.std(0).min() > 1.1


def test_no_corrected_chain_stays_where_the_density_is_nil():
    def half(x):
        there = x[0] > 0.0
        return Exact(0.0, 0.0 if there else -np.inf, x)

    chains = run_chains(wide, np.full((1, 2), -1.0), 300, 40, [3], correction=half)
    assert chains.flat[:, 0].min() > 0.0


def density_of(case, priors, gene=0):
    model = MultinomGLMM(case.share_variance, var_fix_sigma=False)
    model.setup_data(case.counts, case.V, case.design if case.design.shape[1] else None)
    spec = model.as_arrays().spec
    return OuterDensity.of_gene(spec, case.counts[gene], priors, case.sigma[gene])


@pytest.fixture(scope="module")
def case():
    return cases.CASES["two_isoforms"]


@pytest.mark.parametrize("theta", [None, BetaPrior(2.0, 3.0)])
def test_the_priors_are_normal_in_the_normal_scores(case, theta):
    priors = PosteriorPriors(2.0, 2.0, GammaPrior(2.0, 0.3), theta or BetaPrior(1.0, 1.0))
    scores = NormalScores.of(density_of(case, priors))
    law = stats.beta(2.0, 3.0) if theta else stats.uniform()
    for z in (-4.0, -1.5, 0.0, 1.0, 2.5):
        u = scores.to_u(np.full(scores.lower.size, z))
        assert np.exp(u[0]) == pytest.approx(
            stats.gamma(2, scale=1 / 0.3).ppf(stats.norm.cdf(z)), rel=1e-3
        )
        assert 1 / (1 + np.exp(-u[1])) == pytest.approx(law.ppf(stats.norm.cdf(z)), rel=1e-3)
        np.testing.assert_array_equal(u[2:], z)
        np.testing.assert_allclose(scores.from_u(u), z, atol=1e-3)
    assert not scores.inside(np.full(scores.lower.size, 70.0))


def test_a_prior_that_falls_steeply_leaves_finite_coordinates(case):
    scores = NormalScores.of(density_of(case, PosteriorPriors(sigma=HalfNormalPrior(0.05))))
    assert np.isfinite(scores.lower).all()
    assert np.isfinite(scores.upper).all()
    assert scores.upper[0] == pytest.approx(30.0, abs=0.5)


@pytest.fixture(scope="module")
def found(case):
    """A density, its mode, draws of what is between its points, and coordinates for a chain."""
    density = density_of(case, PosteriorPriors(2.0, 2.0))
    mode = outer_mode(density, density.starts())
    draws, log_density, between = interpolated_draws(
        density, mode, 2000, Noise.of_gene(0, case.counts[0])
    )
    coordinates = Coordinates.of(
        AttenuatedCoefficients(density.space), NormalScores.of(density), draws
    )
    return density, mode, draws, log_density, between, coordinates


def test_the_shear_and_its_determinant(found):
    x = found[2][:5]
    shear = Shear.of(found[2], found[0].space.n_variance)
    np.testing.assert_allclose(shear.forward(shear.backward(x)), x, atol=1e-12)
    vb = shear.backward(x[0])
    step = 1e-6 * np.eye(vb.size)
    jacobian = (shear.forward(vb + step) - shear.forward(vb - step)) / 2e-6
    assert shear.log_det(vb) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-7)


def test_the_shear_finds_a_scale_that_grows():
    rng = np.random.default_rng(0)
    v = rng.standard_normal((4000, 1))
    B = 0.5 + 0.3 * v + np.exp(0.8 * v) * rng.standard_normal((4000, 1))
    shear = Shear.of(np.column_stack([v, B]), 1)
    assert shear.growth[0, 0] == pytest.approx(0.8, abs=0.06)
    assert shear.line[:, 0] == pytest.approx([0.5, 0.3], abs=0.1)


def test_draws_are_white_in_the_coordinates_of_a_chain(found):
    *_, draws, _, _, coordinates = found
    z = coordinates.from_u(draws)
    np.testing.assert_allclose(coordinates.to_u(z), draws, atol=1e-4)  # an inverted spline
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.cov(z.T), np.eye(z.shape[1]), atol=1e-9)


def test_a_density_and_its_slope_move_along_with_the_coordinates(found):
    density, mode, _, _, _, coordinates = found
    z = np.linspace(-0.8, 0.9, density.size)
    step = 1e-5 * np.eye(z.size)
    jacobian = np.stack([coordinates.to_u(z + s) - coordinates.to_u(z - s) for s in step]) / 2e-5
    elsewhere = np.linspace(0.7, -0.6, density.size)
    other = np.stack(
        [coordinates.to_u(elsewhere + s) - coordinates.to_u(elsewhere - s) for s in step]
    )
    expected = np.linalg.slogdet(jacobian)[1] - np.linalg.slogdet(other / 2e-5)[1]
    apart = coordinates.log_det(z) - coordinates.log_det(elsewhere)
    assert apart == pytest.approx(expected, abs=1e-6)

    def value(p):
        return density.log_density(coordinates.to_u(p), mode.at)[0] + coordinates.log_det(p)

    slope = coordinates.pulled(z, density.with_slope(coordinates.to_u(z), mode.at)[1])
    for i in range(z.size):
        assert slope[i] == pytest.approx(central(value, z, i), rel=1e-4, abs=1e-5)


def test_the_surrogate_is_near_the_density(found):
    density, mode, draws, log_density, between, coordinates = found
    surrogate_density = SurrogateDensity.of(between.interpolant, coordinates, draws)
    z = coordinates.from_u(draws[1500:])
    dets = np.array([coordinates.log_det(row) for row in z])
    off = log_density[1500:] + dets - [surrogate_density.with_slope(row)[0] for row in z]
    assert off.std() < 0.2
    truth = [density.log_density(u, mode.at)[0] for u in draws[1500:1600]]
    assert np.std(truth - log_density[1500:1600]) < 0.3
    assert np.std(truth) > 1.0


def test_the_surrogate_stays_between_two_multiples_of_a_t_and_has_its_slope(found):
    *_, draws, _, between, coordinates = found
    surrogate_density = SurrogateDensity.of(between.interpolant, coordinates, draws)
    size = draws.shape[1]
    surrogate = surrogate_density.surrogate
    low, high = (
        replace(
            surrogate_density,
            surrogate=replace(surrogate, coefficients=surrogate.coefficients + by),
        )
        for by in (-50.0, 50.0)
    )
    places = (np.full(size, 0.3), np.full(size, 3.0), np.full(size, -12.0))
    for one in (surrogate_density, low, high):
        for z in places:
            value, slope = one.with_slope(z)
            t = stats.multivariate_t(np.zeros(size), np.eye(size), DEGREES)
            t = one.surrogate.level + t.logpdf(z) - t.logpdf(np.zeros(size))
            assert t - FLOOR - 1e-9 <= value <= t + CEILING + 1e-9
            for i in range(size):
                expected = central(lambda p, one=one: one.with_slope(p)[0], z, i)
                assert slope[i] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def one_gene(case):
    """The model of the case's first gene, and the posterior's arguments."""
    model = MultinomGLMM(case.share_variance, var_fix_sigma=False)
    model.setup_data(case.counts[:1], case.V, case.design if case.design.shape[1] else None)
    return model, {"nugget": "laplace", "prior": PosteriorPriors(2.0, 2.0)}


@pytest.fixture(scope="module")
def walked(case):
    """The posterior by chains that move by the surrogate."""
    model, how = one_gene(case)
    return model.posterior("marginal_nuts", draws=100, chains=2, **how)


def test_lp_of_marginal_nuts_is_the_density_of_the_parameters(case, walked):
    out, priors = walked, PosteriorPriors(2.0, 2.0)
    density = density_of(case, priors)
    mode = outer_mode(density, density.starts())
    by_name = {name: out["posterior"][name].values[:, :, 0] for name in out["posterior"]}
    for chain, draw in ((0, 3), (1, 17)):
        own = {name: value[chain, draw] for name, value in by_name.items()}
        B = np.vstack([own["beta"].reshape(-1, own["bias_eta"].size), own["bias_eta"]])
        C = np.linalg.solve(density.space.back, B)
        u = density.space.start(C, own["sigma"], own["theta_logit"])
        value = density.log_density(u, mode.at)[0]
        stats_of = out["sample_stats"].isel(chain=chain, draw=draw, gene=0)
        assert stats_of["lp"].item() == pytest.approx(value, abs=1e-6)
        own_priors = sum(
            v.isel(chain=chain, draw=draw, gene=0).item() for v in out["log_prior"].values()
        )
        jacobian = np.log(own["sigma"] * own["theta"] * (1.0 - own["theta"])).sum()
        marginal = value - own_priors - jacobian
        assert stats_of["log_marginal"].item() == pytest.approx(marginal, abs=1e-6)


def test_both_ways_of_marginal_nuts_agree(case, walked, monkeypatch):
    assert walked["sample_stats"]["accepted"].mean() > 0.85
    monkeypatch.setattr(sampling, "LEAST_SHARE", 2.0)
    model, how = one_gene(case)
    by_gradient = model.posterior("marginal_nuts", draws=120, chains=1, warmup=60, **how)
    assert "accepted" not in by_gradient["sample_stats"]
    for name in ("bias_eta", "sigma", "theta_logit", "isoform_ratio"):
        pooled = (
            out["posterior"][name].stack(sample=("chain", "draw")) for out in (walked, by_gradient)
        )
        one, two = (np.asarray(draws).reshape(-1, draws.sizes["sample"]) for draws in pooled)
        off = (one.mean(-1) - two.mean(-1)) / two.std(-1)
        assert np.abs(off).mean() < 0.3  # sd of a difference with 100 and 60 effective: 0.16
        inner = [np.diff(np.quantile(draws, [0.1, 0.9], axis=-1), axis=0) for draws in (one, two)]
        assert np.abs(inner[0] / inner[1] - 1.0).max() < 0.4
