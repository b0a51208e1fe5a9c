"""``model.posterior``: groups, names, seeds, memory, what breaks, and the truth."""

import arviz
import cases
import numpy as np
import pandas as pd
import pyro
import pytest
import torch
import xarray as xr
from scipy.stats import multinomial

from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.priors import InvGammaPrior
from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.posterior import PosteriorPriors, diagnose, read_posterior, run
from splisosm_pyro.posterior.arviz import container
from splisosm_pyro.posterior.arviz import predictive_groups as predictive
from splisosm_pyro.posterior.field.noise import Noise

BATCH = cases.CASES["batch"]
FEW = {"draws": 20, "chains": 2}


def glmm(case=BATCH, genes=slice(None), **arguments):
    model = MultinomGLMM(case.share_variance, var_fix_sigma=False, **arguments)
    design = case.design if case.design.shape[1] else None
    model.setup_data(case.counts[genes], case.V, design)
    return model


def glm(case=BATCH, **arguments):
    model = MultinomGLM(**arguments)
    model.setup_data(case.counts, case.design)
    return model


def plain(group):
    """A group as a dataset, whatever the container."""
    return group.to_dataset() if isinstance(group, xr.DataTree) else group


@pytest.fixture(scope="module")
def quick():
    """A Gaussian posterior of all genes, by the Laplace treatment of the nugget."""
    return glmm().posterior("laplace", **FEW, nugget="laplace")


def test_groups_dimensions_and_names():
    names = {
        "gene": list("abcde"),
        "spot": [f"s{i}" for i in range(11)],
        "isoform": ["i0", "i1", "i2"],
    }
    out = glmm().posterior("laplace", **FEW, genes=[2, 0], nugget="laplace", names=names)
    dims = {name: tuple(map(str, v.dims[2:])) for name, v in out["posterior"].data_vars.items()}
    assert dims == {
        "beta": ("gene", "covariate", "logit"),
        "bias_eta": ("gene", "logit"),
        "sigma": ("gene", "component"),
        "theta": ("gene", "component"),
        "theta_logit": ("gene", "component"),
        "eta": ("gene", "spot", "logit"),
        "isoform_ratio": ("gene", "spot", "isoform"),
    }
    posterior = out["posterior"]
    assert posterior["gene"].values.tolist() == ["c", "a"]
    assert posterior["component"].values.tolist() == ["i0", "i1"]
    assert posterior["logit"].values.tolist() == ["i0", "i1"]
    assert posterior["covariate"].values.tolist() == ["covariate_0", "covariate_1"]
    assert posterior.sizes["chain"] == 2
    assert posterior.sizes["draw"] == 20
    np.testing.assert_array_equal(out["observed_data"]["counts"], BATCH.counts[[2, 0]])
    np.testing.assert_array_equal(out["constant_data"]["design"], BATCH.design)
    assert out["posterior"].attrs["prior_sigma"] == "gamma(alpha=2, beta=0.3)"
    assert set(out["log_prior"].data_vars) == {"beta", "bias_eta", "sigma", "theta"}


def test_what_belongs_together_agrees(quick):
    posterior = quick["posterior"]
    np.testing.assert_allclose(1 / (1 + np.exp(-posterior["theta_logit"])), posterior["theta"])
    weights = np.exp(np.pad(posterior["eta"].values, [(0, 0)] * 4 + [(0, 1)]))
    expected = weights / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(posterior["isoform_ratio"], expected, atol=1e-12)
    effect = posterior["beta"].values * BATCH.design.std(axis=0)[:, None]  # of one sd
    truth = torch.distributions.Normal(0.0, 10.0).log_prob(torch.tensor(effect))
    np.testing.assert_allclose(quick["log_prior"]["beta"], truth.sum((-1, -2)), rtol=1e-6)


def test_the_likelihood_of_a_draw_is_the_marginal_at_it():
    model = glmm(var_prior_model="inv_gamma", fitting_method="marginal_newton")
    out = model.posterior("nested_laplace", **FEW, genes=[1], nugget="laplace")
    posterior = out["posterior"].isel(chain=1, draw=3, gene=0)
    for name in ("beta", "bias_eta", "sigma", "theta_logit"):
        values = model.get_parameter(name).detach().clone()
        values[1] = torch.as_tensor(posterior[name].values)
        model.update_params_from_dict({name: values})
    log_prior = out["log_prior"]["sigma_sq"].isel(chain=1, draw=3, gene=0)
    found = out["sample_stats"]["log_marginal"].isel(chain=1, draw=3, gene=0) + log_prior
    assert float(found) == pytest.approx(model.log_marginal()[1].item(), rel=1e-9)


def test_the_likelihood_of_every_spot_given_its_field(quick):
    found = quick["log_likelihood_given_field"]["counts"].isel(chain=0, draw=2, gene=1)
    assert found.dims == ("spot",)
    ratio = quick["posterior"]["isoform_ratio"].isel(chain=0, draw=2, gene=1).values
    for spot, counts in enumerate(BATCH.counts[1]):
        truth = multinomial(counts.sum(), ratio[spot]).logpmf(counts)
        assert float(found[spot]) == pytest.approx(truth, rel=1e-9, abs=1e-9)
    assert "unreliable for leave-one-out" in quick["log_likelihood"].attrs["note"]
    summed = quick["log_likelihood"]["counts"].isel(chain=0, draw=2, gene=1)
    assert float(summed) == pytest.approx(float(found.sum()), rel=1e-12)


def test_arviz_leaves_no_spot_out_of_a_field_but_does_of_a_glm(quick):
    """A spot's own latent value has seen its counts: what ArviZ takes has no spots to leave out."""
    assert "spot" not in quick["log_likelihood"]["counts"].dims
    one = glmm(genes=slice(0, 1)).posterior("laplace", draws=200, chains=2, nugget="laplace")
    with pytest.warns(UserWarning, match="LOO") as said:
        assert arviz.loo(one).n_data_points == 1
    assert any("element-wise" in str(warning.message) for warning in said)
    glm = MultinomGLM()
    glm.setup_data(BATCH.counts[0][BATCH.counts[0].any(axis=1)])
    assert arviz.loo(glm.posterior("laplace", draws=200, chains=2)).n_data_points == glm.n_spots


@pytest.mark.parametrize("method", ["nuts", "marginal_nuts"])
def test_chains_keep_the_energy_of_every_transition(method):
    options = {"draws": 12, "chains": 2, "warmup": 12, "genes": [3]}
    stats = glm().posterior(method, **options)["sample_stats"]
    energy = stats["energy"]
    assert energy.dims == ("chain", "draw", "gene")
    # at a trajectory's start: the last draw's potential and a kinetic part
    lp = stats["lp"].values
    assert (energy.values[:, 1:] > -lp[:, :-1]).all()


# ---- seeds


@pytest.mark.parametrize("method", ["laplace", "nested_laplace"])
def test_draws_do_not_depend_on_the_batch(method):
    small = {"draws": 5, "chains": 1, "nugget": "laplace"}
    whole = glmm().posterior(method, **small, genes=[1, 3])["posterior"]
    alone = glmm(genes=slice(3, 4)).posterior(method, **small)["posterior"]
    other = glmm().posterior(method, **small, genes=[3], seed=1)["posterior"]
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name].isel(gene=1), alone[name].isel(gene=0))
        assert not np.array_equal(other[name].isel(gene=0), alone[name].isel(gene=0))


def test_genes_have_their_own_noise():
    drawn = [Noise.of_gene(seed, c) for seed, c in ((0, BATCH.counts[0]), (0, BATCH.counts[1]))]
    assert len({noise.numpy.integers(2**60) for noise in drawn}) == 2
    assert len({noise.torch.initial_seed() for noise in drawn}) == 2


def test_nothing_global_is_touched():
    pyro.clear_param_store()
    pyro.param("mine", torch.tensor(1.0))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = glmm()
    own = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.posterior("laplace", **FEW, nugget="laplace")
    glm().posterior("nested_laplace", **FEW)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert all(torch.equal(own[name], value) for name, value in model.named_parameters())
    pyro.clear_param_store()


# ---- files, memory


def test_a_file_gives_back_what_was_written(quick, tmp_path):
    path = tmp_path / "posterior.nc"
    quick.to_netcdf(str(path))
    again = read_posterior(path)
    for group in ("posterior", "sample_stats", "log_prior", "observed_data", "constant_data"):
        xr.testing.assert_equal(plain(again[group]), plain(quick[group]))
        assert again[group].attrs["seed"] == 0


def test_a_newer_arviz_gets_a_data_tree(quick):
    class Newer:
        """An ArviZ without InferenceData."""

    groups = {"posterior": plain(quick["posterior"])}
    tree = container.to_container(groups, Newer())
    assert isinstance(tree, xr.DataTree)
    xr.testing.assert_equal(tree["posterior"].to_dataset(), groups["posterior"])


def test_quantiles_in_the_place_of_draws(monkeypatch):
    arguments = {"method": "nested_laplace", **FEW, "nugget": "laplace", "genes": [0, 4]}
    model = MultinomGLMM(share_variance=True, var_fix_sigma=False)  # few outer parameters
    model.setup_data(BATCH.counts, BATCH.V)
    draws = plain(model.posterior(**arguments)["posterior"])
    asked = model.posterior(**arguments, field="quantiles")
    monkeypatch.setattr(
        "splisosm_pyro.posterior.arviz.groups.FIELD_BUDGET", 8 * 40 * 2 * 11 * 5 - 1
    )
    beyond = model.posterior(**arguments)
    for out in (asked, beyond):
        assert "eta" not in out["posterior"]
        summary = out["posterior_quantiles"]
        for name in ("eta", "isoform_ratio"):
            pooled = draws[name].stack(sample=("chain", "draw"))
            expected = pooled.quantile(summary["quantile"].values, "sample")
            expected = expected.transpose("gene", "quantile", ...)
            np.testing.assert_allclose(summary[f"{name}_quantile"], expected, rtol=1e-10)
            np.testing.assert_allclose(summary[f"{name}_mean"], pooled.mean("sample"))
            np.testing.assert_allclose(summary[f"{name}_sd"], pooled.std("sample", ddof=1))
    monkeypatch.setattr("splisosm_pyro.posterior.arviz.groups.FIELD_BUDGET", 8 * 40 * 2 * 11 * 5)
    assert "eta" in model.posterior(**arguments)["posterior"]


# ---- what is not ordinary


def test_a_gaussian_is_summarised_without_draws():
    """Its quantiles, moments and likelihoods, within the error of the draws it would have."""
    size = {"draws": 4000, "chains": 1, "nugget": "laplace", "genes": [0, 4]}
    draws = glmm().posterior("laplace", **size, field="draws")
    asked = glmm().posterior("laplace", **size, field="quantiles")
    xr.testing.assert_equal(plain(draws["posterior"])["sigma"], plain(asked["posterior"])["sigma"])
    for name in ("eta", "isoform_ratio"):
        pooled = plain(draws["posterior"])[name].isel(chain=0)
        sd = pooled.std("draw").values
        summary = plain(asked["posterior_quantiles"])
        away = (summary[f"{name}_mean"].values - pooled.mean("draw").values) / sd
        assert np.abs(away).max() < 5 / np.sqrt(4000)
        np.testing.assert_allclose(summary[f"{name}_sd"], sd, rtol=0.08)
        for level in summary["quantile"].values:
            below = (pooled <= summary[f"{name}_quantile"].sel(quantile=level)).mean("draw")
            assert np.abs(below - level).max() < 5 * np.sqrt(level * (1 - level) / 4000)
    by_spot = plain(draws["log_likelihood_given_field"])["counts"].isel(chain=0)
    one, other = by_spot.sum("spot"), plain(asked["log_likelihood"])["counts"].isel(chain=0)
    assert (np.abs(one.mean("draw") - other.mean("draw")) < 0.1 * one.std("draw")).all()
    np.testing.assert_allclose(other.std("draw"), one.std("draw"), rtol=0.1)
    first = plain(asked["posterior"])["sigma"].isel(chain=0, component=0)
    for gene in (0, 1):  # a draw's likelihood belongs to its own parameters
        both = [np.corrcoef(first[:, gene], part[:, gene])[0, 1] for part in (one, other)]
        assert abs(both[0] - both[1]) < 0.1


@pytest.mark.parametrize("nugget", ["laplace", "quadrature"])
def test_after_a_fit_the_mode_is_the_same(nugget):
    fitted = glmm(fitting_method="marginal_newton")
    fitted.fit(quiet=True)
    arguments = {"method": "laplace", **FEW, "nugget": nugget, "genes": [0, 2, 3]}
    near, afar = (plain(m.posterior(**arguments)["posterior"]) for m in (fitted, glmm()))
    for name in ("beta", "bias_eta", "sigma", "theta_logit"):
        sd = afar[name].std(("chain", "draw"))
        assert (np.abs(near[name] - afar[name]) < 0.02 * sd).all(), name


def test_a_gene_without_counts_has_its_prior():
    counts = BATCH.counts.copy()
    counts[1] = 0.0
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(counts, BATCH.V)
    priors = PosteriorPriors(bias_sd=2.0, sigma=InvGammaPrior(8.0, 3.0))
    out = model.posterior("laplace", draws=4000, genes=[1], prior=priors)
    posterior = out["posterior"]
    assert out["sample_stats"]["status"].values.tolist() == ["no counts"]
    assert out["sample_stats"]["method"].values.tolist() == ["prior"]
    assert float(posterior["theta"].mean()) == pytest.approx(0.5, abs=0.02)
    assert float((posterior["sigma"] ** 2).mean()) == pytest.approx(3 / 7, rel=0.03)
    # the variances of bias and field add up
    assert float(posterior["eta"].var()) == pytest.approx(4.0 + 3 / 7, rel=0.05)


def test_a_gene_that_breaks_is_said_to(monkeypatch):
    whole = run.outer_mode

    def breaks(density, starts):
        if np.array_equal(density.problem.gene.counts.sum(0), BATCH.counts[2].sum(0)):
            raise ArithmeticError("no mode")
        return whole(density, starts)

    monkeypatch.setattr(run, "outer_mode", breaks)
    out = glmm().posterior("laplace", **FEW, genes=[0, 2], nugget="laplace")
    assert out["sample_stats"]["status"].values[1] == "failed: no mode"
    assert out["posterior"]["beta"].isel(gene=1).isnull().all()
    assert plain(out["posterior"]).isel(gene=0).notnull().all().to_array().all()


def test_a_gene_whose_replicates_break_keeps_its_posterior(monkeypatch):
    whole = predictive.predictive_counts

    def breaks(eta, totals, generator):
        if np.array_equal(totals, BATCH.counts[2].sum(-1)):
            raise ValueError("no replicates")
        return whole(eta, totals, generator)

    monkeypatch.setattr(predictive, "predictive_counts", breaks)
    out = glmm().posterior("laplace", **FEW, genes=[0, 2], nugget="laplace", predictive=True)
    status = out["sample_stats"]["status"].values[1]
    assert status.endswith("; replicated counts are left out: no replicates")
    assert plain(out["posterior"]).notnull().all().to_array().all()
    for group in ("posterior_predictive", "prior_predictive", "prior"):
        values = plain(out[group])
        assert values.isel(gene=1).isnull().all().to_array().all(), group
        assert values.isel(gene=0).notnull().all().to_array().all(), group


@pytest.mark.parametrize("model_class", [MultinomGLM, MultinomGLMM])
def test_replicates_of_fractional_counts_have_rounded_totals(model_class):
    counts = BATCH.counts[:2].copy()
    counts[1] *= 0.3
    model = model_class()
    with pytest.warns(SplisosmWarning, match="fractional"):
        model.setup_data(counts, *([BATCH.V] if model_class is MultinomGLMM else []))
    own, more = (model.posterior("laplace", **FEW, predictive=p) for p in (False, True))
    for name in ("beta", "bias_eta"):
        np.testing.assert_array_equal(own["posterior"][name], more["posterior"][name])
    drawn = more["posterior_predictive"]["counts"].values
    assert drawn.dtype == np.int32
    totals = np.round(counts.sum(-1))
    np.testing.assert_array_equal(drawn.sum(-1), np.broadcast_to(totals, drawn.shape[:-1]))
    before, after = (out["sample_stats"]["status"].values for out in (own, more))
    assert after[0] == before[0]
    assert after[1] == f"{before[1]}; replicated counts have rounded totals"
    pd.testing.assert_frame_equal(diagnose(own), diagnose(more))


@pytest.mark.parametrize(
    ("n_isos", "asked", "used"), [(3, None, "ep"), (5, None, "laplace"), (5, "ep", "ep")]
)
def test_more_than_three_isoforms_go_by_laplace_unless_asked(n_isos, asked, used):
    counts = np.random.default_rng(0).poisson(0.7, (1, 4, n_isos)).astype(float)
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(counts, BATCH.V[:4, :4])
    out = model.posterior("laplace", draws=2, chains=1, smooth=asked)
    assert out["posterior"].attrs["smooth"] == used


def test_a_fixed_sigma_stays():
    model = MultinomGLMM(var_fix_sigma=True)
    model.setup_data(BATCH.counts, BATCH.V)
    out = model.posterior("laplace", **FEW, genes=[3], nugget="laplace")
    expected = model.sigma[3].detach().numpy()
    np.testing.assert_array_equal(out["posterior"]["sigma"].isel(chain=0, draw=0)[0], expected)
    assert out["posterior"]["sigma"].std() < 1e-15
    assert set(out["log_prior"].data_vars) == {"beta", "bias_eta", "theta"}
    assert out["posterior"].attrs["sigma"] == "fixed by the model"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lapalce"}, r"method must be one of .* \(did you mean 'laplace'\?\)"),
        ({"draws": 0}, "draws must be a whole number above 0"),
        ({"chains": 1.5}, "chains must be a whole number above 0"),
        ({"seed": -1}, "seed must not be negative, came -1"),
        ({"seed": "x"}, "seed must be a whole number, came str"),
        ({"genes": [0, 5]}, "genes must be different whole numbers from 0 to 4, came 5"),
        ({"genes": [1, 1]}, "genes must be different whole numbers from 0 to 4, came 1"),
        ({"genes": []}, "genes must name at least one gene"),
        ({"genes": 3}, "genes must be a sequence of places, came int"),
        ({"prior": "flat"}, "prior must be a PosteriorPriors, came str"),
        ({"field": "no"}, "field must be one of"),
        ({"names": {"cell": []}}, "names must have keys among"),
        ({"names": {"gene": ["a"]}}, r"names\['gene'\] must have 5 entries, came 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        glm().posterior(**arguments)


def test_only_a_model_with_a_field_is_asked_how_it_goes():
    with pytest.raises(ValueError, match="nugget must be one of"):
        glmm().posterior(nugget="no")
    with pytest.raises(TypeError, match="unexpected keyword argument 'nugget'"):
        glm().posterior(nugget="quadrature")


def test_a_model_without_data_says_so():
    with pytest.raises(ValueError, match="has no data yet"):
        MultinomGLMM().posterior()


# ---- against the truth


def test_a_glm_against_integration():
    """One gene, an intercept alone: moments of the bias on a grid."""
    model = MultinomGLM()
    model.setup_data(np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    out = model.posterior("nested_laplace", draws=4000, prior=PosteriorPriors(bias_sd=3.0))
    grid = np.linspace(-30, 60, 200_001)
    log_p = -3 * np.logaddexp(0, -grid) - 0.5 * (grid / 3.0) ** 2
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = p @ grid
    sd = np.sqrt(p @ (grid - mean) ** 2)
    bias = out["posterior"]["bias_eta"].values
    assert bias.mean() == pytest.approx(mean, abs=0.05 * sd)
    assert bias.std() == pytest.approx(sd, rel=0.05)
    assert out["sample_stats"]["status"].item() == "ok"


def test_auto_takes_the_gaussian_where_it_fits():
    rich = MultinomGLM()
    rich.setup_data(np.array([[[4000.0, 3000.0], [5000.0, 4000.0]], [[1.0, 0.0], [1.0, 0.0]]]))
    out = rich.posterior("auto", **FEW)
    assert out["sample_stats"]["method"].values.tolist() == ["laplace", "nested_laplace"]


def moments(posterior):
    """Mean and sd of every parameter, laid out as in the gold cases."""
    names = {"bias": "bias_eta", "beta": "beta", "sigma": "sigma", "theta": "theta"}
    names["ratio"] = "isoform_ratio"
    pooled = plain(posterior).isel(gene=0).stack(sample=("chain", "draw"))
    return {
        ours: (pooled[name].mean("sample").values, pooled[name].std("sample").values)
        for ours, name in names.items()
    }


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("kind", ["shared", "periso"])
def test_nested_laplace_against_long_chains(gold, kind, seed):
    """Means within 0.1 sd, sds within 10 % of 40,000 draws by another program."""
    case = gold.load("c01_n30_P3_rich")
    model = MultinomGLMM(share_variance=kind == "shared", var_fix_sigma=False)
    model.setup_data(case.Y, case.V, np.asarray(case.X).reshape(30, -1))
    out = model.posterior("nested_laplace", seed=seed)
    assert out["sample_stats"]["khat"].item() < 0.7
    for name, (mean, sd) in moments(out["posterior"]).items():
        truth = {key: np.array(case.nuts[kind][name][key]) for key in ("mean", "sd")}
        assert np.abs((mean - truth["mean"]) / truth["sd"]).max() < 0.1, name
        assert np.abs(sd / truth["sd"] - 1).max() < 0.1, name


def test_the_whole_program_against_long_chains(gold):
    """A short chain: within 5 of its own Monte-Carlo errors, about 100 figures at once."""
    case = gold.load("c01_n30_P3_rich")
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(case.Y, case.V, np.asarray(case.X).reshape(30, -1))
    out = model.posterior("nuts", draws=150, chains=1, warmup=150, seed=2)["posterior"]
    sizes = arviz.ess(plain(out))
    names = {"bias": "bias_eta", "ratio": "isoform_ratio"}
    for name, (mean, sd) in moments(out).items():
        truth = case.nuts["shared"][name]
        ess = sizes[names.get(name, name)].isel(gene=0).values
        error = np.sqrt(sd**2 / ess + np.square(truth["mcse_mean"]))
        assert (np.abs(mean - np.array(truth["mean"])) < 5 * error).all(), name
        assert (ess > 20).all()


def test_replicates_are_made_of_the_draws_that_are_kept():
    usage = np.random.default_rng(0).uniform(0.3, 0.7, len(BATCH.V))
    counts = np.round(10_000 * np.column_stack([usage, 1.0 - usage]))
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(counts, BATCH.V)
    out = model.posterior("laplace", draws=100, chains=2, nugget="laplace", predictive=True)
    expected = 10_000 * plain(out["posterior"])["isoform_ratio"].isel(isoform=0)
    replicate = plain(out["posterior_predictive"])["counts"].isel(isoform=0)
    apart = (replicate - expected) / np.sqrt(expected * (1.0 - expected / 10_000))
    assert abs(float((apart**2).mean()) - 1.0) < 0.15  # 3 if they were of other draws
