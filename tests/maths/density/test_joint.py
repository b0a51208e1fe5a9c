"""The joint density against the loop-written truth and the gold cases; the oracle itself too."""

import math

import numpy as np
import oracles
import pytest
import torch
from cases import CASES, some

from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.density.joint import field_variances, log_joint
from splisosm_pyro.maths.priors import GammaPrior, InvGammaPrior, NoPrior, Priors

PRIORS = {prior.name: prior for prior in (NoPrior(), GammaPrior(), InvGammaPrior())}


def tensors(case):
    eta = case.design @ case.beta + case.bias_eta[:, None] + case.nu
    return [torch.as_tensor(a) for a in (case.counts, eta, case.nu, case.sigma, case.theta)]


def log_prior(case, prior):
    names = ("sigma", "theta", "beta", "bias_eta")
    return Priors(prior).log_prob(*(torch.as_tensor(getattr(case, name)) for name in names))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_log_joint_is_the_loop_gene_by_gene(case, prior):
    ours = log_joint(*tensors(case), DenseKernel(case.V)) + log_prior(case, PRIORS[prior])
    loops = [
        oracles.log_joint(
            case.counts[g], case.design, case.B(g), case.nu[g], case.sigma[g], case.theta[g],
            case.V, prior,
        )
        for g in range(len(case.counts))
    ]  # fmt: skip
    assert ours.shape == (len(case.counts),)
    np.testing.assert_allclose(ours.numpy(), loops, rtol=1e-10)


def test_gradients_of_log_joint():
    case = CASES["two_isoforms"]
    counts, eta, nu, sigma, theta = tensors(case)
    kernel = DenseKernel(case.V)
    fixed = eta - nu

    def objective(nu, sigma, theta):
        return log_joint(counts, fixed + nu, nu, sigma, theta, kernel)

    points = [x.clone().requires_grad_() for x in (nu, sigma, theta)]
    assert torch.autograd.gradcheck(objective, points, atol=1e-6, rtol=1e-6)


def test_variances_of_shared_and_separate_components():
    sigma, theta = torch.tensor([[2.0], [1.0]]), torch.tensor([[0.25], [1.0]])
    spatial, nugget = field_variances(sigma, theta, 3)
    assert spatial.tolist() == [[1.0] * 3, [1.0] * 3]
    assert nugget.tolist() == [[3.0] * 3, [0.0] * 3]
    with pytest.raises(ValueError, match=r"1 or 3 components .* came 2"):
        field_variances(torch.ones(2), torch.ones(2), 3)


# --- the oracle itself, which others rely on ---


@pytest.mark.parametrize(
    "case", some("one_spot", "empty_spots", "all_spatial", "covariates"), ids=str
)
def test_the_oracles_mode_has_no_gradient_left(case):
    truth = oracles.log_marginal(
        case.counts[0], case.design, case.B(0), case.sigma[0], case.theta[0], case.V
    )
    assert truth.gradient_norm < 1e-12


def test_the_oracles_laplace_value_is_close_to_quadrature_at_one_spot():
    counts = np.array([[3000.0, 2000.0]])
    B, sigma, theta, V = np.array([[0.3]]), np.array([0.5]), np.array([0.2]), np.eye(1)
    grid, step = np.linspace(-6, 6, 4001, retstep=True)
    logs = [oracles.log_lik(np.array([[0.3 + 0.5 * x]]), counts) - 0.5 * x**2 for x in grid]
    exact = math.log(step * sum(math.exp(value) for value in logs) / math.sqrt(2 * math.pi))
    truth = oracles.log_marginal(counts, np.empty((1, 0)), B, sigma, theta, V)
    assert abs(truth.value - exact) < 1e-4  # the error is of the order of 1 / counts


def test_gold_points(gold):
    case = gold.load("c01_n30_P3_rich")
    kernel = DenseKernel(case.V)
    for point in case.points:
        sigma, theta, B, nu = point["sigma"], point["theta"], point["B"], point["nu"]
        truth = oracles.log_marginal(case.Y, case.X, B, sigma, theta, case.V)
        assert math.isclose(truth.value, point["laplace"], rel_tol=1e-9)
        np.testing.assert_allclose(truth.nu, nu, atol=1e-8)
        eta = case.X @ B[:-1] + B[-1] + nu
        given = [torch.as_tensor(a, dtype=torch.float64) for a in (case.Y, eta, nu, sigma, theta)]
        ours = log_joint(*given, kernel).item()
        assert math.isclose(ours, point["log_joint_at_mode"], rel_tol=1e-9)


def test_gold_glm(gold):
    case = gold.load("c01_n30_P3_rich")
    B, value = oracles.glm_maximum(case.Y.astype(float), case.X)
    assert math.isclose(value, case.glm["loglik"], rel_tol=1e-10)
    np.testing.assert_allclose(B, case.glm["B"], atol=1e-6)
