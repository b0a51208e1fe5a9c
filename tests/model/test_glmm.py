"""MultinomGLMM as a model: objectives, starts, state, and what a fit leaves behind."""

import cases
import numpy as np
import oracles
import pytest
import torch
from problems import central, kernel_of

from splisosm_pyro.maths.covariance.as_kernel import LowRankKernel
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.model import MultinomGLM, MultinomGLMM

JOINT, MARGINAL = ("joint_gd", "joint_newton"), ("marginal_gd", "marginal_newton")


def ready(case, form="dense", *, at_case=False, **arguments):
    """A model with a case's data, at the case's parameters if asked for."""
    model = MultinomGLMM(share_variance=case.share_variance, **arguments)
    kernel = kernel_of(case.name, form)
    model.setup_data(case.counts, kernel, case.design if case.design.shape[1] else None)
    if at_case:
        theta = np.clip(case.theta, 0.02, 0.98)
        model.update_params_from_dict(
            {
                "beta": case.beta,
                "bias_eta": case.bias_eta,
                "nu": case.nu,
                "sigma": case.sigma,
                "theta_logit": np.log(theta / (1 - theta)),
            }
        )
    return model


def fitted(case, form="dense", **arguments):
    model = ready(case, form, **arguments)
    model.fit(quiet=True)
    return model


def theta_of(case):
    return np.clip(case.theta, 0.02, 0.98)


@pytest.fixture(scope="module")
def batch():
    return cases.CASES["batch"]


@pytest.fixture(scope="module")
def marginal_fit(batch):
    return fitted(batch, fitting_method="marginal_newton", var_fix_sigma=False)


@pytest.fixture(scope="module")
def joint_fit(batch):
    return fitted(batch, fitting_method="joint_newton")


# ---- objectives

# Any two of a case, a form and a prior meet in one.
with_triples = pytest.mark.parametrize(
    ("name", "form", "prior"),
    [
        (name, form, ("none", "gamma", "inv_gamma")[(i + j) % 3])
        for i, name in enumerate(("batch", "two_isoforms", "empty_spots"))
        for j, form in enumerate(("dense", "low_rank", "car_sparse"))
    ],
)


@with_triples
def test_log_joint_is_the_oracle_at_any_parameters(name, form, prior):
    case = cases.CASES[name]
    model = ready(case, form, at_case=True, var_prior_model=prior)
    values, V = model.log_joint().detach(), kernel_of(name, form).dense().numpy()
    for g in range(case.shape[0]):
        here = (case.B(g), case.nu[g], case.sigma[g], theta_of(case)[g], V, prior)
        truth = oracles.log_joint(case.counts[g], case.design, *here)
        assert values[g].item() == pytest.approx(truth, rel=1e-10)


@with_triples
def test_log_marginal_is_the_oracle_at_any_parameters(name, form, prior):
    case = cases.CASES[name]
    arguments = {"fitting_method": "marginal_gd", "var_prior_model": prior}
    model = ready(case, form, at_case=True, **arguments)
    nu, V = model.nu.detach().clone(), kernel_of(name, form).dense().numpy()
    values = model.log_marginal().detach()
    assert torch.equal(model.nu, nu)
    for g in range(case.shape[0]):
        here = (case.B(g), case.sigma[g], theta_of(case)[g], V)
        truth = oracles.log_marginal(case.counts[g], case.design, *here).value
        truth += oracles.log_prior(prior, case.sigma[g])
        assert values[g].item() == pytest.approx(truth, rel=1e-9)


def test_forward_is_the_objective_of_the_method(batch):
    for method in JOINT + MARGINAL:
        model = ready(batch, at_case=True, fitting_method=method)
        own = model.log_joint() if method in JOINT else model.log_marginal()
        assert torch.equal(model(), own)
        assert model.objective == ("log_joint" if method in JOINT else "log_marginal")


@pytest.mark.parametrize("method", ["joint_gd", "marginal_gd"])
def test_forward_is_differentiable(method):
    case = cases.CASES["batch"]
    prior = {"var_prior_model": "inv_gamma", "var_fix_sigma": False}
    model = ready(case, "car_sparse", at_case=True, fitting_method=method, **prior)
    weights = torch.linspace(0.5, 2.0, 5, dtype=torch.float64)
    names = [n for n, _ in model.named_parameters() if method == "joint_gd" or n != "nu"]
    own = dict(model.named_parameters())
    slopes = torch.autograd.grad((weights * model()).sum(), [own[n] for n in names])
    rng = np.random.default_rng(0)
    for name, slope in zip(names, slopes, strict=True):
        flat = own[name].detach().numpy().ravel().copy()

        def value(v, name=name):
            with torch.no_grad():
                own[name].copy_(torch.from_numpy(v).reshape(own[name].shape))
                return (weights * model()).sum().item()

        for i in rng.choice(flat.size, size=min(flat.size, 4), replace=False):
            expected = central(value, flat, i)
            assert slope.ravel()[i].item() == pytest.approx(expected, rel=1e-6, abs=1e-7)
        value(flat)
    if method == "marginal_gd":
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad(model().sum(), model.nu)


# ---- starting values


def test_starting_values(batch):
    for share in (True, False):
        model = MultinomGLMM(share_variance=share)
        model.setup_data(batch.counts, batch.V, batch.design)
        total = batch.counts.sum(-1)
        variance = batch.counts.var(axis=1, ddof=1).mean(-1)
        fano = np.clip(variance / np.maximum(total.mean(1), 1.0), 1e-4, 0.9)
        expected = np.repeat(np.sqrt(fano)[:, None], 1 if share else 2, axis=1)
        np.testing.assert_allclose(model.sigma.detach(), expected, rtol=1e-12)
        assert (model.theta_logit == -3.0).all()
        for name in ("beta", "bias_eta", "nu"):
            assert not getattr(model, name).any()


def test_the_fano_estimate_is_kept_within_its_limits():
    spread = np.zeros((1, 4, 2))
    spread[0, 0] = 50.0  # far more variable than its mean
    even = np.ones((1, 4, 2))  # not variable at all
    model = MultinomGLMM()
    model.setup_data(np.concatenate([spread, even]), np.eye(4))
    np.testing.assert_allclose(model.sigma[:, 0].detach(), np.sqrt([0.9, 1e-4]), rtol=1e-12)


def test_observed_ratios_as_a_start():
    counts = np.array([[[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 6.0]]])
    model = MultinomGLMM(init_ratio="observed")
    model.setup_data(counts, np.eye(3))
    share = counts / (counts.sum(-1, keepdims=True) + 1e-5) + 1e-5
    expected = np.log(share[..., :2] / share[..., 2:])
    np.testing.assert_allclose(model.nu.detach(), expected, rtol=1e-12)
    assert not model.nu[0, 1].any()
    uniform = MultinomGLMM()
    uniform.setup_data(counts, np.eye(3))
    model.fit(quiet=True)
    uniform.fit(quiet=True)
    torch.testing.assert_close(model(), uniform(), rtol=0, atol=1e-7)


def test_sigma_fixed_by_default_stays_at_the_estimate(batch):
    model = ready(batch)
    start = model.sigma.detach().clone()
    model.fit(quiet=True)
    torch.testing.assert_close(model.sigma.detach(), start.clamp(min=0.1), rtol=1e-12, atol=0)
    assert not torch.equal(model.theta_logit, torch.full_like(model.theta_logit, -3.0))


# ---- variances in force


def test_var_total_and_var_sp_prop(batch):
    low = torch.full((5, 2), 0.03, dtype=torch.float64)
    for method, expected in (("joint_gd", 1e-2), ("marginal_gd", 0.03**2)):
        model = ready(batch, fitting_method=method)
        model.update_params_from_dict({"sigma": low, "theta_logit": torch.full_like(low, 1.2)})
        torch.testing.assert_close(model.var_total(), torch.full_like(low, expected))
        torch.testing.assert_close(model.var_sp_prop(), torch.sigmoid(torch.full_like(low, 1.2)))
        assert not model.var_total().requires_grad
        assert not model.var_sp_prop().requires_grad
    high = ready(batch, fitting_method="joint_gd")
    high.update_params_from_dict({"sigma": 2.0 * torch.ones(5, 2)})
    torch.testing.assert_close(high.var_total(), torch.full_like(low, 4.0))


def test_the_floor_is_in_force_in_log_joint(batch):
    values = []
    for sigma in (0.02, 0.1):
        model = ready(batch, at_case=True)
        model.update_params_from_dict({"sigma": np.full((5, 2), sigma)})
        values.append(model.log_joint())
    assert torch.equal(*values)


def test_ratios_are_those_of_the_parameters(batch):
    model = ready(batch, at_case=True)
    ratios = model.get_isoform_ratio().detach()
    for g in range(5):
        eta = oracles.linear_predictor(batch.B(g), batch.design, batch.shape[1]) + batch.nu[g]
        np.testing.assert_allclose(ratios[g], oracles.softmax_ratio(eta), atol=1e-14)


# ---- what a fit leaves behind


@pytest.mark.parametrize("which", ["marginal_fit", "joint_fit"])
def test_the_fit_agrees_with_the_model(which, batch, request):
    model = request.getfixturevalue(which)
    name = model.objective
    np.testing.assert_allclose(model.diagnose()[name], model().detach(), rtol=1e-10)
    torch.testing.assert_close(model.logger.best_loss, -model().detach(), rtol=1e-10, atol=0)
    assert list(model.diagnose().columns) == [
        "status",
        "reason",
        "gradient_norm",
        "min_eigenvalue",
        "epochs",
        name,
    ]
    assert set(model.status) <= {"converged", "boundary"}
    assert (model.diagnose()["gradient_norm"] < 1e-3).all()
    for g, status in enumerate(model.status):
        assert bool(model.diagnose()["reason"][g]) == (status == "boundary")
    assert model.fitting_time > 0


def test_nu_is_the_conditional_mode_after_a_marginal_fit(batch, marginal_fit):
    model = marginal_fit
    for g in range(5):
        B = np.vstack([model.beta[g].detach(), model.bias_eta[g].detach()[None]])
        here = (B, model.sigma[g].detach().numpy(), model.var_sp_prop()[g].numpy(), batch.V)
        truth = oracles.log_marginal(batch.counts[g], batch.design, *here)
        np.testing.assert_allclose(model.nu[g].detach(), truth.nu, atol=1e-6)


@pytest.mark.parametrize("fix", [True, False])
def test_standard_errors_are_those_of_the_curvature_of_forward(fix):
    """By second differences of ``log_marginal`` in (log sigma, theta_logit, beta, bias)."""
    case = cases.make("se", 21, n_spots=40, n_isos=2, n_factors=1, depth=40.0, theta=0.6)
    arguments = {"var_fix_sigma": fix, "fitting_method": "marginal_newton"}
    model = MultinomGLMM(var_prior_model="gamma", **arguments)
    model.setup_data(case.counts, case.V, case.design)
    model.fit(quiet=True)
    assert model.status == ["converged"]
    names = (
        ["theta_logit", "beta", "bias_eta"] if fix else ["sigma", "theta_logit", "beta", "bias_eta"]
    )
    own = dict(model.named_parameters())
    u = np.array([own[n].item() for n in names])
    u[0] = u[0] if fix else np.log(u[0])

    def slope(v):
        values = v if fix else np.r_[np.exp(v[0]), v[1:]]
        with torch.no_grad():
            for n, x in zip(names, values, strict=True):
                own[n].fill_(float(x))
        grads = torch.autograd.grad(model.log_marginal().sum(), [own[n] for n in names])
        scale = 1.0 if fix else values[0]
        return np.array([g.item() for g in grads]) * np.r_[scale, np.ones(len(v) - 1)]

    errors = model.standard_errors()
    hessian = -np.stack([central(slope, u, i) for i in range(u.size)])
    expected = np.sqrt(np.linalg.inv(0.5 * (hessian + hessian.T)).diagonal())
    keys = ["log_sigma" if n == "sigma" else n for n in names]
    np.testing.assert_allclose([errors[k].item() for k in keys], expected, rtol=1e-4)
    if fix:
        assert errors["log_sigma"].item() == 0.0


def test_a_field_that_vanishes_leaves_the_errors_of_the_glm():
    """With sigma at 0 theta means nothing; the coefficients' errors are those of the GLM."""
    case = cases.make("flat", 0, n_genes=4, n_spots=40, n_isos=3, n_factors=1, sigma=1e-3)
    ends = []
    for model in (MultinomGLM(), MultinomGLMM(True, False, fitting_method="marginal_newton")):
        more = () if type(model) is MultinomGLM else (case.V,)
        model.setup_data(case.counts, *more, design_mtx=case.design)
        model.fit(quiet=True)
        ends.append(model)
    glm, glmm = ends
    gone = (glmm.sigma.detach() <= 1e-4 * (1 + 1e-9)).all(1)
    assert gone.any()
    errors, expected = glmm.standard_errors(), glm.standard_errors()
    for name in ("beta", "bias_eta"):
        torch.testing.assert_close(errors[name][gone], expected[name][gone], rtol=1e-4, atol=0)
    for name in ("log_sigma", "theta_logit"):
        assert torch.isinf(errors[name][gone]).all()
    assert not any(bool(error.isnan().any()) for error in errors.values())
    assert (glmm.diagnose()["min_eigenvalue"][gone.numpy()] > 0).all()


def test_errors_follow_the_parameters(batch):
    model = fitted(batch, fitting_method="marginal_newton", var_fix_sigma=False)
    before = model.standard_errors()["bias_eta"].clone()
    assert torch.equal(model.standard_errors()["bias_eta"], before)
    model.update_params_from_dict({"bias_eta": model.bias_eta.detach() + 1.0})
    assert not torch.equal(model.standard_errors()["bias_eta"], before)


@pytest.mark.parametrize("method", JOINT + MARGINAL)
def test_param_history(method, batch):
    model = ready(batch, fitting_method=method)
    history = model.fit(store_param_history=True, quiet=True)
    assert list(history) == ["loss", "params"]
    n_epochs = int(model.logger.epoch.max())
    assert len(history["loss"]) == len(history["params"]) == n_epochs
    assert model.logger.loss_history.shape == (n_epochs, 5)
    twin = model.clone()
    for loss, params in zip(history["loss"], history["params"], strict=True):
        twin.update_params_from_dict(params)
        torch.testing.assert_close(-twin().detach(), loss, rtol=1e-9, atol=0)
    for name, value in model.named_parameters():
        assert torch.equal(history["params"][-1][name], value.detach())


def test_a_second_fit_goes_on(batch):
    for method in JOINT + MARGINAL:
        model = ready(batch, fitting_method=method, var_fix_sigma=False, var_prior_model="gamma")
        model.fit(quiet=True)
        first, epochs = model().detach().clone(), int(model.logger.epoch.max())
        model.fit(quiet=True)
        assert (model().detach() >= first - 1e-9).all()
        assert int(model.logger.epoch.max()) <= max(3, epochs // 2)


def test_a_fit_starts_at_parameters_that_were_given(batch, joint_fit):
    """After a fit, parameters moved by hand are where the next fit begins, but for separation."""
    kept = ["separate" not in reason for reason in joint_fit.diagnose()["reason"]]
    assert sum(kept) == 4
    model = fitted(batch, fitting_method="marginal_newton")
    end = model().detach()
    model.update_params_from_dict({"bias_eta": model.bias_eta.detach() + 0.3})
    start = model().detach()
    model.fit(quiet=True)
    first = -model.logger.loss_history[0]
    torch.testing.assert_close(first[kept], start[kept], rtol=1e-8, atol=0)
    torch.testing.assert_close(model().detach(), end, rtol=0, atol=1e-5)


# ---- kernels


def test_the_ways_to_give_the_covariance_agree(batch):
    values, vectors = np.linalg.eigh(batch.V)
    ways = [{"corr_sp": batch.V}, {"corr_sp": torch.from_numpy(batch.V)}]
    ways.append(
        {"corr_sp_eigvals": values[::-1].copy(), "corr_sp_eigvecs": vectors[:, ::-1].copy()}
    )
    ends = []
    for way in ways:
        model = MultinomGLMM(fitting_method="marginal_newton")
        model.setup_data(batch.counts, design_mtx=batch.design, **way)
        model.fit(quiet=True)
        ends.append(model().detach())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-9, atol=0)
    few = {"corr_sp_eigvals": values[::-1][:5].copy(), "corr_sp_eigvecs": vectors[:, ::-1][:, :5]}
    model.setup_data(batch.counts, design_mtx=batch.design, **few)
    assert isinstance(model.data.kernel, LowRankKernel)
    sparse = CARKernel.from_coords(batch.coords, k=3, rho=0.9)
    model.setup_data(batch.counts, sparse, batch.design)
    assert model.data.kernel is sparse
