"""A spatial correlation given as a whole matrix."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import cholesky, eigh
from torch import Tensor

from splisosm_pyro.maths.covariance.dense_factor import DenseOccupiedSystem
from splisosm_pyro.maths.covariance.spectrum import HasSpectrum, Spectrum
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

MatrixLike = Tensor | npt.NDArray[np.generic]

# Entries V_ij and V_ji may differ by this share of the largest entry (float32 rounding).
SYMMETRY_TOLERANCE = 1e-6


class DenseKernel(HasSpectrum):
    """A correlation matrix V, held densely.

    Parameters
    ----------
    V : Tensor or ndarray, shape (S, S)
        Symmetric positive semi-definite. A singular V is legal. Two triangles that differ by
        rounding are averaged, and eigenvalues between ``-S eps lam_max`` and 0 (``eps`` of the
        dtype that was given) count as zero.

    Raises
    ------
    TypeError, ValueError
        If V is not numeric, not square, not finite, not symmetric (entries differ by more than
        1e-6 of the largest) or not positive semi-definite up to the rounding stated above.

    Notes
    -----
    The constructor costs one Cholesky factorisation, S^3 / 3; the first call of
    ``log_det_terms``, ``precision_quad`` or ``field_log_prob`` an eigendecomposition, about 10 S^3.

    Examples
    --------
    >>> kernel = DenseKernel(np.array([[1.0, 0.5], [0.5, 1.0]]))
    >>> round(kernel.log_det_terms(1.0, 0.0)[0], 6)
    -0.287682
    """

    residual = 0.0

    def __init__(self, V: MatrixLike) -> None:
        matrix, rounding = as_matrix(V, "corr_sp")
        check_square(matrix, "corr_sp")
        self._cov = symmetrised(matrix, "corr_sp")
        self.n_spots = matrix.shape[0]
        self._tolerance = self.n_spots * rounding
        try:
            cholesky(self._cov, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            _ = self.spectrum  # singular or indefinite: its eigenvalues tell which

    @classmethod
    def from_eigenpairs(cls, eigvals: FloatArray, eigvecs: FloatArray) -> "DenseKernel":
        """Build V from all its S eigenvalues and eigenvectors, which the caller has checked."""
        kernel = cls.__new__(cls)
        root = eigvecs * np.sqrt(eigvals)
        kernel._cov = root @ root.T  # symmetric to the last digit
        kernel.n_spots = eigvecs.shape[0]
        kernel.__dict__["spectrum"] = Spectrum(eigvals, eigvecs, 0.0)
        return kernel

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigendecomposition of V, computed once."""
        eigvals, eigvecs = eigh(self._cov, check_finite=False)
        if eigvals[0] < -self._tolerance * eigvals[-1]:
            raise ValueError(
                "corr_sp must be positive semi-definite, "
                f"came a matrix with smallest eigenvalue {eigvals[0]:.4g}"
            )
        return Spectrum(np.maximum(eigvals, 0.0), np.ascontiguousarray(eigvecs), 0.0)

    @cached_property
    def _root(self) -> Tensor:
        """L with L L' = V: a Cholesky factor, or scaled eigenvectors where V is singular."""
        try:
            return torch.from_numpy(cholesky(self._cov, lower=True, check_finite=False))
        except np.linalg.LinAlgError:
            return torch.from_numpy(self.spectrum.eigvecs * np.sqrt(self.spectrum.eigvals))

    def dense(self) -> Tensor:
        """V, (S, S) float64."""
        return torch.from_numpy(self._cov).clone()

    def system(self, occupied: IndexArray, n_logits: int) -> DenseOccupiedSystem:
        """Set up the linear algebra of Q independent fields at the occupied spots."""
        cov = self._cov

        def cross() -> tuple[FloatArray, FloatArray]:
            return cov[:, occupied], cov.diagonal().copy()

        return DenseOccupiedSystem(cov[np.ix_(occupied, occupied)], n_logits, cross, occupied)

    def smooth(self, alpha: FloatArray, occupied: IndexArray) -> FloatArray:
        """``V[:, occupied] @ alpha``, (S, Q)."""
        return np.asarray(self._cov[:, occupied] @ alpha)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws of ``N(0, V)``, ``(*shape, S)``."""
        noise = torch.randn((*shape, self._root.shape[1]), generator=generator, dtype=torch.float64)
        return noise @ self._root.T


def as_matrix(values: object, name: str) -> tuple[FloatArray, float]:
    """Finite float64 numbers of rank 2 and the rounding unit of the dtype they came in."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values if values.layout == torch.strided else values.to_dense()).numpy()
    if not isinstance(values, np.ndarray):
        raise TypeError(
            f"{name} must be a torch tensor or a numpy array, came {type(values).__name__}"
        )
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{name} must have a real numeric dtype, came {values.dtype}")
    if values.ndim != 2:
        raise ValueError(f"{name} must have two axes, came shape {values.shape}")
    rounding = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    matrix = np.array(values, dtype=np.float64, order="C")
    if not np.isfinite(matrix).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
        raise ValueError(f"{name} must be finite, came {matrix[row, column]} at ({row}, {column})")
    return matrix, max(rounding, float(np.finfo(np.float64).eps))


def check_square(matrix: FloatArray, name: str) -> None:
    """Refuse a matrix that is empty or not square."""
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"{name} must be square, (n_spots, n_spots), came {matrix.shape}")


def symmetrised(matrix: FloatArray, name: str) -> FloatArray:
    """Average both triangles; raise where they differ by more than rounding."""
    if not matrix.any():
        raise ValueError(f"{name} must not be zero everywhere")
    gap = np.abs(matrix - matrix.T)
    if gap.max() > SYMMETRY_TOLERANCE * np.abs(matrix).max():
        row, column = (int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
        raise ValueError(
            f"{name} must be symmetric, came {matrix[row, column]:.6g} at ({row}, {column}) "
            f"but {matrix[column, row]:.6g} at ({column}, {row})"
        )
    return np.asarray(0.5 * (matrix + matrix.T))
