"""Variance parameters: (log sigma, theta_logit) and the spatial and nugget variances they mean."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True)
class Variances:
    """``D = theta sigma^2`` and ``T = (1 - theta) sigma^2`` per logit, (Q,) each.

    ``residual`` is the part of the kernel that is a multiple of the identity (low-rank kernels): it
    acts as nugget, so the engine sees ``T + residual D``.
    """

    sigma: FloatArray  # (C,)
    theta: FloatArray  # (C,)
    n_logits: int
    residual: float = 0.0

    @classmethod
    def from_unconstrained(
        cls, log_sigma: FloatArray, theta_logit: FloatArray, n_logits: int, residual: float = 0.0
    ) -> "Variances":
        """Build from the coordinates of the outer search."""
        return cls(np.exp(log_sigma), expit(theta_logit), n_logits, residual)

    def _per_logit(self, values: FloatArray) -> FloatArray:
        return np.repeat(values, self.n_logits) if values.size == 1 else values

    @cached_property
    def spatial(self) -> FloatArray:
        """D, (Q,)."""
        return self._per_logit(self.theta * self.sigma**2)

    @cached_property
    def white(self) -> FloatArray:
        """T, (Q,): the nugget without the kernel's residual."""
        return self._per_logit((1.0 - self.theta) * self.sigma**2)

    @cached_property
    def nugget(self) -> FloatArray:
        """T + residual D, (Q,): all of the field that is white."""
        return self.white + self.residual * self.spatial

    def pull_back(
        self, d_log_spatial: FloatArray, d_nugget: FloatArray, d_white: FloatArray | float = 0.0
    ) -> tuple[FloatArray, FloatArray]:
        """Return d/d log sigma and d/d theta_logit, (C,) each.

        From ``D d/dD`` at fixed nugget, ``d/d nugget`` and, where something depends on T alone,
        ``d/dT`` as well, (Q,) each.
        """
        by_spatial = d_log_spatial + self.residual * self.spatial * d_nugget
        by_white = self.white * (d_nugget + d_white)
        by_sigma = 2.0 * (by_spatial + by_white)
        by_theta = (1.0 - self.theta) * by_spatial - self.theta * by_white
        if self.sigma.size == 1:
            return by_sigma.sum(keepdims=True), by_theta.sum(keepdims=True)
        return by_sigma, by_theta

    def directions(self, component: int) -> tuple[tuple[FloatArray, FloatArray], ...]:
        """Return (d log D, d nugget) (Q,) along log sigma and along theta_logit of a component."""
        mask = np.ones(self.n_logits)
        if self.sigma.size > 1:
            mask = np.eye(self.n_logits)[component]
        theta = self.theta[component]
        by_theta = -theta * self.white + (1.0 - theta) * self.residual * self.spatial
        return (2.0 * mask, 2.0 * self.nugget * mask), ((1.0 - theta) * mask, by_theta * mask)
