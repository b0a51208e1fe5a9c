"""The Gaussian at the mode as a Pyro guide: its moments, its density, its use."""

import cases
import numpy as np
import pytest
import torch
from problems import FORMS, kernel_of, objective_of
from pyro import poutine
from pyro.infer import Predictive

from splisosm_pyro.fit.glmm.uncertainty import field_posterior
from splisosm_pyro.generative import multinomial_glm, multinomial_glmm
from splisosm_pyro.guides import laplace_guide
from splisosm_pyro.maths.priors import GammaPrior
from splisosm_pyro.model import MultinomGLM, MultinomGLMM, gaussian_fits
from splisosm_pyro.posterior.draws.gaussian_guide import nu_covariance

BATCH = cases.CASES["batch"]


@pytest.fixture(scope="module")
def fits():
    model = MultinomGLMM(share_variance=False, var_fix_sigma=False)
    model.setup_data(BATCH.counts, BATCH.V, BATCH.design)
    return gaussian_fits(model, [0, 3], nugget="laplace")


@pytest.mark.parametrize("form", FORMS)
def test_the_dense_covariance_has_the_blocks_of_the_field(form):
    case = cases.CASES["empty_spots"]
    objective, u = objective_of(case, kernel_of(case.name, form))
    at = objective.evaluate(u)
    design = np.column_stack([case.design, np.ones(len(case.design))])
    blocks = field_posterior(objective, at, design).covariance
    _, state = objective.value(u, at)
    whole = nu_covariance(objective.problem, state)
    np.testing.assert_allclose(whole, whole.T, atol=1e-10)
    for s, block in enumerate(blocks):
        np.testing.assert_allclose(whole[2 * s : 2 * s + 2, 2 * s : 2 * s + 2], block, atol=1e-9)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("parallel", [False, True])
def test_the_guide_predicts(fits, parallel):
    predict = Predictive(
        multinomial_glmm, guide=laplace_guide(fits), num_samples=50, parallel=parallel,
        return_sites=("eta", "sigma", "counts"),
    )  # fmt: skip
    out = predict(
        None, BATCH.design, kernel_of("batch", "dense"), prior=GammaPrior(), share_variance=False,
        totals=torch.as_tensor(BATCH.counts[[0, 3]].sum(-1)), n_isos=3,
    )  # fmt: skip
    counts = out["counts"].reshape(50, 2, 11, 3)
    np.testing.assert_array_equal(counts.sum(-1)[7], BATCH.counts[[0, 3]].sum(-1))
    assert torch.isfinite(out["eta"]).all()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("site", ["sigma", "sigma_sq"])
def test_its_density_is_that_of_the_constrained_sites(fits, site):
    """The Gaussians of (u, nu), and every change of variable by torch's own transforms."""
    trace = poutine.trace(laplace_guide(fits, site)).get_trace()
    trace.compute_log_prob()
    names = ("_outer", "_field", "beta", "bias_eta", site, "theta", "nu")
    found = sum(trace.nodes[name]["log_prob"] for name in names)
    sites = {name: trace.nodes[name]["value"] for name in ("beta", "bias_eta", site, "theta", "nu")}
    for g, fit in enumerate(fits):
        scale, theta = sites[site][g], sites["theta"][g]
        log_sigma = scale.log() if site == "sigma" else 0.5 * scale.log()
        B = torch.cat([sites["beta"][g], sites["bias_eta"][g][None]]).ravel()
        u = torch.cat([log_sigma, torch.logit(theta), B])
        normal = torch.distributions.MultivariateNormal
        truth = normal(fit.mean, scale_tril=fit.root).log_prob(u)
        mean = fit.nu + fit.response @ (u - fit.mean)
        truth += normal(mean.ravel(), scale_tril=fit.nu_root).log_prob(sites["nu"][g].ravel())
        slope = 1.0 if site == "sigma" else 0.5
        truth += (slope / scale).log().sum() - (theta * (1 - theta)).log().sum()
        assert found[g].item() == pytest.approx(truth.item(), rel=1e-6)


@pytest.mark.usefixtures("seeded")
def test_its_draws_are_those_of_the_posterior(fits):
    model = MultinomGLMM(share_variance=False, var_fix_sigma=False)
    model.setup_data(BATCH.counts, BATCH.V, BATCH.design)
    posterior = model.posterior("laplace", draws=4000, genes=[0, 3], nugget="laplace")["posterior"]
    predict = Predictive(laplace_guide(fits), {}, num_samples=8000, parallel=True)
    nu = predict()["nu"].reshape(8000, 2, 11, 2).numpy()
    fixed = np.einsum("sf,cdgfq->cdgsq", BATCH.design, posterior["beta"].values)
    truth = posterior["eta"].values - fixed - posterior["bias_eta"].values[:, :, :, None]
    truth = truth.reshape(-1, 2, 11, 2)
    sd = truth.std(0)
    assert np.abs((nu.mean(0) - truth.mean(0)) / sd).max() < 0.1
    assert np.abs(nu.std(0) / sd - 1).max() < 0.06


@pytest.mark.usefixtures("seeded")
def test_a_glm_as_a_guide():
    case = cases.CASES["covariates"]
    model = MultinomGLM()
    model.setup_data(case.counts, case.design)
    guide = laplace_guide(gaussian_fits(model))
    predict = Predictive(multinomial_glm, guide=guide, num_samples=3, return_sites=("eta",))
    assert predict(torch.as_tensor(case.counts), case.design)["eta"].shape[-3:] == (1, 17, 2)
    with pytest.raises(ValueError, match="fits must have one size"):
        laplace_guide([])
