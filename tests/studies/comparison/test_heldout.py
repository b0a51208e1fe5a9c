"""Held-out densities: what is held out is not seen, predicted as it should be, tells models."""

import arviz
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.special import gammaln, logsumexp

from splisosm_pyro import CARKernel, DenseKernel, MultinomGLM, MultinomGLMM, simulate_tissue
from splisosm_pyro.fit.glmm.marginal_error import gene_generator
from splisosm_pyro.studies import compare_loo, heldout_log_lik
from splisosm_pyro.studies.comparison.candidates import Candidates
from splisosm_pyro.studies.comparison.folds import block_folds, read_folds, spot_folds


@pytest.fixture(scope="module")
def tissue():
    """Four genes: two with space, one without any effect, one without counts."""
    made = simulate_tissue(
        n_spots=240, n_genes=4, n_isos=2, depth=12.0, sigma=[2.0, 2.0, 0.0, 1.0],
        theta=[0.95, 0.95, 0.5, 0.5], bias_eta=0.0, design="none", seed=4,
    )  # fmt: skip
    made.counts[3] = 0
    return made


def model_of(counts, kernel, design=None, nugget="quadrature"):
    model = MultinomGLMM(
        var_fix_sigma=False,
        var_prior_model="gamma",
        fitting_method="marginal_newton",
        fitting_configs={"nugget": nugget},
    )
    model.setup_data(counts, corr_sp=kernel, design_mtx=design)
    return model


@pytest.mark.parametrize("scheme", ["spots", "blocks", "reads"])
def test_space_is_found_where_it_is(tissue, scheme):
    scores = heldout_log_lik(model_of(tissue.counts, tissue.kernel), scheme, k=3)
    gain = scores.differences("white").xs("spatial", level="model")
    assert (gain.loc[[0, 1], "diff"] > (2 * gain.loc[[0, 1], "se"]).clip(upper=8.0)).all()
    assert abs(gain.loc[2, "diff"]) < 3.0
    assert scores.table.loc[(3, "glm"), "status"] == "no counts"
    assert (scores.table.loc[3, "elpd"] == 0.0).all()
    totals = tissue.counts.sum(2)
    assert scores.table.loc[(0, "glm"), "n_reads"] == totals[0].sum()
    assert scores.table.loc[(0, "glm"), "n_spots"] == (totals[0] > 0).sum()
    assert np.isfinite(scores.table["elpd"]).all()


def test_leave_one_out_says_the_same(tissue):
    scores = compare_loo(model_of(tissue.counts, tissue.kernel))
    gain = scores.differences("glm").xs("spatial", level="model")
    assert (gain.loc[[0, 1], "diff"] > 3 * gain.loc[[0, 1], "se"]).all()
    assert abs(gain.loc[2, "diff"]) < 3.0
    ranked = arviz.compare(scores.elpd_data(0))
    assert ranked.index[0] == "spatial"
    elpd, p = ("elpd_loo", "p_loo") if "elpd_loo" in ranked else ("elpd", "p")  # of ArviZ 0, 1
    assert ranked.loc["spatial", p] > ranked.loc["white", p] > 0.5
    best = scores.elpd_data(0)["spatial"][elpd]
    assert best == pytest.approx(scores.table.loc[(0, "spatial"), "elpd"])


def test_the_glm_is_what_it_says(tissue):
    """One fold by hand: the other spots' pooled ratio, the multinomial at it."""
    counts = tissue.counts.numpy()[0].astype(float)
    scores = heldout_log_lik(model_of(tissue.counts[:1], tissue.kernel), k=4, models=["glm"])
    folds = spot_folds(counts.sum(1), 4, gene_generator(0, counts))
    rest = counts[(folds >= 0) & (folds != 2)].sum(0)
    log_ratio = np.log(rest / rest.sum())
    own = counts[folds == 2]
    truth = gammaln(own.sum(1) + 1) - gammaln(own + 1).sum(1) + own @ log_ratio
    np.testing.assert_allclose(scores.pointwise[0, 0, folds == 2], truth, atol=1e-6)


def test_held_out_spots_are_integrated_and_unseen(tissue):
    """The density of a held-out spot is the mean over many draws of the fold's Gaussian."""
    counts = tissue.counts.numpy()[1].astype(float)
    model = model_of(tissue.counts[1:2], tissue.kernel)
    scores = heldout_log_lik(model, k=3, models=["spatial"])
    folds = spot_folds(counts.sum(1), 3, gene_generator(0, counts))
    spot = np.flatnonzero(folds == 1)[np.argmax(counts[folds == 1].sum(1))]
    kept = counts * (folds != 1)[:, None]
    fit = Candidates.of_model(model.as_arrays()).predictor("spatial", 0, kept)
    eta = fit.mean[spot] + np.sqrt(fit.cov[spot, 0, 0]) * np.random.default_rng(0).normal(
        size=40000
    )
    y, m = counts[spot, 0], counts[spot].sum()
    terms = y * eta - m * np.logaddexp(0.0, eta) + gammaln(m + 1) - gammaln(counts[spot] + 1).sum()
    truth = logsumexp(terms) - np.log(eta.size)
    assert scores.pointwise[0, 0, spot] == pytest.approx(truth, abs=0.05)
    at_mean = y * fit.mean[spot, 0] - m * np.logaddexp(0.0, fit.mean[spot, 0])
    plugged = at_mean + gammaln(m + 1) - gammaln(counts[spot] + 1).sum()
    assert abs(plugged - truth) > 0.1


def test_reads_are_split_without_loss(tissue):
    counts = tissue.counts.numpy()[0].astype(float)
    out = read_folds(counts, 2, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(read_folds(counts, 3, np.random.default_rng(1)).sum(0), counts)
    assert 0.4 < out.sum() / counts.sum() < 0.6
    with pytest.raises(ValueError, match="whole numbers"):
        read_folds(counts + 0.5, 2, np.random.default_rng(0))


def test_reads_of_a_spot_are_predicted_from_its_other_reads(tissue):
    """By the chain rule at the cavity's logits, on a dense grid."""
    counts = tissue.counts.numpy()[1].astype(float)
    model = model_of(tissue.counts[1:2], tissue.kernel)
    scores = heldout_log_lik(model, "reads", k=2, models=["white"])
    spot, truth = int(np.argmax(counts.sum(1))), 0.0
    for out in read_folds(counts, 2, gene_generator(0, counts)):
        kept = counts - out
        fit = Candidates.of_model(model.as_arrays()).predictor("white", 0, kept)
        sd = np.sqrt(fit.cov[spot, 0, 0])
        eta = fit.mean[spot, 0] + sd * np.linspace(-9, 9, 20001)

        def log_lik(y, eta=eta):
            coefficient = gammaln(y.sum() + 1) - gammaln(y + 1).sum()
            return coefficient + y[0] * eta - y.sum() * np.logaddexp(0.0, eta)

        prior = -0.5 * ((eta - fit.mean[spot, 0]) / sd) ** 2
        posterior = prior + log_lik(kept[spot])
        truth += logsumexp(posterior + log_lik(out[spot])) - logsumexp(posterior)
    assert scores.pointwise[0, 0, spot] == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("with_coords", [False, True])
def test_blocks_hang_together(tissue, with_coords):
    coords = tissue.coords if with_coords else None
    folds = block_folds(tissue.kernel, coords, 240, 3, np.random.default_rng(0))
    sizes = np.bincount(folds)
    assert sizes.size == 3
    assert sizes.max() < 1.5 * sizes.min()
    graph = abs(tissue.kernel.precision) > 0
    parts = [graph.toarray()[np.ix_(folds == f, folds == f)] for f in range(3)]
    pieces = sum(connected_components(part)[0] for part in parts)
    assert pieces <= 12  # 4 blocks a fold at most; 240 spots at random would be in 40 or so
    again = block_folds(tissue.kernel, coords, 240, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(folds, again)


def test_blocks_reach_every_slide():
    adjacency = np.kron(np.eye(2), np.eye(10, k=1) + np.eye(10, k=-1))
    kernel = CARKernel.from_adjacency(adjacency, rho=0.9)
    folds = block_folds(kernel, None, 20, 2, np.random.default_rng(3))
    assert sorted(np.bincount(folds)) == [9, 11] or np.ptp(np.bincount(folds)) <= 4


def test_a_gene_knows_no_batch_and_a_seed_is_a_seed(tissue):
    model = model_of(tissue.counts, tissue.kernel)
    whole = heldout_log_lik(model, "reads", k=2, models=["glm", "white"])
    alone = heldout_log_lik(model, "reads", k=2, models=["glm", "white"], genes=[1], n_jobs=2)
    np.testing.assert_array_equal(alone.pointwise[0], whole.pointwise[1])
    other = heldout_log_lik(model, "reads", k=2, models=["glm"], genes=[1], seed=1)
    assert not np.array_equal(other.pointwise[0, 0], whole.pointwise[1, 0])


def test_a_gene_that_breaks_is_a_row(tissue):
    counts = tissue.counts.clone()
    counts[2] = 0
    counts[2, 7] = 5  # all counts at one spot: its fold leaves nothing
    scores = heldout_log_lik(model_of(counts, tissue.kernel), k=3, models=["glm", "white"])
    row = scores.table.loc[(2, "white")]
    assert row["status"] == "failed: a fold leaves no counts to fit"
    assert (row["elpd"], row["se"]) == (-np.inf, np.inf)
    assert scores.table.loc[(1, "white"), "status"] == "ok"
    assert scores.differences().loc[(2, "white")].tolist()[:2] == [0.0, np.inf]
    assert not scores.differences().isna().any().any()


def test_names_and_dataset(tissue):
    glm = MultinomGLM()
    glm.setup_data(tissue.counts)
    names = {"gene": list("abcd"), "spot": [f"s{i}" for i in range(240)]}
    scores = heldout_log_lik(glm, "blocks", k=2, coords=tissue.coords, names=names)
    assert scores.models == ("glm",)
    dataset = scores.to_dataset()
    total = float(dataset["log_density"].sel(gene="b", model="glm").sum())
    assert total == pytest.approx(scores.table.loc[("b", "glm"), "elpd"])
    assert dataset.attrs == {"scheme": "blocks", "k": 2, "seed": 0}


def test_three_isoforms_with_covariates():
    made = simulate_tissue(
        n_spots=120, n_genes=1, n_isos=3, n_layers=2, depth=3.0, sigma=1.5, theta=0.95, seed=1
    )
    model = model_of(made.counts, made.kernel, made.design, nugget="laplace")
    scores = heldout_log_lik(model, k=2)
    table = scores.table.loc[0]
    assert table["status"].eq("ok").all()
    assert table.loc["spatial", "elpd"] > table.loc["glm", "elpd"] + 5.0


def test_bad_arguments(tissue):
    model = model_of(tissue.counts, DenseKernel(tissue.kernel.dense()))
    with pytest.raises(ValueError, match="scheme must be"):
        heldout_log_lik(model, "genes")
    with pytest.raises(ValueError, match="k must be 2 or more, came 1"):
        heldout_log_lik(model, k=1)
    with pytest.raises(ValueError, match="models must be different ones of"):
        heldout_log_lik(model, models=["gp"])
    with pytest.raises(ValueError, match="coords must be given"):
        heldout_log_lik(model, "blocks")
    with pytest.raises(ValueError, match="coords must be finite and have shape"):
        heldout_log_lik(model, "blocks", coords=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="reference must be one of"):
        heldout_log_lik(model, genes=[3], models=["glm"]).differences("white")
