"""NUTS: its densities against the Pyro programs, its law, its records, its seeds."""

import cases
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from problems import central, kernel_of
from pyro import poutine
from scipy import stats

from splisosm_pyro.generative import multinomial_glmm
from splisosm_pyro.maths.priors import BetaPrior, GammaPrior, InvGammaPrior
from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.posterior import PosteriorPriors, diagnose
from splisosm_pyro.posterior.density.joint import JointDensity
from splisosm_pyro.posterior.density.space import PosteriorSpace
from splisosm_pyro.posterior.draws.chain_check import ChainCheck
from splisosm_pyro.posterior.nuts.chains import run_chains

PRIORS = {
    "gamma": PosteriorPriors(2.0, 3.0, GammaPrior()),
    "inv_gamma": PosteriorPriors(2.0, 3.0, InvGammaPrior(), BetaPrior(2.0, 3.0)),
}


def joint_of(case, prior, *, fix=False, gene=0):
    shape = case.B(gene).shape
    space = PosteriorSpace(
        case.sigma.shape[1],
        case.sigma[gene] if fix else None,
        np.ones(shape, dtype=bool),
        np.zeros(shape),
        PRIORS[prior],
        np.eye(shape[0]),
    )
    kernel = kernel_of(case.name, "dense")
    return JointDensity.of_gene(case.counts[gene], case.design, kernel, space)


def log_program(case, joint, position, prior, *, fix=False):
    """The trace of the Pyro program at a position, and the changes of variable."""
    u, z = joint.split(position)
    B, variances = joint.space.unpack(u)
    priors = PRIORS[prior]
    eta = joint.eta(position[None], np.column_stack([case.design, np.ones(len(case.V))]))[..., 0]
    nu = eta - case.design @ B[:-1] - B[-1]
    sites = {"beta": B[:-1], "bias_eta": B[-1], "theta": variances.theta, "nu": nu}
    scale = variances.sigma ** (2.0 if prior == "inv_gamma" else 1.0)
    if not fix:
        sites[priors.sigma.variable] = scale
    program = poutine.condition(
        multinomial_glmm, {name: torch.as_tensor(value)[None] for name, value in sites.items()}
    )
    trace = poutine.trace(program).get_trace(
        torch.as_tensor(case.counts[:1]), case.design, kernel_of(case.name, "dense"),
        prior=priors.sigma, share_variance=case.sigma.shape[1] == 1,
        sigma=torch.as_tensor(variances.sigma)[None] if fix else None,
        theta_prior=priors.theta,
        beta_prior=dist.Normal(torch.tensor(0.0).double(), 2.0),
        bias_prior=dist.Normal(torch.tensor(0.0).double(), 3.0),
    )  # fmt: skip
    value = trace.log_prob_sum().item()
    # d nu / d z, d sigma / d log sigma, d theta / d theta_logit; z has no constant
    value += np.log(joint.scales(variances)).sum() + 0.5 * z.size * np.log(2 * np.pi)
    if not fix:
        value += np.log(scale * (2.0 if prior == "inv_gamma" else 1.0)).sum()
    return value + np.log(variances.theta * (1 - variances.theta)).sum()


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("prior", list(PRIORS))
@pytest.mark.parametrize("name", ["two_isoforms", "batch", "empty_spots"])
def test_the_joint_density_is_that_of_the_program(name, prior, fix):
    case = cases.CASES[name]
    joint = joint_of(case, prior, fix=fix)
    position = np.random.default_rng(0).normal(size=joint.size)
    value, slope = joint.with_slope(position)
    truth = log_program(case, joint, position, prior, fix=fix)
    assert value == pytest.approx(truth, rel=1e-10)
    for i in range(joint.size):
        expected = central(lambda p: joint.with_slope(p)[0], position, i)
        assert slope[i] == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_the_joint_density_ends_at_the_box():
    joint = joint_of(cases.CASES["batch"], "gamma")
    position = np.zeros(joint.size)
    for i, value in ((0, np.log(60.0)), (2, 15.1), (7, np.nan)):
        far = position.copy()
        far[i] = value
        assert joint.with_slope(far)[0] == -np.inf


def wall(x):
    """A standard normal that ends at 1 in the first coordinate and breaks beyond 2."""
    if x[0] > 2.0:
        raise ArithmeticError("no value here")
    return (-np.inf, 0.0 * x) if x[0] > 1.0 else (-0.5 * x @ x, -x)


def test_chains_have_the_law_of_the_density_and_stop_at_walls():
    chains = run_chains(wall, np.zeros((2, 3)), 400, 60, [1, 2], n_outer=1)
    assert chains.positions.shape == (2, 400, 3)
    assert chains.flat[:, 0].max() <= 1.0
    # the mean's sd is about 0.05 with half of the draws effective
    assert chains.flat[:, 0].mean() == pytest.approx(stats.truncnorm(-np.inf, 1).mean(), abs=0.15)
    assert np.abs(chains.flat[:, 1:].mean(0)).max() < 0.15
    assert np.abs(chains.flat[:, 1:].std(0) - 1).max() < 0.12
    assert chains.stats["diverging"].any()
    np.testing.assert_allclose(chains.stats["lp"].ravel(), -0.5 * (chains.flat**2).sum(1))
    # the energy at a trajectory's start: the last draw's potential and a kinetic part
    assert (chains.stats["energy"][:, 1:] > -chains.stats["lp"][:, :-1]).all()
    assert (chains.stats["n_steps"] < 2 ** chains.stats["tree_depth"]).all()
    assert (chains.stats["n_steps"] >= 2 ** (chains.stats["tree_depth"] - 1)).all()
    assert 0.5 < chains.stats["acceptance_rate"].mean() < 1.0


def test_a_chain_depends_on_its_own_seed():
    def normal(x):
        return -0.5 * x @ x, -x

    pyro.clear_param_store()
    before = torch.get_rng_state()
    both = run_chains(normal, np.zeros((2, 2)), 10, 10, [7, 8])
    alone = run_chains(normal, np.zeros((1, 2)), 10, 10, [8])
    np.testing.assert_array_equal(both.positions[1], alone.positions[0])
    assert not np.array_equal(both.positions[0], both.positions[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert not list(pyro.get_param_store().keys())


def test_the_check_tells_chains_that_disagree():
    draws = np.random.default_rng(0).normal(size=(4, 400, 2))
    assert ChainCheck.of(draws, 0).trusted
    assert "3000 divergent" in ChainCheck.of(draws, 3000).words()
    apart = draws + np.array([0.0, 0.0, 0.0, 1.0])[:, None, None]
    assert "R-hat" in ChainCheck.of(apart, 0).words()
    slow = np.repeat(draws[:, :100], 4, axis=1)
    assert "effective sample size" in ChainCheck.of(slow, 0).words()
    assert ChainCheck.of(draws[:, :2], 0).words() == (
        "R-hat nan is above 1.01, effective sample size nan is below 400"
    )


# ---- through the model


def glmm(genes=slice(None)):
    """A batch with few outer parameters."""
    case = cases.CASES["batch"]
    model = MultinomGLMM(share_variance=True, var_fix_sigma=False)
    model.setup_data(case.counts[genes], case.V)
    return model


@pytest.mark.parametrize("method", ["marginal_nuts", "nuts"])
def test_draws_by_nuts_do_not_depend_on_the_batch(method):
    small = {"draws": 4, "chains": 2, "nugget": "laplace", "warmup": 4}
    before = torch.get_rng_state()
    whole = glmm().posterior(method, **small, genes=[1, 3])
    alone = glmm(slice(3, 4)).posterior(method, **small)
    assert torch.equal(torch.get_rng_state(), before)
    for name in whole["posterior"].data_vars:
        one, other = whole["posterior"][name].isel(gene=1), alone["posterior"][name].isel(gene=0)
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()
    stats_ = whole["sample_stats"]
    assert stats_["diverging"].dtype == bool
    assert stats_["diverging"].dims == ("chain", "draw", "gene")
    names = {"lp", "acceptance_rate", "n_steps", "tree_depth", "energy", "step_size"}
    assert names <= set(stats_.data_vars)
    assert all("do not trust" in status for status in stats_["status"].values)  # 4 draws
    table = diagnose(whole)
    assert table.index.tolist() == [1, 3]
    assert not table["trusted"].any()
    assert table["reason"].str.contains("effective sample size").all()
    assert table["remedy"].str.contains("more draws").all()
    np.testing.assert_array_equal(table["divergences"], stats_["divergences"])
    assert table["khat"].isna().all()


def test_the_table_of_checks_needs_what_it_reads():
    with pytest.raises(ValueError, match="must have a group sample_stats"):
        diagnose({})


def test_the_two_ways_of_nuts_agree_on_a_glm():
    case = cases.CASES["covariates"]
    model = MultinomGLM()
    model.setup_data(case.counts, case.design)
    how = {"draws": 200, "chains": 1, "warmup": 80, "genes": [0]}
    outs = [model.posterior(m, **how)["posterior"] for m in ("nuts", "marginal_nuts")]
    for name in ("beta", "bias_eta"):
        one, other = (np.asarray(out[name].stack(sample=("chain", "draw"))) for out in outs)
        sd = other.std(-1)
        assert np.abs((one.mean(-1) - other.mean(-1)) / sd).max() < 0.35
        assert np.abs(one.std(-1) / sd - 1).max() < 0.3


def test_a_fixed_sigma_stays_under_nuts():
    case = cases.CASES["two_isoforms"]
    model = MultinomGLMM(var_fix_sigma=True)
    model.setup_data(case.counts, case.V)
    out = model.posterior("nuts", draws=5, chains=1, warmup=5)
    expected = model.sigma.detach().numpy().item()
    assert np.unique(out["posterior"]["sigma"]).tolist() == [expected]
    with pytest.raises(ValueError, match="warmup must be a whole number above 0"):
        model.posterior("nuts", warmup=0)
