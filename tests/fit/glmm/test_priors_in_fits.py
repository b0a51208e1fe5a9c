"""Priors of theta, beta and bias_eta in fits, in the programs and in posteriors."""

from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from kernels import KERNELS, eta_of, tensor
from problems import central, objective_of
from pyro import poutine

from splisosm_pyro import ModelPriors, MultinomGLMM
from splisosm_pyro.generative import multinomial_glmm
from splisosm_pyro.maths.density.joint import log_joint
from splisosm_pyro.maths.priors import (
    BetaPrior,
    HalfTPrior,
    NormalPrior,
    PCTheta,
    PCUsagePrior,
    PyroPrior,
    StudentTPrior,
    UniformTheta,
)
from splisosm_pyro.posterior import PosteriorPriors

pytestmark = pytest.mark.filterwarnings("ignore:counts holds fractional numbers")
INFORMED = ModelPriors(
    PyroPrior(dist.LogNormal(0.0, 0.5)), BetaPrior(2.0, 3.0), NormalPrior(0.7), StudentTPrior(3.0)
)
SCALES = [HalfTPrior(2.0, 0.8), PCUsagePrior(0.4, 0.1), PyroPrior(dist.LogNormal(0.0, 1.0))]


def ready(name, priors, method="marginal_newton", **arguments):
    case = CASES[name]
    arguments = {"var_fix_sigma": False, "share_variance": case.share_variance} | arguments
    model = MultinomGLMM(var_prior_model=priors, fitting_method=method, **arguments)
    model.setup_data(tensor(case.counts), corr_sp=tensor(case.V), design_mtx=tensor(case.design))
    return model


def in_place(model, case):
    """Put the model at the case's parameters."""
    logit = np.clip(np.log(case.theta / (1 - case.theta)), -4, 4)
    values = {"beta": case.beta, "bias_eta": case.bias_eta, "nu": case.nu, "sigma": case.sigma}
    model.update_params_from_dict({k: tensor(v) for k, v in values.items()})
    model.update_params_from_dict({"theta_logit": tensor(logit)})
    return model


@pytest.mark.parametrize("name", ["covariates", "five_isoforms"])
def test_the_gradient_of_the_marginal_holds_all_priors(name):
    case = CASES[name]
    kernel = KERNELS["dense"](case)
    plain, u = objective_of(case, kernel)
    objective = replace(plain, space=replace(plain.space, priors=INFORMED))
    at = objective.evaluate(u)
    B, variances = plain.space.unpack(u)
    added = INFORMED.sigma.value(variances.sigma).sum()
    added += INFORMED.theta.value(variances.theta).sum()
    added += INFORMED.beta.value(B[:-1]).sum() + INFORMED.bias.value(B[-1]).sum()
    assert at.value - plain.evaluate(u).value == pytest.approx(added, rel=1e-10)
    for i in range(u.size):
        slow = central(lambda v: objective.value(v, None)[0], u, i)
        assert at.gradient[i] == pytest.approx(slow, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", ["covariates", "five_isoforms"])
def test_forward_is_differentiable_in_all_priors(name):
    model = in_place(ready(name, INFORMED), CASES[name])
    model.forward().sum().backward()
    for parameter in (model.beta, model.bias_eta, model.sigma, model.theta_logit):
        flat, slopes = parameter.data.view(-1), parameter.grad.view(-1)
        for i in (0, flat.numel() - 1):
            ends = []
            for step in (1e-4, -2e-4):
                flat[i] += step
                ends.append(float(model.log_marginal().sum().detach()))
            flat[i] += 1e-4
            slow = (ends[0] - ends[1]) / 2e-4
            assert float(slopes[i]) == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_a_fit_with_priors_is_a_mode_of_the_objective_with_them():
    model = ready("covariates", INFORMED)
    model.fit(quiet=True)
    assert set(model.status) <= {"converged"}
    best = model.log_marginal().detach()
    for name in ("beta", "bias_eta", "sigma", "theta_logit"):
        for step in (0.05, -0.05):
            beside = model.clone()
            beside.update_params_from_dict({name: getattr(model, name) + step})
            assert bool((beside.log_marginal() < best).all())
    errors = model.standard_errors()
    assert all(bool(torch.isfinite(value).all()) for value in errors.values())


def test_a_strong_prior_of_beta_holds_it_and_a_flat_one_does_not():
    loose, tight = (
        ready("covariates", ModelPriors()),
        ready("covariates", ModelPriors(beta=NormalPrior(1e-3))),
    )
    for model in (loose, tight):
        model.fit(quiet=True)
    assert float(tight.beta.detach().abs().max()) < 1e-3 < float(loose.beta.detach().abs().max())


def test_a_prior_of_the_intercept_gives_an_isoform_without_reads_a_finite_estimate():
    flat = ready("empty_isoform", ModelPriors("half_normal"))
    held = ready(
        "empty_isoform", ModelPriors("half_normal", None, "normal", ("normal", {"scale": 2.0}))
    )
    for model in (flat, held):
        model.fit(quiet=True)
    assert float(flat.bias_eta.detach().abs().max()) >= 40.0
    assert any("isoform" in reason for reason in flat.diagnose()["reason"])
    assert float(held.bias_eta.detach().abs().max()) < 10.0
    assert bool(torch.isfinite(held.standard_errors()["bias_eta"]).all())
    assert not any("isoform" in reason for reason in held.diagnose()["reason"])


@pytest.mark.parametrize("prior", SCALES, ids=lambda p: p.name)
@pytest.mark.parametrize("theta", [UniformTheta(), BetaPrior(2.0, 2.0), PCTheta(0.5, 0.3)])
def test_trace_and_log_joint_agree_with_every_prior(prior, theta):
    case = CASES["covariates"]
    kernel = KERNELS["dense"](case)
    beta, bias = NormalPrior(1.5), StudentTPrior(3.0, 2.0)
    names = ("beta", "bias_eta", "theta", "nu", "sigma")
    values = {name: tensor(getattr(case, name)) for name in names}
    program = poutine.condition(multinomial_glmm, data=values)
    trace = poutine.trace(program).get_trace(
        tensor(case.counts), tensor(case.design), kernel,
        prior=prior, theta_prior=theta, share_variance=case.share_variance,
        beta_prior=beta.distribution(), bias_prior=bias.distribution(),
    )  # fmt: skip
    trace.compute_log_prob()
    names = ("beta", "bias_eta", "sigma", "theta", "nu", "counts")
    traced = sum(trace.nodes[name]["log_prob"] for name in names)
    P = case.shape[2]
    ours = log_joint(
        tensor(case.counts), eta_of(case), values["nu"], values["sigma"], values["theta"],
        kernel,
    )  # fmt: skip
    priors = ModelPriors(prior, theta, beta, bias)
    ours = ours + priors.for_gene(kernel, P).log_prob(
        *(values[name] for name in ("sigma", "theta", "beta", "bias_eta"))
    )
    np.testing.assert_allclose(traced.numpy(), ours.numpy(), rtol=1e-10)
    model = in_place(ready("covariates", priors), case)
    own = model.log_joint().detach().numpy()
    np.testing.assert_allclose(own, ours.numpy(), rtol=1e-9)


def test_the_joint_mode_with_a_prior_of_theta_is_inside_and_coefficients_are_refused():
    plain = ready("covariates", ModelPriors("inv_gamma"), "joint_newton")
    held = ready("covariates", ModelPriors("inv_gamma", BetaPrior(8.0, 8.0)), "joint_newton")
    for model in (plain, held):
        model.fit(quiet=True)
    assert float(plain.var_sp_prop().min()) > float(held.var_sp_prop().max())
    with pytest.raises(ValueError, match="need a marginal fitting_method, came 'joint_gd'"):
        ready("covariates", ModelPriors(beta="normal"), "joint_gd").fit(quiet=True)


@pytest.mark.parametrize("method", ["laplace", "nested_laplace"])
def test_posteriors_take_every_prior(method):
    model = ready("covariates", "half_normal")
    priors = PosteriorPriors(
        sigma=HalfTPrior(3.0, 1.0), theta=BetaPrior(30.0, 30.0), beta=StudentTPrior(3.0, 1.0)
    )
    drawn = model.posterior(method, draws=250, chains=2, prior=priors)
    theta = drawn.posterior["theta"].values
    assert abs(theta.mean() - 0.5) < 0.05
    assert theta.std() < 0.1
    own = drawn.log_prior["theta"].values
    expected = priors.theta.value(theta).sum(-1)
    np.testing.assert_allclose(own, expected, rtol=1e-9)
    assert drawn.posterior.attrs["prior_theta"] == "beta(a=30, b=30)"
    assert drawn.posterior.attrs["prior_beta"] == "student_t(df=3, scale=1, loc=0)"


def test_the_models_own_priors_are_those_of_its_posterior():
    model = ready("two_isoforms", ModelPriors("pc_usage", "pc", beta="normal"))
    attrs = model.posterior("laplace", draws=20, chains=1).posterior.attrs
    assert attrs["prior_sigma"].startswith("pc_usage(usage_range=0.5, prob=0.05")
    assert attrs["prior_theta"] == "pc(upper=0.5, prob=0.3)"


def test_a_gene_without_counts_draws_from_every_prior():
    model = MultinomGLMM(var_fix_sigma=False, var_prior_model="inv_gamma")
    model.setup_data(np.zeros((1, 6, 2)), corr_sp=np.eye(6) * 0.5 + 0.5)
    priors = PosteriorPriors(theta=BetaPrior(40.0, 40.0), bias=StudentTPrior(30.0, 0.1))
    drawn = model.posterior(draws=500, prior=priors).posterior
    assert abs(float(drawn["theta"].mean()) - 0.5) < 0.02
    assert float(drawn["bias_eta"].std()) == pytest.approx(0.1, rel=0.1)
    assert float(drawn["sigma"].mean()) == pytest.approx(2.0 / 0.3, rel=0.05)
