"""A sparse kernel seen at the occupied spots of one gene, and whether dense algebra is cheaper."""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.sparse_cholesky.cholesky import SparseCholesky, SparseFactor
from splisosm_pyro.maths.sparse_cholesky.symbolic import Symbolic

# A dense system may hold so many bytes of covariance between all and the occupied spots.
DENSE_BYTES = 1e9
# Evaluations of one gene over which the covariance of its occupied spots pays off.
EVALUATIONS = 30


class SparseSystem:
    """H = K x I_Q + blockdiag(G) with a sparse K, G given at the occupied spots.

    Parameters
    ----------
    symbolic : Symbolic
        Analysis of the pattern of K.
    values : ndarray, shape (nnz,)
        Entries of K.
    log_det_prior : float
        log|K|.
    occupied : ndarray of intp, shape (n,)
    n_logits : int
        Q.
    """

    def __init__(
        self,
        symbolic: Symbolic,
        values: FloatArray,
        log_det_prior: float,
        occupied: IndexArray,
        n_logits: int,
    ) -> None:
        self.values = values
        self.log_det_prior = log_det_prior
        self.occupied = occupied
        self.workspace = SparseCholesky(symbolic, n_logits)

    def factorise(
        self,
        precision: FloatArray,  # (n,Q,Q) G
    ) -> "SparsePosterior":
        """Factorise H; raises NotPositiveDefinite where that is impossible."""
        factor = self.workspace.factorise(self.values, precision, self.occupied)
        return SparsePosterior(factor, self.occupied, self.log_det_prior)


class SparsePosterior:
    """The factor of one gene's posterior precision, seen at its occupied spots."""

    def __init__(self, factor: SparseFactor, occupied: IndexArray, log_det_prior: float) -> None:
        self.factor = factor
        self.occupied = occupied
        self.log_det = factor.log_det - factor.n_logits * log_det_prior
        self._blocks: FloatArray | None = None

    def solve(
        self,
        b: FloatArray,  # (n,Q) or (n,Q,k)
    ) -> FloatArray:
        """W = H^-1 b at the occupied spots, b being zero at the empty ones."""
        whole = np.zeros((self.factor.symbolic.n_spots, *b.shape[1:]))
        whole[self.occupied] = b
        return self.factor.solve(whole)[self.occupied]

    def blocks(self) -> FloatArray:  # (n,Q,Q)
        """Posterior covariance blocks P_s at the occupied spots."""
        return self.all_blocks()[self.occupied]

    def all_blocks(self) -> FloatArray:  # (S,Q,Q)
        """Posterior covariance blocks P_s at all spots."""
        if self._blocks is None:
            self._blocks = self.factor.inverse_blocks()
        return self._blocks

    @property
    def n_noise(self) -> int:
        """S Q: white noise for all spots, in elimination order."""
        return self.factor.symbolic.n_spots * self.factor.n_logits

    def sample(
        self,
        z: FloatArray,  # (SQ,k)
    ) -> FloatArray:  # (n,Q,k)
        """Draws of N(0, H^-1) by one triangular solve each."""
        return self.sample_everywhere(z)[self.occupied]

    def sample_everywhere(
        self,
        z: FloatArray,  # (SQ,k)
    ) -> FloatArray:  # (S,Q,k)
        """Return those draws at all spots."""
        shape = (self.factor.symbolic.n_spots, self.factor.n_logits, z.shape[1])
        return self.factor.sqrt_solve(z.reshape(shape))


def prefer_dense(symbolic: Symbolic, n_occupied: int, n_logits: int, stored: bool) -> bool:
    """Whether dense algebra on the occupied spots is estimated to be faster than sparse.

    Seconds of one evaluation (two factorisations, two solves, one set of blocks), fitted on one
    core; ``stored`` says that the covariance of the occupied spots needs no solves.

    Examples
    --------
    >>> from splisosm_pyro.maths.sparse_cholesky.symbolic import analyse
    >>> path = analyse(np.array([0, 2, 5, 7]), np.array([0, 1, 0, 1, 2, 1, 2]))
    >>> prefer_dense(path, 3, 5, stored=True)
    False
    """
    n_spots, size = symbolic.n_spots, n_occupied * n_logits
    if 8.0 * n_spots * n_occupied > DENSE_BYTES:
        return False
    dense = 5e-5 + 8e-9 * size**2 + 2.2e-11 * size**3
    if not stored:
        dense += n_occupied * 1.2e-9 * symbolic.n_panel / EVALUATIONS
    panel = symbolic.n_panel * n_logits**2
    sparse = 2e-5 + 2.3e-6 * symbolic.n_fronts + 1.2e-8 * panel
    sparse += 4e-10 * symbolic.multiplications() * n_logits**3
    return dense < sparse
