"""Supernodal multifrontal Cholesky factors of H = K x I_Q + blockdiag(G), spot-major.

K is a sparse symmetric spot-by-spot matrix whose pattern was analysed once (``symbolic``); a
factorisation refills the numbers. Small fronts are eliminated by compiled loops; a large front is
assembled by them and handed to LAPACK, so that small and large tissues both run at the speed of the
machine: 0.2 ms for 918 spots and one logit, 0.3 s for 102,400 spots and two.

References: Davis, Rajamanickam and Sid-Lakhdar (2016), A survey of direct methods for sparse linear
systems, Acta Numerica 25, doi:10.1017/S0962492916000076.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.buffers import Buffers
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite
from splisosm_pyro.maths.sparse_cholesky.fronts import factor_fronts, sum_log_pivots
from splisosm_pyro.maths.sparse_cholesky.selected_inverse import inverse_blocks
from splisosm_pyro.maths.sparse_cholesky.symbolic import Symbolic
from splisosm_pyro.maths.sparse_cholesky.triangular_solves import (
    backward_matrix,
    backward_vector,
    forward_matrix,
    forward_vector,
    to_places,
    to_spots,
)

__all__ = ["NotPositiveDefinite", "SparseCholesky", "SparseFactor"]

# A front of more multiplications than this goes to LAPACK, whose call costs about 30 microseconds.
LARGE_MULTIPLICATIONS = 150_000.0
# Right-hand sides are solved so many at a time.
CHUNK_RHS = 64


class SparseCholesky:
    """Workspace for repeated factorisations of K x I_Q + blockdiag(G).

    Parameters
    ----------
    symbolic : Symbolic
        Analysis of the pattern of K.
    n_logits : int
        Q.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csc_array
    >>> from splisosm_pyro.maths.sparse_cholesky.symbolic import analyse
    >>> matrix = csc_array(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> solver = SparseCholesky(analyse(matrix.indptr, matrix.indices))
    >>> round(solver.factorise(matrix.data).log_det, 6)
    1.098612
    """

    def __init__(self, symbolic: Symbolic, n_logits: int = 1) -> None:
        q = n_logits
        self.symbolic = symbolic
        self.n_logits = n_logits
        self.panels = Buffers((symbolic.n_panel * q * q,))
        self.updates = np.empty(symbolic.n_update * q * q)
        self._index = np.empty(symbolic.widest * q, dtype=np.int64)
        p, m = (x.astype(np.float64) * q for x in symbolic.front_shapes())
        self.large = p * (p * p / 6 + p * m / 2 + m * m / 2) > LARGE_MULTIPLICATIONS

    def factorise(
        self,
        values: FloatArray,  # (nnz,) of K, as its pattern was analysed
        blocks: FloatArray | None = None,  # (n,Q,Q) G
        occupied: NDArray[np.integer] | None = None,  # (n,) spots of G; all by default
    ) -> "SparseFactor":
        """Factorise; none of the arrays may be written to as long as the factor is used.

        Raises
        ------
        NotPositiveDefinite
            If a pivot is not positive, or not a number.
        """
        symbolic, q = self.symbolic, self.n_logits
        block_of = np.full(symbolic.n_spots, -1, dtype=np.int64)
        if blocks is None:
            blocks = np.empty((0, q, q))
        else:
            block_of[slice(None) if occupied is None else occupied] = np.arange(blocks.shape[0])
        block_of = block_of[symbolic.order]
        return SparseFactor(self, values, np.ascontiguousarray(blocks, np.float64), block_of)

    def eliminate(
        self,
        values: FloatArray,  # (nnz,)
        blocks: FloatArray,  # (n,Q,Q)
        block_of: NDArray[np.int64],  # (S,) places in ``blocks`` in elimination order, -1 for none
        panel: FloatArray,
    ) -> None:
        """Write the factor into ``panel``."""
        symbolic, front = self.symbolic, 0
        while True:
            front = factor_fronts(
                symbolic.tree,
                front,
                self.large,
                values,
                block_of,
                blocks,
                panel,
                self.updates,
                self._index,
            )
            if front < 0:
                self._refuse(-1 - front)
            if front == symbolic.n_fronts:
                return
            self._eliminate_large(front, panel)
            front += 1

    def _eliminate_large(self, s: int, panel: FloatArray) -> None:
        """Partial Cholesky of an assembled front by LAPACK, in place."""
        tree, q = self.symbolic.tree, self.n_logits
        p = int(tree.first[s + 1] - tree.first[s]) * q
        m = int(tree.row_start[s + 1] - tree.row_start[s]) * q
        at = int(tree.panel_start[s]) * q * q
        l11 = panel[at : at + p * p].reshape(p, p).T
        _, info = lapack.dpotrf(l11, lower=1, clean=0, overwrite_a=1)
        if info != 0:
            self._refuse(int(tree.first[s]) + (info - 1) // q)
        if m == 0:
            return
        l21 = panel[at + p * p : at + p * (p + m)].reshape(p, m).T
        blas.dtrsm(1.0, l11, l21, side=1, lower=1, trans_a=1, overwrite_b=1)
        at = int(tree.update_start[s]) * q * q
        update = self.updates[at : at + m * m].reshape(m, m).T
        blas.dsyrk(-1.0, l21, beta=1.0, c=update, lower=1, overwrite_c=1)

    def _refuse(self, place: int) -> None:
        """Raise for the spot whose pivot failed."""
        spot = int(self.symbolic.order[place])
        raise NotPositiveDefinite(
            f"the sparse matrix is not positive definite: the pivot of spot {spot} "
            "is not a positive number"
        )


class SparseFactor:
    """L L' = P H P' with solves, log-determinant and selected inverse; see SparseCholesky."""

    def __init__(
        self,
        workspace: SparseCholesky,
        values: FloatArray,
        blocks: FloatArray,
        block_of: NDArray[np.int64],
    ) -> None:
        self.workspace = workspace
        self.symbolic = workspace.symbolic
        self.n_logits = workspace.n_logits
        self._of = (values, blocks, block_of)
        self.log_det = 2.0 * sum_log_pivots(self.symbolic.tree, self.n_logits, self.panel)
        if not np.isfinite(self.log_det):
            raise NotPositiveDefinite("the sparse matrix holds a NaN or an infinity")

    @property
    def panel(self) -> FloatArray:
        """The numbers of L."""
        return self.workspace.panels.of(self, lambda to: self.workspace.eliminate(*self._of, to))

    def solve(
        self,
        b: FloatArray,  # (S,Q) or (S,Q,k)
    ) -> FloatArray:
        """X = H^-1 b."""
        return self._solve(b, forward=True)

    def sqrt_solve(
        self,
        z: FloatArray,  # (S,Q) or (S,Q,k), rows in elimination order
    ) -> FloatArray:
        """X = P' L^-T z by spot: of covariance H^-1 where z is white noise."""
        return self._solve(z, forward=False)

    def inverse_blocks(self) -> FloatArray:  # (S,Q,Q)
        """Q x Q diagonal blocks of H^-1; about one and a half times the cost of the factor."""
        work = self.workspace
        return inverse_blocks(self.symbolic, self.n_logits, self.panel, work.large)[0]

    def inverse_on_pattern(self, n_entries: int) -> FloatArray:  # (nnz,Q,Q)
        """Blocks of H^-1 at the entries of K on one side of the diagonal, zero on the other.

        Of an entry (i, j) and its mirror image only the one whose row is eliminated last is filled
        in, with the block (j, i); a symmetric sum counts it twice.
        """
        work = self.workspace
        return inverse_blocks(self.symbolic, self.n_logits, self.panel, work.large, n_entries)[1]

    def _solve(self, b: FloatArray, forward: bool) -> FloatArray:
        """Triangular solves, some right-hand sides at a time."""
        n_spots, q = self.symbolic.n_spots, self.n_logits
        if b.shape[:2] != (n_spots, q):
            raise ValueError(f"b must have shape ({n_spots}, {q}, ...), got {b.shape}")
        rhs = b.reshape(n_spots, q, -1)
        out = np.empty(rhs.shape)
        for start in range(0, rhs.shape[2], CHUNK_RHS):
            part = slice(start, start + CHUNK_RHS)
            self._solve_chunk(rhs[:, :, part], out[:, :, part], forward)
        return out.reshape(b.shape)

    def _solve_chunk(self, rhs: FloatArray, out: FloatArray, forward: bool) -> None:
        """One block of right-hand sides (S,Q,k) into ``out``."""
        symbolic, q, panel = self.symbolic, self.n_logits, self.panel
        n_rhs = rhs.shape[2]
        x = np.empty((symbolic.n_spots * q, n_rhs))
        work = np.empty((symbolic.widest * q, n_rhs))
        if forward:
            to_places(symbolic.order, rhs, x)
        else:
            x[...] = rhs.reshape(x.shape)
        if n_rhs == 1:
            flat, flat_work = x[:, 0], work[:, 0]
            if forward:
                forward_vector(symbolic.tree, q, panel, flat, flat_work)
            backward_vector(symbolic.tree, q, panel, flat, flat_work)
        else:
            if forward:
                forward_matrix(symbolic.tree, q, panel, x, work)
            backward_matrix(symbolic.tree, q, panel, x, work)
        to_spots(symbolic.order, x, out)
