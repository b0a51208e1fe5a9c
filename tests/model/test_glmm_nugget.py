"""MultinomGLMM with either treatment of the nugget: values, certificate, posterior means."""

import cases
import numpy as np
import pytest
import torch
from problems import kernel_of

from splisosm_pyro.model import MultinomGLMM


def ready(case, nugget="quadrature", method="marginal_newton", genes=slice(None)):
    """A model at the case's parameters, theta inside."""
    configs = {"nugget": nugget}
    model = MultinomGLMM(case.share_variance, fitting_method=method, fitting_configs=configs)
    model.setup_data(case.counts[genes], kernel_of(case.name, "dense"), case.design)
    theta = np.clip(case.theta[genes], 0.02, 0.98)
    given = {"beta": case.beta, "bias_eta": case.bias_eta, "nu": case.nu, "sigma": case.sigma}
    params = {name: value[genes] for name, value in given.items()}
    model.update_params_from_dict({**params, "theta_logit": np.log(theta / (1 - theta))})
    return model


@pytest.fixture(scope="module")
def batch():
    return cases.CASES["batch"]


def test_log_marginal_of_either_nugget(batch):
    for method in ("marginal_newton", "joint_newton"):
        laplace, quadrature = (ready(batch, n, method) for n in ("laplace", "quadrature"))
        values = laplace.log_marginal().detach(), quadrature.log_marginal().detach()
        assert not torch.allclose(*values, rtol=0, atol=1e-3)
        assert torch.equal(laplace.log_marginal("quadrature").detach(), values[1])
        assert torch.equal(quadrature.log_marginal(nugget="laplace").detach(), values[0])
    with pytest.raises(ValueError, match="nugget must be one of 'laplace', 'quadrature'"):
        laplace.log_marginal("exact")


def test_log_marginal_of_the_other_nugget_is_differentiable(batch):
    model, step = ready(batch, "laplace"), 1e-4
    (slope,) = torch.autograd.grad(model.log_marginal("quadrature").sum(), [model.bias_eta])
    ends = []
    for sign in (1, -1):
        moved = batch.bias_eta.copy()
        moved[3, 1] += sign * step
        model.update_params_from_dict({"bias_eta": moved})
        ends.append(model.log_marginal("quadrature")[3].item())
    assert slope[3, 1].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("nugget", ["laplace", "quadrature"])
def test_the_certificate_of_a_gene_does_not_depend_on_its_batch(batch, nugget):
    whole = ready(batch, nugget).log_marginal_error(draws=100)
    assert list(whole.columns) == ["correction", "standard_error", "pareto_k"]
    alone = ready(batch, nugget, genes=slice(3, 4)).log_marginal_error(draws=100)
    np.testing.assert_array_equal(alone.loc[0], whole.loc[3])
    other = ready(batch, nugget).log_marginal_error(draws=100, seed=1)
    assert (other["correction"] != whole["correction"]).all()
    gap = np.abs(other["correction"] - whole["correction"])
    assert (gap < 5 * np.hypot(other["standard_error"], whole["standard_error"])).all()


def test_both_certificates_lead_to_one_value(batch):
    """Approximate plus correction is the exact log marginal, whichever was approximated."""
    exact, errors = [], []
    for nugget in ("laplace", "quadrature"):
        model = ready(batch, nugget)
        error = model.log_marginal_error(draws=600)
        exact.append(model.log_marginal().detach().numpy() + error["correction"].to_numpy())
        errors.append(error["standard_error"].to_numpy())
    assert (np.abs(exact[0] - exact[1]) < 4 * np.hypot(*errors)).all()


def test_arguments_of_the_certificate(batch):
    model = ready(batch, genes=slice(1))
    with pytest.raises(ValueError, match="draws must be at least 30, came 20"):
        model.log_marginal_error(draws=20)
    with pytest.raises(ValueError, match="seed must be a whole number that is not negative"):
        model.log_marginal_error(seed=-1)
    with pytest.raises(ValueError, match="no data yet"):
        MultinomGLMM().log_marginal_error()


def test_a_gene_without_counts():
    case = cases.CASES["two_isoforms"]
    model = MultinomGLMM(fitting_method="marginal_newton")
    model.setup_data(0.0 * case.counts, case.V, case.design)
    row = model.log_marginal_error().loc[0]
    assert row.tolist() == [0.0, 0.0, -np.inf]
    ratio = model.get_isoform_ratio("posterior_mean")
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5), rtol=0, atol=1e-9)


def test_the_certificate_in_diagnose(batch):
    model = ready(batch, genes=slice(2))
    model.fit(quiet=True)
    plain, full = model.diagnose(), model.diagnose(marginal_error=True)
    error = model.log_marginal_error()
    for name in error:
        np.testing.assert_array_equal(full[f"marginal_{name}"], error[name])
    assert list(full.columns) == [*plain.columns, *(f"marginal_{name}" for name in error)]
    with pytest.raises(TypeError, match="marginal_error must be True or False"):
        model.diagnose(marginal_error=1)


def test_posterior_mean_ratios_are_milder_and_do_not_read_nu(batch):
    model = ready(batch)
    model.fit(quiet=True)
    at_nu = model.get_isoform_ratio().detach()
    torch.testing.assert_close(model.get_isoform_ratio(kind="at_nu").detach(), at_nu)
    mean = model.get_isoform_ratio("posterior_mean")
    torch.testing.assert_close(mean.sum(-1), torch.ones_like(mean[..., 0]))
    assert not mean.requires_grad
    model.update_params_from_dict({"nu": torch.zeros_like(model.nu)})
    assert torch.equal(model.get_isoform_ratio("posterior_mean"), mean)
    assert float((mean - at_nu).abs().max()) > 1e-3
    with pytest.raises(ValueError, match="kind must be one of 'at_nu', 'posterior_mean'"):
        model.get_isoform_ratio("mean")
