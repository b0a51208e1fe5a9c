"""Replicated counts and what is asked of them: totals kept, truths passed, wrong models caught."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from splisosm_pyro import DenseKernel, MultinomGLM, MultinomGLMM, simulate_tissue
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.priors import GammaPrior
from splisosm_pyro.posterior import PosteriorPriors, read_posterior
from splisosm_pyro.posterior.arviz import predictive_groups
from splisosm_pyro.posterior.arviz.predictive_groups import predictive_counts
from splisosm_pyro.studies import predictive_check
from splisosm_pyro.studies.prediction.statistics import moran_i, overdispersion, share_empty

PRIOR = PosteriorPriors(beta_sd=1.0, bias_sd=1.0, sigma=GammaPrior(2.0, 2.0))


@pytest.fixture(scope="module")
def tissue():
    """A gene with a strong field, one without, one without counts."""
    made = simulate_tissue(
        n_spots=150, n_genes=3, n_isos=2, depth=6.0, sigma=[2.0, 0.0, 1.0], theta=0.95,
        bias_eta=0.0, design="none", seed=4,
    )  # fmt: skip
    made.counts[2] = 0
    return made


def spatial(tissue, kernel=None):
    model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    model.setup_data(tissue.counts, corr_sp=tissue.kernel if kernel is None else kernel)
    return model


def test_moran_by_the_book():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(rng.poisson(2.0, 12), [0.3, 0.5, 0.2])
    upper = np.triu(rng.uniform(size=(12, 12)) < 0.3, 1)
    graph = (upper + upper.T).astype(float)
    m, pooled = counts.sum(1), counts.sum(0) / counts.sum()
    above = below = weight = 0.0
    for i in range(12):
        for j in range(12):
            if m[i] and m[j]:
                zi = (counts[i] - m[i] * pooled) / np.sqrt(m[i])
                zj = (counts[j] - m[j] * pooled) / np.sqrt(m[j])
                above += graph[i, j] * zi @ zj
                weight += graph[i, j]
                below += zi @ zi if i == j else 0.0
    truth = (m > 0).sum() / weight * above / below
    assert moran_i(csr_array(graph))(counts[None])[0] == pytest.approx(truth, abs=1e-12)


def test_other_statistics_by_the_book():
    counts = np.array([[[3, 1], [0, 2], [0, 0], [1, 0]]])
    pooled = np.array([4, 3]) / 7
    chi = sum(
        ((y - y.sum() * pooled) ** 2 / (y.sum() * pooled)).sum() for y in counts[0, [0, 1, 3]]
    )
    assert overdispersion(counts)[0] == pytest.approx(chi / 2)
    assert share_empty(counts)[0] == pytest.approx(2 / 6)
    nothing, alone = np.zeros((1, 4, 2)), np.array([[[3, 0], [0, 0]]])
    for statistic in (overdispersion, share_empty, moran_i(csr_array(np.ones((4, 4))))):
        assert statistic(nothing)[0] == 0.0
    assert overdispersion(alone)[0] == 0.0


def test_replicates_keep_totals_and_ratios():
    rng = np.random.default_rng(0)
    eta = np.broadcast_to(np.array([0.5, -1.0])[None, :, None], (4, 2, 4000))
    totals = np.array([7.0, 0.0, 1.0, 3.0])
    drawn = predictive_counts(eta, totals, rng)
    assert (drawn.sum(2) == totals).all()
    ratio = np.exp([0.5, -1.0, 0.0])
    ratio /= ratio.sum()
    error = np.sqrt(ratio * (1 - ratio) / (4000 * 7))
    assert (np.abs(drawn[:, 0].mean(0) / 7 - ratio) < 4 * error).all()
    with pytest.raises(ValueError, match="whole numbers"):
        predictive_counts(eta, totals + 0.5, rng)


def test_a_constant_usage_is_refuted_where_there_is_a_field(tissue):
    glm = MultinomGLM()
    glm.setup_data(tissue.counts)
    check = predictive_check(glm, graph=tissue.kernel.adjacency)
    assert (check.table.loc[0].loc[["moran_i", "overdispersion"], "p_value"] < 0.02).all()
    assert (check.table.loc[1, "p_value"] > 0.02).all()
    assert check.table.loc[2, "status"].eq("no counts").all()
    assert check.replicates.shape == (3, 3, 200)


def test_the_spatial_model_passes(tissue):
    check = predictive_check(spatial(tissue), genes=[0], draws=100)
    assert list(check.table.loc[0].index) == ["moran_i", "overdispersion", "share_empty"]
    assert (check.table["p_value"] > 0.02).all()
    again = predictive_check(spatial(tissue), genes=[0], draws=100)
    np.testing.assert_array_equal(again.replicates, check.replicates)


def test_the_prior_is_wider_than_the_posterior(tissue):
    model = spatial(tissue)
    how = {"genes": [0], "draws": 100, "prior": PRIOR}
    before = predictive_check(model, "prior", **how).table["sd"]
    after = predictive_check(model, "posterior", **how).table["sd"]
    assert (before > 1.5 * after).all()


def test_own_statistics_and_a_kernel_without_graph(tissue):
    model = spatial(tissue, DenseKernel(tissue.kernel.dense()))
    own = {"reads_of_first": lambda counts: counts[:, :, 0].sum(1).astype(float)}
    check = predictive_check(model, genes=[0], draws=40, statistics=own)
    assert list(check.table.index) == [(0, "reads_of_first")]
    assert check.table["observed"].iloc[0] == tissue.counts[0, :, 0].sum()
    names = predictive_check(model, genes=[1], draws=20).table.loc[1].index
    assert list(names) == ["overdispersion", "share_empty"]


def test_a_gene_that_breaks_is_a_row(tissue):
    model = MultinomGLM()
    with pytest.warns(SplisosmWarning, match="fractional"):
        model.setup_data(tissue.counts.double() + 0.5 * (tissue.counts > 0))
    table = predictive_check(model, genes=[0]).table
    assert table["status"].str.startswith("failed: counts must be whole").all()
    assert np.isinf(table["sd"]).all()
    assert (table["p_value"] == 1.0).all()


def test_figure(tissue):
    glm = MultinomGLM()
    glm.setup_data(tissue.counts)
    graph, names = tissue.kernel.adjacency, {"gene": list("abc")}
    check = predictive_check(glm, graph=graph, draws=50, names=names)
    figure = check.plot(["a", "b"])
    assert len(figure.axes) == 6
    assert figure.axes[0].get_xlabel() == "moran_i"
    assert len(check.plot("c").axes) == 3
    with pytest.raises(ValueError, match="genes must be among"):
        check.plot(["z"])
    with pytest.raises(ValueError, match=r"names\['gene'\] must have 3 entries, came 1"):
        predictive_check(glm, graph=graph, draws=50, names={"gene": "abc"})


def test_bad_arguments(tissue):
    model = spatial(tissue)
    with pytest.raises(ValueError, match="kind must be"):
        predictive_check(model, "future")
    with pytest.raises(ValueError, match="graph must have shape"):
        predictive_check(model, graph=np.eye(3))
    with pytest.raises(TypeError, match="predictive must be"):
        model.posterior("laplace", draws=5, predictive="yes")


def test_groups_of_a_posterior(tissue, tmp_path, monkeypatch):
    model = spatial(tissue)
    how = {"draws": 30, "chains": 2, "genes": [0, 2], "prior": PRIOR}
    plain = model.posterior("laplace", **how)
    full = model.posterior("laplace", predictive=True, **how)
    for name in ("beta", "sigma", "eta"):
        np.testing.assert_array_equal(plain["posterior"][name], full["posterior"][name])
    totals = full["constant_data"]["total"]
    for group in ("posterior_predictive", "prior_predictive"):
        counts = full[group]["counts"]
        assert counts.dims == ("chain", "draw", "gene", "spot", "isoform")
        assert (counts.sum("isoform") == totals).all()
    assert set(full["prior"].data_vars) == {"beta", "bias_eta", "sigma", "theta", "theta_logit"}
    sigma = full["prior"]["sigma"].values
    assert abs(sigma.mean() - 1.0) < 4 * sigma.std() / np.sqrt(sigma.size)  # Gamma(2, rate 2)
    usage = full["posterior"]["isoform_ratio"].sel(gene=0)
    drawn = full["posterior_predictive"]["counts"].sel(gene=0)
    gap = (drawn - usage * totals.sel(gene=0)).sum("spot").values
    assert np.abs(gap.mean()) < 1e-9
    assert abs(gap[..., 0].mean()) < 4 * gap[..., 0].std() / np.sqrt(60)
    full.to_netcdf(str(tmp_path / "p.nc"))
    assert read_posterior(tmp_path / "p.nc")["prior_predictive"]["counts"].shape[:2] == (2, 30)
    monkeypatch.setattr(predictive_groups, "FIELD_BUDGET", 2 * 4 * 2 * 2 * 150 * 2 * 8)
    few = model.posterior("laplace", predictive=True, **how)
    assert few["prior"].draw.values.tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    np.testing.assert_array_equal(
        few["posterior_predictive"]["counts"].sum("isoform").isel(chain=0, draw=0), totals
    )
