"""The posterior of the spatial field seen at the occupied spots, by one dense Cholesky factor.

The prior is ``w ~ N(0, V x I_Q)``, the data add the precision ``blockdiag(G_s)`` at the n occupied
spots, and the posterior precision is ``H = K x I_Q + blockdiag(G)`` with ``K = V^-1``. With
``G = R R`` (symmetric square roots) and ``B = I + R V_oo R`` on the occupied spots alone,

    log|H| - Q log|K| = log|B|
    H^-1 b            = V (b - R B^-1 R V b)
    P_s               = V_ss I - (V R B^-1 R V)_ss = R_s^-1 (I - (B^-1)_ss) R_s^-1

Nothing divides by G in the first form of ``P_s``, so G = 0 is an ordinary point; the second needs a
third of the work and does not cancel where the data outweigh the prior.

References: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, section 3.4.3.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.linalg import blas, lapack

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray, Mask
from splisosm_pyro.maths.numeric.buffers import Buffers
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite

CrossCovariance = Callable[
    [], tuple[FloatArray, FloatArray]
]  # () -> V[:, occupied] (S,n), diag(V) (S,)

# Below this smallest eigenvalue of G_s, I - (B^-1)_ss would lose more than three digits.
INFORMED = 1e-3
# all_blocks works on so many right-hand-side entries at a time (64 MB).
CHUNK_ENTRIES = 8_000_000


class DenseOccupiedSystem:
    """Posterior of the field given Gaussian information at the occupied spots.

    Parameters
    ----------
    cov_occupied : ndarray, shape (n, n)
        V at the occupied spots.
    n_logits : int
        Q, the number of independent fields.
    cov_cross : callable, optional
        Returns ``V[:, occupied]`` (S, n) and the prior variances (S,), for ``all_blocks`` alone.
    occupied : ndarray of intp, shape (n,), optional
        The spots' places among the S; lets ``all_blocks`` repeat ``blocks`` to the last digit.

    Notes
    -----
    ``factorise`` costs (nQ)^3 / 3, ``solve`` 4 n^2 Q, ``blocks`` (nQ)^3 / 3 (up to (nQ)^3 where
    spots carry next to no information), ``all_blocks`` S Q (nQ)^2.

    Examples
    --------
    >>> import numpy as np
    >>> system = DenseOccupiedSystem(np.array([[1.0, 0.5], [0.5, 1.0]]), 1)
    >>> factor = system.factorise(np.ones((2, 1, 1)))
    >>> round(factor.log_det, 6)
    1.321756
    """

    def __init__(
        self,
        cov_occupied: FloatArray,
        n_logits: int,
        cov_cross: CrossCovariance | None = None,
        occupied: IndexArray | None = None,
    ) -> None:
        self.cov = np.ascontiguousarray(cov_occupied, dtype=np.float64)
        self.n_logits = n_logits
        self.cov_cross = cov_cross
        self.occupied = occupied
        size = self.cov.shape[0] * n_logits
        self.buffers = Buffers((size, size))

    def factorise(
        self,
        precision: FloatArray,  # (n,Q,Q) G
    ) -> "DenseOccupiedFactor":
        """Factorise I + R V R."""
        return DenseOccupiedFactor(self, precision, block_square_roots(precision))

    def factorise_into(
        self,
        upper: FloatArray,  # (nQ,nQ)
        root: FloatArray,  # (n,Q,Q) R
    ) -> None:
        """Write L' into ``upper``."""
        if not upper.size:
            return
        if self.n_logits == 1:
            _fill_scalar(self.cov, root[:, 0, 0], upper)
        else:
            _fill_blocks(self.cov, root, upper)
        _, info = lapack.dpotrf(upper.T, lower=1, clean=0, overwrite_a=1)
        if info != 0:
            raise NotPositiveDefinite(
                f"I + R V R is not positive definite at row {info} of {len(upper)}: "
                "expected a positive semi-definite covariance and finite information blocks"
            )

    @cached_property
    def prior_root(self) -> FloatArray:  # (n,n) C with C C' = V_oo
        """A Cholesky factor, or scaled eigenvectors where V is singular there."""
        lower, info = lapack.dpotrf(self.cov, lower=1, clean=1)
        if info == 0:
            return np.asarray(lower)
        values, vectors = np.linalg.eigh(self.cov)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


class DenseOccupiedFactor:
    """The factor of one gene's posterior precision; see :class:`DenseOccupiedSystem`."""

    def __init__(
        self, system: DenseOccupiedSystem, precision: FloatArray, root: FloatArray
    ) -> None:
        self.system = system
        self.root = root  # (n,Q,Q) R, symmetric
        self.precision = precision
        self.log_det = 2.0 * float(np.log(self.upper.diagonal()).sum())
        self._blocks: FloatArray | None = None
        if not np.isfinite(self.log_det):
            raise NotPositiveDefinite("I + R V R holds a NaN or an infinity")

    @property
    def upper(self) -> FloatArray:
        """L' in C order, so its transpose is L in Fortran order."""
        system = self.system
        return system.buffers.of(self, lambda to: system.factorise_into(to, self.root))

    def solve(
        self,
        b: FloatArray,  # (n,Q) or (n,Q,k)
    ) -> FloatArray:
        """W = H^-1 b at the occupied spots, b being zero at the empty ones."""
        if b.size == 0:
            return np.zeros_like(b)
        n, n_logits = b.shape[:2]
        cov = self.system.cov
        rhs = b.reshape(n, n_logits, -1)
        prior = (cov @ rhs.reshape(n, -1)).reshape(rhs.shape)
        scaled = self._root_times(prior).reshape(n * n_logits, -1)
        inner, _ = lapack.dpotrs(self.upper.T, np.asfortranarray(scaled), lower=1, overwrite_b=1)
        alpha = rhs - self._root_times(np.ascontiguousarray(inner).reshape(rhs.shape))
        return np.asarray(cov @ alpha.reshape(n, -1)).reshape(b.shape)

    def blocks(self) -> FloatArray:  # (n,Q,Q)
        """Posterior covariance blocks P_s at the occupied spots."""
        if self._blocks is None:
            informed = _smallest_eigenvalues(self.precision) > INFORMED
            n = informed.size
            out = np.empty((n, self.system.n_logits, self.system.n_logits))
            if 2 * np.count_nonzero(informed) > n:
                out[informed] = self._informed_blocks(informed)
            else:
                informed = np.zeros(n, dtype=np.bool_)
            rest = ~informed
            if rest.any():
                cov = self.system.cov
                out[rest] = self._prior_minus(cov[rest], cov.diagonal()[rest])
            self._blocks = out
        return self._blocks

    def all_blocks(self) -> FloatArray:  # (S,Q,Q)
        """Posterior covariance blocks P_s at all spots."""
        if self.system.cov_cross is None:
            raise ValueError(
                "all_blocks needs cov_cross, the covariance of all with occupied spots"
            )
        cross, variances = self.system.cov_cross()
        out = self._prior_minus(cross, variances)
        if self.system.occupied is not None:
            out[self.system.occupied] = self.blocks()
        return out

    @property
    def n_noise(self) -> int:
        """2 n Q: white noise for the prior and for the information."""
        return 2 * int(self.upper.shape[0])

    def sample(
        self,
        z: FloatArray,  # (2nQ,k)
    ) -> FloatArray:  # (n,Q,k)
        """Draws of N(0, H^-1): ``u + H^-1 R (e - R u)`` with ``u ~ N(0, V x I)``, ``e`` white.

        For ``K u + R e`` has covariance H (Matheron's rule). Costs a solve a draw, and once a
        system the Cholesky factor of V_oo.
        """
        shape = (self.system.cov.shape[0], self.system.n_logits, z.shape[1])
        half = self.upper.shape[0]
        first = z[:half].reshape(shape[0], shape[1] * shape[2])
        prior = np.asarray(self.system.prior_root @ first).reshape(shape)
        white = np.ascontiguousarray(z[half:]).reshape(shape)
        return prior + self.solve(self._root_times(white - self._root_times(prior)))

    def _root_times(self, x: FloatArray) -> FloatArray:
        """R_s x_s at every spot; x is (n,Q,k)."""
        return self.root * x if self.system.n_logits == 1 else self.root @ x

    def _informed_blocks(self, informed: Mask) -> FloatArray:
        """R^-1 (I - B^-1) R^-1 at the spots where G is far from singular."""
        n_logits = self.system.n_logits
        inverse, _ = lapack.dtrtri(self.upper.T, lower=1)
        if n_logits == 1:
            shrink = 1.0 - _column_squares(inverse.T)[informed]
            return np.asarray((shrink / self.precision[informed, 0, 0])[:, None, None])
        posterior = np.eye(n_logits) - _column_products(inverse.T, n_logits)[informed]
        inverse_root = np.linalg.inv(self.root[informed])
        out = inverse_root @ posterior @ inverse_root
        return np.asarray(0.5 * (out + out.transpose(0, 2, 1)))

    def _prior_minus(
        self,
        cross: FloatArray,  # (m,n) covariance with the occupied spots
        variances: FloatArray,  # (m,)
    ) -> FloatArray:  # (m,Q,Q)
        """V_ss I - W'W with W = L^-1 R V, some spots at a time."""
        n_logits, size = self.system.n_logits, self.upper.shape[0]
        out = variances[:, None, None] * np.eye(n_logits)
        if size == 0:
            return out
        step = max(1, CHUNK_ENTRIES // (size * n_logits))
        for first in range(0, cross.shape[0], step):
            part = slice(first, first + step)
            # C order (m,Q,n,Q) is Fortran order (nQ,mQ), which dtrsm overwrites in place
            rhs = cross[part, None, :, None] * self.root.transpose(2, 0, 1)[None]
            flat = rhs.reshape(-1, size)
            half = blas.dtrsm(1.0, self.upper.T, flat.T, lower=1, overwrite_b=1).T
            half = half.reshape(-1, n_logits, size)
            if n_logits == 1:
                out[part, 0, 0] -= np.einsum("sik,sik->s", half, half)
            else:
                out[part] -= half @ half.transpose(0, 2, 1)
        return out


def block_square_roots(
    blocks: FloatArray,  # (n,Q,Q) symmetric positive semi-definite
) -> FloatArray:  # (n,Q,Q)
    """Symmetric square roots of positive semi-definite blocks; rounding below zero counts as zero.

    Raises
    ------
    NotPositiveDefinite
        If a block has an eigenvalue below zero by more than rounding.

    Examples
    --------
    >>> import numpy as np
    >>> block_square_roots(np.array([[[4.0]]]))
    array([[[2.]]])
    """
    n_logits = blocks.shape[-1]
    if blocks.size == 0:
        return np.zeros_like(blocks)
    if n_logits == 1:
        _check_semidefinite(blocks[:, 0, 0], np.abs(blocks[:, 0, 0]))
        return np.sqrt(np.maximum(blocks, 0.0))
    if n_logits == 2:
        lowest = _smallest_eigenvalues(blocks)
        trace = blocks[:, 0, 0] + blocks[:, 1, 1]
        _check_semidefinite(lowest, np.abs(trace))
        # Cayley-Hamilton: root = (G + sqrt|G| I) / sqrt(tr G + 2 sqrt|G|)
        det_root = np.sqrt(np.maximum(lowest, 0.0)) * np.sqrt(np.maximum(trace - lowest, 0.0))
        scale = np.sqrt(np.maximum(trace + 2.0 * det_root, np.finfo(np.float64).tiny))
        return np.asarray((blocks + det_root[:, None, None] * np.eye(2)) / scale[:, None, None])
    values, vectors = np.linalg.eigh(blocks)
    _check_semidefinite(values[:, 0], np.abs(values[:, -1]))
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.asarray(scaled @ vectors.transpose(0, 2, 1))


def _check_semidefinite(lowest: FloatArray, scale: FloatArray) -> None:
    """Refuse negative eigenvalues beyond rounding, and NaN."""
    wrong = ~(lowest >= -1e-10 * scale - np.finfo(np.float64).tiny)
    if wrong.any():
        spot = int(np.argmax(wrong))
        raise NotPositiveDefinite(
            f"the information block of occupied spot {spot} has the eigenvalue {lowest[spot]:.3g}: "
            "expected a positive semi-definite block"
        )


def _smallest_eigenvalues(blocks: FloatArray) -> FloatArray:
    """Find the smallest eigenvalue of each symmetric (n,Q,Q) block."""
    n_logits = blocks.shape[-1]
    if n_logits == 1:
        return blocks[:, 0, 0]
    if n_logits == 2:
        a, b, c = blocks[:, 0, 0], blocks[:, 0, 1], blocks[:, 1, 1]
        largest = 0.5 * (a + c + np.hypot(a - c, 2.0 * b))
        # |G| / largest does not cancel the way the difference of the two terms would
        safe = np.where(largest != 0.0, largest, 1.0)
        return np.asarray(a * (c / safe) - b * (b / safe))
    return np.asarray(np.linalg.eigvalsh(blocks)[:, 0])


@compiled
def _fill_scalar(cov: FloatArray, root: FloatArray, out: FloatArray) -> None:
    """Upper triangle (C order) of I + r r' * V."""
    n = cov.shape[0]
    for i in range(n):
        for j in range(i, n):
            out[i, j] = root[i] * cov[i, j] * root[j]
        out[i, i] += 1.0


@compiled
def _fill_blocks(cov: FloatArray, root: FloatArray, out: FloatArray) -> None:
    """Upper triangle by blocks (C order) of I + R V R."""
    n, q = root.shape[0], root.shape[1]
    for i in range(n):
        for j in range(i, n):
            v = cov[i, j]
            for a in range(q):
                for b in range(q):
                    total = 0.0
                    for c in range(q):
                        total += root[i, a, c] * root[j, c, b]
                    out[i * q + a, j * q + b] = v * total
        for a in range(q):
            out[i * q + a, i * q + a] += 1.0


@compiled
def _column_squares(upper: FloatArray) -> FloatArray:
    """Sum the squares of each row of an upper triangle (a column of its transpose)."""
    n = upper.shape[0]
    out = np.zeros(n)
    for i in range(n):
        for j in range(i, n):
            out[i] += upper[i, j] * upper[i, j]
    return out


@compiled
def _column_products(upper: FloatArray, q: int) -> FloatArray:
    """Diagonal Q x Q blocks of U U' for an upper triangle U."""
    n = upper.shape[0] // q
    out = np.zeros((n, q, q))
    for s in range(n):
        for a in range(q):
            for b in range(a + 1):
                total = 0.0
                for j in range(s * q + a, n * q):
                    total += upper[s * q + a, j] * upper[s * q + b, j]
                out[s, a, b] = total
                out[s, b, a] = total
    return out
