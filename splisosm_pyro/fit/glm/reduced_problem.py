"""The GLM's data as its solvers want them: few rows, orthonormal covariates, isoforms that occur.

Three exact reductions, gene by gene:
- only spots with counts enter; where many spots share a design row, their counts are summed (the
  sums are sufficient statistics);
- covariates are made orthonormal over the gene's reads, so that the information depends on the
  ratios alone; a covariate that carries nothing of its own on the spots with counts is held at 0;
- isoforms that never occur leave the problem; their limit is put back at the end.
"""

import math
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.newton_iwls import ReadTable
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray, Mask
from splisosm_pyro.maths.numeric.compiled import compiled

# Rows are pooled where the distinct ones are at most this share of the spots.
WORTH_POOLING = 0.5
# What must be left of a covariate's standard deviation after regression on the earlier ones.
INDEPENDENT_SHARE = 1e-7
# The logit that stands for an isoform that never occurs, or for a reference that never does.
ABSENT_LOGIT = -40.0


@dataclass(frozen=True, eq=False)
class DesignRows:
    """A design matrix and its distinct rows, shared by all genes.

    Attributes
    ----------
    values : ndarray, shape (S, F)
        The design, without intercept.
    distinct : ndarray, shape (U, F), or None
        The distinct rows, if pooling spots with equal rows is worth it.
    place : ndarray of intp, shape (S,), or None
        Each spot's row among ``distinct``.
    """

    values: FloatArray
    distinct: FloatArray | None
    place: IndexArray | None

    @classmethod
    def from_design(cls, design: FloatArray) -> "DesignRows":
        """Look for repeated rows, O(S F log S)."""
        values = np.ascontiguousarray(design, dtype=np.float64)
        if values.shape[1] == 0:
            return cls(values, values[:1], np.zeros(len(values), dtype=np.intp))
        distinct, place = np.unique(values, axis=0, return_inverse=True)
        if len(distinct) > WORTH_POOLING * len(values):
            return cls(values, None, None)
        return cls(values, np.ascontiguousarray(distinct), place.reshape(-1).astype(np.intp))

    def occupied(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the rows that hold counts, (n, F), and their counts, (n, P)."""
        rows = self.values
        if self.distinct is not None and self.place is not None:
            rows = self.distinct
            counts = pool(counts, self.place, len(rows))
        held = np.flatnonzero(counts @ np.ones(counts.shape[1]))
        return rows.take(held, axis=0), counts.take(held, axis=0)


@compiled
def pool(counts: FloatArray, place: IndexArray, n_rows: int) -> FloatArray:
    """Sum the counts of spots that share a row."""
    pooled = np.zeros((n_rows, counts.shape[1]))
    for s in range(counts.shape[0]):
        for p in range(counts.shape[1]):
            pooled[place[s], p] += counts[s, p]
    return pooled


@dataclass(frozen=True, eq=False)
class Frame:
    """Orthonormal coordinates: ``rows`` = [X_kept, 1] @ ``to_design``, so B = ``to_design`` @ C.

    Attributes
    ----------
    rows : ndarray, shape (n, K)
        Uncorrelated, of mean 0 and variance 1 over the reads; the last column is 1.
    to_design : ndarray, shape (K, K)
        Takes coefficients C of ``rows`` to those of the kept covariates and the intercept.
    kept : ndarray of intp, shape (K,)
        The covariates that are kept, and F for the intercept.
    dropped : ndarray of intp
        The covariates that earlier ones and the intercept determine on the spots with counts.
    """

    rows: FloatArray
    to_design: FloatArray
    kept: IndexArray
    dropped: IndexArray

    @classmethod
    def from_rows(cls, design: FloatArray, totals: FloatArray) -> "Frame":
        """Orthonormalise the covariates one after the other, O(n F^2)."""
        rows, mean, upper, keep = orthonormal(design, totals / totals.sum())
        n_factors = design.shape[1]
        used = np.flatnonzero(keep)
        kept = np.append(used, n_factors)
        to_design = np.eye(len(kept))
        if len(used):
            to_design[:-1, :-1] = np.linalg.inv(upper[np.ix_(used, used)])
            to_design[-1, :-1] = -mean[used] @ to_design[:-1, :-1]
        rows = np.ascontiguousarray(rows[:, kept])
        return cls(rows, to_design, kept, np.flatnonzero(~keep))


@compiled
def orthonormal(
    design: FloatArray,  # (n,F)
    weights: FloatArray,  # (n,), sum 1
) -> tuple[FloatArray, FloatArray, FloatArray, Mask]:
    """Gram-Schmidt, each column twice; (n,F+1) with a last column of ones, means, R, kept."""
    n, n_factors = design.shape
    rows = np.ones((n, n_factors + 1))
    mean = np.zeros(n_factors)
    upper = np.zeros((n_factors, n_factors))
    keep = np.zeros(n_factors, dtype=np.bool_)
    for f in range(n_factors):
        mean[f] = _overlap(weights, design, f, rows, n_factors)
        largest = 0.0
        for s in range(n):
            rows[s, f] = design[s, f] - mean[f]
            largest = max(largest, abs(design[s, f]))
        spread = math.sqrt(_overlap(weights, rows, f, rows, f))
        for again in range(2 * f):
            j = again % f
            if keep[j]:
                overlap = _overlap(weights, rows, f, rows, j)
                upper[j, f] += overlap
                for s in range(n):
                    rows[s, f] -= overlap * rows[s, j]
        upper[f, f] = math.sqrt(_overlap(weights, rows, f, rows, f))
        varies = spread > INDEPENDENT_SHARE * largest
        keep[f] = varies and upper[f, f] > INDEPENDENT_SHARE * spread
        if keep[f]:
            for s in range(n):
                rows[s, f] /= upper[f, f]
    return rows, mean, upper, keep


@compiled
def _overlap(weights: FloatArray, left: FloatArray, f: int, right: FloatArray, j: int) -> float:
    """Weighted inner product of two columns."""
    result = 0.0
    for s in range(weights.size):
        result += weights[s] * left[s, f] * right[s, j]
    return result


@dataclass(frozen=True, eq=False)
class Occurring:
    """Which isoforms occur, and how their logits stand in those of the whole problem.

    Attributes
    ----------
    isoforms : ndarray of intp, shape (P',)
        Those that occur, the one that serves as reference last.
    absent : ndarray of intp
        Those that never occur, in ascending order.
    n_isos : int
        P.
    """

    isoforms: IndexArray
    absent: IndexArray
    n_isos: int

    @classmethod
    def from_counts(cls, counts: FloatArray) -> "Occurring":
        """Take the reference if it occurs, else the most abundant isoform in its place."""
        sums = np.ones(len(counts)) @ counts
        present = np.flatnonzero(sums)
        last = len(sums) - 1
        stand_in = last if sums[last] > 0 else int(np.argmax(sums))
        ordered = np.append(present[present != stand_in], stand_in)
        return cls(ordered, np.flatnonzero(sums == 0), len(sums))

    @property
    def reference_absent(self) -> bool:
        """True if the reference isoform never occurs."""
        return int(self.isoforms[-1]) != self.n_isos - 1

    def expand(self, coef: FloatArray) -> FloatArray:
        """Logit coefficients (K, Q) of the whole problem from those of what occurs, (K, P'-1)."""
        full = np.zeros((len(coef), self.n_isos))
        full[:, self.isoforms[:-1]] = coef
        full[-1, self.absent] = ABSENT_LOGIT
        if self.reference_absent:
            # relative to the stand-in, which stands 40 above the reference
            full[-1, self.isoforms] -= ABSENT_LOGIT
        return full[:, :-1]

    def reduce(self, full: FloatArray) -> FloatArray:
        """Undo ``expand``."""
        with_reference = np.column_stack([full, np.zeros(len(full))])[:, self.isoforms]
        return np.asarray(with_reference[:, :-1] - with_reference[:, -1:])


@dataclass(frozen=True, eq=False)
class GLMProblem:
    """What is left to fit: coefficients C (K, P'-1) of orthonormal rows.

    Attributes
    ----------
    frame : Frame
    occurring : Occurring
    table : ReadTable
        The frame's rows and the counts (n, P') of the isoforms that occur, the one that serves as
        reference last.
    """

    frame: Frame
    occurring: Occurring
    table: ReadTable

    @classmethod
    def from_rows(cls, design: FloatArray, counts: FloatArray) -> "GLMProblem":
        """Orthonormalise the covariates (n, F), drop isoforms that do not occur in (n, P)."""
        occurring = Occurring.from_counts(counts)
        frame = Frame.from_rows(design, counts @ np.ones(counts.shape[1]))
        table = ReadTable.from_rows(frame.rows, counts[:, occurring.isoforms])
        return cls(frame, occurring, table)

    @property
    def counts(self) -> FloatArray:
        """Counts (n, P') of the isoforms that occur."""
        return self.table.counts.T

    @property
    def n_factors(self) -> int:
        """F, with the covariates that were dropped."""
        return int(self.frame.kept[-1])

    @property
    def n_logits(self) -> int:
        """Q, with the isoforms that never occur."""
        return self.occurring.n_isos - 1

    def pooled_start(self) -> FloatArray:
        """Coordinates C of the pooled log-ratios, no covariate effect."""
        sums = np.log(np.ones(len(self.counts)) @ self.counts)
        coef = np.zeros((len(self.frame.kept), len(sums) - 1))
        coef[-1] = sums[:-1] - sums[-1]
        return coef

    def from_full(self, full: FloatArray) -> FloatArray:
        """Coordinates C of coefficients B (F+1, Q); what is held has none."""
        reduced = self.occurring.reduce(full[self.frame.kept])
        return np.ascontiguousarray(np.linalg.solve(self.frame.to_design, reduced))

    def to_full(self, coef: FloatArray) -> FloatArray:
        """B (F+1, Q) from coordinates C."""
        full = np.zeros((self.n_factors + 1, self.n_logits))
        full[self.frame.kept] = self.occurring.expand(self.frame.to_design @ coef)
        return full

    def places(self) -> IndexArray:
        """Flat index f Q + q, in B, of each coefficient that is not held from the start."""
        logits = self.occurring.isoforms[:-1]
        return np.asarray((self.frame.kept[:, None] * self.n_logits + logits).reshape(-1))
