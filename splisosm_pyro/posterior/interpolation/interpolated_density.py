"""The outer density between few points, and what it says of the Gaussian at its mode.

The priors are known everywhere; only the likelihood, the field integrated out, is dear. It is
interpolated through its values and gradients by a Gaussian process (``gaussian_process.py``) in the
coordinates of ``attenuated_coefficients.py``, which is what makes few enough. Where there is no
point near it falls back to what it is at the mode, a quadratic that nowhere opens upwards. For the
check of the Gaussian the points are the mode and ``mean +- 2 sd`` along the columns of the
Gaussian's root.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import Weights, smoothed_weights
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.space import PosteriorSpace
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedCoefficients
from splisosm_pyro.posterior.interpolation.gaussian_process import Surrogate

# How far out the values lie, and the length over which the rest of the likelihood varies, in sd.
# Against 512 values each of 110 genes these did best.
REACH, LENGTH = 2.0, 3.0
# The likelihood is so many nats above its value at the best point at most.
MARGIN = 1.0
# In more dimensions this costs seconds; so many draws are then evaluated themselves.
MOST_AXES, CHECKED = 24, 64
# Step of the central differences that give the curvature of the priors.
PRIOR_STEP = 1e-4


class DensityWithSlope(Protocol):
    """An outer density, as far as it is needed here."""

    @property
    def space(self) -> PosteriorSpace:
        """What ``u`` means, with the priors."""
        ...

    def with_slope(
        self, u: FloatArray, near: Evaluation[Any], /
    ) -> tuple[float, FloatArray, object]:
        """Return the log density and its gradient, minus infinity where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class Interpolated:
    """A log density whose likelihood is interpolated in ``z``, ``y = centre + root z``.

    ``surrogate`` holds the likelihood plus ``-1/2 z' prior z``, which stands for the priors. The
    log likelihood is nowhere taken to be above ``highest``.
    """

    density: DensityWithSlope
    coordinates: AttenuatedCoefficients
    centre: FloatArray
    root: FloatArray
    prior: FloatArray
    surrogate: Surrogate
    highest: float

    @classmethod
    def about(cls, density: DensityWithSlope, mode: OuterMode) -> "Interpolated":
        """Evaluate the density about a mode; 2 K values and gradients at most."""
        points = mode.mean + _steps(mode, density.space)
        found = [density.with_slope(u, mode.at)[:2] for u in points]
        return cls.through(
            density,
            mode,
            np.vstack([mode.at.u, points]),
            np.array([mode.at.value, *(value for value, _ in found)]),
            np.stack([mode.at.gradient, *(slope for _, slope in found)]),
            (LENGTH,),
        )

    @classmethod
    def through(
        cls,
        density: DensityWithSlope,
        mode: OuterMode,
        points: FloatArray,  # (n, K)
        values: FloatArray,  # (n,)
        slopes: FloatArray,  # (n, K)
        lengths: Sequence[float],
        width: float = 1.0,
        *,
        fading: bool = False,
    ) -> "Interpolated":
        """Interpolate the points that have a value, about the Gaussian at a mode or a wider one."""
        space, coordinates = density.space, AttenuatedCoefficients(density.space)
        known = np.isfinite(values)
        points, values, slopes = points[known], values[known], slopes[known]
        values = values - space.log_prior_at(points)
        slopes = slopes - space.prior_slopes_at(points)
        centre, turned = coordinates.from_u(mode.mean), coordinates.slope(mode.mean)
        back = np.linalg.inv(turned)
        root = np.asarray(np.linalg.cholesky(back @ mode.covariance @ back.T), dtype=np.float64)
        root *= width
        prior = _at_most_all((turned @ root).T @ (_prior_curvature(density, mode) * turned) @ root)
        z = np.linalg.solve(root, (coordinates.from_u(points) - centre).T).T
        by_y = np.stack([s @ coordinates.slope(u) for s, u in zip(slopes, points, strict=True)])
        image = z @ prior
        surrogate = Surrogate.through(
            np.asarray(z),
            values - 0.5 * (image * z).sum(axis=1),
            np.asarray(by_y @ root - image),
            np.zeros(space.size),
            np.eye(space.size),
            lengths=lengths,
            fading=fading,
        )
        highest = float(values.max()) + MARGIN
        return cls(density, coordinates, centre, root, prior, surrogate, highest)

    @property
    def length(self) -> float:
        """Over which the remainder varies, in sd."""
        return self.surrogate.length

    def log_density(self, u: FloatArray) -> FloatArray:
        """Return the log density (N,) at ``u`` (N, K)."""
        return self._with_priors(u, self._log_lik(self._z(u)))

    def with_slope(self, u: FloatArray) -> tuple[float, FloatArray]:
        """Return ``log_density`` at one point (K,), and its gradient."""
        z = self._z(u[None])
        log_lik = self._log_lik(z)
        slope = self.density.space.prior_slopes_at(u[None])[0]
        if log_lik[0] < self.highest:
            by_z = self.surrogate.with_slope(z[0])[1] + self.prior @ z[0]
            by_y = np.linalg.solve(self.root.T, by_z)
            slope += np.linalg.solve(self.coordinates.slope(u).T, by_y)
        return float(self._with_priors(u[None], log_lik)[0]), slope

    def _with_priors(self, u: FloatArray, log_lik: FloatArray) -> FloatArray:
        """Add the priors at ``u`` (N, K) to the likelihood (N,), which has a top."""
        return np.minimum(log_lik, self.highest) + self.density.space.log_prior_at(u)

    def _z(self, u: FloatArray) -> FloatArray:
        """Return ``z`` (N, K) at ``u`` (N, K)."""
        apart = self.coordinates.from_u(u) - self.centre
        return np.asarray(np.linalg.solve(self.root, apart.T).T, dtype=np.float64)

    def _log_lik(self, z: FloatArray) -> FloatArray:
        """Return the likelihood (N,) as the surrogate has it."""
        image = np.asarray(z @ self.prior)
        return np.asarray(self.surrogate.log_density(z) + 0.5 * (image * z).sum(axis=1))


def _steps(mode: OuterMode, space: OuterSpace) -> FloatArray:  # (n, K)
    """Return the steps from the mode to where the density is evaluated.

    Along the last columns coefficients move alone. In a GLMM one side of them does, away from zero,
    where the likelihood flattens: the other changed nothing.
    """
    steps, both = REACH * np.linalg.cholesky(mode.covariance).T, space.n_variance or space.size
    outwards = np.where(mode.mean < 0.0, -1.0, 1.0)[both:, None] * steps[both:]
    return np.concatenate([steps[:both], -steps[:both], outwards])


def weighed(
    density: DensityWithSlope, mode: OuterMode, u: FloatArray, log_proposal: FloatArray
) -> tuple[FloatArray, Weights]:
    """Return the log density of draws (N, K) of the Gaussian at a mode, and their weights.

    ``log_proposal`` (N,) is the Gaussian's own log density up to a constant. With very many
    unknowns the density is evaluated at the first draws, NaN elsewhere, and the weights are those.
    """
    if density.space.size > MOST_AXES:
        log_density = np.full(len(u), np.nan)
        log_density[:CHECKED] = [density.with_slope(row, mode.at)[0] for row in u[:CHECKED]]
        return log_density, smoothed_weights((log_density - log_proposal)[:CHECKED])
    log_density = Interpolated.about(density, mode).log_density(u)
    box = density.space.box()
    inside = ((box.lower <= u) & (u <= box.upper)).all(axis=1)
    return log_density, smoothed_weights(np.where(inside, log_density - log_proposal, -np.inf))


def _prior_curvature(density: DensityWithSlope, mode: OuterMode) -> FloatArray:
    """Return the negative second derivatives (K, 1) of the log priors, which are independent."""
    pair = mode.mean + PRIOR_STEP * np.array([[1.0], [-1.0]])
    above, below = density.space.prior_slopes_at(pair)
    return np.asarray((below - above) / (2.0 * PRIOR_STEP))[:, None]


def _at_most_all(prior: FloatArray) -> FloatArray:
    """Return the priors' share of a curvature I, no more than all of it in any direction."""
    values, vectors = np.linalg.eigh(0.5 * (prior + prior.T))
    return np.asarray((vectors * np.minimum(values, 1.0)) @ vectors.T)
