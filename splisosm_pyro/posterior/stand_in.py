"""A cheap stand-in for an outer density: a multivariate t times its interpolated weights.

The points of ``proposal.py`` come with the density's values. A larger sigma spreads the
coefficients: they are taken about a line in the variance parameters ``v``, in a scale that is
log-linear in them,

    x = [v, (1, v) M + exp(v A) b].

In coordinates ``z`` in which the weighted points ``[v, b]`` have mean 0 and covariance I,

    log s(z) = log t(z) + m + sum_i a_i k(|z - z_i|),

a Gaussian process through the log weights ``log p - log t``. It returns to the t, whose tails are
heavy, where there is no point. The covariance ``k`` is Matern's with three derivatives (nu = 7/2);
its length is the likeliest of a few (Rasmussen and Williams, 2006, Gaussian Processes for Machine
Learning, sections 4.2 and 5.4). A chain that moves by it is corrected with the density itself
(``chains.py``), so that its errors cost draws and nothing else.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from splisosm_pyro.maths.compiled import compiled
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.proposal import DEGREES, WeightedPoints

LENGTHS = (2.0, 3.0, 4.5, 6.5, 10.0)
# Variance of what the values have beside the process, as a share of its own.
NOISE = 1e-5
# Log weights more than this below the largest are taken to be that far below.
DEPTH = 8.0
# Of the fit of the coefficients' scale: share added to the information, steps, and the largest
# squared residual in units of its expectation.
RIDGE, SCORING_STEPS, LARGEST_SQUARE = 0.05, 8, 10.0


@dataclass(frozen=True, eq=False)
class Shear:
    """The map from ``[v, b]`` to ``x = [v, B]``; ``v`` is about ``middle`` (k,).

    ``line`` (k+1, K-k) is M, the constant first, and ``growth`` (k, K-k) is A.
    """

    middle: FloatArray
    line: FloatArray
    growth: FloatArray

    @classmethod
    def of(cls, x: FloatArray, shares: FloatArray, n_variance: int) -> "Shear":
        """Fit the points (N, K) by weighted least squares and by Fisher scoring."""
        v, B = x[:, :n_variance], x[:, n_variance:]
        middle = np.asarray(shares @ v)
        design = np.column_stack([np.ones(len(v)), v - middle])
        information = (design.T * shares) @ design
        line = np.asarray(np.linalg.solve(information, (design.T * shares) @ B), dtype=np.float64)
        square = (B - design @ line) ** 2
        log_scale = np.zeros_like(line)
        log_scale[0] = 0.5 * np.log(shares @ square)
        information[np.diag_indices_from(information)] *= 1.0 + RIDGE
        for _ in range(SCORING_STEPS):
            excess = np.minimum(square * np.exp(-2.0 * (design @ log_scale)), LARGEST_SQUARE) - 1.0
            log_scale += 0.5 * np.linalg.solve(information, (design.T * shares) @ excess)
        return cls(middle, line, log_scale[1:])

    def forward(self, y: FloatArray) -> FloatArray:
        """Return ``x`` (*, K) at ``[v, b]`` (*, K)."""
        v = y[..., : self.middle.size] - self.middle
        b = y[..., self.middle.size :]
        B = self.line[0] + v @ self.line[1:] + np.exp(v @ self.growth) * b
        return np.concatenate([y[..., : self.middle.size], B], axis=-1)

    def backward(self, x: FloatArray) -> FloatArray:
        """Return ``[v, b]`` (*, K) at ``x`` (*, K)."""
        v = x[..., : self.middle.size] - self.middle
        apart = x[..., self.middle.size :] - self.line[0] - v @ self.line[1:]
        b = np.exp(-(v @ self.growth)) * apart
        return np.concatenate([x[..., : self.middle.size], b], axis=-1)

    def log_det(self, y: FloatArray) -> FloatArray:
        """Return ``log |dx / d[v, b]|`` (*,)."""
        return np.asarray(((y[..., : self.middle.size] - self.middle) @ self.growth).sum(axis=-1))


@dataclass(frozen=True, eq=False)
class StandIn:
    """``log s`` in coordinates ``z``, ``x = shear(centre + root z)``.

    Attributes
    ----------
    shear : Shear
    centre, root : ndarray, shapes (K,) and (K, K)
    points : ndarray, shape (N, K)
        In ``z``.
    level, weights, length
        ``m``, ``a`` (N,), and the length of ``k``.
    error : float
        Standard deviation, over the density, of ``log s`` at a point that is left out, in nats.
    """

    shear: Shear
    centre: FloatArray
    root: FloatArray
    points: FloatArray
    level: float
    weights: FloatArray
    length: float
    error: float

    @classmethod
    def through(cls, found: WeightedPoints, n_variance: int) -> "StandIn":
        """Interpolate the points, whose first coordinates are the variances'; O(N^3)."""
        shear = Shear.of(found.points, found.shares, n_variance)
        y = shear.backward(found.points)
        centre = found.shares @ y
        covariance = ((y - centre).T * found.shares) @ (y - centre)
        root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        z = np.asarray(np.linalg.solve(root, (y - centre).T).T, dtype=np.float64)
        log_weight = found.log_density + shear.log_det(y) - _log_t(z)
        log_weight = np.maximum(log_weight, log_weight.max() - DEPTH)
        level = float(found.shares @ log_weight)
        fits = [_process(z, log_weight - level, length) for length in LENGTHS]
        _, weights, left_out, length = min(fits, key=lambda fit: fit[0])
        error = float(np.sqrt(found.shares @ (left_out - found.shares @ left_out) ** 2))
        return cls(shear, centre, root, z, level, weights, length, error)

    def place(self, z: FloatArray) -> FloatArray:
        """Return ``x`` (*, K) at ``z`` (*, K)."""
        return self.shear.forward(self.centre + z @ self.root.T)

    def log_det(self, z: FloatArray) -> FloatArray:
        """Return ``log |dx / dz|`` (*,) up to a constant."""
        return self.shear.log_det(self.centre + z @ self.root.T)

    def with_slope(self, z: FloatArray) -> tuple[float, FloatArray]:
        """Return ``log s`` and its gradient in ``z``."""
        value, slope = _kriged(z, self.points, self.weights, self.length)
        square = DEGREES + float(z @ z)
        slope -= ((DEGREES + z.size) / square) * z
        return self.level + value + float(_log_t(z)), slope


@compiled
def _kriged(
    z: FloatArray, points: FloatArray, weights: FloatArray, length: float
) -> tuple[float, FloatArray]:
    """Give ``sum_i a_i k(|z - z_i|)`` and its gradient."""
    value, slope = 0.0, np.zeros(z.size)
    scale = math.sqrt(7.0) / length
    for i in range(points.shape[0]):
        square = 0.0
        for k in range(z.size):
            square += (z[k] - points[i, k]) ** 2
        s = scale * math.sqrt(square)
        decay = weights[i] * math.exp(-s)
        value += decay * (1.0 + s * (1.0 + s * (0.4 + s / 15.0)))
        pull = scale * scale / 15.0 * decay * (3.0 + s * (3.0 + s))
        for k in range(z.size):
            slope[k] -= pull * (z[k] - points[i, k])
    return value, slope


def _log_t(z: FloatArray) -> FloatArray:
    """Log density of the standard t (*,) at ``z`` (*, K), up to a constant."""
    size = z.shape[-1]
    return np.asarray(-0.5 * (DEGREES + size) * np.log1p((z**2).sum(axis=-1) / DEGREES))


def _process(
    z: FloatArray, y: FloatArray, length: float
) -> tuple[float, FloatArray, FloatArray, float]:
    """Return twice the negative log likelihood, ``a``, the left-out errors, the length."""
    square = ((z[:, None] - z) ** 2).sum(axis=-1)
    s = np.sqrt(7.0 * square) / length
    k = (1.0 + s * (1.0 + s * (0.4 + s / 15.0))) * np.exp(-s) + NOISE * np.eye(len(z))
    factor = cho_factor(k, lower=True)
    inverse = cho_solve(factor, np.eye(len(z)))
    weights = inverse @ y
    variance = max(float(y @ weights) / len(z), np.finfo(float).tiny)
    log_det = 2.0 * float(np.log(factor[0].diagonal()).sum())
    score = len(z) * np.log(variance) + log_det
    return score, weights, weights / inverse.diagonal(), length
