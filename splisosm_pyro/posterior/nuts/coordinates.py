"""Coordinates in which a posterior has neither tails nor a funnel, for chains to move in.

From the outer parameters ``u`` the coefficients become those of attenuated ratios
(``attenuated_coefficients.py``), and log sigma and theta_logit become ``x`` with

    Phi(x) = P(parameter <= that of u)

under their own priors. Where the counts say little, as on the way to sigma = 0, to theta = 0 and to
theta = 1, a posterior with long tails in ``u`` is then as short-tailed as a normal one. As a larger
sigma may still spread the coefficients, they are taken about a line in the variance parameters
``v``, in a scale that is log-linear in them,

    x = [v, (1, v) M + exp(v A) b],

and in the end draws have mean 0 and covariance I.

The distribution functions are sums over a fine grid, kept as logarithms, with an exponential tail
beyond the box; ``u(x)`` is a cubic spline through it. A density in ``x`` has the spline's own
derivative, so that its errors cancel.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtri_exp

from splisosm_pyro.fit.search.quasi_newton import Box
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.outer import OuterDensity
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedCoefficients

# Of the fit of the coefficients' scale: share added to the information, steps, and the largest
# squared residual in units of its expectation.
RIDGE, SCORING_STEPS, LARGEST_SQUARE = 0.05, 8, 10.0
# Nodes of the grid over the box, and the largest |x| that it covers.
NODES = 1000
FARTHEST = 30.0
# Nodes that are nearer to each other than this in x are one.
LEAST_GAP = 1e-9
# A tail beyond the box falls at least so fast, in nats a unit.
FLATTEST = 1e-3


@dataclass(frozen=True, eq=False)
class NormalScores:
    """The map from ``x`` to ``u``; ``splines`` are those of the leading coordinates."""

    splines: list[CubicSpline]
    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of(cls, density: OuterDensity) -> "NormalScores":
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


@dataclass(frozen=True, eq=False)
class Shear:
    """The map from ``[v, b]`` to ``x``; ``v`` is about ``middle`` (k,).

    ``line`` (k+1, K-k) is M, the constant first, and ``growth`` (k, K-k) is A.
    """

    middle: FloatArray
    line: FloatArray
    growth: FloatArray

    @classmethod
    def of(cls, x: FloatArray, n_variance: int) -> "Shear":
        """Fit draws (N, K) by least squares and by Fisher scoring."""
        v, B = x[:, :n_variance], x[:, n_variance:]
        middle = v.mean(axis=0)
        design = np.column_stack([np.ones(len(v)), v - middle])
        information = design.T @ design
        line = np.asarray(np.linalg.solve(information, design.T @ B), dtype=np.float64)
        square = (B - design @ line) ** 2
        log_scale = np.zeros_like(line)
        log_scale[0] = 0.5 * np.log(square.mean(axis=0))
        information[np.diag_indices_from(information)] *= 1.0 + RIDGE
        for _ in range(SCORING_STEPS):
            excess = np.minimum(square * np.exp(-2.0 * (design @ log_scale)), LARGEST_SQUARE) - 1.0
            log_scale += 0.5 * np.linalg.solve(information, design.T @ excess)
        return cls(middle, line, log_scale[1:])

    def forward(self, vb: FloatArray) -> FloatArray:
        """Return ``x`` (*, K) at ``[v, b]`` (*, K)."""
        v, b = self._parts(vb)
        B = self.line[0] + v @ self.line[1:] + np.exp(v @ self.growth) * b
        return np.concatenate([vb[..., : self.middle.size], B], axis=-1)

    def backward(self, x: FloatArray) -> FloatArray:
        """Return ``[v, b]`` (*, K) at ``x`` (*, K)."""
        v, B = self._parts(x)
        b = np.exp(-(v @ self.growth)) * (B - self.line[0] - v @ self.line[1:])
        return np.concatenate([x[..., : self.middle.size], b], axis=-1)

    def log_det(self, vb: FloatArray) -> FloatArray:
        """Return ``log |dx / d[v, b]|`` (*,)."""
        return np.asarray((self._parts(vb)[0] @ self.growth).sum(axis=-1))

    def pulled(self, vb: FloatArray, slope: FloatArray) -> FloatArray:
        """Return the gradient in ``[v, b]`` (K,), with the Jacobian's, of a density in ``x``."""
        v, b = self._parts(vb)
        by_v, by_b = slope[: v.size], slope[v.size :] * np.exp(v @ self.growth)
        by_v = by_v + self.line[1:] @ slope[v.size :] + self.growth @ (by_b * b + 1.0)
        return np.concatenate([by_v, by_b])

    def _parts(self, vb: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Split at k, ``v`` about its middle."""
        return vb[..., : self.middle.size] - self.middle, vb[..., self.middle.size :]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map from ``z`` to ``u``: ``attenuated(scores(shear(centre + root z)))``."""

    attenuated: AttenuatedCoefficients
    scores: NormalScores
    shear: Shear
    centre: FloatArray
    root: FloatArray

    @classmethod
    def of(
        cls, attenuated: AttenuatedCoefficients, scores: NormalScores, draws: FloatArray
    ) -> "Coordinates":
        """Choose them by draws (N, K) of ``u``."""
        x = scores.from_u(attenuated.from_u(draws))
        shear = Shear.of(x, attenuated.space.n_variance)
        vb = shear.backward(x)
        root = np.asarray(np.linalg.cholesky(np.atleast_2d(np.cov(vb.T))), dtype=np.float64)
        return cls(attenuated, scores, shear, vb.mean(axis=0), root)

    def to_u(self, z: FloatArray) -> FloatArray:
        """Return ``u`` (*, K) at ``z`` (*, K)."""
        return self.attenuated.to_u(self.scores.to_u(self.shear.forward(self._vb(z))))

    def from_u(self, u: FloatArray) -> FloatArray:
        """Return ``z`` (N, K) at ``u`` (N, K)."""
        vb = self.shear.backward(self.scores.from_u(self.attenuated.from_u(u)))
        return np.asarray(np.linalg.solve(self.root, (vb - self.centre).T).T)

    def inside(self, z: FloatArray) -> bool:
        """Whether there is a ``u``."""
        return self.scores.inside(self.shear.forward(self._vb(z)))

    def log_det(self, z: FloatArray) -> float:
        """Return ``log |du / dz|`` at one ``z`` (K,), up to a constant."""
        x = self.shear.forward(self._vb(z))
        rate, _ = self.scores.rates(x)
        apart = self.attenuated.log_det(self.scores.to_u(x)) + float(
            self.shear.log_det(self._vb(z))
        )
        return float(np.log(rate).sum()) + apart

    def pulled(self, z: FloatArray, slope: FloatArray) -> FloatArray:
        """Return the gradient in ``z`` (K,), with the Jacobian's, of a density in ``u``."""
        vb = self._vb(z)
        x = self.shear.forward(vb)
        y, (rate, bend) = self.scores.to_u(x), self.scores.rates(x)
        by_y = slope @ self.attenuated.slope(
            self.attenuated.to_u(y)
        ) + self.attenuated.log_det_slope(y)
        return np.asarray(self.root.T @ self.shear.pulled(vb, by_y * rate + bend))

    def _vb(self, z: FloatArray) -> FloatArray:
        """Undo the whitening."""
        return self.centre + z @ self.root.T


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
