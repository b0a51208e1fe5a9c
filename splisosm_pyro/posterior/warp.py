"""Coordinates of the outer parameters in which the priors of sigma and theta are normal.

``u = [log sigma, theta_logit, B]`` becomes ``x``, each of the first with

    Phi(x) = P(parameter <= that of u)

under its own prior; ``B`` stays. Where the counts say little, as on the way to sigma = 0, to
theta = 0 and to theta = 1, a posterior with long tails in ``u`` is then as short-tailed as a normal
one, and chains and proposals need not know of tails. The distribution functions are sums over a
fine grid, kept as logarithms, with an exponential tail beyond the box; ``u(x)`` is a cubic spline
through it. A density in ``x`` has the spline's own derivative, so that its errors cancel.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtri_exp

from splisosm_pyro.fit.outer import Box, Evaluation
from splisosm_pyro.fit.smooth import MarginalState
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.outer_density import OuterDensity, added_log_prior

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
        """Return ``x`` (K,) at ``u`` (K,), at most at the ends of the splines."""
        x = u.copy()
        for k, spline in enumerate(self.splines):
            inside = np.clip(u[k], spline(spline.x[0]), spline(spline.x[-1]))
            x[k] = np.interp(inside, spline(spline.x), spline.x)
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


@dataclass(frozen=True, eq=False)
class WarpedDensity:
    """An outer density as one of ``x``; fields are looked for from that of ``at``."""

    density: OuterDensity
    warp: Warp
    at: Evaluation[MarginalState]

    def gaussian(self, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the Gaussian at ``at`` in ``x``: centre (K,) and covariance (K, K)."""
        centre = self.warp.from_u(self.at.u)
        rate, _ = self.warp.rates(centre)
        return centre, np.asarray(covariance / np.multiply.outer(rate, rate))

    def log_density(self, x: FloatArray, near: MarginalState) -> tuple[float, MarginalState | None]:
        """Return the log density at ``x``, minus infinity where there is none."""
        if not self.warp.inside(x):
            return -np.inf, None
        start = Evaluation(self.at.u, self.at.value, self.at.gradient, near)
        value, state = self.density.log_density(self.warp.to_u(x), start)
        rate, _ = self.warp.rates(x)
        if not (rate > 0.0).all():
            return -np.inf, None
        return value + float(np.log(rate).sum()), state

    def with_slope(self, x: FloatArray) -> tuple[float, FloatArray, MarginalState | None]:
        """Return ``log_density`` with its gradient, zero where there is no value."""
        value, state = self.log_density(x, self.at.state)
        if state is None:
            return value, np.zeros(x.size), None
        slope, state = self.density.gradient(self.warp.to_u(x), state)
        rate, bend = self.warp.rates(x)
        return value, slope * rate + bend, state


def _log_prior(density: OuterDensity, box: Box, k: int, grid: FloatArray) -> FloatArray:
    """Log prior of coordinate ``k`` of ``u`` along the grid, up to a constant."""
    space = density.space
    middle = 0.5 * (box.lower + box.upper)
    out = np.empty(grid.size)
    for i, value in enumerate(grid):
        middle[k] = value
        coefficients, variances = space.unpack(middle)
        out[i] = space.log_prior(variances, coefficients)
        out[i] += added_log_prior(space, density.priors, coefficients, variances)
    return out


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
