"""The GLMM's objectives as differentiable torch functions of the parameters."""

import torch
from torch import Tensor

from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.maths.coding import Turn, turns
from splisosm_pyro.maths.density.joint import log_joint as density


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
    value = density(counts, eta, field, sigma, theta, spec.kernel, spec.coding)
    return (value + _log_prior(spec, beta, bias_eta, sigma, theta)).to(nu)


def _log_prior(
    spec: GLMMSpec, beta: Tensor, bias_eta: Tensor, sigma: Tensor, theta: Tensor
) -> Tensor:  # (G,)
    """Return all log priors."""
    stated = _stated(spec, beta, bias_eta)
    if not turns(spec.coding, bias_eta.shape[1] + 1):
        return spec.priors.log_prob(sigma, theta, *stated)
    turn = Turn.of_size(bias_eta.shape[1] + 1)
    back = torch.from_numpy(turn.inverse.T)
    value = spec.priors.log_prob(sigma, theta, *(own @ back for own in stated))
    return value - turn.log_det * spec.priors.coefficients.n_proper(beta.shape[1] + 1)


def _stated(spec: GLMMSpec, beta: Tensor, bias_eta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients (G, F, Q) and (G, Q) that the priors are stated on."""
    own = spec.priors.coefficients
    if not (own.beta.standardised or own.bias.standardised):
        return beta, bias_eta
    turned = torch.from_numpy(own.stated(spec.design.back) @ spec.design.there)
    stacked = turned @ torch.cat([beta, bias_eta[:, None]], dim=1)
    return stacked[:, :-1], stacked[:, -1]
