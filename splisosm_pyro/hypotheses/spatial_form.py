"""The distribution of ``sum_{s != t} V_st r_s' r_t`` for scores r of a fitted null.

``r = P z``, ``z ~ N(0, J)`` independent over spots, ``P = I - J X (X' J X)^-1 X'``: coefficients
were fitted. With ``Z`` an orthonormal basis of ``J^1/2 X`` and ``d = diag V``, the form is
``sum_i lambda_i Z_i^2``, lambda the eigenvalues of

    C = J^1/2 (V - d) J^1/2        projected on what is orthogonal to Z.

For few spots, or a dense V, these are computed. Otherwise nothing of size n x n is formed: the
largest ``LEADING`` come from products with V (Lanczos), and a gamma distribution that keeps mean,
variance and third cumulant of the whole form stands for all others: tails are then right to 5e-3,
however far out. These cumulants are exact, from factors of ``H = V^-1 - G``, the engine's matrix
with information of the other sign: with ``E = I + 2 t d J`` and ``G = 2 t J E^-1``

    -2 K(t) = log|E| + log|I - V G| + log|Z' M^-1 Z|,    M = I - 2 t C = E - 2 t J^1/2 V J^1/2,

its blocks give ``K'`` about t = 0, whose differences are the rest.
"""

import math
from functools import cached_property

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from splisosm_pyro.hypotheses.quadratic_form import QuadraticForm
from splisosm_pyro.hypotheses.white_null import WhiteNull
from splisosm_pyro.maths.covariance.dense import DenseKernel
from splisosm_pyro.maths.covariance.kernel import Factor, FieldSystem, Kernel
from splisosm_pyro.maths.covariance.sparse import SparseKernel
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

# Up to so many scores (n Q) all eigenvalues are computed.
MOST_EIGENVALUES = 1000
# Of more, so many.
LEADING = 60
# Differences of K', in units of the distance over which it changes.
STEP, WIDE_STEP = 1e-3, 1e-2
# Eigenvalues below this share of a spot's information are rounding.
NO_SPREAD = 1e-10
# Of the variance, that much is left to the gamma at least; it is no more symmetric than this.
LITTLE = 1e-6
# What is left of a column of J^1/2 X that other columns span.
DEPENDENT = 1e-9


def spatial_form(kernel: Kernel, null: WhiteNull) -> float:
    """Return ``sum_{s != t} V_st r_s' r_t``, isoforms' own scores summed over."""
    r, occupied = null.score, null.occupied
    through = kernel.smooth(r, occupied)[occupied]
    own = prior_variances(kernel, occupied)[:, None] * r
    return float(np.vdot(r, through - own))


def prior_variances(kernel: Kernel, occupied: IndexArray) -> FloatArray:
    """Return the diagonal (n,) of V_smooth at the occupied spots."""
    if isinstance(kernel, SparseKernel):
        return np.ones(occupied.size)
    nothing = np.zeros((occupied.size, 1, 1))
    return np.asarray(kernel.system(occupied, 1).factorise(nothing).blocks()[:, 0, 0])


def null_form(
    kernel: Kernel, null: WhiteNull, most_eigenvalues: int = MOST_EIGENVALUES
) -> QuadraticForm | None:
    """Return the form's distribution under the null; None if it is 0 whatever the scores."""
    if isinstance(kernel, DenseKernel) or null.score.size <= most_eigenvalues:
        eigenvalues = null_eigenvalues(kernel, null)
        scale = float(np.einsum("sqq->s", null.information).max())
        spread = np.abs(eigenvalues).max(initial=0.0)
        return QuadraticForm.of(eigenvalues) if spread > NO_SPREAD * scale else None
    return FactoredForm(kernel, null).led()


def occupied_covariance(kernel: Kernel, occupied: IndexArray) -> FloatArray:
    """Return V (n, n) at the occupied spots, its diagonal set to 0."""
    if isinstance(kernel, SparseKernel):
        cov = kernel.system(occupied, 1, form="dense").cov.copy()  # type: ignore[union-attr]
    else:
        cov = kernel.smooth(np.eye(occupied.size), occupied)[occupied]
    np.fill_diagonal(cov, 0.0)
    return np.asarray(cov)


def null_eigenvalues(kernel: Kernel, null: WhiteNull) -> FloatArray:
    """Return all n Q eigenvalues; (n Q)^3."""
    off = occupied_covariance(kernel, null.occupied)
    n, q = null.score.shape
    root = _Roots(null.information)
    half = root.of(np.sqrt(root.values))
    C = half.reshape(n * q, q) @ half.transpose(1, 0, 2).reshape(q, n * q)
    C = (C.reshape(n, q, n, q) * off[:, None, :, None]).reshape(n * q, n * q)
    Z = orthonormal(half @ null.design)
    flat = Z.reshape(n * q, -1)
    through = C @ flat
    C -= flat @ through.T + through @ flat.T - flat @ (flat.T @ through) @ flat.T
    return np.asarray(np.linalg.eigvalsh(0.5 * (C + C.T)))


class _Roots:
    """Functions of the blocks J (n, Q, Q) by their eigenvalues."""

    def __init__(self, blocks: FloatArray) -> None:
        values, self.vectors = np.linalg.eigh(blocks)
        self.values: FloatArray = np.maximum(values, 0.0)

    def of(self, values: FloatArray) -> FloatArray:
        """Return the blocks with these eigenvalues (n, Q)."""
        return np.asarray((self.vectors * values[:, None, :]) @ self.vectors.transpose(0, 2, 1))


def orthonormal(columns: FloatArray) -> FloatArray:
    """Return an orthonormal basis (n, Q, k) of the columns (n, Q, K), k their rank."""
    n, q, k = columns.shape
    flat = columns.reshape(n * q, k)
    size = np.sqrt((flat**2).sum(axis=0))
    flat = flat[:, size > 0.0] / size[size > 0.0]
    if not flat.size:
        return np.zeros((n, q, 0))
    basis, share, _ = np.linalg.svd(flat, full_matrices=False)
    basis = basis[:, share > DEPENDENT * share[0]]
    return np.ascontiguousarray(basis).reshape(n, q, -1)


class FactoredForm:
    """The form of many spots, by the kernel's products and factors."""

    def __init__(self, kernel: Kernel, null: WhiteNull) -> None:
        self.kernel, self.null = kernel, null
        self.roots = _Roots(null.information)
        self.half = self.roots.of(np.sqrt(self.roots.values))
        self.Z = orthonormal(self.half @ null.design)
        self.d = prior_variances(kernel, null.occupied)[:, None]

    def led(self) -> QuadraticForm:
        """Return the leading eigenvalues, and a gamma with the other cumulants of the form."""
        top = self.leading(min(LEADING, self.null.score.size - 1))
        top = top[top > 0.0]
        mean, variance, third = self.cumulants()
        variance = max(variance - 2.0 * float((top**2).sum()), LITTLE * variance)
        third -= 8.0 * float((top**3).sum())
        value = third / (4.0 * variance)  # one eigenvalue, with weight, has both
        if abs(value) < LITTLE * math.sqrt(variance):
            value = LITTLE * math.sqrt(variance)
        weight = variance / (2.0 * value**2)
        shift = mean - float(top.sum()) - weight * value
        return QuadraticForm(np.append(top, value), np.append(np.ones(top.size), weight), shift)

    def leading(self, number: int) -> FloatArray:
        """Return the largest eigenvalues, by products with V alone."""
        size = self.null.score.size
        operator = LinearOperator((size, size), matvec=self._times, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(size)
        return np.asarray(
            eigsh(operator, k=number, which="LA", v0=start, return_eigenvectors=False)
        )

    def _times(self, flat: FloatArray) -> FloatArray:
        """Multiply by C, projected on both sides."""
        x = self._project(flat.reshape(self.null.score.shape))
        b = (self.half @ x[:, :, None])[:, :, 0]
        through = (self.half @ self._across(b)[:, :, None])[:, :, 0]
        return self._project(through).ravel()

    def _project(self, x: FloatArray) -> FloatArray:
        """Take off what Z spans."""
        return np.asarray(x - self.Z @ np.tensordot(self.Z, x, axes=((0, 1), (0, 1))))

    def _across(self, b: FloatArray) -> FloatArray:
        """``(V - d) b`` at the occupied spots for b (n, Q) or (n, Q, k)."""
        occupied, flat = self.null.occupied, b.reshape(len(b), -1)
        through = self.kernel.smooth(flat, occupied)[occupied] - self.d * flat
        return np.asarray(through.reshape(b.shape))

    @cached_property
    def system(self) -> FieldSystem:
        """The kernel at the occupied spots; a sparse one stays sparse."""
        occupied, n_logits = self.null.occupied, self.null.score.shape[1]
        if isinstance(self.kernel, SparseKernel):
            return self.kernel.system(occupied, n_logits, form="sparse")
        return self.kernel.system(occupied, n_logits)

    def cumulants(self) -> tuple[float, float, float]:
        """Return the first three; a rough variance says how long the other steps are.

        Raises
        ------
        NotPositiveDefinite
            If a step leaves the domain of K.
        """
        step, variance = STEP / max(float((self.d * self.roots.values).max()), 1e-300), 0.0
        for _ in range(2):
            variance = (self.slope(step) - self.slope(-step)) / (2.0 * step)
            step = STEP / math.sqrt(max(variance, 1e-300))
        mean, wide = self.slope(0.0), WIDE_STEP / math.sqrt(variance)
        third = (self.slope(wide) - 2.0 * mean + self.slope(-wide)) / wide**2
        return mean, variance, third

    def slope(self, t: float) -> float:
        """Return ``K'(t)`` near t = 0."""
        j = self.roots.values
        e = 1.0 + 2.0 * t * self.d * j
        factor = self.system.factorise(self.roots.of(-2.0 * t * j / e))
        slope = float(np.vdot(factor.blocks(), self.roots.of(j / e**2)))
        slope -= float((self.d * j / e).sum())
        return slope + self._of_coefficients(t, e, factor)

    def _of_coefficients(self, t: float, e: FloatArray, factor: Factor) -> float:
        """Return what the fitted coefficients add to ``K'``, ``U = M^-1 Z``."""
        across = self.roots.of(np.sqrt(self.roots.values) / e)
        U = self.roots.of(1.0 / e) @ self.Z + 2.0 * t * across @ factor.solve(across @ self.Z)
        b = self.half @ U
        inner = np.tensordot(self.Z, U, axes=((0, 1), (0, 1)))
        quad = np.tensordot(b, self._across(b), axes=((0, 1), (0, 1)))
        return -float(np.trace(np.linalg.solve(inner, quad)))
