"""Spatial correlations in three forms behind one protocol, and the choice among them.

Dense (:class:`DenseKernel`), low rank (:class:`LowRankKernel`) and sparse precision (``car``).
Whoever consumes a :class:`Kernel` does not know which form it has.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from splisosm_pyro.maths.dense import DenseKernel, as_matrix, check_square
from splisosm_pyro.maths.low_rank import LowRankKernel, as_eigenpairs
from splisosm_pyro.maths.precision import PrecisionKernel, recognise_sparse
from splisosm_pyro.maths.protocols import Factor, FieldSystem, Kernel

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
        The matrix V, or a kernel object, which is passed through.
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
        If neither or both ways are given, the number of spots differs, or the matrix or the
        eigenpairs are not what they should be (see :class:`DenseKernel`, :class:`LowRankKernel`).

    Examples
    --------
    >>> as_kernel(np.eye(3) + 0.1, None, None, 3).n_spots
    3
    """
    pairs_given = eigvals is not None or eigvecs is not None
    if corr_sp is not None and pairs_given:
        raise ValueError(
            "corr_sp and corr_sp_eigvals, corr_sp_eigvecs are two ways to give the same thing: "
            "expected one of them, came both"
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
