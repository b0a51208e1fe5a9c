"""What the counts of a gene leave open: directions of B along which the likelihood loses nothing.

Three kinds. A covariate that earlier ones determine on the spots with counts can take over what is
theirs: the column of a level without reads is such a one, and where that level is the reference the
intercept and all other levels go along. Where a covariate separates an isoform the likelihood rises
for ever. An isoform that never occurs has no logit. Whatever a direction moves is not known, be it
a coefficient, a contrast of levels or the usage at a spot; what none of them moves is known,
whichever level or isoform is the reference.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.reduced_problem import ReducedProblem
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

# A sum of which less than this share is left has cancelled: the direction does not move it.
CANCELLED = 1e-4
# Entries of a direction below this, in units of the covariates' spread, are rounding.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Undetermined:
    """Directions of B (F+1, Q) that the data do not determine.

    Attributes
    ----------
    directions : ndarray, shape ((F+1)Q, D)
    absent : ndarray of bool, shape (D,)
        Those of isoforms that never occur, which leave the usage of the others alone.

    Examples
    --------
    >>> reference_without_reads = Undetermined(np.array([[1.0], [1.0], [-1.0]]), np.array([False]))
    >>> reference_without_reads.moves(np.array([[1.0, 0.0, 0.0], [1.0, -1.0, 0.0]])).tolist()
    [True, False]
    >>> reference_without_reads.moves_usage(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])).tolist()
    [True, False]
    """

    directions: FloatArray
    absent: Mask

    @classmethod
    def nothing(cls, size: int) -> "Undetermined":
        """Return that of a gene whose ``size`` coefficients are all known."""
        return cls(np.zeros((size, 0)), np.zeros(0, dtype=bool))

    @property
    def coefficients(self) -> Mask:
        """Mask ((F+1)Q,) of the coefficients that are not known."""
        return np.asarray((self.directions != 0.0).any(axis=1))

    def and_coefficients(self, unknown: Mask) -> "Undetermined":
        """Return it with some coefficients, a mask ((F+1)Q,), that are not known either."""
        also = np.eye(unknown.size)[:, unknown & ~self.coefficients]
        directions = np.hstack([self.directions, also])
        return Undetermined(directions, np.append(self.absent, np.zeros(also.shape[1], dtype=bool)))

    def moves(self, combinations: FloatArray) -> Mask:
        """Tell which linear combinations (n, (F+1)Q) of ``B.ravel()`` are not known."""
        return np.asarray((_sums(combinations, self.directions) != 0.0).any(axis=1))

    def moves_usage(self, rows: FloatArray) -> Mask:
        """Tell at which design rows (n, F+1), the intercept last, the usage is not known."""
        some = self.directions[:, ~self.absent].reshape(rows.shape[1], -1)
        return np.asarray((_sums(rows, some) != 0.0).any(axis=1))

    def on_scale(self, whole: FloatArray) -> "Undetermined":
        """Return the directions of ``whole @ B.ravel()``."""
        return Undetermined(_sums(whole, self.directions), self.absent)


def _sums(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return ``left @ right``, 0 where nothing is left but rounding."""
    product = left @ right
    size = np.abs(left) @ np.abs(right)
    return np.where(np.abs(product) > CANCELLED * size, product, 0.0)


def undetermined(
    problem: ReducedProblem,
    rows: FloatArray,  # (U,F), as in DesignRows
    runaway: FloatArray,  # (KQ',D) as ``Certificates.flat``
) -> Undetermined:
    """Collect the three kinds of a gene's directions."""
    flat = runaway[:, runaway.any(axis=0)]
    shape = problem.kept.size, len(problem.isoforms) - 1, flat.shape[1]
    separated = _over_isoforms(problem, flat.reshape(shape) / problem.scales[:, None, None])
    taken_over = _taken_over(problem, rows)
    never = _never_occurring(problem)
    directions = np.concatenate([separated, taken_over, never], axis=2)
    absent = np.arange(directions.shape[2]) >= separated.shape[2] + taken_over.shape[2]
    spread = np.append(np.ptp(rows, axis=0), 1.0)
    loads = np.abs(directions) * np.where(spread > 0.0, spread, 1.0)[:, None, None]
    kept = loads > ROUNDING * loads.max(axis=(0, 1), initial=0.0)
    return Undetermined(np.where(kept, directions, 0.0).reshape(-1, absent.size), absent)


def _over_isoforms(problem: ReducedProblem, flat: FloatArray) -> FloatArray:  # (F+1,Q,D)
    """Lay directions of kept covariates and occurring isoforms out over all of them."""
    full = np.zeros((problem.kept[-1] + 1, problem.n_logits + 1, flat.shape[2]))
    full[problem.kept[:, None], problem.isoforms[:-1]] = flat
    return full[:, :-1]


def _taken_over(problem: ReducedProblem, rows: FloatArray) -> FloatArray:  # (F+1,Q,D)
    """Return what a dropped covariate can take over from those before it, for every logit."""
    whole = np.column_stack([rows, np.ones(len(rows))])
    seen = whole[problem.occupied]
    alike = []
    for f in problem.dropped:
        share = np.linalg.lstsq(seen[:, problem.kept], seen[:, f], rcond=None)[0]
        one = np.zeros(whole.shape[1])
        one[problem.kept], one[f] = -share, 1.0
        alike.append(one)
    n_logits = problem.n_logits
    directions = [np.outer(one, np.eye(n_logits)[q]) for one in alike for q in range(n_logits)]
    return _stacked(directions, (whole.shape[1], n_logits))


def _never_occurring(problem: ReducedProblem) -> FloatArray:  # (F+1,Q,D)
    """Return the coefficients of an isoform that never occurs against all others."""
    n_rows, n_logits = int(problem.kept[-1]) + 1, problem.n_logits
    directions = []
    for p in problem.absent:
        logits = np.eye(n_logits)[p] if p < n_logits else np.ones(n_logits)
        directions += [np.outer(row, logits) for row in np.eye(n_rows)]
    return _stacked(directions, (n_rows, n_logits))


def _stacked(directions: list[FloatArray], shape: tuple[int, int]) -> FloatArray:
    """Stack directions along a last axis, none included."""
    return np.stack(directions, axis=2) if directions else np.zeros((*shape, 0))
