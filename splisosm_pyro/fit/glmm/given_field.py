"""The joint density of one gene where the field stays: coefficients and variances come apart.

``log p(Y | X B + nu)`` is a GLM whose logits have ``nu`` given, ``log p(nu | sigma, theta)`` a
Gaussian likelihood in two unknowns a component.
"""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from splisosm_pyro.fit.glm.some_coefficients import GivenLogits, fit_some
from splisosm_pyro.fit.glmm.outer_space import SIGMA_RANGE, THETA_LOGIT_BOUND
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.density.joint import field_log_prob, field_variances
from splisosm_pyro.maths.numeric.arrays import FloatArray

STARTS = (-1.0, 1.5)  # theta_logit


def fit_given_field(spec: GLMMSpec, counts: FloatArray, start: Params) -> GeneFit:
    """Maximise ``log_joint`` over what moves of sigma, theta, beta and bias_eta; ``nu`` stays."""
    own = spec.coefficients(start)
    problem = GivenLogits(counts, spec.design.with_intercept, start["nu"])
    moving = np.broadcast_to(~spec.held_rows(len(own)), own.shape)
    glm = fit_some(
        problem, own, moving, tol=spec.options.tol, max_epochs=max(spec.options.most_epochs, 1)
    )
    sigma, theta_logit, field, slope = _variances(spec, start)
    user = spec.design.back @ glm.B
    params = {**start, "beta": user[:-1], "bias_eta": user[-1], "sigma": sigma}
    value = glm.value + field
    return GeneFit(
        params={**params, "theta_logit": theta_logit},
        standard_errors={},
        objective="log_joint",
        value=value,
        status=glm.status,
        reason=glm.reason,
        gradient_norm=float(np.hypot(glm.gradient_norm, slope)),
        min_eigenvalue=glm.min_eigenvalue,
        epochs=max(len(glm.values), 1),
        values=np.append(glm.values[:-1] + field, value),
    )


def _variances(spec: GLMMSpec, start: Params) -> tuple[FloatArray, FloatArray, float, float]:
    """Return sigma and theta_logit (C,), the value there, and the slope in what is inside."""
    nu, size = torch.from_numpy(start["nu"]), start["sigma"].size
    floor = max(spec.sigma_floor, SIGMA_RANGE[0])
    sigma = np.maximum(start["sigma"], floor)
    theta = np.clip(start["theta_logit"], -THETA_LOGIT_BOUND, THETA_LOGIT_BOUND)
    low = np.repeat([np.log(floor), -THETA_LOGIT_BOUND], size)
    high = np.repeat([np.log(SIGMA_RANGE[1]), THETA_LOGIT_BOUND], size)
    if spec.fix_sigma:
        low[:size] = high[:size] = np.log(sigma)
    if "theta_logit" in spec.held:
        low[size:] = high[size:] = theta

    def loss(u: FloatArray) -> tuple[float, FloatArray]:
        at = torch.tensor(u, requires_grad=True)
        minus = -_log_field(spec, nu, at[:size].exp(), torch.sigmoid(at[size:]))
        minus.backward()
        assert at.grad is not None
        return float(minus.detach()), at.grad.numpy()

    ends = [
        minimize(
            loss,
            np.clip(np.append(np.log(sigma), np.full(size, first)), low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
        )
        for first in STARTS
    ]
    end = min(ends, key=lambda one: one.fun)
    inside = (end.x > low) & (end.x < high)
    slope = float(np.linalg.norm(np.asarray(end.jac)[inside]))
    return np.exp(end.x[:size]), end.x[size:], -float(end.fun), slope


def _log_field(spec: GLMMSpec, nu: Tensor, sigma: Tensor, theta: Tensor) -> Tensor:
    """Return ``log p(nu | sigma, theta)`` and the log priors of both."""
    spatial, nugget = field_variances(sigma, theta, nu.shape[-1])
    nothing = torch.zeros(1, 1, dtype=nu.dtype), torch.zeros(1, dtype=nu.dtype)
    own = field_log_prob(nu, spatial, nugget, spec.kernel, spec.coding)
    return own + spec.priors.log_prob(sigma, theta, *nothing)
