"""Priors against SciPy, Pyro and autograd; their names and parameters."""

import math
import re

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from splisosm_pyro.maths.priors import GammaPrior, InvGammaPrior, NoPrior, prior_from_name

SIGMA = np.array([1e-3, 0.1, 0.7, 1.0, 2.5, 40.0])
PRIORS = [NoPrior(), GammaPrior(), InvGammaPrior(), GammaPrior(0.7, 2.0), InvGammaPrior(1.0, 3.0)]


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.3), (1.0, 4.0), (0.5, 1.5)])
def test_gamma_is_scipys_density_of_sigma(alpha, beta):
    truth = stats.gamma(alpha, scale=1 / beta).logpdf(SIGMA)
    np.testing.assert_allclose(GammaPrior(alpha, beta).value(SIGMA), truth, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("alpha", "beta"), [(3.0, 0.5), (1.0, 4.0), (0.5, 1.5)])
def test_inverse_gamma_is_scipys_density_of_sigma_squared(alpha, beta):
    truth = stats.invgamma(alpha, scale=beta).logpdf(SIGMA**2)
    np.testing.assert_allclose(InvGammaPrior(alpha, beta).value(SIGMA), truth, rtol=1e-12)


def test_documented_defaults():
    assert GammaPrior().params == {"alpha": 2.0, "beta": 0.3}
    assert InvGammaPrior().params == {"alpha": 3.0, "beta": 0.5}
    assert NoPrior().params == {}


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_gradient_is_that_of_log_prob_in_log_sigma(prior):
    log_sigma = torch.tensor(np.log(SIGMA), requires_grad=True)
    total = prior.log_prob(torch.exp(log_sigma)).sum() + 0.0 * log_sigma.sum()
    (gradient,) = torch.autograd.grad(total, log_sigma)
    np.testing.assert_allclose(prior.gradient(SIGMA), gradient.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_the_pyro_distribution_has_the_same_density(prior):
    sigma = torch.tensor(SIGMA)
    value = sigma if prior.variable == "sigma" else sigma**2
    theirs = prior.distribution().log_prob(value)
    np.testing.assert_allclose(
        theirs.numpy(), prior.log_prob(sigma).numpy(), rtol=1e-12, atol=1e-12
    )


def test_no_prior_is_exactly_zero_and_keeps_shape_and_dtype():
    sigma = torch.rand(2, 3, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    log_prob = NoPrior().log_prob(sigma)
    assert log_prob.dtype == torch.float32
    assert torch.equal(log_prob, torch.zeros(2, 3))


def test_sigma_zero_is_an_ordinary_point():
    zero = np.zeros(1)
    assert GammaPrior().value(zero)[0] == -math.inf
    assert GammaPrior(1.0, 0.3).value(zero)[0] == math.log(0.3)
    assert GammaPrior().gradient(zero)[0] == 1.0
    for sigma in (0.0, 1e-200):
        assert InvGammaPrior().value(np.array([sigma]))[0] == -math.inf
        assert InvGammaPrior().gradient(np.array([sigma]))[0] == math.inf
    sigma = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    InvGammaPrior().log_prob(sigma).sum().backward()
    assert not bool(torch.isnan(sigma.grad).any())


def test_prior_from_name():
    assert prior_from_name("none") == NoPrior()
    assert prior_from_name("none", {}) == NoPrior()
    assert prior_from_name("gamma") == GammaPrior(2.0, 0.3)
    assert prior_from_name("gamma", {"alpha": 4}) == GammaPrior(4, 0.3)
    assert prior_from_name("inv_gamma", {"beta": np.float64(2.0)}) == InvGammaPrior(3.0, 2.0)
    assert isinstance(prior_from_name("inv_gamma").distribution(), dist.InverseGamma)


@pytest.mark.parametrize(
    ("name", "params", "error", "message"),
    [
        (
            "normal",
            None,
            ValueError,
            "came 'normal' (did you mean 'log_normal'?)",
        ),
        (
            "gamma",
            {"alhpa": 1.0},
            ValueError,
            "must have keys in ('alpha', 'beta'), came 'alhpa' (did you mean 'alpha'?)",
        ),
        (
            "none",
            {"alpha": 1.0},
            ValueError,
            "var_prior_model_params of 'none' must have keys in (), came 'alpha'",
        ),
        (
            "gamma",
            {"alpha": 0.0},
            ValueError,
            "var_prior_model_params['alpha'] of 'gamma' must be positive and finite, came 0.0",
        ),
        (
            "inv_gamma",
            {"beta": -1},
            ValueError,
            "var_prior_model_params['beta'] of 'inv_gamma' must be positive and finite, came -1",
        ),
        ("gamma", {"beta": math.nan}, ValueError, "came nan"),
        ("gamma", {"beta": math.inf}, ValueError, "came inf"),
        ("gamma", {"beta": "big"}, TypeError, "must be a number, came str"),
        ("gamma", {"beta": True}, TypeError, "must be a number, came bool"),
        ("gamma", [("alpha", 1.0)], TypeError, "var_prior_model_params must be a dict, came list"),
    ],
)
def test_bad_priors(name, params, error, message):
    with pytest.raises(error, match=re.escape(message)):
        prior_from_name(name, params)
