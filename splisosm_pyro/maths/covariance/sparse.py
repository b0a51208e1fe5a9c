"""A correlation of spots that is known by its sparse precision.

Everything about V comes from Cholesky factors of sparse matrices with the pattern of ``K = V^-1``;
no dense matrix is formed unless asked for.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse import csc_array
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from splisosm_pyro.maths.covariance.dense_factor import DenseOccupiedSystem
from splisosm_pyro.maths.covariance.sparse_factor import SparseSystem, prefer_dense
from splisosm_pyro.maths.covariance.sparse_field_density import SparseField, field_log_prob
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.sparse_cholesky.cholesky import SparseFactor
from splisosm_pyro.maths.sparse_cholesky.symbolic import Symbolic

Form = Literal["auto", "sparse", "dense"]

# Up to so many spots V is kept once it has been formed (32 MB).
STORED_SPOTS = 2000
# dense() refuses to allocate more.
DENSE_BYTES = 8e9


class SparseKernel:
    """V with unit diagonal and sparse inverse; the common part of what is built from a graph or K.

    Parameters
    ----------
    precision : scipy.sparse.csc_array, shape (S, S)
        K = V^-1 with sorted indices.
    symbolic : Symbolic
        The analysis of its pattern.
    factor : SparseFactor
        A factor of ``M = diag(1/s) K diag(1/s)``.
    scale : ndarray, shape (S,)
        s: ``V b = (M^-1 (b / s)) / s``, so the factor of M serves for V.
    """

    residual = 0.0

    def __init__(
        self, precision: csc_array, symbolic: Symbolic, factor: SparseFactor, scale: FloatArray
    ) -> None:
        self.precision = precision
        self.n_spots = int(precision.shape[0])
        self._factor, self._scale = factor, scale
        log_det = factor.log_det + 2.0 * float(np.log(scale).sum())
        self._field = SparseField(precision, symbolic, log_det)

    @property
    def symbolic(self) -> Symbolic:
        """The analysis of the precision's pattern."""
        return self._field.symbolic

    def dense(self) -> Tensor:
        """V, (S, S) float64; S solves.

        Raises
        ------
        MemoryError
            If that would take more than 8 GB.
        """
        needed = 2 * 8.0 * self.n_spots**2
        if needed > DENSE_BYTES:
            raise MemoryError(
                f"V of {self.n_spots} spots takes {needed / 1e9:.0f} GB as a dense matrix, more "
                f"than {DENSE_BYTES / 1e9:.0f} GB: pass the kernel itself, or eigenpairs(rank)"
            )
        if self.n_spots <= STORED_SPOTS:
            return torch.from_numpy(self._stored.copy())
        return torch.from_numpy(self._dense())

    def eigenpairs(self, rank: int) -> tuple[Tensor, Tensor]:
        """Leading eigenvalues of V, descending, (rank,), and their eigenvectors, (S, rank).

        Raises
        ------
        ValueError
            If rank is not between 1 and S.
        """
        if not 1 <= rank <= self.n_spots:
            raise ValueError(f"rank must be between 1 and {self.n_spots} spots, came {rank}")
        if self.n_spots <= STORED_SPOTS or 3 * rank > self.n_spots:
            subset = (self.n_spots - rank, self.n_spots - 1)
            eigvals, eigvecs = eigh(self.dense().numpy(), subset_by_index=subset)
        else:
            shape = (self.n_spots, self.n_spots)
            operator = LinearOperator(shape, matvec=self._times_vector, dtype=np.float64)
            start = np.random.default_rng(0).standard_normal(self.n_spots)
            eigvals, eigvecs = eigsh(operator, k=rank, which="LA", v0=start)
        order = np.argsort(eigvals)[::-1]
        vectors = np.ascontiguousarray(eigvecs[:, order])
        return torch.from_numpy(eigvals[order].copy()), torch.from_numpy(vectors)

    def system(
        self, occupied: IndexArray, n_logits: int, form: Form = "auto"
    ) -> SparseSystem | DenseOccupiedSystem:
        """Set up the linear algebra of Q independent fields seen at the occupied spots.

        Parameters
        ----------
        occupied : ndarray of intp, shape (n,)
            Spots with counts, distinct.
        n_logits : int
            Q.
        form : {'auto', 'sparse', 'dense'}
            Whether to factorise K with the information added, or the covariance of the occupied
            spots alone; by default what is estimated to be faster. The results agree.
        """
        symbolic = self.symbolic
        if form == "auto":
            stored = self.n_spots <= STORED_SPOTS
            dense = prefer_dense(symbolic, occupied.size, n_logits, stored)
        else:
            dense = form == "dense"
        if dense:
            cov = self._columns(occupied, occupied)
            return DenseOccupiedSystem(cov, n_logits, self._cross(occupied), occupied)
        return SparseSystem(symbolic, self.precision.data, self._field.log_det, occupied, n_logits)

    def smooth(
        self,
        alpha: FloatArray,  # (n,Q)
        occupied: IndexArray,
    ) -> FloatArray:  # (S,Q)
        """``V[:, occupied] @ alpha`` by one solve."""
        whole = np.zeros((self.n_spots, alpha.shape[1]))
        whole[occupied] = alpha
        return self._times(whole)

    def log_det_terms(self, spatial: float, nugget: float) -> tuple[float, float, float]:
        """``log|spatial V + nugget I|`` and its derivatives in ``spatial`` and in ``nugget``."""
        return self._field.log_det_terms(spatial, nugget)

    def precision_quad(self, nu: FloatArray, spatial: FloatArray, nugget: FloatArray) -> FloatArray:
        """``nu_q' (spatial_q V + nugget_q I)^-1 nu_q``, (Q,), for nu (S, Q)."""
        return self._field.precision_quad(nu, spatial, nugget)

    def field_log_prob(self, nu: Tensor, spatial: Tensor, nugget: Tensor) -> Tensor:
        """``sum_q log N(nu_q; 0, spatial_q V + nugget_q I)``, ``(*,)``, differentiable once."""
        return field_log_prob(self._field, nu, spatial, nugget)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws of ``N(0, V)``, ``(*shape, S)``."""
        noise = torch.randn((*shape, self.n_spots), generator=generator, dtype=torch.float64)
        draws = self.coloured(noise.reshape(-1, self.n_spots).numpy().T)
        return torch.from_numpy(np.ascontiguousarray(draws.T)).reshape(*shape, self.n_spots)

    def coloured(
        self,
        noise: FloatArray,  # (S,k)
    ) -> FloatArray:  # (S,k)
        """Draws of ``N(0, V)`` made of white noise, by one triangular solve each."""
        return np.asarray(
            self._factor.sqrt_solve(noise[:, None, :])[:, 0, :] / self._scale[:, None]
        )

    @cached_property
    def _stored(self) -> FloatArray:
        """V of a small tissue, kept."""
        return self._dense()

    def _dense(self) -> FloatArray:
        """V whole, with its symmetry and its unit diagonal exact."""
        everything = np.arange(self.n_spots)
        cov = self._columns_solved(everything, everything)
        cov = 0.5 * (cov + cov.T)
        np.fill_diagonal(cov, 1.0)
        return cov

    def _times(self, b: FloatArray) -> FloatArray:
        """V b for b (S,k)."""
        return (
            self._factor.solve((b / self._scale[:, None])[:, None, :])[:, 0, :]
            / (self._scale[:, None])
        )

    def _times_vector(self, b: FloatArray) -> FloatArray:
        """V b for one vector."""
        return self._times(b.reshape(-1, 1))[:, 0]

    def _columns(self, spots: IndexArray, rows: IndexArray) -> FloatArray:
        """V[rows, spots], from the stored V of a small tissue or by solves."""
        if self.n_spots <= STORED_SPOTS:
            return self._stored[np.ix_(rows, spots)]
        return self._columns_solved(spots, rows)

    def _columns_solved(self, spots: IndexArray, rows: IndexArray) -> FloatArray:
        """V[rows, spots], a few columns of V at a time."""
        out = np.empty((rows.size, spots.size))
        for start in range(0, spots.size, 256):
            part = spots[start : start + 256]
            unit = np.zeros((self.n_spots, part.size))
            unit[part, np.arange(part.size)] = 1.0
            out[:, start : start + 256] = self._times(unit)[rows]
        return out

    def _cross(self, occupied: IndexArray) -> Callable[[], tuple[FloatArray, FloatArray]]:
        """Covariance of all with the occupied spots, and the prior variances, when asked for."""

        def cross() -> tuple[FloatArray, FloatArray]:
            everything = np.arange(self.n_spots)
            return self._columns(occupied, everything), np.ones(self.n_spots)

        return cross
