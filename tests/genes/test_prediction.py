"""Usage at spots that were not fitted."""

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import CARKernel, MultinomGLMM, fit_genes, simulate_tissue
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.run.fit_genes import fit_slide


@pytest.fixture(scope="module")
def short(slide):
    return slide.with_groups([group.take(np.array([0])) for group in slide.groups])


@pytest.fixture(scope="module")
def fits(short):
    return fit_slide(short, RunOptions(tests=False, population="gaussian"), progress=False)


def new_spots(slide, n=3):
    coords = slide.coords[:n] + 0.4
    return coords, pd.DataFrame({"region": ["layer 1", "layer 2", "layer 1"][:n], "age": 6.0})


@pytest.mark.parametrize("moderated", [True, False])
@pytest.mark.parametrize("gene", ["a", "c"])
def test_new_spots_have_a_usage_and_an_error(short, fits, gene, moderated):
    """Its usage sums to one, its error is finite, and without errors it is the same."""
    coords, covariates = new_spots(short)
    usage, error = fits.predict(gene, coords, covariates, moderated=moderated)
    assert usage.shape == error.shape == (3, fits.counts(gene).shape[1])
    np.testing.assert_allclose(usage.sum(axis=1), 1.0, atol=1e-6)
    assert ((error > 0.0) & (error < 0.7)).all()
    quick, none = fits.predict(gene, coords, covariates, moderated=moderated, errors=False)
    np.testing.assert_allclose(quick, usage)
    assert np.isnan(none).all()


def test_prediction_is_that_of_a_model_with_empty_spots():
    tissue = simulate_tissue(n_spots=50, n_genes=1, n_isos=3, depth=4.0, design="none", seed=5)
    counts, n_old = tissue.counts.numpy()[:, :44], 44
    model = MultinomGLMM(fitting_method="marginal_newton", var_prior_model="half_normal")
    model.setup_data(counts, corr_sp=CARKernel.from_coords(tissue.coords[:n_old]))
    model.fit(quiet=True)
    usage, error = model.predict(coords=tissue.coords[n_old:])

    wide = MultinomGLMM(fitting_method="marginal_newton", var_prior_model="half_normal")
    empty = np.concatenate([counts, np.zeros((1, 6, 3))], axis=1)
    wide.setup_data(empty, corr_sp=CARKernel.from_coords(tissue.coords))
    for name in ("beta", "bias_eta", "sigma", "theta_logit"):
        getattr(wide, name).data = getattr(model, name).data.clone()
    expected = wide.get_isoform_ratio("posterior_mean")[0, n_old:].numpy()
    np.testing.assert_allclose(usage[0], expected, atol=1e-9)
    same, _ = model.predict(corr_sp=CARKernel.from_coords(tissue.coords), errors=False)
    np.testing.assert_allclose(same, usage)
    assert (error > 0.0).all()


def test_predictions_are_better_than_the_mean():
    tissue = simulate_tissue(
        n_spots=150, n_genes=1, n_isos=2, depth=25.0, sigma=1.5, theta=0.95, design="none", seed=4
    )
    held = np.arange(150) % 5 == 0
    counts = tissue.counts.numpy()
    fits = fit_genes(
        counts[:, ~held],
        coords=tissue.coords[~held],
        progress=False,
        tests=False,
        sensitivity=False,
    )
    usage, error = fits.predict(0, tissue.coords[held])
    seen = counts[0][held]
    share = seen / seen.sum(axis=1, keepdims=True)
    by_mean = counts[0][~held].sum(axis=0) / counts[0][~held].sum()
    assert np.nanmean((share - usage) ** 2) < 0.93 * np.nanmean((share - by_mean) ** 2)
    z = (share - usage)[:, 0] / np.sqrt(error[:, 0] ** 2 + 0.25 / seen.sum(axis=1))
    assert np.nanmean(z**2) < 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords": np.zeros((3, 5))}, r"coords must be finite and of shape \(M, 2\)"),
        ({"covariates": None}, "covariates must give region, age at 3 new spots, came none"),
        (
            {"covariates": pd.DataFrame({"region": ["layer 9"] * 3, "age": 6.0})},
            "'region' has the levels .* came 'layer 9'",
        ),
        ({"covariates": pd.DataFrame({"region": ["layer 1"] * 3, "age": np.nan})}, "came NaN"),
        ({"library": ["x"] * 3}, "this run has one slide"),
    ],
)
def test_bad_places_are_told(short, fits, change, message):
    coords, covariates = new_spots(short)
    with pytest.raises(ValueError, match=message):
        fits.predict("a", **({"coords": coords, "covariates": covariates} | change))
