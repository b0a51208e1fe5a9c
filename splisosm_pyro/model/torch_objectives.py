"""The GLMM's objectives as differentiable torch functions of the parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splisosm_pyro.fit.glmm.marginal_error import Conditional
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.marginal.laplace import log_marginal as value_at_mode
from splisosm_pyro.maths.density.joint import log_joint as density
from splisosm_pyro.maths.numeric.arrays import FloatArray

Slopes = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


def log_joint(
    spec: GLMMSpec,
    counts: Tensor,  # (G, S, P)
    eta: Tensor,  # (G, S, Q)
    nu: Tensor,  # (G, S, Q)
    beta: Tensor,  # (G, F, Q)
    bias_eta: Tensor,  # (G, Q)
    sigma: Tensor,  # (G, C)
    theta_logit: Tensor,  # (G, C)
) -> Tensor:  # (G,)
    """Return ``log p(Y, nu)`` and the log priors of every gene, on the device of ``nu``."""
    given = (eta, nu, beta, bias_eta, sigma, theta_logit)
    eta, field, beta, bias_eta, sigma, logit = (x.to("cpu", torch.float64) for x in given)
    theta = torch.sigmoid(logit)
    value = density(counts, eta, field, sigma, theta, spec.kernel)
    return (value + spec.priors.log_prob(sigma, theta, *_stated(spec, beta, bias_eta))).to(nu)


def _stated(spec: GLMMSpec, beta: Tensor, bias_eta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients (G, F, Q) and (G, Q) that the priors are stated on."""
    own = spec.priors.coefficients
    if not (own.beta.standardised or own.bias.standardised):
        return beta, bias_eta
    turned = torch.from_numpy(own.stated(spec.design.back) @ spec.design.there)
    stacked = turned @ torch.cat([beta, bias_eta[:, None]], dim=1)
    return stacked[:, :-1], stacked[:, -1]


def log_marginal(
    spec: GLMMSpec,
    counts: FloatArray,  # (G, S, P)
    beta: Tensor,  # (G, F, Q)
    bias_eta: Tensor,  # (G, Q)
    sigma: Tensor,  # (G, C)
    theta_logit: Tensor,  # (G, C)
) -> Tensor:  # (G,)
    """Return ``log_marginal`` and the log priors of every gene."""
    apply: Callable[..., Tensor] = _LogMarginal.apply
    return apply(beta, bias_eta, sigma, theta_logit, spec, counts)


class _LogMarginal(torch.autograd.Function):
    """The value gene by gene; the backward pass hands on the exact gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        beta: Tensor,
        bias_eta: Tensor,
        sigma: Tensor,
        theta_logit: Tensor,
        spec: GLMMSpec,
        counts: FloatArray,
    ) -> Tensor:
        given = [
            t.detach().to("cpu", torch.float64).numpy()
            for t in (beta, bias_eta, sigma, theta_logit)
        ]
        needed = any(ctx.needs_input_grad[:4])
        rows = [
            _one_gene(spec, counts[g], *(part[g] for part in given), needed=needed)
            for g in range(len(counts))
        ]
        if needed:
            slopes = zip(*(row[1] for row in rows), strict=True)
            ctx.save_for_backward(*(torch.as_tensor(np.stack(s)).to(beta) for s in slopes))
        return torch.tensor([row[0] for row in rows], dtype=torch.float64).to(beta)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            upstream[0].reshape(-1, *[1] * (slope.dim() - 1)) * slope for slope in ctx.saved_tensors
        ]
        return (*scaled, None, None)


def _one_gene(
    spec: GLMMSpec,
    counts: FloatArray,
    beta: FloatArray,
    bias_eta: FloatArray,
    sigma: FloatArray,
    theta_logit: FloatArray,
    *,
    needed: bool,
) -> tuple[float, Slopes | None]:
    """Value and, where needed, gradient in (beta, bias_eta, sigma, theta_logit)."""
    params = {"beta": beta, "bias_eta": bias_eta, "sigma": sigma, "theta_logit": theta_logit}
    at = Conditional.of_gene(spec, counts, params)
    value = value_at_mode(at.problem, at.mode) + spec.log_prior(params)
    if not needed:
        return value, None
    gradient = spec.smooth.gradient(at.problem, at.mode)
    by_sigma, by_theta = at.variances.pull_back(gradient.log_spatial, gradient.nugget)
    stated = spec.priors.coefficients.stated(spec.design.back)
    prior = spec.priors.slopes(sigma, at.variances.theta, stated @ at.mode.coefficients)
    by_all = spec.design.there.T @ (gradient.coefficients + stated.T @ prior[2])
    return value, (by_all[:-1], by_all[-1], (by_sigma + prior[0]) / sigma, by_theta + prior[1])
