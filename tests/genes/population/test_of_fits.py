"""A run with a population: columns, files, usage, and what does not depend on how it was run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import GeneFits, fit_genes, simulate_tissue
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.run.fit_genes import fit_slide
from splisosm_pyro.model.at_parameters import mean_ratios
from splisosm_pyro.studies import prior_sensitivity
from splisosm_pyro.studies.comparison.heldout import heldout_log_lik

OPTIONS = RunOptions(population="gaussian", tests=False)
COLUMNS = [
    *("pop_sigma", "pop_sigma_sd", "pop_sigma_low", "pop_sigma_high"),
    *("pop_theta", "pop_theta_sd", "pop_theta_low", "pop_theta_high"),
    *("p_spatial", "sv_lfdr", "lfsr_region", "lfsr_age"),
]


@pytest.fixture(scope="module")
def short(slide):
    groups = [group.take(np.array([0, 1])) for group in slide.groups]
    empty = replace(groups[0], counts=groups[0].counts * np.array([1, 0])[:, None, None])
    return slide.with_groups([empty, groups[1].take(np.array([0]))])


@pytest.fixture(scope="module")
def fits(short):
    return fit_slide(short, OPTIONS, progress=False)


def test_every_gene_has_finite_numbers_inside_the_bounds(fits):
    own = fits.table[COLUMNS]
    assert np.isfinite(own.to_numpy()).all()
    assert (own["pop_sigma_low"] < own["pop_sigma_high"]).all()
    assert (own["pop_sigma_sd"] > 0.0).all()
    assert own["pop_theta_high"].between(0.0, 1.0, inclusive="neither").all()
    np.testing.assert_allclose(own["p_spatial"] + own["sv_lfdr"], 1.0)


def test_a_gene_without_counts_has_the_population_and_says_so(fits):
    row = fits.table.set_index("gene").loc["b"]
    assert row["status"] == "no counts"
    assert row["pop_reason"].endswith("the population alone")
    alone = fits.population.moderated(None)
    assert row["pop_sigma"] == alone.sigma()["mean"]
    assert (fits.table["pop_reason"] == "").sum() == 2


def test_effects_have_an_interval_and_a_false_sign_rate(fits):
    known = fits.effects[fits.effects["gene"] != "b"]
    assert known["lfsr"].between(0.0, 1.0).all()
    assert (known["pop_low"] <= known["pop_high"]).all()
    assert (known["pop_change"].abs() <= known["change"].abs().max()).all()
    least = known.groupby(["gene", "covariate"])["lfsr"].min().unstack()
    wide = fits.table.set_index("gene").loc[least.index]
    np.testing.assert_array_equal(wide["lfsr_region"], least["region"])
    sums = known.groupby(["gene", "covariate", "level"])["pop_change"].sum()
    np.testing.assert_allclose(sums, 0.0, atol=1e-12)


def test_workers_and_resumed_runs_give_the_same(fits, short, tmp_path):
    for options in ({"n_jobs": 2}, {"resume": tmp_path / "r"}, {"resume": tmp_path / "r"}):
        again = fit_slide(short, OPTIONS, progress=False, **options)
        for name in ("table", "effects"):
            one, other = (
                getattr(run, name).drop(columns="seconds", errors="ignore") for run in (fits, again)
            )
            pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_result_comes_back_from_disk_with_its_population(fits, tmp_path):
    fits.save(tmp_path / "result")
    back = GeneFits.load(tmp_path / "result")
    pd.testing.assert_frame_equal(back.table, fits.table)
    pd.testing.assert_frame_equal(back.population.hyperparameters, fits.population.hyperparameters)
    for one, other in zip(back.usage("c"), fits.usage("c"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_usage_is_averaged_over_sigma_and_theta(fits):
    usage, error = fits.usage("c")
    np.testing.assert_allclose(usage.sum(axis=1), 1.0)
    assert (error > 0.0).all()
    plain, _ = fits.usage("c", moderated=False)
    assert 1e-4 < np.abs(usage - plain).max() < 0.5
    empty, unknown = fits.usage("b")
    assert np.isinf(unknown).all()
    np.testing.assert_allclose(empty.sum(axis=1), 1.0)


def test_the_average_is_that_of_the_places(fits):
    """Beside a dense mean over all places of the surface, each at its own fit."""
    under = fits.genes_under_population[2]
    model = fits.model("c")
    total = np.zeros_like(fits.usage("c", errors=False)[0])
    weights = under.place_weights
    spec, counts, _ = model._inputs()
    own = spec.of_gene(counts[0])
    for r, t in np.ndindex(weights.shape):
        log_sigma, logit, B, _ = under.place(r, t)
        params = own.documented(B) | {
            "sigma": np.exp([log_sigma]),
            "theta_logit": np.clip([logit], -15.0, 15.0),
        }
        total += weights[r, t] * mean_ratios(spec, counts, [params])[0]
    assert np.abs(fits.usage("c", errors=False)[0] - total).max() < 0.03


def test_other_forms_are_one_call(fits):
    found = fits.population_sensitivity()
    assert found["form"].unique().tolist() == ["gaussian", "gaussian, no masses", "mixture"]
    first = found[found["form"] == "gaussian"].reset_index(drop=True)
    np.testing.assert_allclose(first["pop_sigma"], fits.table["pop_sigma"])
    assert (found.loc[found["form"] == "gaussian, no masses", "sv_lfdr"] < 1e-12).all()


def test_the_usage_in_anndata_is_moderated(fits):
    pytest.importorskip("anndata")
    found = fits.to_anndata(genes="c", progress=False)
    np.testing.assert_allclose(found.layers["usage"], fits.usage("c")[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "glm"}, "population needs the spatial model .* came model='glm'"),
        ({"share_variance": False, "coding": "reference"}, "came share_variance=False"),
        ({"population": "normal"}, "population must be one of"),
    ],
)
def test_what_has_no_population_is_refused(short, tissue, options, message):
    with pytest.raises(ValueError, match=message):
        fit_genes(short, progress=False, **({"population": True} | options))


def test_a_run_without_a_population_says_so(short):
    one = short.with_groups([short.groups[0].take(np.array([0]))])
    plain = fit_slide(one, replace(OPTIONS, population="none"), progress=False)
    assert not [name for name in plain.table if "pop_" in name]
    with pytest.raises(ValueError, match="ask fit_genes for population=True"):
        _ = plain.population


def test_heldout_spots_are_scored_by_both_ways(fits):
    found = fits.heldout_scores(k=3, genes=["a", "b"], progress=False).set_index("gene")
    assert found.loc["b", "reason"] == "fewer occupied spots than 3 folds"
    known = found.drop("b")
    assert (known[["fit", "population"]].to_numpy() < 0.0).all()
    np.testing.assert_allclose(known["gain"], known["population"] - known["fit"])
    again = fits.heldout_scores(k=3, genes=["a"], n_jobs=2, progress=False)
    assert again["fit"].tolist() == [found.loc["a", "fit"]]
    with pytest.raises(ValueError, match="there is no gene 'z'"):
        fits.heldout_scores(genes="z")
    with pytest.raises(ValueError, match="k must be 2 or more"):
        fits.heldout_scores(k=1)


def test_a_heldout_score_is_that_of_the_comparison_of_models():
    """With a fold for each spot both studies hold out the same."""
    tissue = simulate_tissue(n_spots=12, n_genes=1, n_isos=2, depth=6.0, design="none", seed=1)
    counts = tissue.counts.numpy()
    fits = fit_genes(
        counts, coords=tissue.coords, population=True, tests=False, progress=False, k=3
    )
    n = int((counts.sum(axis=2) > 0).sum())
    found = fits.heldout_scores(k=n, progress=False)
    one = heldout_log_lik(fits.model(0), "spots", k=n, models=["spatial"]).table["elpd"].iloc[0]
    assert found["fit"].iloc[0] == pytest.approx(one, rel=1e-6)
    assert abs(found["gain"].iloc[0]) < 0.2 * abs(one)


def test_figures_show_every_gene(fits):
    population, shrinkage = fits.population_figure(), fits.shrinkage()
    dots = sum(len(one.get_offsets()) for one in population.axes[0].collections[-2:])
    assert dots == len(fits.table)
    assert [ax.get_xlabel() for ax in shrinkage.axes] == [
        "sigma (logits), gene by gene",
        "theta (share), gene by gene",
    ]
    maps = fits.moderated_map("c", isoform=1)
    assert [ax.get_title() for ax in maps.axes if ax.get_title()] == [
        "gene by gene",
        "under the population",
    ] * 2


def test_the_population_is_a_prior_like_others(fits):
    """In a posterior and in a study of sensitivity; log sigma is what the density says."""
    model, priors = fits.model("a"), fits.population.priors
    posterior = model.posterior("laplace", draws=50, prior=priors)
    assert posterior.posterior.attrs["prior_sigma"].startswith("log_normal(median=")
    study = prior_sensitivity(model, {"population": priors, "weak": "half_normal"})
    rows = study.table.query("parameter == 'sigma'").set_index("prior")["estimate"]
    far = np.abs(np.log(rows / priors.sigma.median))
    assert far["population"] < far["weak"]
