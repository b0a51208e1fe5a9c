"""A function of a few unknowns by interpolation, from few values and gradients.

It is written as the log density of a Gaussian plus a smooth remainder, in coordinates z in which
that Gaussian is standard, and the remainder as a Gaussian process of squared exponential
covariance, conditioned on values and gradients (Rasmussen and Williams, 2006, section 9.4). Far
from all points it falls back to the Gaussian.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled

# Candidates for the length over which the remainder varies, in sd of that Gaussian.
LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Variances of errors of values and gradients, as shares of the remainder's. Where trust fades they
# are (1 + d)^2 times those at a point d nats below the highest.
VALUE_NOISE, SLOPE_NOISE = 1e-5, 1e-4
# Points so many nats below the highest say nothing of the bulk.
DEEPEST = 20.0


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The interpolated log density of u = centre + root z.

    Attributes
    ----------
    centre, root
        (K,) and (K, K) of the Gaussian.
    level
        The log density of the Gaussian at its centre.
    nodes
        (n, K) points in z.
    length, coefficients
        Of the remainder: its length, and (n (K + 1),) what multiplies the covariances with values
        and gradients at the nodes.
    """

    centre: FloatArray
    root: FloatArray
    level: float
    nodes: FloatArray
    length: float
    coefficients: FloatArray

    @classmethod
    def through(
        cls,
        points: FloatArray,  # (n, K)
        values: FloatArray,  # (n,)
        slopes: FloatArray,  # (n, K)
        centre: FloatArray,
        root: FloatArray,
        lengths: Sequence[float] = LENGTHS,
        *,
        fading: bool = False,
    ) -> "Surrogate":
        """Interpolate; points without a value, or far below the others, are left out.

        ``fading`` trust in points far below the others, lest what happens far out makes ripples in
        the bulk. The length is that of the highest evidence. Costs (n (K + 1))^3 / 3 for each.
        """
        used = values > values.max() - DEEPEST
        z = np.linalg.solve(root, (points[used] - centre).T).T
        level = float(values[used].max())
        rest = values[used] - level + 0.5 * (z**2).sum(axis=1)
        by_z = slopes[used] @ root + z
        data = np.concatenate([rest, by_z.T.ravel()])
        trust = (1.0 + level - values[used]) ** -2.0 if fading else np.ones(len(z))
        fits = [_conditioned(z, data, trust, length) for length in lengths]
        best = int(np.argmax([evidence for evidence, _ in fits]))
        return cls(centre, root, level, z, lengths[best], fits[best][1])

    def log_density(self, points: FloatArray) -> FloatArray:
        """Return the log density (N,) at points (N, K).

        Examples
        --------
        >>> u = np.linspace(-2.0, 2.0, 5)[:, None]
        >>> one = np.ones((1, 1))
        >>> cubic = Surrogate.through(u, u[:, 0] ** 3, 3 * u**2, np.zeros(1), one)
        >>> cubic.log_density(np.array([[0.5]])).round(1)
        array([0.1])
        """
        z = np.linalg.solve(self.root, (points - self.centre).T).T
        n, square = len(self.nodes), (z**2).sum(axis=1)
        apart = square[:, None] + (self.nodes**2).sum(axis=1) - 2.0 * z @ self.nodes.T
        base = np.exp(-0.5 * apart / self.length**2)
        lean = self.coefficients[n:].reshape(-1, n).T / self.length**2  # (n, K)
        weights = self.coefficients[:n] - (self.nodes * lean).sum(axis=1) + z @ lean.T
        return np.asarray(self.level - 0.5 * square + (base * weights).sum(axis=1))

    def with_slope(self, u: FloatArray) -> tuple[float, FloatArray]:
        """Return ``log_density`` at one point (K,), and its gradient."""
        z = self._inverse @ (u - self.centre)
        value, slope = _remainder(z, self.nodes, self.length, self.coefficients)
        value += self.level - 0.5 * float(z @ z)
        return value, np.asarray((slope - z) @ self._inverse)

    @cached_property
    def _inverse(self) -> FloatArray:
        """Of the root: one product a point."""
        return np.asarray(np.linalg.inv(self.root), dtype=np.float64)


@compiled
def _remainder(
    z: FloatArray, nodes: FloatArray, length: float, coefficients: FloatArray
) -> tuple[float, FloatArray]:
    """Give the interpolated remainder at ``z`` (K,) and its gradient."""
    n, value, slope = nodes.shape[0], 0.0, np.zeros(z.size)
    for i in range(n):
        square, weight = 0.0, coefficients[i]
        for k in range(z.size):
            apart = z[k] - nodes[i, k]
            square += apart * apart
            weight += apart * coefficients[n + k * n + i] / length**2
        base = math.exp(-0.5 * square / length**2) / length**2
        value += base * length**2 * weight
        for k in range(z.size):
            slope[k] += base * (coefficients[n + k * n + i] - weight * (z[k] - nodes[i, k]))
    return value, slope


def _conditioned(
    z: FloatArray, data: FloatArray, trust: FloatArray, length: float
) -> tuple[float, FloatArray]:
    """Return the log evidence, the variance profiled out, and the coefficients.

    ``trust`` (n,) divides the variances of the errors.
    """
    n, size = z.shape
    apart = z[:, None, :] - z
    base = np.exp(-0.5 * (apart**2).sum(axis=-1) / length**2)
    whole = np.empty((size + 1, n, size + 1, n))
    whole[0, :, 0] = base
    for i in range(size):
        whole[0, :, i + 1] = base * apart[:, :, i] / length**2
        whole[i + 1, :, 0] = -whole[0, :, i + 1]
        for j in range(size):
            curved = (i == j) / length**2 - apart[:, :, i] * apart[:, :, j] / length**4
            whole[i + 1, :, j + 1] = base * curved
    matrix = whole.reshape(data.size, -1)
    noise = np.repeat([VALUE_NOISE, SLOPE_NOISE / length**2], [n, n * size])
    noise /= np.tile(trust, size + 1)
    root = cholesky(matrix + np.diag(noise), lower=True)
    coefficients = cho_solve((root, True), data)
    variance = max(float(data @ coefficients) / data.size, 1e-12)
    evidence = -0.5 * data.size * np.log(variance) - np.log(root.diagonal()).sum()
    return float(evidence), coefficients
