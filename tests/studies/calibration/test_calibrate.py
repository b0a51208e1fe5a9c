"""Calibration studies: right posteriors pass, narrow, wide and biased ones are caught and named."""

import numpy as np
import pytest

from splisosm_pyro import MultinomGLM, MultinomGLMM, simulate_tissue
from splisosm_pyro.maths.priors import GammaPrior
from splisosm_pyro.posterior import PosteriorPriors
from splisosm_pyro.studies import calibrate
from splisosm_pyro.studies.calibration.uniformity import UniformityTest

PRIOR = PosteriorPriors(beta_sd=1.0, bias_sd=1.0, sigma=GammaPrior(2.0, 2.0))
DRAWS = 99


def glm():
    model = MultinomGLM()
    model.setup_data(np.tile([[2, 1]], (15, 1)))
    return model


def exact(counts, design, kernel, seed, stretch=1.0, shift=0.0):
    """The GLM's posterior of its intercept on a grid; changed about its mean on request."""
    grid = np.linspace(-8.0, 8.0, 4001)
    y, m = counts[:, 0].sum(), counts.sum()
    log_density = -0.5 * grid**2 + y * grid - m * np.logaddexp(0.0, grid)
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    draws = np.random.default_rng(seed).choice(grid, DRAWS, p=weight)
    mean = weight @ grid
    sd = np.sqrt(weight @ grid**2 - mean**2)
    bias = mean + stretch * (draws - mean) + shift * sd
    usage = 1.0 / (1.0 + np.exp(-bias))
    ratio = np.repeat(np.stack([usage, 1.0 - usage], -1)[:, None], len(counts), 1)
    return {"bias_eta": bias[:, None], "isoform_ratio": ratio}


def study_of(**change):
    def method(*given):
        return exact(*given, **change)

    return calibrate(glm(), method, n_sims=150, draws=DRAWS, seed=1, prior=PRIOR)


def test_a_right_posterior_passes():
    study = study_of()
    assert study.passed
    assert study.n_failed == 0
    assert study.table.index[0] == "bias_eta[0]"
    assert len(study.table) == 4  # the intercept and usage at three spots
    assert (study.table["coverage_90"] - 0.9).abs().max() < 4 * np.sqrt(0.09 / 150)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"stretch": 0.6}, "narrow"),
        ({"stretch": 1.7}, "wide"),
        ({"shift": 0.6}, "lies too high"),
        ({"shift": -0.6}, "lies too low"),
    ],
)
def test_a_wrong_posterior_is_caught_and_named(change, verdict):
    study = study_of(**change)
    assert not study.passed
    assert study.table["flagged"].all()
    assert study.table["verdict"].str.contains(verdict).all()


def test_the_study_keeps_its_budget():
    """Uniform ranks of ten quantities are flagged in one study of twenty at most, or nearly."""
    rng = np.random.default_rng(0)
    test = UniformityTest(100, 50)
    p_values = np.array([
        [test.p_value(rng.integers(0, 51, 100)) for _ in range(10)] for _ in range(400)
    ])  # fmt: skip
    share = (p_values.min(axis=1) < 0.05 / 10).mean()
    assert share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert 0.3 < np.median(p_values) < 0.7


def test_the_band_is_the_test():
    test, rng = UniformityTest(80, 200), np.random.default_rng(1)
    low, high = test.band(0.1)
    outside, small = [], []
    for _ in range(500):
        ranks = rng.integers(0, 201, 80)
        ecdf = test.ecdf(ranks)
        outside.append(bool(((ecdf < low) | (ecdf > high)).any()))
        small.append(test.p_value(ranks) < 0.1)
    assert np.mean(outside) < 0.1 + 3 * np.sqrt(0.09 / 500)
    assert np.mean(np.array(outside) == np.array(small)) > 0.97


def test_a_spatial_model_by_name():
    tissue = simulate_tissue(n_spots=40, n_genes=2, n_isos=2, n_layers=2, depth=4.0, seed=0)
    model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    model.setup_data(tissue.counts, corr_sp=tissue.kernel, design_mtx=tissue.design)
    study = calibrate(model, "laplace", n_sims=20, draws=49, prior=PRIOR, spots=[0, 5])
    assert set(study.table.index) == {
        "beta[covariate_0, 0]", "bias_eta[0]", "sigma[0]", "theta[0]",
        "isoform_ratio[0, 0]", "isoform_ratio[5, 0]",
    }  # fmt: skip
    assert study.method == "laplace"
    assert study.ranks.shape == (20, 6)
    assert study.ranks.to_numpy().min() >= 0
    assert study.ranks.to_numpy().max() <= 49
    assert (study.table["p_value"] > 1e-3).all()


def test_a_seed_is_a_seed():
    one, same, other = (
        calibrate(glm(), "laplace", n_sims=20, draws=19, prior=PRIOR, seed=seed)
        for seed in (0, 0, 3)
    )
    assert one.ranks.equals(same.ranks)
    assert not other.ranks.equals(one.ranks)


def test_posteriors_that_break_are_counted():
    def method(counts, design, kernel, seed):
        if seed % 3 == 0:
            raise ValueError("no posterior today")
        return exact(counts, design, kernel, seed)

    study = calibrate(glm(), method, n_sims=60, draws=DRAWS, prior=PRIOR)
    assert study.n_failed == 20
    assert study.failures[0] == "failed: no posterior today"
    assert len(study.ranks) == 40
    with pytest.raises(ValueError, match="broke for every simulated gene"):
        calibrate(glm(), lambda *given: {"bias_eta": np.zeros((3, 1))}, draws=DRAWS, prior=PRIOR)


def test_plot():
    study = study_of(shift=0.6)
    figure = study.plot()
    assert len(figure.axes) == 4
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("scaled rank", "ECDF difference")
    assert len(study.plot(["bias_eta[0]"]).axes) == len(study.plot("bias_eta[0]").axes) == 1
    with pytest.raises(ValueError, match="quantities must be among"):
        study.plot(["gamma"])


def test_bad_arguments():
    for change, message in [
        ({"n_sims": 5}, "n_sims must be 20 or more, came 5"),
        ({"alpha": 1.5}, "alpha must lie between 0 and 1"),
        ({"method": "hmc"}, "method must be"),
        ({"spots": [99]}, "spots must be from 0 to 14"),
    ]:
        with pytest.raises(ValueError, match=message):
            calibrate(glm(), **change)
    with pytest.raises(TypeError, match="prior must be a PosteriorPriors"):
        calibrate(glm(), prior="flat")
