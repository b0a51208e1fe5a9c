"""Outer parameters in which the likelihood bends little: coefficients of averaged ratios.

Over a logit ``B + nu`` with ``nu ~ N(0, sigma^2)`` ratios average about as at

    b = B / sqrt(1 + c^2 sigma^2),   c = 16 sqrt(3) / (15 pi)

(Zeger, Liang and Albert, 1988, doi:10.2307/2531734), and where counts are few they say nothing but
that average. So ``y = [log sigma, theta_logit, b]``: a larger sigma hardly moves or spreads ``b``.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.outer import LEAST_CURVATURE, OuterDensity

ATTENUATION = (16.0 * math.sqrt(3.0) / (15.0 * math.pi)) ** 2
# The step of the differences near a mode.
NEAR_STEP = 0.03


@dataclass(frozen=True, eq=False)
class AttenuatedCoefficients:
    """The map between ``u`` and ``y``."""

    space: OuterSpace

    def stretch(self, v: FloatArray) -> FloatArray:
        """Return ``B / b`` of every coefficient (*, K - k) at vectors ``v`` (*, K).

        Either ``u`` or ``y``: the first k, the variance parameters, are the same.
        """
        n_rows, n_sigma = len(self.space.free), self.space.n_sigma
        if not n_sigma:
            return np.ones(1)
        grown = np.sqrt(1.0 + ATTENUATION * np.exp(2.0 * v[..., :n_sigma]))
        each = np.ones(self.space.free.shape[1]) * grown  # a logit
        return np.concatenate([each] * n_rows, axis=-1)[..., self.space.free.ravel()]

    def from_u(self, u: FloatArray) -> FloatArray:
        """Return ``y`` (*, K) at ``u`` (*, K)."""
        k = self.space.n_variance
        return np.concatenate([u[..., :k], u[..., k:] / self.stretch(u)], axis=-1)

    def to_u(self, y: FloatArray) -> FloatArray:
        """Return ``u`` (*, K) at ``y`` (*, K)."""
        k = self.space.n_variance
        return np.concatenate([y[..., :k], y[..., k:] * self.stretch(y)], axis=-1)

    def slope(self, u: FloatArray) -> FloatArray:
        """Return ``du / dy`` (K, K) at one ``u`` (K,)."""
        k, stretch, out = self.space.n_variance, self.stretch(u), np.eye(u.size)
        at = np.arange(k, u.size)
        out[at, at] = stretch
        if self.space.n_sigma:
            component = (at - k) % self.space.free.shape[1] if self.space.n_sigma > 1 else 0
            out[at, component] = u[k:] * (1.0 - stretch**-2.0)
        return out

    def log_det(self, y: FloatArray) -> float:
        """Return ``log |du / dy|`` at one ``y`` (K,)."""
        return float(np.log(self.stretch(y)).sum()) if self.space.n_sigma else 0.0

    def log_det_slope(self, y: FloatArray) -> FloatArray:
        """Return its gradient (K,)."""
        out, n_sigma = np.zeros(y.size), self.space.n_sigma
        if n_sigma:
            out[:n_sigma] = (1.0 - self.stretch(y) ** -2.0).reshape(-1, n_sigma).sum(axis=0)
        return out


@dataclass(frozen=True, eq=False)
class AttenuatedDensity:
    """An outer density of ``u`` as a function of ``y`` to be climbed; it has the same maximum."""

    density: OuterDensity

    @property
    def space(self) -> OuterSpace:
        """The bounds of ``y``, those of ``u``."""
        return self.density.space

    @property
    def coordinates(self) -> AttenuatedCoefficients:
        """The map between ``u`` and ``y``."""
        return AttenuatedCoefficients(self.density.space)

    def value(self, y: FloatArray, near: Evaluation[Any] | None) -> tuple[float, Any]:
        """Return the log density of ``u`` at ``y``."""
        return self.density.value(self.coordinates.to_u(y), near)

    def gradient(self, y: FloatArray, state: Any) -> tuple[FloatArray, Any]:
        """Return its gradient in ``y``."""
        u = self.coordinates.to_u(y)
        slope, state = self.density.gradient(u, state)
        return slope @ self.coordinates.slope(u), state

    def information(self, at: Evaluation[Any]) -> FloatArray:
        """Return a first guess of the negative Hessian.

        Near the mode, that of the variance parameters by differences: some steps less are taken.
        """
        u, k = self.coordinates.to_u(at.u), self.space.n_variance
        turned = self.coordinates.slope(u)
        there = Evaluation(u, at.value, at.gradient, at.state)
        information = turned.T @ self.density.information(there) @ turned
        if self.density.near is None:
            return np.asarray(information)
        information[:k] = [self._bend(at, i) for i in range(k)]
        information[k:, :k] = information[:k, k:].T
        values, vectors = np.linalg.eigh(information)
        return np.asarray((vectors * np.maximum(np.abs(values), LEAST_CURVATURE)) @ vectors.T)

    def _bend(self, at: Evaluation[Any], i: int) -> FloatArray:
        """Return how fast the gradient falls along coordinate i, (K,)."""
        y = at.u.copy()
        y[i] += NEAR_STEP
        _, state = self.value(y, at)
        return (at.gradient - self.gradient(y, state)[0]) / NEAR_STEP
