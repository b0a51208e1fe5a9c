"""Spatial correlations in three forms behind one protocol, and the choice among them.

Dense (:class:`DenseKernel`), low rank (:class:`LowRankKernel`) and sparse precision (``car``).
Whoever consumes a :class:`Kernel` does not know which form it has. A dense correlation whose
inverse is sparse is found out and kept as a sparse precision.
"""

import warnings

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack
from scipy.sparse import csc_array
from torch import Tensor

from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.dense import DenseKernel, as_matrix, check_square
from splisosm_pyro.maths.covariance.kernel import Factor, FieldSystem, Kernel
from splisosm_pyro.maths.covariance.low_rank import LowRankKernel, as_eigenpairs
from splisosm_pyro.maths.covariance.sparse import SparseKernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.sparse_cholesky.cholesky import SparseCholesky
from splisosm_pyro.maths.sparse_cholesky.symbolic import analyse

__all__ = [
    "DenseKernel",
    "Factor",
    "FieldSystem",
    "Kernel",
    "LowRankKernel",
    "PrecisionKernel",
    "as_kernel",
    "recognise_sparse",
]

ArrayLike = Tensor | npt.NDArray[np.generic]

# Entries of V^-1 below this share of the geometric mean of their diagonal entries may be zero,
NEGLIGIBLE = 1e-9
# if no entry of V V^-1 - I is then larger than this.
RESIDUAL = 1e-10
# A larger share of entries that are not zero is not sparse.
SPARSE_SHARE = 0.2


def as_kernel(
    corr_sp: ArrayLike | Kernel | None,
    eigvals: ArrayLike | None,
    eigvecs: ArrayLike | None,
    n_spots: int,
) -> Kernel:
    """Build the kernel of the documented ways to give a spatial correlation.

    Parameters
    ----------
    corr_sp : Tensor or ndarray, shape (S, S), or Kernel, or None
        The matrix V, or a kernel object, which is passed through; where both ways are given it is
        taken, with a warning.
    eigvals, eigvecs : Tensor or ndarray, shapes (R,) and (S, R), or None
        Eigenpairs in the place of ``corr_sp``; all S of them are exact, fewer make a low-rank
        kernel whose residual eigenvalue keeps the trace S.
    n_spots : int
        S, as in the counts.

    Returns
    -------
    Kernel
        Sparse where ``corr_sp`` is recognised as the inverse of a sparse matrix.

    Raises
    ------
    TypeError, ValueError
        If neither way is given, the number of spots differs, or the matrix or the
        eigenpairs are not what they should be (see :class:`DenseKernel`, :class:`LowRankKernel`).

    Examples
    --------
    >>> as_kernel(np.eye(3) + 0.1, None, None, 3).n_spots
    3
    """
    pairs_given = eigvals is not None or eigvecs is not None
    if corr_sp is not None and pairs_given:
        warnings.warn(
            "corr_sp and corr_sp_eigvals, corr_sp_eigvecs are two ways to give the same thing: "
            "corr_sp is taken, the eigenpairs are not read",
            SplisosmWarning,
            stacklevel=3,
        )
    if corr_sp is not None:
        kernel = corr_sp if isinstance(corr_sp, Kernel) else _from_matrix(corr_sp, n_spots)
        _check_n_spots(kernel.n_spots, n_spots, "corr_sp")
        return kernel
    if eigvals is None or eigvecs is None:
        raise ValueError(
            "expected corr_sp, or corr_sp_eigvals and corr_sp_eigvecs together, came "
            + ("one of the eigenpairs' two parts" if pairs_given else "none of them")
        )
    values, vectors = as_eigenpairs(eigvals, eigvecs, ("corr_sp_eigvals", "corr_sp_eigvecs"))
    _check_n_spots(vectors.shape[0], n_spots, "corr_sp_eigvecs")
    if vectors.shape[1] == n_spots:
        return DenseKernel.from_eigenpairs(values, vectors)
    return LowRankKernel(values, vectors)


def _from_matrix(corr_sp: ArrayLike, n_spots: int) -> Kernel:
    """Make a dense kernel, or the sparse one that it is the dense form of."""
    matrix, _ = as_matrix(corr_sp, "corr_sp")
    check_square(matrix, "corr_sp")
    _check_n_spots(matrix.shape[0], n_spots, "corr_sp")
    kernel = DenseKernel(corr_sp)
    return recognise_sparse(kernel.dense().numpy()) or kernel


def _check_n_spots(came: int, n_spots: int, name: str) -> None:
    """Refuse a kernel over another number of spots."""
    if came != n_spots:
        raise ValueError(f"{name} must have as many spots as counts, {n_spots}, came {came}")


class PrecisionKernel(SparseKernel):
    """A correlation V with unit diagonal, given by its sparse inverse K.

    Parameters
    ----------
    precision : scipy.sparse.csc_array, shape (S, S)
        K, symmetric and positive definite, such that V has unit diagonal.

    Raises
    ------
    NotPositiveDefinite
        If K is not positive definite.

    Examples
    --------
    >>> kernel = PrecisionKernel(csc_array(np.eye(3)))
    >>> round(kernel.log_det_terms(1.0, 1.0)[0], 6)
    2.079442
    """

    def __init__(self, precision: csc_array) -> None:
        precision = csc_array(precision)
        precision.sort_indices()
        symbolic = analyse(precision.indptr, precision.indices)
        factor = SparseCholesky(symbolic).factorise(precision.data)
        super().__init__(precision, symbolic, factor, np.ones(precision.shape[0]))


def recognise_sparse(
    cov: FloatArray,  # (S,S)
) -> PrecisionKernel | None:
    """Find the sparse kernel whose dense form is ``cov``; None if its inverse is not sparse.

    One inversion, S^3, and one residual ``V K - I``, which decides; a matrix that was rounded to
    float32 is not recognised.

    Examples
    --------
    >>> recognise_sparse(np.eye(10)).precision.nnz
    10
    >>> recognise_sparse(np.full((10, 10), 0.5) + 0.5 * np.eye(10)) is None
    True
    """
    if np.abs(cov.diagonal() - 1.0).max() > RESIDUAL:
        return None
    lower, info = lapack.dpotrf(cov, lower=1)
    if info != 0:
        return None
    inverse, _ = lapack.dpotri(lower, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    scale = np.sqrt(inverse.diagonal())
    inverse[np.abs(inverse) < NEGLIGIBLE * np.outer(scale, scale)] = 0.0
    if np.count_nonzero(inverse) > SPARSE_SHARE * inverse.size:
        return None
    precision = csc_array(inverse)
    residual = precision @ cov
    residual[np.diag_indices_from(residual)] -= 1.0
    return PrecisionKernel(precision) if np.abs(residual).max() < RESIDUAL else None
