"""A dense correlation whose inverse is sparse, found out and kept as a sparse precision."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack
from scipy.sparse import csc_array

from splisosm_pyro.maths.sparse_cholesky import SparseCholesky
from splisosm_pyro.maths.sparse_kernel import SparseKernel
from splisosm_pyro.maths.symbolic import analyse

Array = npt.NDArray[np.float64]

# Entries of V^-1 below this share of the geometric mean of their diagonal entries may be zero,
NEGLIGIBLE = 1e-9
# if no entry of V V^-1 - I is then larger than this.
RESIDUAL = 1e-10
# A larger share of entries that are not zero is not sparse.
SPARSE_SHARE = 0.2


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
    cov: Array,  # (S,S)
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
