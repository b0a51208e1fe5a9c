"""Parameters without gradient stay, the others reach the optimum given them; 0 epochs, no limit."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from splisosm_pyro import simulate_tissue
from splisosm_pyro.model import MultinomGLM, MultinomGLMM

TISSUE = simulate_tissue(n_spots=60, n_genes=2, n_isos=3, depth=8.0, sigma=0.8, theta=0.6, seed=3)
COUNTS = TISSUE.counts.double()
# Not centred, and not in standard units: what holds one coefficient must not move another.
DESIGN = 30.0 + 4.0 * torch.randn(60, 2, generator=torch.Generator().manual_seed(1)).double()
START = {
    "beta": torch.full((2, 2, 2), 0.02).double(),
    "bias_eta": torch.tensor([[0.3, -0.2], [0.1, 0.4]]).double(),
    "nu": 0.5 * torch.randn(2, 60, 2, generator=torch.Generator().manual_seed(2)).double(),
    "sigma": torch.tensor([[0.7], [0.5]]).double(),
    "theta_logit": torch.tensor([[0.5], [-1.0]]).double(),
}


def glmm(method, held, start=START):
    model = MultinomGLMM(var_fix_sigma=False, fitting_method=method)
    model.setup_data(COUNTS, TISSUE.kernel, DESIGN)
    model.update_params_from_dict(start)
    for name in held:
        getattr(model, name).requires_grad_(False)
    return model


def slopes(model, names):
    """The objective's gradient by parameter, in units of a standard covariate."""
    model.zero_grad()
    model().sum().backward()
    return {name: getattr(model, name).grad for name in names}


@pytest.mark.parametrize("method", ["joint_gd", "joint_newton", "marginal_gd", "marginal_newton"])
@pytest.mark.parametrize("held", [["beta"], ["bias_eta"], ["beta", "bias_eta"], ["theta_logit"]])
def test_the_others_are_at_the_optimum_given_what_is_held(method, held):
    model = glmm(method, held)
    before = {name: getattr(model, name).detach().clone() for name in held}
    model.fit(quiet=True)
    for name, value in before.items():
        assert torch.equal(getattr(model, name).detach(), value)
    assert set(model.status) <= {"converged", "boundary"}
    moving = [name for name in ("beta", "bias_eta") if name not in held]
    for name, slope in slopes(model, moving).items():
        scale = 40.0 if name == "beta" else 1.0
        assert float(slope.abs().max()) / scale < 5e-3, name
    errors = model.standard_errors()
    assert all(not errors[name].any() for name in held)
    assert all(bool((errors[name] > 0).all()) for name in moving)


@pytest.mark.parametrize("method", ["joint_gd", "marginal_newton"])
def test_sigma_is_held_too(method):
    model = glmm(method, ["sigma"])
    model.fit(quiet=True)
    assert torch.equal(model.sigma.detach(), START["sigma"])
    assert not model.standard_errors()["log_sigma"].any()


def test_a_fixed_sigma_has_no_gradient():
    model = MultinomGLMM()
    model.setup_data(COUNTS, TISSUE.kernel)
    assert not model.sigma.requires_grad
    assert model.theta_logit.requires_grad


def test_the_field_is_held_by_both_objectives():
    joint, marginal = glmm("joint_newton", ["nu"]), glmm("marginal_newton", ["nu"])
    free = glmm("marginal_newton", [])
    for model in (joint, marginal, free):
        model.fit(quiet=True)
    for model in (joint, marginal):
        assert torch.equal(model.nu.detach(), START["nu"])
    assert torch.equal(marginal.sigma, free.sigma)  # it integrates the field out anyway
    found = slopes(joint, ["beta", "bias_eta", "sigma", "theta_logit"])
    assert float(found["beta"].abs().max()) / 40.0 < 1e-3
    for name in ("bias_eta", "sigma", "theta_logit"):
        inside = joint.theta_logit.abs() < 14.9 if name == "theta_logit" else True
        assert float((found[name].abs() * inside).max()) < 0.02, name
    gap = joint.diagnose()["log_joint"].to_numpy() - joint().detach().numpy()
    assert np.abs(gap).max() < 1e-6


@pytest.mark.parametrize("method", ["iwls", "newton", "gd"])
@pytest.mark.parametrize("held", ["beta", "bias_eta"])
def test_a_glm_holds_them_as_a_general_search_does(method, held):
    model = MultinomGLM(fitting_method=method)
    model.setup_data(COUNTS[:1], DESIGN)
    model.update_params_from_dict({name: START[name][:1] for name in ("beta", "bias_eta")})
    getattr(model, held).requires_grad_(False)
    twin = model.clone()
    model.fit(quiet=True)
    assert model.status == ["converged"]
    assert torch.equal(getattr(model, held).detach(), START[held][:1])
    moving = twin.bias_eta if held == "beta" else twin.beta

    def loss(flat):
        moving.data[:] = torch.from_numpy(flat).reshape(moving.shape)
        twin.zero_grad()
        minus = -twin().sum()
        minus.backward()
        return float(minus.detach()), moving.grad.numpy().ravel()

    best = minimize(loss, np.zeros(moving.numel()), jac=True, method="BFGS", tol=1e-9)
    assert float(model().detach()) == pytest.approx(-best.fun, abs=1e-6)
    assert not model.standard_errors()[held].any()


def test_theta_zero_is_a_value():
    start = {**START, "theta_logit": torch.full((2, 1), -torch.inf).double()}
    model = glmm("marginal_newton", ["theta_logit"], start)
    assert model.var_sp_prop().tolist() == [[0.0], [0.0]]
    near = glmm("marginal_newton", [], {**START, "theta_logit": torch.full((2, 1), -30.0).double()})
    torch.testing.assert_close(model(), near(), rtol=1e-10, atol=0)
    torch.testing.assert_close(model.log_joint(), near.log_joint(), rtol=1e-10, atol=0)
    model.fit(quiet=True)
    assert bool(torch.isneginf(model.theta_logit).all())
    assert model.status == ["converged", "converged"]
    with pytest.raises(ValueError, match="must be finite"):
        model.update_params_from_dict({"sigma": torch.full((2, 1), -torch.inf)})


@pytest.mark.parametrize("method", ["joint_gd", "marginal_newton"])
def test_no_epochs_leave_the_start_and_no_limit_is_the_default_optimum(method):
    still = MultinomGLMM(fitting_method=method, fitting_configs={"max_epochs": 0})
    still.setup_data(COUNTS, TISSUE.kernel, DESIGN)
    before = {name: value.detach().clone() for name, value in still.named_parameters()}
    still.fit(quiet=True)
    assert all(torch.equal(value, before[name]) for name, value in still.named_parameters())
    assert still.status == ["max_epochs"] * 2
    torch.testing.assert_close(still.logger.best_loss, -still().detach())
    ends = []
    for configs in ({}, {"max_epochs": -1}):
        model = MultinomGLMM(fitting_method=method, fitting_configs=configs)
        model.setup_data(COUNTS, TISSUE.kernel, DESIGN)
        model.fit(quiet=True)
        ends.append(model().detach())
    assert torch.equal(*ends)


def test_epochs_below_minus_one_are_refused():
    with pytest.raises(ValueError, match="or -1 for no limit, came -2"):
        MultinomGLM(fitting_configs={"max_epochs": -2})
