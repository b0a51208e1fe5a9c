"""The stand-in that ``marginal_nuts`` moves by, its coordinates, and what makes the draws right."""

import cases
import numpy as np
import pytest
from problems import central
from scipy import stats

from splisosm_pyro.maths.priors import BetaPrior, GammaPrior, HalfNormalPrior
from splisosm_pyro.model import MultinomGLMM
from splisosm_pyro.posterior import PosteriorPriors, sampling
from splisosm_pyro.posterior.chains import Exact, run_chains
from splisosm_pyro.posterior.gene import outer_mode
from splisosm_pyro.posterior.outer_density import OuterDensity
from splisosm_pyro.posterior.proposal import weigh
from splisosm_pyro.posterior.stand_in import Shear, StandIn
from splisosm_pyro.posterior.warp import Warp, WarpedDensity


def wide(x):
    """A normal with sd 1.3 about 0.4: what the chain moves by."""
    apart = (x - 0.4) / 1.3**2
    return -0.5 * float((x - 0.4) @ apart), -apart


def towards_the_standard_normal(x):
    return Exact(-0.5 * float(x @ x), -0.5 * float(x @ x) - wide(x)[0], 2.0 * x)


def test_a_corrected_chain_has_the_law_of_the_other_density():
    starts = np.zeros((2, 2))
    chains = run_chains(wide, starts, 700, 60, [1, 2], correction=towards_the_standard_normal)
    # about half of the draws are effective: an sd of 0.04 of the mean, of 0.03 of the sd
    assert np.abs(chains.flat.mean(0)).max() < 0.14
    assert np.abs(chains.flat.std(0) - 1.0).max() < 0.1
    np.testing.assert_array_equal(chains.kept, 2.0 * chains.flat)
    np.testing.assert_allclose(chains.stats["lp"].ravel(), -0.5 * (chains.flat**2).sum(1))
    stayed = (np.diff(chains.positions, axis=1) == 0.0).all(axis=-1)
    rejected = chains.stats["accepted"][:, 1:] == 0.0
    assert stayed[rejected].all()
    assert stayed[~rejected].mean() < 0.05  # a transition of NUTS may end where it began
    assert 0.5 < chains.stats["accepted"].mean() < 0.95
    # without a correction worth the name it has the law of what it moves by
    idle = run_chains(wide, starts, 250, 60, [1, 2], correction=lambda x: Exact(0.0, 0.0, x))
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
    spec = model._spec()
    return OuterDensity.of_gene(spec, case.counts[gene], priors, case.sigma[gene])


@pytest.fixture(scope="module")
def case():
    return cases.CASES["two_isoforms"]


@pytest.mark.parametrize("theta", [None, BetaPrior(2.0, 3.0)])
def test_the_priors_are_normal_in_the_warped_coordinates(case, theta):
    priors = PosteriorPriors(2.0, 2.0, GammaPrior(2.0, 0.3), theta or BetaPrior(1.0, 1.0))
    warp = Warp.of(density_of(case, priors))
    law = stats.beta(2.0, 3.0) if theta else stats.uniform()
    for z in (-4.0, -1.5, 0.0, 1.0, 2.5):
        u = warp.to_u(np.full(warp.lower.size, z))
        assert np.exp(u[0]) == pytest.approx(
            stats.gamma(2, scale=1 / 0.3).ppf(stats.norm.cdf(z)), rel=1e-3
        )
        assert 1 / (1 + np.exp(-u[1])) == pytest.approx(law.ppf(stats.norm.cdf(z)), rel=1e-3)
        np.testing.assert_array_equal(u[2:], z)
        np.testing.assert_allclose(warp.from_u(u), z, atol=1e-3)
    assert not warp.inside(np.full(warp.lower.size, 70.0))


def test_a_prior_that_falls_steeply_leaves_finite_coordinates(case):
    warp = Warp.of(density_of(case, PosteriorPriors(sigma=HalfNormalPrior(0.05))))
    assert np.isfinite(warp.lower).all()
    assert np.isfinite(warp.upper).all()
    assert warp.upper[0] == pytest.approx(30.0, abs=0.5)


@pytest.fixture(scope="module")
def weighed():
    case = cases.CASES["two_isoforms"]
    density = density_of(case, PosteriorPriors(2.0, 2.0))
    mode = outer_mode(density, density.starts(case.counts[0], case.design))
    warped = WarpedDensity(density, Warp.of(density), mode.at)
    found = weigh(
        warped.with_slope, *warped.gaussian(mode.covariance), (64, 64), np.random.default_rng(0)
    )
    return warped, found


def test_the_warped_density_has_its_slope(weighed):
    warped, found = weighed
    x = found.points[3]
    value, slope, _ = warped.with_slope(x)
    assert value == pytest.approx(found.log_density[3], abs=1e-6)
    for i in range(x.size):
        expected = central(lambda p: warped.with_slope(p)[0], x, i)
        assert slope[i] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_shear_and_its_determinant(weighed):
    warped, found = weighed
    n_variance = warped.density.space.n_variance
    shear = Shear.of(found.points, found.shares, n_variance)
    x = found.points[:5]
    np.testing.assert_allclose(shear.forward(shear.backward(x)), x, atol=1e-12)
    y = shear.backward(x[0])
    step = 1e-6 * np.eye(y.size)
    jacobian = (shear.forward(y + step) - shear.forward(y - step)) / 2e-6
    assert shear.log_det(y) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-7)


def test_the_shear_finds_a_scale_that_grows():
    rng = np.random.default_rng(0)
    v = rng.standard_normal((4000, 1))
    B = 0.5 + 0.3 * v + np.exp(0.8 * v) * rng.standard_normal((4000, 1))
    shear = Shear.of(np.column_stack([v, B]), np.full(4000, 1 / 4000), 1)
    assert shear.growth[0, 0] == pytest.approx(0.8, abs=0.06)
    assert shear.line[:, 0] == pytest.approx([0.5, 0.3], abs=0.1)


def test_the_surrogate_goes_through_the_points(weighed):
    warped, found = weighed
    surrogate = StandIn.through(found, warped.density.space.n_variance)
    z = surrogate.points
    np.testing.assert_allclose(surrogate.place(z), found.points, atol=1e-9)
    there = found.log_density + surrogate.log_det(z)
    value = np.array([surrogate.with_slope(row)[0] for row in z])
    likely = found.shares > 1e-3
    np.testing.assert_allclose(value[likely], there[likely], atol=0.02)
    row = z[7] + 0.1
    slope = surrogate.with_slope(row)[1]
    for i in range(row.size):
        expected = central(lambda p: surrogate.with_slope(p)[0], row, i)
        assert slope[i] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_stated_error_is_that_of_points_left_out(weighed):
    warped, found = weighed
    n_variance = warped.density.space.n_variance
    other = weigh(
        warped.with_slope, found.proposals[-1][0].centre,
        found.proposals[-1][0].root @ found.proposals[-1][0].root.T, (64,),
        np.random.default_rng(1),
    )  # fmt: skip
    surrogate = StandIn.through(found, n_variance)
    y = surrogate.shear.backward(other.points) - surrogate.centre
    z = np.linalg.solve(surrogate.root, y.T).T
    off = other.log_density + surrogate.log_det(z)
    off = off - np.array([surrogate.with_slope(row)[0] for row in z])
    sd = np.sqrt(other.shares @ (off - other.shares @ off) ** 2)
    assert 0.3 < sd / surrogate.error < 3.0


def test_both_ways_of_marginal_nuts_agree(case, monkeypatch):
    model = MultinomGLMM(case.share_variance, var_fix_sigma=False)
    model.setup_data(case.counts[:1], case.V, case.design if case.design.shape[1] else None)
    how = {"draws": 100, "chains": 2, "nugget": "laplace", "prior": PosteriorPriors(2.0, 2.0)}
    fast = model.posterior("marginal_nuts", **how)
    assert fast["sample_stats"]["accepted"].mean() > 0.85
    monkeypatch.setattr(sampling, "LARGEST_ERROR", -1.0)
    slow = model.posterior("marginal_nuts", **how, warmup=100)
    assert "accepted" not in slow["sample_stats"]
    for name in ("bias_eta", "sigma", "theta_logit", "isoform_ratio"):
        one, two = (
            np.asarray(out["posterior"][name].stack(sample=("chain", "draw"))).reshape(-1, 200)
            for out in (fast, slow)
        )
        off = (one.mean(-1) - two.mean(-1)) / two.std(-1)
        assert np.abs(off).mean() < 0.3  # sd of a difference with 100 effective each: 0.14
        assert np.abs(one.std(-1) / two.std(-1) - 1.0).max() < 0.4
