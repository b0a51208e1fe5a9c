"""Leave-one-out densities against brute force: refits of the field, of everything, of the GLM."""

import arviz
import numpy as np
import pytest
from scipy.special import gammaln, logsumexp

from splisosm_pyro import MultinomGLM, MultinomGLMM, simulate_tissue
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_error import Conditional
from splisosm_pyro.fit.glmm.without_space import fit_white_noise, without_space
from splisosm_pyro.fit.marginal.cavity import Cavity
from splisosm_pyro.maths.spot.gaussian import log_counts_density
from splisosm_pyro.model import loo_of as checks
from splisosm_pyro.posterior.loo.gene import glm_loo, glmm_loo


def multinomial(counts, eta):
    """Log multinomial (N,) at logits (N, Q), by the book."""
    full = np.pad(eta, ((0, 0), (0, 1)))
    log_ratio = full - logsumexp(full, axis=1, keepdims=True)
    coefficient = gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    return coefficient + (counts * log_ratio).sum(axis=1)


def test_cavity_of_a_gaussian_model_is_the_posterior_without_the_observation():
    rng = np.random.default_rng(1)
    prior = np.cov(rng.normal(size=(6, 40)))
    precision, y = rng.uniform(0.5, 2.0, 6), rng.normal(size=6)

    def posterior(noise):
        cov = np.linalg.inv(np.linalg.inv(prior) + np.diag(noise))
        return cov @ (noise * y), cov

    mean, cov = posterior(precision)
    cavity = Cavity.of(
        mean[:, None],
        cov.diagonal()[:, None, None],
        (precision * (y - mean))[:, None],
        precision[:, None, None],
    )
    for s in range(6):
        rest_mean, rest_cov = posterior(np.where(np.arange(6) == s, 0.0, precision))
        assert cavity.mean[s, 0] == pytest.approx(rest_mean[s], abs=1e-12)
        assert cavity.cov[s, 0, 0] == pytest.approx(rest_cov[s, s], abs=1e-12)


def small(n_isos, nugget, seed=3, smooth="laplace"):
    """A gene of 36 spots, half of them sparse, fitted; spec, counts and parameters."""
    tissue = simulate_tissue(
        n_spots=36, n_genes=1, n_isos=n_isos, depth=3.0, sigma=1.5, theta=0.8, design="none",
        bias_eta=0.0, seed=seed,
    )  # fmt: skip
    model = MultinomGLMM(
        var_fix_sigma=False,
        var_prior_model="gamma",
        var_prior_model_params={"alpha": 2.0, "beta": 1.0},
        fitting_method="marginal_newton",
        fitting_configs={"nugget": nugget, "smooth": smooth},
    )
    model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    model.fit(quiet=True)
    spec = model.as_arrays().spec
    return spec, model.data.counts.values.numpy()[0], model


def without(counts, spot):
    rest = counts.copy()
    rest[spot] = 0.0
    return rest


def predicted(spec, counts, params, spot):
    """The density of a spot's counts given the others, at these outer parameters."""
    at = Conditional.of_gene(spec, without(counts, spot), params)
    mean, cov = at.predictor(spec.design.with_intercept)
    return log_counts_density(counts[[spot]], mean[[spot]], cov[[spot]])[0]


@pytest.mark.parametrize(
    ("n_isos", "nugget", "smooth"),
    [
        (2, "quadrature", "laplace"),
        (2, "laplace", "laplace"),
        (3, "laplace", "laplace"),
        (2, "quadrature", "ep"),
    ],
)
def test_cavities_equal_refits_of_the_field(n_isos, nugget, smooth):
    spec, counts, model = small(n_isos, nugget, smooth=smooth)
    params = model.as_arrays().params_of(0)
    params["theta_logit"][:] = 1.5  # a field worth the name
    found = glmm_loo(spec, counts, params, outer="plug_in")
    truth = np.array([predicted(spec, counts, params, s) for s in found.spots])
    assert found.leverage.max() > 0.2
    assert np.abs(found.pointwise - truth).max() < (0.01 if n_isos == 2 else 0.02)
    assert np.abs(found.in_sample - truth).max() > 0.1  # what there is to correct


@pytest.mark.parametrize("white", [False, True])
def test_outer_parameters_move_as_a_refit_moves_them(white):
    spec, counts, model = small(2, "quadrature", seed=5)
    params = model.as_arrays().params_of(0)
    if white:
        params = fit_white_noise(spec, counts, params).params
        spec = without_space(spec)
    spots = np.flatnonzero(counts.sum(1))
    truth = []
    for spot in spots:
        fit = fit_gene(spec, without(counts, spot), params, warm=True)
        truth.append(predicted(spec, counts, fit.params, spot))
    truth = np.array(truth)
    miss = {
        outer: np.abs(glmm_loo(spec, counts, params, outer=outer).pointwise - truth)
        for outer in ("plug_in", "one_step", "refit")
    }
    assert miss["one_step"].sum() < 0.35 * miss["plug_in"].sum()
    assert miss["refit"].max() < 0.05
    assert miss["refit"].sum() <= miss["one_step"].sum()


def test_glm_equals_refits():
    tissue = simulate_tissue(n_spots=60, n_genes=1, n_isos=3, n_layers=2, depth=3.0, seed=2)
    counts, design = tissue.counts.numpy()[0].astype(float), tissue.design.numpy()
    found = glm_loo(counts, StandardDesign.of(design))
    full = np.column_stack([design, np.ones(60)])
    truth, plugged = [], []
    for spot in found.spots:
        eta = full @ fit_glm(without(counts, spot), design).B
        truth.append(multinomial(counts[spot], eta[[spot]])[0])
        plugged.append(multinomial(counts[spot], (full @ fit_glm(counts, design).B)[[spot]])[0])
    miss = np.abs(found.pointwise - np.array(truth))
    assert miss.max() < 0.02
    assert miss.sum() < 0.05 * np.abs(np.array(plugged) - truth).sum()
    np.testing.assert_allclose(found.in_sample, plugged, atol=1e-8)


def test_glm_refits_spots_that_decide_alone():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(4, [0.4, 0.6], size=30).astype(float)
    counts[7] = [30.0, 10.0]
    design = np.zeros((30, 1))
    design[7] = 1.0  # a covariate of one spot
    standard = StandardDesign.of(design)
    loose = glm_loo(counts, standard)
    found = glm_loo(counts, standard, outer="refit")
    assert loose.leverage[7] > 0.99
    assert "leverage above 0.7 at 1 of 30 spots" in loose.reason
    assert found.reason == ""
    pooled = without(counts, 7).sum(0)
    truth = multinomial(counts[7], np.log(pooled[:1] / pooled[1:])[None])[0]
    assert found.pointwise[7] == pytest.approx(truth, abs=1e-6)
    np.testing.assert_array_equal(np.delete(found.pointwise, 7), np.delete(loose.pointwise, 7))


def fitted_models():
    """GLM and GLMM of two genes with counts and one without."""
    tissue = simulate_tissue(n_spots=40, n_genes=3, n_isos=2, depth=3.0, n_layers=2, seed=0)
    counts = tissue.counts.clone()
    counts[1] = 0
    glm, glmm = MultinomGLM(), MultinomGLMM(fitting_method="marginal_newton")
    glm.setup_data(counts, design_mtx=tissue.design)
    glmm.setup_data(counts, corr_sp=tissue.kernel, design_mtx=tissue.design)
    for model in (glm, glmm):
        model.fit(quiet=True)
    return glm, glmm


def test_arviz_compares_models():
    glm, glmm = fitted_models()
    both = {"glm": glm.loo()[0], "spatial": glmm.loo()[0]}
    ranked = arviz.compare(both)
    assert set(ranked.index) == {"glm", "spatial"}
    elpd, p = ("elpd_loo", "p_loo") if "elpd_loo" in ranked else ("elpd", "p")  # of ArviZ 0, 1
    for name, model in (("glm", glm), ("spatial", glmm)):
        row = model.loo().table.loc[0]
        assert both[name][elpd] == pytest.approx(row["elpd_loo"])
        assert both[name][p] == pytest.approx(row["p_loo"])
    assert "observations" in str(both["glm"])


def test_a_gene_without_counts_and_names():
    glm, glmm = fitted_models()
    names = {"gene": ["a", "b", "c"], "spot": [f"s{i}" for i in range(40)]}
    for model in (glm, glmm):
        loo = model.loo(names=names)
        assert loo.table.loc["b", "status"] == "no counts"
        assert loo.table.loc["b", "elpd_loo"] == 0.0
        of_spots = "loo_i" if arviz.__version__.startswith("0.") else "elpd_i"
        spots = loo["a"][of_spots].coords["spot"].values
        assert list(spots) == [f"s{i}" for i in np.flatnonzero(model.data.counts.values[0].sum(1))]
        alone = model.loo(genes=[2], names=names)
        assert alone.table.loc["c"].equals(loo.table.loc["c"])
        with pytest.raises(KeyError, match="not among"):
            alone["a"]


def test_a_gene_that_breaks_is_a_status(monkeypatch):
    _, glmm = fitted_models()
    first, whole = glmm.data.counts.values.numpy()[0], checks.glmm_loo

    def breaking(spec, counts, *rest, **more):
        if (counts == first).all():
            raise ArithmeticError("no mode")
        return whole(spec, counts, *rest, **more)

    monkeypatch.setattr(checks, "glmm_loo", breaking)
    loo = glmm.loo()
    assert loo.table.loc[0, "status"] == "failed: no mode"
    assert loo.table.loc[0, "elpd_loo"] == -np.inf
    assert loo.table.loc[2, "status"] in ("ok", "unreliable")


def test_parameters_away_from_the_maximum_are_not_trusted():
    _, glmm = fitted_models()
    glmm.bias_eta.data[0] += 0.5
    table = glmm.loo().table
    assert table.loc[0, "status"] == "unreliable"
    assert "from the maximum" in table.loc[0, "reason"]


def test_bad_arguments():
    glm, _ = fitted_models()
    with pytest.raises(ValueError, match="outer must be"):
        glm.loo(outer="conditional")
    with pytest.raises(ValueError, match="genes must be"):
        glm.loo(genes=[7])
    fresh = MultinomGLM()
    fresh.setup_data(np.ones((1, 3, 2)))
    with pytest.raises(ValueError, match="not fitted yet"):
        fresh.loo()
