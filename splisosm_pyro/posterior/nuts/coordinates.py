"""Coordinates in which a posterior has neither tails nor a funnel, for chains to move in.

From the outer parameters ``u`` the coefficients become those of averaged ratios (``averaged.py``)
and the variance parameters such that their priors are normal (``warp.py``); then, as a larger sigma
may still spread the coefficients, they are taken about a line in the variance parameters ``v``, in
a scale that is log-linear in them,

    x = [v, (1, v) M + exp(v A) b],

and in the end draws have mean 0 and covariance I.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import Averaged
from splisosm_pyro.posterior.nuts.warp import Warp

# Of the fit of the coefficients' scale: share added to the information, steps, and the largest
# squared residual in units of its expectation.
RIDGE, SCORING_STEPS, LARGEST_SQUARE = 0.05, 8, 10.0


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
    """The map from ``z`` to ``u``: ``averaged(warp(shear(centre + root z)))``."""

    averaged: Averaged
    warp: Warp
    shear: Shear
    centre: FloatArray
    root: FloatArray

    @classmethod
    def of(cls, averaged: Averaged, warp: Warp, draws: FloatArray) -> "Coordinates":
        """Choose them by draws (N, K) of ``u``."""
        x = warp.from_u(averaged.from_u(draws))
        shear = Shear.of(x, averaged.space.n_variance)
        vb = shear.backward(x)
        root = np.asarray(np.linalg.cholesky(np.atleast_2d(np.cov(vb.T))), dtype=np.float64)
        return cls(averaged, warp, shear, vb.mean(axis=0), root)

    def to_u(self, z: FloatArray) -> FloatArray:
        """Return ``u`` (*, K) at ``z`` (*, K)."""
        return self.averaged.to_u(self.warp.to_u(self.shear.forward(self._vb(z))))

    def from_u(self, u: FloatArray) -> FloatArray:
        """Return ``z`` (N, K) at ``u`` (N, K)."""
        vb = self.shear.backward(self.warp.from_u(self.averaged.from_u(u)))
        return np.asarray(np.linalg.solve(self.root, (vb - self.centre).T).T)

    def inside(self, z: FloatArray) -> bool:
        """Whether there is a ``u``."""
        return self.warp.inside(self.shear.forward(self._vb(z)))

    def log_det(self, z: FloatArray) -> float:
        """Return ``log |du / dz|`` at one ``z`` (K,), up to a constant."""
        x = self.shear.forward(self._vb(z))
        rate, _ = self.warp.rates(x)
        apart = self.averaged.log_det(self.warp.to_u(x)) + float(self.shear.log_det(self._vb(z)))
        return float(np.log(rate).sum()) + apart

    def pulled(self, z: FloatArray, slope: FloatArray) -> FloatArray:
        """Return the gradient in ``z`` (K,), with the Jacobian's, of a density in ``u``."""
        vb = self._vb(z)
        x = self.shear.forward(vb)
        y, (rate, bend) = self.warp.to_u(x), self.warp.rates(x)
        by_y = slope @ self.averaged.slope(self.averaged.to_u(y)) + self.averaged.log_det_slope(y)
        return np.asarray(self.root.T @ self.shear.pulled(vb, by_y * rate + bend))

    def _vb(self, z: FloatArray) -> FloatArray:
        """Undo the whitening."""
        return self.centre + z @ self.root.T
