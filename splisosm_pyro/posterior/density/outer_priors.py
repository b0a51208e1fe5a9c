"""The log priors of many vectors of outer parameters: by name, and as a density of ``u``."""

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.outer import log_theta_jacobian
from splisosm_pyro.posterior.density.priors import PosteriorPriors


def named_parameters(u: FloatArray, space: OuterSpace) -> dict[str, FloatArray]:
    """Return the documented parameters, (N, *) each, of unconstrained vectors (N, K)."""
    shape = space.free.shape
    coefficients = u[:, space.n_variance :].reshape(len(u), *shape)
    named = {"beta": coefficients[:, :-1], "bias_eta": coefficients[:, -1]}
    if not space.n_components:
        return named
    logit = u[:, space.n_sigma : space.n_variance]
    if space.fixed_sigma is None:
        sigma = np.exp(u[:, : space.n_sigma])
    else:
        sigma = np.repeat(space.fixed_sigma[None], len(u), axis=0)
    return named | {"sigma": sigma, "theta": expit(logit), "theta_logit": logit}


def log_priors(
    u: FloatArray, space: OuterSpace, priors: PosteriorPriors
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return the log prior of every parameter by name and the log Jacobian of ``u``, (N,) each.

    Their sum is the prior's part of the outer density at ``u`` (N, K). A fixed sigma has none.
    """
    named = named_parameters(u, space)
    coefficients = np.concatenate([named["beta"], named["bias_eta"][:, None]], axis=1)
    parts = priors.by_name(coefficients)
    jacobian = np.zeros(len(u))
    if "theta" in named:
        parts["theta"] = priors.theta.value(named["theta"]).sum(-1)
        jacobian += log_theta_jacobian(named["theta"])
    if space.n_sigma:
        parts[priors.sigma.variable] = priors.sigma.value(named["sigma"]).sum(-1)
        jacobian += priors.log_sigma_jacobian(named["sigma"])
    return parts, jacobian


def log_prior_slopes(u: FloatArray, space: OuterSpace, priors: PosteriorPriors) -> FloatArray:
    """Return the gradients (N, K) of that sum at ``u`` (N, K)."""
    k, own = space.n_variance, priors.coefficients
    coefficients = u[:, k:].reshape(len(u), *space.free.shape)
    sigma, theta = np.exp(u[:, : space.n_sigma]), expit(u[:, space.n_sigma : k])
    parts = (
        space.priors.sigma.gradient(sigma) + priors.jacobian_slope,
        space.priors.theta.gradient(theta) + 1.0 - 2.0 * theta,
        own.beta.gradient(coefficients[:, :-1]),
        own.bias.gradient(coefficients[:, -1:]),
    )
    return np.concatenate([part.reshape(len(u), -1) for part in parts], axis=1)
