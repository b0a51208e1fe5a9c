"""Sensitivity to priors: derivatives against refits, weights against ArviZ, planted conflicts."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from splisosm_pyro import ModelPriors, MultinomGLM, MultinomGLMM, fit_genes, simulate_tissue
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.maths.priors import (
    BetaPrior,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    NormalPrior,
    PoweredPrior,
)
from splisosm_pyro.posterior import PosteriorPriors
from splisosm_pyro.posterior.arviz.container import dataset_of, to_container
from splisosm_pyro.studies import prior_predictive, prior_sensitivity
from splisosm_pyro.studies.sensitivity.directions import labelled
from splisosm_pyro.studies.sensitivity.mode_shift import GeneMode

SIGMA = {"log_sigma", "theta_logit", "sigma", "theta"}


def tissue_of(n_genes=2, n_isos=2, seed=3, depth=12.0, **arguments):
    arguments = {"n_spots": 90, "sigma": 0.9, "theta": 0.6} | arguments
    return simulate_tissue(n_genes=n_genes, n_isos=n_isos, depth=depth, seed=seed, **arguments)


def fitted(tissue, priors="none", design=None, **arguments):
    model = MultinomGLMM(
        var_fix_sigma=False,
        var_prior_model=priors,
        fitting_method="marginal_newton",
        fitting_configs={"nugget": "quadrature"},
        **arguments,
    )
    model.setup_data(tissue.counts, corr_sp=tissue.kernel, design_mtx=design)
    model.fit(quiet=True)
    return model


@pytest.fixture(scope="module")
def tissue():
    return tissue_of()


@pytest.fixture(scope="module")
def model(tissue):
    return fitted(tissue, "gamma")


@pytest.fixture(scope="module")
def refit(model):
    return prior_sensitivity(model, ["none", "gamma", "half_normal", "inv_gamma"])


@pytest.fixture(scope="module")
def draws(model):
    return model.posterior("nested_laplace", draws=1000, seed=1)


@pytest.fixture(scope="module")
def powers(model, draws):
    return prior_sensitivity(model, how="power_scaling", posterior=draws)


# ---- local


def mode_at(spec, counts, params):
    """The mode under a specification, to rounding, from a fit nearby."""
    fit = fit_gene(spec, counts, params, warm=True)
    return GeneMode.of_gene(spec, counts, fit_glm(counts, spec.design.rows), fit.params)


def shift_by_refits(model, gene, up, down, step):
    """Central difference of the mode between two ways to change the priors."""
    arrays = model.as_arrays()
    counts, params = arrays.counts, arrays.each_params()
    specs = up(arrays.spec), down(arrays.spec)
    first, second = (mode_at(spec, counts[gene], params[gene]) for spec in specs)
    shift, k = (first.at.u - second.at.u) / step, first.space.n_variance
    shift[k:] = (first.space.back @ shift[k:].reshape(first.space.free.shape)).ravel()
    return shift


def with_prior(spec, **prior):
    return replace(spec, priors=replace(spec.priors, **prior))


INFORMED = ModelPriors(
    GammaPrior(2.0, 1.0), BetaPrior(2.0, 3.0), NormalPrior(1.5), NormalPrior(0.8, 0.5)
)
CHANGES = {
    "sigma": lambda spec, w: with_prior(spec, sigma=PoweredPrior(spec.priors.sigma, w)),
    "theta": lambda spec, w: with_prior(spec, theta=BetaPrior(1.0 + w, 1.0 + 2.0 * w)),
    "beta": lambda spec, w: with_prior(spec, beta=NormalPrior(1.5 / np.sqrt(w))),
    "bias_eta": lambda spec, w: with_prior(spec, bias=NormalPrior(0.8 / np.sqrt(w), 0.5)),
}


@pytest.mark.parametrize("share", [True, False])
def test_the_derivative_of_the_mode_is_that_of_refits(share):
    tissue = tissue_of(n_genes=1, n_isos=3, seed=5, depth=25.0)
    model = fitted(tissue, INFORMED, tissue.design, share_variance=share)
    found = prior_sensitivity(model, how="local")
    assert set(found.table["status"]) == {"ok"}
    assert set(found.table["note"]) == {""}
    for b, (of, change) in enumerate(CHANGES.items()):
        slow = shift_by_refits(
            model, 0, lambda s, c=change: c(s, 1.01), lambda s, c=change: c(s, 0.99), 0.02
        )
        one = found.dataset.isel(gene=0, by=b)
        assert str(one["by"].item()).startswith(f"{of} ~")
        assert float(one["weight"]) == 1.0
        names = ("log_sigma", "theta_logit", "d_beta", "d_bias_eta")
        ours = [one[n if n.startswith("d_") else f"d_{n}"].values.ravel() for n in names]
        np.testing.assert_allclose(np.concatenate(ours), slow, rtol=0.01, atol=1e-6)
        sigma = one["sigma"].values
        np.testing.assert_allclose(one["d_sigma"].values, sigma * one["d_log_sigma"].values)


def test_derivatives_in_the_priors_own_parameters_are_those_of_refits(model):
    found = prior_sensitivity(model, how="local").dataset
    for name, value in {"alpha": 2.0, "beta": 0.3}.items():
        step = 0.01 * value

        def moved(spec, sign, name=name, value=value, step=step):
            return with_prior(spec, sigma=replace(GammaPrior(), **{name: value + sign * step}))

        slow = shift_by_refits(model, 1, lambda s: moved(s, 1), lambda s: moved(s, -1), 2 * step)
        one = found.isel(gene=1).sel(by=f"sigma ~ gamma(alpha=2, beta=0.3): {name}")
        ours = [one["d_log_sigma"].item(), one["d_theta_logit"].item(), one["d_bias_eta"].item()]
        np.testing.assert_allclose(ours, slow, rtol=0.01, atol=1e-7)


def test_the_change_of_usage_is_that_of_refits(model):
    found = prior_sensitivity(model, how="local").dataset.isel(gene=0, by=0)
    grid = {str(w): PoweredPrior(GammaPrior(), w) for w in (1.05, 0.95)}
    usage = prior_sensitivity(model, grid).dataset["usage"].isel(gene=0)
    slow = ((usage.isel(prior=0) - usage.isel(prior=1)) / 0.1).values
    scale = np.abs(slow).max()
    np.testing.assert_allclose(found["d_usage"].values, slow, atol=0.02 * scale)
    np.testing.assert_allclose(found["d_usage_largest"].values, np.abs(slow).max(0), rtol=0.02)


def test_a_prior_that_the_model_has_not_is_at_weight_zero(tissue):
    model = fitted(tissue)
    found = prior_sensitivity(model, [HalfNormalPrior(1.0)], how="local")
    assert set(found.table["weight"]) == {0.0}
    slow = shift_by_refits(
        model, 0,
        lambda s: with_prior(s, sigma=PoweredPrior(HalfNormalPrior(1.0), 0.02)), lambda s: s, 0.02,
    )  # fmt: skip
    ours = found.dataset["d_log_sigma"].isel(gene=0, by=0).item()
    assert ours == pytest.approx(slow[0], rel=0.02)


def test_at_a_bound_there_is_a_note_and_no_number(model):
    assert float(model.var_sp_prop()[0, 0]) < 1e-5
    found = prior_sensitivity(model, how="local", genes=[0])
    own = found.table[found.table["parameter"] == "theta_logit"]
    assert set(own["note"]) == {"at a bound: theta -> 0"}
    assert own["shift"].isna().all()
    assert found.table.query("parameter == 'log_sigma'")["shift"].notna().all()
    with pytest.raises(ValueError, match="all at a bound"):
        found.plot_ranking("theta_logit")


def test_sigma_at_zero_is_said():
    tissue = tissue_of(n_genes=1)
    model = fitted(replace(tissue, counts=torch.full_like(tissue.counts, 3)))
    found = prior_sensitivity(model, how="local")
    notes = set(found.table.query("parameter == 'sigma'")["note"])
    assert notes == {"at a bound: sigma -> 0"}
    assert found.table.query("parameter in ('sigma', 'theta')")["shift"].isna().all()
    assert found.table.query("parameter == 'bias_eta'")["shift"].notna().all()


def test_columns_of_many_genes_are_the_local_study(tissue, tmp_path):
    kwargs = {"coords": tissue.coords, "progress": False, "sensitivity": True}
    fits = fit_genes(tissue.counts.numpy(), var_prior_model="gamma", **kwargs)
    for gene in range(2):
        dataset = prior_sensitivity(fits.model(gene), how="local").dataset
        for name in ("log_sigma", "theta_logit"):
            one = dataset[f"d_{name}"].isel(by=0).item()
            ours = fits.table[f"sens_gamma_{name}"][gene]
            assert ours == pytest.approx(one, rel=1e-3, nan_ok=True)
    assert fits.table["sens_note"].tolist() == ["at a bound or not felt: theta_logit", ""]
    assert fits.table["sens_gamma_log_sigma"].notna().all()
    fits.save(tmp_path / "saved")
    again = type(fits).load(tmp_path / "saved")
    first, second = (f.table["sens_gamma_log_sigma"].tolist() for f in (fits, again))
    assert first == second
    plain = fit_genes(tissue.counts.numpy(), coords=tissue.coords, progress=False)
    assert not [name for name in plain.table if name.startswith("sens")]


def test_a_run_with_sensitivity_is_continued(tissue, tmp_path):
    kwargs = {"coords": tissue.coords, "progress": False, "sensitivity": ["pc"], "resume": tmp_path}
    first = fit_genes(tissue.counts.numpy(), **kwargs)
    second = fit_genes(tissue.counts.numpy(), **kwargs)
    assert first.table["sens_pc_log_sigma"].tolist() == second.table["sens_pc_log_sigma"].tolist()


# ---- refit


def test_refits_hold_the_models_own_fit_and_that_of_maximum_likelihood(tissue, model, refit):
    plain = fitted(tissue)
    own = refit.dataset.sel(prior="gamma(alpha=2, beta=0.3)")
    np.testing.assert_allclose(own["sigma"].values, model.sigma.detach().numpy(), rtol=1e-5)
    none = refit.dataset.sel(prior="none")
    np.testing.assert_allclose(none["sigma"].values, plain.sigma.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        none["log_marginal"].values, plain.log_marginal().detach().numpy(), rtol=1e-7
    )
    errors = model.standard_errors()
    np.testing.assert_allclose(own["log_sigma_se"].values, errors["log_sigma"].numpy(), rtol=1e-4)
    ratio = model.get_isoform_ratio().detach().numpy()
    np.testing.assert_allclose(own["usage"].values, ratio, atol=1e-5)
    assert bool((none["log_marginal"] >= own["log_marginal"] - 1e-8).all())


@pytest.mark.parametrize("map_in", ["sigma", "sigma_sq", "log_sigma"])
def test_modes_are_those_of_the_density_in_the_named_variable(model, map_in):
    """The mode zeroes the slope of log_marginal plus the prior's, Jacobian of that variable."""
    study = prior_sensitivity(model, {"half_t": HalfTPrior(3.0, 0.5)}, map_in=map_in)
    assert study.dataset.attrs["map_in"] == map_in
    assert set(study.table["map_in"]) == {map_in}
    one = study.dataset.isel(prior=0)
    plain = model.clone()
    plain.priors = ModelPriors()
    values = {n: torch.tensor(one[n].values) for n in ("sigma", "theta_logit", "beta", "bias_eta")}
    plain.update_params_from_dict(values)
    plain.log_marginal().sum().backward()
    sigma = one["sigma"].values
    power = {"sigma": 0, "sigma_sq": -1, "log_sigma": 1}[map_in]
    slope = HalfTPrior(3.0, 0.5).gradient(sigma) + power
    np.testing.assert_allclose(plain.sigma.grad.numpy() * sigma + slope, 0.0, atol=1e-4)


def test_the_order_of_the_grid_is_nothing(model, refit):
    other = prior_sensitivity(model, ["inv_gamma", "half_normal", "none"])
    for label in ("inv_gamma(alpha=3, beta=0.5)", "half_normal(scale=1)", "none"):
        first, second = (s.dataset.sel(prior=label) for s in (refit, other))
        np.testing.assert_allclose(first["log_sigma"], second["log_sigma"], atol=2e-4)


def test_the_tidy_table_holds_what_the_dataset_holds(refit):
    dataset, table = refit
    rows = table.query("gene == 1 and prior == 'none' and parameter == 'theta'")
    one = dataset["theta"].sel(gene=1, prior="none")
    assert rows["estimate"].item() == one.item()
    assert rows["map_in"].item() == "sigma"
    assert rows["index"].item() == "shared"
    assert rows["log_marginal"].item() == dataset["log_marginal"].sel(gene=1, prior="none").item()
    assert len(table) == 2 * 4 * 5  # genes, priors, parameters without covariates


def test_a_gene_that_cannot_be_fitted_has_a_status(tissue):
    counts = tissue.counts.numpy().copy()
    counts[0] = 0
    model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    model.setup_data(counts, corr_sp=tissue.kernel)
    model.fit(quiet=True)
    local = prior_sensitivity(model, how="local")
    assert local.dataset["status"].values.tolist() == ["failed: no counts", "ok"]
    assert local.dataset["d_sigma"].isel(gene=1).notnull().any()
    refitted = prior_sensitivity(model, ["none", "half_normal"])
    assert refitted.dataset["status"].values[0].tolist() == ["no counts", "no counts"]


def test_the_model_is_left_as_it_was(model):
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state, priors = torch.random.get_rng_state(), model.priors
    prior_sensitivity(model, ["half_normal"], genes=[1])
    prior_sensitivity(model, how="local")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.priors == priors
    for name, value in model.named_parameters():
        assert torch.equal(value.detach(), before[name])


# ---- power scaling


def test_power_scaling_is_arvizs_own(draws, powers):
    arviz = pytest.importorskip("arviz")
    log_lik = draws["sample_stats"]["log_marginal"].rename("counts").to_dataset()
    for gene in range(2):
        groups = {"posterior": dataset_of(draws, "posterior")[["sigma", "theta"]]}
        groups["log_prior"] = dataset_of(draws, "log_prior")
        groups["log_likelihood"] = log_lik
        container = to_container({k: v.isel(gene=gene, drop=True) for k, v in groups.items()})
        for component in ("prior", "likelihood"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if hasattr(arviz, "psens"):
                    theirs = arviz.psens(container, component=component, delta=0.25)
                else:
                    theirs = arviz.psense(container, group=component, alphas=(0.8, 1.25))
            for name in ("sigma", "theta"):
                ours = powers.table.query(f"gene == {gene} and parameter == '{name}'")[component]
                assert ours.item() == pytest.approx(float(theirs[name].item()), rel=1e-12)


def test_the_weighted_means_are_those_of_weights_written_out(draws, powers):
    """Without smoothing, on the bulk of the draws, the weights are the power of the prior."""
    one = draws.log_prior.isel(gene=0)
    log_prior = sum(one[name].values for name in one.data_vars).ravel()
    sigma = np.log(draws.posterior["sigma"].isel(gene=0).values.ravel())
    weights = np.exp(0.25 * (log_prior - log_prior.max()))
    plain = float((weights * sigma).sum() / weights.sum())
    found = powers.dataset["log_sigma_mean"].isel(gene=0, component=0)
    assert found.sel(component_scaled="prior", alpha=1.25).item() == pytest.approx(plain, abs=2e-3)
    same = found.sel(component_scaled="prior", alpha=1.0).item()
    assert same == pytest.approx(sigma.mean(), rel=1e-10)


@pytest.mark.parametrize("gene", [0, 1])
def test_power_scaling_agrees_with_a_posterior_under_the_powered_prior(tissue, gene):
    model = fitted(tissue)
    strong = HalfNormalPrior(0.25)
    own = PosteriorPriors(sigma=strong)
    found = prior_sensitivity(
        model, own, how="power_scaling", genes=[gene], draws=2000, scaled=["sigma"], seed=2
    )
    mean = found.dataset["log_sigma_mean"].isel(gene=0, component=0).sel(component_scaled="prior")
    error = found.dataset["log_sigma_mcse"].isel(gene=0, component=0).sel(component_scaled="prior")
    for alpha in (0.8, 1.25):
        powered = PosteriorPriors(sigma=PoweredPrior(strong, alpha))
        again = model.posterior("nested_laplace", draws=2000, genes=[gene], prior=powered, seed=7)
        truth = np.log(again.posterior["sigma"].values).mean()
        base = mean.sel(alpha=1.0).item()
        assert np.sign(mean.sel(alpha=alpha).item() - base) == np.sign(truth - base)
        apart = abs(mean.sel(alpha=alpha).item() - truth)
        assert apart < 4 * error.sel(alpha=alpha).item() + 0.004


def test_a_planted_conflict_is_found_and_agreement_is_quiet():
    tissue = tissue_of(n_genes=1, sigma=1.5, theta=0.6, depth=12.0, seed=8)
    model = fitted(tissue)
    words = {}
    for name, prior in {"conflict": HalfNormalPrior(0.15), "agrees": HalfNormalPrior(1.5)}.items():
        found = prior_sensitivity(model, PosteriorPriors(sigma=prior), how="power_scaling")
        own = found.table[found.table["parameter"].isin(["sigma", "log_sigma"])]
        words[name] = set(own["diagnosis"])
    assert words == {"conflict": {"prior-data conflict"}, "agrees": {"none"}}


def test_draws_without_densities_are_refused(model):
    whole = model.posterior("laplace", draws=100, chains=1)
    groups = {name: dataset_of(whole, name) for name in ("posterior", "log_prior", "sample_stats")}
    groups["sample_stats"] = groups["sample_stats"].drop_vars("log_marginal")
    drawn = to_container(groups)
    with pytest.raises(ValueError, match="must hold log_prior and, in sample_stats, log_marginal"):
        prior_sensitivity(model, how="power_scaling", posterior=drawn)


# ---- arguments


def test_priors_are_named_by_their_words_or_by_the_user():
    own = ModelPriors("gamma", theta=BetaPrior(2.0, 2.0))
    found = labelled(["none", ("pc", {"upper": 1.0}), BetaPrior(1.0, 3.0)], own)
    assert list(found) == ["none", "pc(upper=1, prob=0.05)", "beta(a=1, b=3)"]
    assert found["none"].theta == BetaPrior(2.0, 2.0)
    assert found["beta(a=1, b=3)"].sigma == GammaPrior()
    assert list(labelled("half_normal", own)) == ["half_normal(scale=1)"]
    assert list(labelled({"mine": ModelPriors(beta="normal")}, own)) == ["mine"]
    assert len(labelled(None, own)) == 7


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"how": "refits"}, ValueError, "how must be one of .*did you mean 'refit'"),
        ({"map_in": "tau"}, ValueError, "map_in must be one of"),
        ({"priors": ["gama"]}, ValueError, "did you mean 'gamma'"),
        ({"priors": []}, ValueError, "at least one prior, came none"),
        ({"priors": ["gamma", "gamma"]}, ValueError, "must differ"),
        ({"priors": [NormalPrior()]}, TypeError, "must say of which"),
        ({"priors": "gamma", "how": "power_scaling"}, TypeError, "PosteriorPriors.*came str"),
        ({"genes": [7]}, ValueError, "genes must be different whole numbers"),
        ({"how": "power_scaling", "scaled": ["sigmaa"]}, ValueError, "scaled must hold names"),
    ],
)
def test_bad_arguments(model, draws, arguments, error, message):
    if "scaled" in arguments:
        arguments = arguments | {"posterior": draws}
    with pytest.raises(error, match=message):
        prior_sensitivity(model, **arguments)


def test_models_that_have_no_such_study(tissue):
    with pytest.raises(TypeError, match="model must be a fitted MultinomGLMM, came MultinomGLM"):
        prior_sensitivity(MultinomGLM())
    joint = MultinomGLMM()
    with pytest.raises(ValueError, match=r"marginal fitting_method.*came 'joint_gd'"):
        prior_sensitivity(joint)
    unfitted = MultinomGLMM(fitting_method="marginal_newton")
    unfitted.setup_data(tissue.counts, corr_sp=tissue.kernel)
    with pytest.raises(ValueError, match="not fitted yet"):
        prior_sensitivity(unfitted)
    with pytest.raises(ValueError, match=r"sensitivity must name at least one prior"):
        fit_genes(tissue.counts.numpy(), coords=tissue.coords, sensitivity=["none"])


# ---- figures


def labels_of(figure):
    return [ax.get_xlabel() for ax in figure.axes]


def test_figures_of_every_kind(tissue, model, refit, powers):
    refit_figure = refit.plot_estimates(1, "theta")
    assert labels_of(refit_figure)[0] == "theta (share of variance)"
    first, second = refit.dataset["prior"].values[[0, 3]]
    maps = refit.plot_maps(tissue.coords, first, second, gene=1)
    assert [ax.get_aspect() for ax in maps.axes[:3]] == [1.0, 1.0, 1.0]
    low, high = maps.axes[2].collections[0].get_clim()
    assert low == -high
    densities = powers.plot_densities(1)
    assert "theta (share of variance)" in labels_of(densities)
    assert len(powers.plot_densities(1, "theta").axes) == 2
    assert labels_of(powers.plot_quantities(0, "log_sigma")) == ["power"] * 3
    assert "sensitivity" in labels_of(powers.plot_ranking("log_sigma"))[0]
    local = prior_sensitivity(model, how="local")
    assert "SE" in labels_of(local.plot_ranking("log_sigma"))[0]
    for figure in (refit_figure, maps, densities):
        figure.canvas.draw()
    with pytest.raises(ValueError, match=r"needs how='refit', came a study by 'local'"):
        local.plot_estimates()
    with pytest.raises(ValueError, match="came 'tau'"):
        refit.plot_estimates(1, "tau")
    with pytest.raises(ValueError, match="gene must be one of the study's, came 9"):
        refit.plot_estimates(9)


# ---- ranges of usage before data


def test_the_prior_predictive_says_what_a_usage_prior_was_asked(tissue):
    priors = {"asked": ("pc_usage", {"usage_range": 0.4, "prob": 0.2}), "weak": "gamma"}
    found = prior_predictive(kernel=tissue.kernel, n_isos=3, priors=priors, draws=4000, seed=1)
    share = float((found.dataset["widest"].sel(prior="asked") > 0.4).mean())
    assert share == pytest.approx(0.2, abs=0.03)
    assert found.dataset["usage_range"].dims == ("prior", "draw", "isoform")
    row = found.table.set_index("prior").loc["weak"]
    assert row["P(range > 0.9)"] > 0.8  # the documented gamma believes in all or nothing
    assert found.plot().axes[0].get_xlabel().startswith("r, range of usage")


def test_the_prior_predictive_of_a_model_is_seeded_and_knows_the_usage(model):
    state = torch.random.get_rng_state()
    first, second = (prior_predictive(model, draws=60, seed=4).dataset for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.equals(second)
    assert list(first["prior"].values) == ["gamma(alpha=2, beta=0.3)"]
    tight = {"tight": ("exponential", {"rate": 50.0})}
    rare = prior_predictive(model, tight, usage=[0.02, 0.98], draws=200).dataset["widest"].mean()
    even = prior_predictive(model, tight, draws=200).dataset["widest"].mean()
    assert float(rare) < 0.2 * float(even)


def test_under_the_symmetric_coding_all_isoforms_range_alike_before_data():
    tissue, mean = simulate_tissue(n_spots=37, n_genes=1, n_isos=3, design="none", seed=0), {}
    for coding in ("reference", "symmetric"):
        model = MultinomGLMM(var_prior_model="half_normal", coding=coding)
        model.setup_data(tissue.counts, tissue.kernel)
        found = prior_predictive(model, draws=1500, seed=1).dataset["usage_range"]
        mean[coding] = found.mean(("prior", "draw")).to_numpy()
    assert np.ptp(mean["symmetric"]) < 0.015
    assert np.ptp(mean["reference"]) > 0.05


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "kernel and n_isos be given"),
        ({"priors": ["none"]}, ValueError, "must be proper on sigma, came none"),
        ({"usage": [0.5, 0.6]}, ValueError, "2 positive numbers that sum to 1"),
        ({"draws": 0}, ValueError, "draws must be a whole number above 0"),
    ],
)
def test_bad_arguments_of_the_prior_predictive(model, arguments, error, message):
    given = {} if arguments == {} else {"model": model}
    with pytest.raises(error, match=message):
        prior_predictive(**given, **arguments)
