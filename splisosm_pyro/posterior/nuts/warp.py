"""Coordinates of the outer parameters in which the priors of sigma and theta are normal.

``u = [log sigma, theta_logit, B]`` becomes ``x``, each of the first with

    Phi(x) = P(parameter <= that of u)

under its own prior; ``B`` stays. Where the counts say little, as on the way to sigma = 0, to
theta = 0 and to theta = 1, a posterior with long tails in ``u`` is then as short-tailed as a normal
one, and chains need not know of tails. The distribution functions are sums over a
fine grid, kept as logarithms, with an exponential tail beyond the box; ``u(x)`` is a cubic spline
through it. A density in ``x`` has the spline's own derivative, so that its errors cancel.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtri_exp

from splisosm_pyro.fit.search.quasi_newton import Box
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.outer import OuterDensity

# Nodes of the grid over the box, and the largest |x| that it covers.
NODES = 1000
FARTHEST = 30.0
# Nodes that are nearer to each other than this in x are one.
LEAST_GAP = 1e-9
# A tail beyond the box falls at least so fast, in nats a unit.
FLATTEST = 1e-3


@dataclass(frozen=True, eq=False)
class Warp:
    """The map from ``x`` to ``u``; ``splines`` are those of the leading coordinates."""

    splines: list[CubicSpline]
    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of(cls, density: OuterDensity) -> "Warp":
        """Build the map of a density's priors."""
        space, box = density.space, density.space.box()
        splines = []
        for first, count in ((0, space.n_sigma), (space.n_sigma, space.n_components)):
            if count:  # components have the same prior
                grid = np.linspace(box.lower[first], box.upper[first], NODES)
                splines += [_spline(grid, _log_prior(density, box, first, grid))] * count
        lower, upper = box.lower.copy(), box.upper.copy()
        lower[: len(splines)] = [spline.x[0] for spline in splines]
        upper[: len(splines)] = [spline.x[-1] for spline in splines]
        return cls(splines, lower, upper)

    def to_u(self, x: FloatArray) -> FloatArray:
        """Return ``u`` (*, K) at ``x`` (*, K)."""
        u = np.array(x)
        for k, spline in enumerate(self.splines):
            u[..., k] = spline(x[..., k])
        return u

    def from_u(self, u: FloatArray) -> FloatArray:
        """Return ``x`` (*, K) at ``u`` (*, K), at most at the ends of the splines."""
        x = np.array(u)
        for k, spline in enumerate(self.splines):
            x[..., k] = np.interp(u[..., k], spline(spline.x), spline.x)
        return x

    def rates(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ``du/dx`` and the derivative of its logarithm, (K,) each, at ``x`` (K,)."""
        rate, bend = np.ones(x.size), np.zeros(x.size)
        for k, spline in enumerate(self.splines):
            rate[k] = spline(x[k], 1)
            bend[k] = spline(x[k], 2) / rate[k]
        return rate, bend

    def inside(self, x: FloatArray) -> bool:
        """Whether there is a ``u``."""
        return bool(((self.lower <= x) & (x <= self.upper)).all())


def _log_prior(density: OuterDensity, box: Box, k: int, grid: FloatArray) -> FloatArray:
    """Log prior of coordinate ``k`` of ``u`` along the grid, up to a constant."""
    u = np.tile(0.5 * (box.lower + box.upper), (grid.size, 1))
    u[:, k] = grid
    return density.space.log_prior_at(u)


def _spline(grid: FloatArray, log_density: FloatArray) -> CubicSpline:
    """Return ``u(x)`` of a density along a grid."""
    below, above = _log_sums(grid, log_density), _log_sums(-grid[::-1], log_density[::-1])[::-1]
    total = np.logaddexp(below, above).max()
    x = np.where(below < above, ndtri_exp(below - total), -ndtri_exp(above - total))
    keep = np.abs(x) <= FARTHEST
    keep &= np.append(True, np.diff(np.maximum.accumulate(x)) > LEAST_GAP)
    return CubicSpline(x[keep], grid[keep])


def _log_sums(grid: FloatArray, log_density: FloatArray) -> FloatArray:
    """Log of the integral up to every node, an exponential tail before the first included."""
    step = grid[1] - grid[0]
    tail = -np.inf
    if np.isfinite(log_density[:2]).all():
        slope = (log_density[1] - log_density[0]) / step
        tail = log_density[0] - np.log(max(slope, FLATTEST))
    cells = np.logaddexp(log_density[1:], log_density[:-1]) + np.log(0.5 * step)
    return np.asarray(np.logaddexp.accumulate(np.append(tail, cells)))
