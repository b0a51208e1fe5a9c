"""The outer unknowns of a posterior: a density of ``u``, so that changes of variable count.

A fit adds every log prior on the variable it is stated on; a posterior adds the Jacobian of that
variable in ``u`` as well, and nothing at all for a sigma that is fixed. Every coefficient moves.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True)
class PosteriorSpace(OuterSpace):
    """The map between ``u`` and the parameters, with the log priors as a density of ``u``."""

    def named(self, u: FloatArray) -> dict[str, FloatArray]:
        """Return the documented parameters, (N, *) each, of vectors (N, K)."""
        sigma, theta, coefficients = self._split(u)
        own = self.turn.to_logits(self.back @ coefficients)
        named = {"beta": own[:, :-1], "bias_eta": own[:, -1]}
        if self.n_components:
            logit = u[:, self.n_sigma : self.n_variance]
            named |= {"sigma": sigma, "theta": theta, "theta_logit": logit}
        return named

    def log_priors(self, u: FloatArray) -> tuple[dict[str, FloatArray], FloatArray]:
        """Return the log prior of every parameter by name and the log Jacobian, (N,) each."""
        return self._log_priors(*self._split(u))

    def log_prior_at(self, u: FloatArray) -> FloatArray:
        """Return their sum (N,), the priors' part of the density at ``u`` (N, K)."""
        parts, jacobian = self.log_priors(u)
        return np.asarray(jacobian + sum(parts.values()))

    def prior_slopes_at(self, u: FloatArray) -> FloatArray:
        """Return the gradients (N, K) of that sum."""
        sigma, theta, coefficients = self._split(u)
        by_sigma, by_theta, slope = self.priors.slopes_in_u(
            sigma, theta, self.stated @ coefficients
        )
        parts = [by_sigma[:, : self.n_sigma], by_theta, self.stated.T @ slope]
        return np.concatenate([part.reshape(len(u), -1) for part in parts], axis=1)

    def log_prior(self, variances: Variances, coefficients: FloatArray) -> float:
        """Return the same sum at one point."""
        parts, jacobian = self._log_priors(variances.sigma, variances.theta, coefficients)
        return float(jacobian + sum(parts.values()))

    def prior_gradient(self, variances: Variances, coefficients: FloatArray) -> FloatArray:
        """Return its gradient in ``u``, (K,)."""
        own = self.stated @ coefficients
        by_sigma, by_theta, slope = self.priors.slopes_in_u(variances.sigma, variances.theta, own)
        return self.pack(by_sigma, by_theta, self.stated.T @ slope)

    def _split(self, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return sigma and theta (N, C) and the coefficients (N, F+1, Q)."""
        theta = expit(u[:, self.n_sigma : self.n_variance])
        coefficients = u[:, self.n_variance :].reshape(len(u), *self.free.shape)
        if self.fixed_sigma is None:
            return np.exp(u[:, : self.n_sigma]), theta, coefficients
        return np.repeat(self.fixed_sigma[None], len(u), axis=0), theta, coefficients

    def _log_priors(
        self, sigma: FloatArray, theta: FloatArray, coefficients: FloatArray
    ) -> tuple[dict[str, FloatArray], FloatArray]:
        free_sigma = sigma if self.n_sigma else None
        own = self.stated @ coefficients
        parts = self.priors.by_name(own, theta if self.n_components else None, free_sigma)
        proper = self.priors.coefficients.proper
        sizes = (len(self.free) - 1) * proper[0], int(proper[1])
        for name, rows in zip(("beta", "bias_eta"), sizes, strict=True):
            parts[name] = parts[name] - rows * self.turn.log_det  # a density of the logits
        return parts, self.priors.log_jacobian(theta, free_sigma)
