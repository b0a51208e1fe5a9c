"""A spatial correlation given by its leading eigenpairs.

``V = U diag(eigvals) U' + residual (I - U U')`` with one residual eigenvalue for all S - R other
directions, chosen to keep the trace. Split as ``V = V_smooth + residual I`` with
``V_smooth = B B'`` and ``B = U sqrt(eigvals - residual)``, the smooth field is ``w = B z`` with R
unit normals z per logit, and

    H_z = I + sum_s b_s b_s' x G_s
    H^-1 = (B x I) H_z^-1 (B x I)'
    log|I + V_smooth G| = log|H_z|

so one factorisation costs n R^2 Q (Q + 1) / 4 for the sum and (R Q)^3 / 6 for its Cholesky factor.
"""

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import blas, lapack
from torch import Tensor

from splisosm_pyro.maths.covariance.dense import as_matrix
from splisosm_pyro.maths.covariance.spectrum import HasSpectrum, Spectrum
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite

ArrayLike = Tensor | npt.NDArray[np.generic]

# Columns count as orthonormal when U'U is this close to I (float32 rounding of S terms).
ORTHONORMAL_TOLERANCE = 1e-4
# Rows of the basis that are worked on at a time, so that they stay in the cache.
TILE = 512


class LowRankKernel(HasSpectrum):
    """Leading eigenpairs of V plus one residual eigenvalue that keeps the trace.

    Parameters
    ----------
    eigvals : Tensor or ndarray, shape (R,)
        Positive leading eigenvalues, R < S.
    eigvecs : Tensor or ndarray, shape (S, R)
        Their orthonormal eigenvectors.
    trace : float, optional
        Trace of V; S, that of a correlation matrix, by default. The residual eigenvalue is
        ``(trace - sum(eigvals)) / (S - R)``.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, an eigenvalue is not positive, the columns are not orthonormal, or
        the residual would be negative or above the smallest given eigenvalue.

    Examples
    --------
    >>> kernel = LowRankKernel(np.array([1.5]), np.full((2, 1), 0.5**0.5))
    >>> round(kernel.residual, 6), round(kernel.dense()[0, 1].item(), 6)
    (0.5, 0.5)
    """

    def __init__(self, eigvals: ArrayLike, eigvecs: ArrayLike, trace: float | None = None) -> None:
        values, vectors = as_eigenpairs(eigvals, eigvecs)
        self.n_spots, rank = vectors.shape
        if rank == self.n_spots:
            raise ValueError(
                f"eigvecs must have fewer columns than spots for a low-rank kernel, came {rank} of "
                f"{self.n_spots}: take DenseKernel.from_eigenpairs"
            )
        total = float(self.n_spots) if trace is None else float(trace)
        self.residual = _residual(values, total, self.n_spots - rank)
        self._eigenpairs = values, vectors
        self.basis = vectors * np.sqrt(np.maximum(values - self.residual, 0.0))  # (S,R) B

    @cached_property
    def spectrum(self) -> Spectrum:
        """The given eigenpairs and the residual."""
        return Spectrum(*self._eigenpairs, self.residual)

    def dense(self) -> Tensor:
        """V with the residual, (S, S) float64."""
        cov = self.basis @ self.basis.T
        cov[np.diag_indices(self.n_spots)] += self.residual
        return torch.from_numpy(cov)

    def system(self, occupied: IndexArray, n_logits: int) -> "LowRankSystem":
        """Set up the linear algebra of Q independent smooth fields at the occupied spots."""
        return LowRankSystem(self.basis, occupied, n_logits)

    def smooth(self, alpha: FloatArray, occupied: IndexArray) -> FloatArray:
        """``V_smooth[:, occupied] @ alpha``, (S, Q)."""
        return np.asarray(self.basis @ (self.basis[occupied].T @ alpha))

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws of ``N(0, V)``, ``(*shape, S)``."""
        rank = self.basis.shape[1]
        noise = torch.randn((*shape, rank + self.n_spots), generator=generator, dtype=torch.float64)
        smooth = noise[..., :rank] @ torch.from_numpy(self.basis).T
        return smooth + math.sqrt(self.residual) * noise[..., rank:]


class LowRankSystem:
    """Posterior of ``w = B z`` given Gaussian information at the occupied spots.

    Parameters
    ----------
    basis : ndarray, shape (S, R)
        B.
    occupied : ndarray of intp, shape (n,)
        The occupied spots.
    n_logits : int
        Q.

    Notes
    -----
    In multiplications ``factorise`` costs n R^2 Q (Q + 1) / 4 + (R Q)^3 / 6, ``solve``
    2 n R Q + (R Q)^2, ``blocks`` n R^2 Q (Q + 1) / 4 after one inversion, (R Q)^3 / 3.

    Examples
    --------
    >>> system = LowRankSystem(np.array([[1.0], [0.0]]), np.array([0]), 1)
    >>> round(system.factorise(np.array([[[3.0]]])).log_det, 6)
    1.386294
    """

    def __init__(self, basis: FloatArray, occupied: IndexArray, n_logits: int) -> None:
        self.basis = basis
        self.seen = np.ascontiguousarray(basis[occupied])  # (n,R)
        self.n_logits = n_logits

    def factorise(
        self,
        precision: FloatArray,  # (n,Q,Q)
        /,
    ) -> "LowRankFactor":
        """Factorise H_z; raises NotPositiveDefinite where the blocks are not semi-definite."""
        rank, n_logits = self.seen.shape[1], self.n_logits
        pairs = [(a, b) for a in range(n_logits) for b in range(a + 1)]
        weights = np.stack([precision[:, a, b] for a, b in pairs])
        matrix = np.empty((n_logits, rank, n_logits, rank))
        for (a, b), part in zip(pairs, weighted_grams(self.seen, weights), strict=True):
            matrix[a, :, b] = part
            matrix[b, :, a] = part
        flat = matrix.reshape(n_logits * rank, n_logits * rank)
        flat[np.diag_indices(n_logits * rank)] += 1.0
        factor, info = lapack.dpotrf(flat.T, lower=1, overwrite_a=1)
        if info != 0 or not np.isfinite(factor.diagonal()).all():
            raise NotPositiveDefinite(
                "I + B'GB is not positive definite: expected finite positive semi-definite blocks"
            )
        return LowRankFactor(self, factor)


def weighted_grams(
    rows: FloatArray,  # (n,R)
    weights: FloatArray,  # (k,n)
) -> list[FloatArray]:  # k of (R,R)
    """``rows' diag(weight) rows`` for every weight, of any sign.

    Symmetric products take half the work of general ones; a few rows at a time stay in the cache.

    Examples
    --------
    >>> weighted_grams(np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[1.0, -4.0]]))[0].tolist()
    [[1.0, 2.0], [2.0, 0.0]]
    """
    rank = rows.shape[1]
    upper = [np.zeros((rank, rank), order="F") for _ in weights]
    for first in range(0, len(rows), TILE):
        tile = rows[first : first + TILE]
        for k, weight in enumerate(weights[:, first : first + TILE]):
            upper[k] = _add_gram(tile, weight, upper[k])
    return [half + np.triu(half, 1).T for half in upper]


def _add_gram(rows: FloatArray, weight: FloatArray, upper: FloatArray) -> FloatArray:
    """Add ``rows' diag(weight) rows`` to an upper triangle in Fortran order, in place."""
    scaled = rows * np.sqrt(np.abs(weight))[:, None]
    negative = weight < 0.0
    for sign, here in ((1.0, ~negative), (-1.0, negative)):
        if here.any():
            part = scaled if here.all() else scaled[here]
            upper = blas.dsyrk(sign, part.T, beta=1.0, c=upper, overwrite_c=1)
    return upper


class LowRankFactor:
    """The factor of one gene's posterior precision; see :class:`LowRankSystem`."""

    def __init__(self, system: LowRankSystem, lower: FloatArray) -> None:
        self.system = system
        self.lower = lower  # (QR,QR), Cholesky factor of H_z, logit-major
        self.log_det = 2.0 * float(np.log(lower.diagonal()).sum())

    def solve(
        self,
        b: FloatArray,  # (n,Q) or (n,Q,k)
    ) -> FloatArray:
        """``H^-1 b`` at the occupied spots, b being zero at the empty ones."""
        if b.size == 0:
            return np.zeros_like(b)
        seen, n_logits = self.system.seen, self.system.n_logits
        rhs = b.reshape(*b.shape[:2], -1)  # (n,Q,k)
        n_rhs = rhs.shape[2]
        coefficients = np.tensordot(seen, rhs, axes=(0, 0)).transpose(1, 0, 2)  # (Q,R,k)
        flat = np.asfortranarray(coefficients.reshape(-1, n_rhs))
        z, _ = lapack.dpotrs(self.lower, flat, lower=1, overwrite_b=1)
        w = np.tensordot(seen, z.reshape(n_logits, -1, n_rhs), axes=(1, 1))  # (n,Q,k)
        return np.ascontiguousarray(w.reshape(b.shape))

    def blocks(self) -> FloatArray:  # (n,Q,Q)
        """Posterior covariance blocks at the occupied spots."""
        return self._blocks_of(self.system.seen)

    def all_blocks(self) -> FloatArray:  # (S,Q,Q)
        """Posterior covariance blocks at all spots."""
        return self._blocks_of(self.system.basis)

    @property
    def n_noise(self) -> int:
        """R Q: white noise for the coefficients."""
        return int(self.lower.shape[0])

    def sample(
        self,
        z: FloatArray,  # (RQ,k), logit-major
    ) -> FloatArray:  # (n,Q,k)
        """Draws of N(0, H^-1): ``(B x I) L^-T z`` with L the Cholesky factor of H_z."""
        seen, n_logits, n_draws = self.system.seen, self.system.n_logits, z.shape[1]
        coefficients, _ = lapack.dtrtrs(self.lower, z, lower=1, trans=1)
        by_logit = coefficients.reshape(n_logits, seen.shape[1], n_draws)
        return np.ascontiguousarray(np.tensordot(seen, by_logit, axes=(1, 1)))

    @cached_property
    def _coefficient_cov(self) -> FloatArray:
        """H_z^-1 as (Q,R,Q,R)."""
        inverse, _ = lapack.dpotri(self.lower, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        n_logits = self.system.n_logits
        rank = inverse.shape[0] // n_logits
        return np.asarray(inverse.reshape(n_logits, rank, n_logits, rank))

    def _blocks_of(self, basis: FloatArray) -> FloatArray:
        """``b_s' (H_z^-1)_ab b_s`` for the rows of a basis, a few rows at a time.

        A quadratic form is that of a triangle with the other one folded in: half the work.
        """
        n_logits = self.system.n_logits
        pairs = [(a, b) for a in range(n_logits) for b in range(a + 1)]
        folded = [_folded(self._coefficient_cov[a, :, b]) for a, b in pairs]
        out = np.empty((basis.shape[0], n_logits, n_logits))
        for first in range(0, len(basis), TILE):
            tile = basis[first : first + TILE]
            here = out[first : first + TILE]
            for (a, b), lower in zip(pairs, folded, strict=True):
                block = np.einsum("ij,ij->i", blas.dtrmm(1.0, lower, tile.T, lower=1).T, tile)
                here[:, a, b] = block
                here[:, b, a] = block
        return out


def _folded(matrix: FloatArray) -> FloatArray:
    """Lower triangle, Fortran order, whose quadratic form is that of the matrix."""
    return np.asfortranarray(np.tril(matrix) + np.tril(matrix.T, -1))


def as_eigenpairs(
    eigvals: ArrayLike, eigvecs: ArrayLike, names: tuple[str, str] = ("eigvals", "eigvecs")
) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues (R,) and orthonormal eigenvectors (S, R), checked, in float64.

    Raises
    ------
    TypeError, ValueError
        As :class:`LowRankKernel`; zero eigenvalues pass, and negative ones that are rounding
        (above ``-S eps`` of the largest) become zero.
    """
    vectors, rounding = as_matrix(eigvecs, names[1])
    if not isinstance(eigvals, Tensor | np.ndarray):
        raise TypeError(
            f"{names[0]} must be a torch tensor or a numpy array, came {type(eigvals).__name__}"
        )
    if eigvals.ndim != 1 or eigvals.shape[0] != vectors.shape[1] or vectors.size == 0:
        raise ValueError(
            f"{names[0]} and {names[1]} must have shapes (rank,) and (n_spots, rank), "
            f"came {tuple(eigvals.shape)} and {tuple(vectors.shape)}"
        )
    values, value_rounding = as_matrix(eigvals[None], names[0])
    values = values[0]
    n_spots, rank = vectors.shape
    if rank > n_spots:
        raise ValueError(
            f"{names[1]} must have at most as many columns as spots ({n_spots}), came {rank}"
        )
    tolerance = n_spots * max(rounding, value_rounding) * np.abs(values).max()
    if values.min() < -tolerance:
        raise ValueError(f"{names[0]} must not be negative, came {values.min():.6g}")
    if not values.any():
        raise ValueError(f"{names[0]} must not all be zero")
    gap = float(np.abs(vectors.T @ vectors - np.eye(rank)).max())
    if gap > ORTHONORMAL_TOLERANCE:
        raise ValueError(
            f"{names[1]} must have orthonormal columns, came a matrix whose U'U is off by {gap:.3g}"
        )
    return np.maximum(values, 0.0), vectors


def _residual(eigvals: FloatArray, trace: float, n_rest: int) -> float:
    """Return the eigenvalue of the directions left out."""
    left = trace - float(eigvals.sum())
    # a sum of R rounded eigenvalues that should have reached the trace exactly
    if abs(left) <= 1e-6 * trace:
        left = max(left, 0.0)
    residual = left / n_rest
    if residual < 0:
        raise ValueError(
            f"eigvals must not sum to more than the trace of V, {trace:.6g}, "
            f"came a sum of {float(eigvals.sum()):.6g}: give the trace where it is not n_spots"
        )
    if residual > eigvals.min() * (1 + 1e-6):
        raise ValueError(
            f"eigvals must be the leading eigenvalues, came a smallest one of {eigvals.min():.6g}, "
            f"below the mean {residual:.6g} of the eigenvalues left out"
        )
    return residual
