"""A gene's GLM as its solvers want it, and the climb to its maximum: one compiled call a gene.

Three exact reductions leave few rows, orthonormal covariates and isoforms that occur:
- only spots with counts enter; where many spots share a design row, their counts are summed (the
  sums are sufficient statistics);
- covariates are made orthonormal over the gene's reads, so that the information depends on the
  ratios alone; a covariate that carries nothing of its own on the spots with counts is held at 0;
- isoforms that never occur leave the problem; their limit is put back at the end.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from splisosm_pyro.fit.glm.newton_iwls import (
    ReadTable,
    fused_pass,
    log_coefficient,
    newton_ascent,
    tabulate,
)
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, Mask
from splisosm_pyro.maths.numeric.compiled import compiled

# Rows are pooled where the distinct ones are at most this share of the spots.
WORTH_POOLING = 0.5
# What must be left of a covariate's standard deviation after regression on the earlier ones.
INDEPENDENT_SHARE = 1e-7
# The logit that stands for an isoform that never occurs, or for a reference that never does.
ABSENT_LOGIT = -40.0


@dataclass(frozen=True, eq=False)
class DesignRows:
    """The rows of a design matrix, shared by all genes.

    Attributes
    ----------
    rows : ndarray, shape (U, F)
        The distinct rows if pooling spots with equal rows is worth it, else those of all spots.
    place : ndarray of intp, shape (S,) or (0,)
        Each spot's row; empty where every spot has its own.
    """

    rows: FloatArray
    place: IndexArray

    @classmethod
    def from_design(cls, design: FloatArray) -> "DesignRows":
        """Look for repeated rows of the design (S, F) without intercept, O(S F log S)."""
        values = np.ascontiguousarray(design, dtype=np.float64)
        if values.shape[1] == 0:
            return cls(np.empty((1, 0)), np.zeros(len(values), dtype=np.intp))
        distinct, place = np.unique(values, axis=0, return_inverse=True)
        if len(distinct) > WORTH_POOLING * len(values):
            return cls(values, np.empty(0, dtype=np.intp))
        return cls(np.ascontiguousarray(distinct), place.reshape(-1).astype(np.intp))


class ReducedProblem(NamedTuple):
    """What is left of a gene: coefficients C (K, Q') = ``from_design`` B of orthonormal rows."""

    table: ReadTable  # rows uncorrelated, of mean 0 and variance 1 over the reads; the last is 1
    from_design: FloatArray  # (K,K), [X_kept, 1] = rows' from_design
    kept: IndexArray  # (K,) the covariates that are kept, and F for the intercept
    isoforms: IndexArray  # (P',) those that occur, the one that serves as reference last
    absent: IndexArray  # those that never occur, in ascending order
    occupied: IndexArray  # the rows with counts

    @property
    def n_logits(self) -> int:
        """Q, with the isoforms that never occur."""
        return len(self.isoforms) + len(self.absent) - 1

    @property
    def reference_absent(self) -> bool:
        """True if the reference isoform never occurs."""
        return int(self.isoforms[-1]) != self.n_logits

    @property
    def dropped(self) -> IndexArray:
        """The covariates that earlier ones and the intercept determine on the spots with counts."""
        return np.delete(np.arange(self.kept[-1]), self.kept[:-1])

    @property
    def scales(self) -> FloatArray:
        """Standard deviations over the reads of the kept covariates, and 1 for the intercept."""
        inside = self.from_design[:-1, :-1]
        return np.append(np.sqrt((inside**2).sum(axis=0)), 1.0)

    def whole(self, coef: FloatArray) -> FloatArray:
        """Coefficients (..., F+1, Q) from those (..., K, Q') of what is kept and occurs."""
        full = np.zeros((*coef.shape[:-2], self.kept[-1] + 1, self.n_logits + 1))
        full[..., self.kept[:, None], self.isoforms[:-1]] = coef
        full[..., -1, self.absent] = ABSENT_LOGIT
        if self.reference_absent:
            # relative to the stand-in, which stands 40 above the reference
            full[..., -1, self.isoforms] -= ABSENT_LOGIT
        return full[..., :-1]

    def spread(self, part: AnyArray, rest: float) -> AnyArray:
        """Lay out what belongs to coefficients (K, Q') over (F+1, Q), and ``rest`` elsewhere."""
        full = np.full((self.kept[-1] + 1, self.n_logits), rest, dtype=part.dtype)
        full[self.kept[:, None], self.isoforms[:-1]] = part
        return full

    def spread_square(self, part: FloatArray) -> FloatArray:
        """Likewise a matrix over all coefficients, and 0 elsewhere."""
        return self.spread_rows(self.spread_rows(part).T).T

    def spread_rows(self, part: FloatArray) -> FloatArray:
        """Likewise the rows of a matrix, one a coefficient."""
        places = (self.kept[:, None] * self.n_logits + self.isoforms[:-1]).reshape(-1)
        full = np.zeros(((int(self.kept[-1]) + 1) * self.n_logits, part.shape[1]))
        full[places] = part
        return full


@compiled
def reduce_gene(
    counts: FloatArray,  # (S,P)
    rows: FloatArray,  # (U,F), as in DesignRows
    place: IndexArray,  # (S,) or (0,)
) -> ReducedProblem:
    """Sum the counts of equal rows, orthonormalise the covariates, drop what never occurs."""
    sums = pool(counts, place, len(rows)) if place.size else counts
    isoforms, absent = _occurring(sums)
    occupied = np.flatnonzero(row_sums(sums))
    seen = np.empty((isoforms.size, occupied.size))
    covariates = np.empty((rows.shape[1], occupied.size))
    for i in range(occupied.size):
        for p in range(isoforms.size):
            seen[p, i] = sums[occupied[i], isoforms[p]]
        for f in range(rows.shape[1]):
            covariates[f, i] = rows[occupied[i], f]
    totals = row_sums(seen.T)
    columns, mean, upper, keep = orthonormal(covariates, totals / totals.sum())
    kept = np.append(np.flatnonzero(keep), len(keep))
    used = kept.size - 1
    from_design = np.zeros((used + 1, used + 1))
    from_design[used, used] = 1.0
    for k in range(used):
        from_design[used, k] = mean[kept[k]]
        for j in range(k + 1):
            from_design[j, k] = upper[kept[j], kept[k]]
    table = tabulate(columns[kept], seen)
    return ReducedProblem(table, from_design, kept, isoforms, absent, occupied)


@compiled
def pool(counts: FloatArray, place: IndexArray, n_rows: int) -> FloatArray:
    """Sum the counts of spots that share a row."""
    pooled = np.zeros((n_rows, counts.shape[1]))
    for s in range(counts.shape[0]):
        for p in range(counts.shape[1]):
            pooled[place[s], p] += counts[s, p]
    return pooled


@compiled
def row_sums(table: FloatArray) -> FloatArray:
    """Sum over the last axis of a table with a few long columns."""
    sums = np.zeros(table.shape[0])
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            sums[i] += table[i, j]
    return sums


@compiled
def _occurring(counts: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Isoforms that occur, one for reference last: the last or else the most abundant; the rest."""
    sums = row_sums(counts.T)
    occurs = sums > 0.0
    reference = sums.size - 1 if occurs[-1] else np.argmax(sums)
    occurs[reference] = False
    isoforms = np.append(np.flatnonzero(occurs), reference)
    occurs[reference] = True
    return isoforms, np.flatnonzero(~occurs)


@compiled
def orthonormal(
    design: FloatArray,  # (F,n)
    weights: FloatArray,  # (n,), sum 1
) -> tuple[FloatArray, FloatArray, FloatArray, Mask]:
    """Gram-Schmidt, each covariate twice; (F+1,n) with a last row of ones, means, R, kept."""
    n_factors, n = design.shape
    rows = np.ones((n_factors + 1, n))
    mean = np.zeros(n_factors)
    upper = np.zeros((n_factors, n_factors))
    keep = np.zeros(n_factors, dtype=np.bool_)
    for f in range(n_factors):
        mean[f] = _overlap(weights, design[f], rows[n_factors])
        largest = 0.0
        for s in range(n):
            rows[f, s] = design[f, s] - mean[f]
            largest = max(largest, abs(design[f, s]))
        spread = math.sqrt(_overlap(weights, rows[f], rows[f]))
        for again in range(2 * f):
            j = again % f
            if keep[j]:
                overlap = _overlap(weights, rows[f], rows[j])
                upper[j, f] += overlap
                for s in range(n):
                    rows[f, s] -= overlap * rows[j, s]
        upper[f, f] = math.sqrt(_overlap(weights, rows[f], rows[f]))
        varies = spread > INDEPENDENT_SHARE * largest
        keep[f] = varies and upper[f, f] > INDEPENDENT_SHARE * spread
        if keep[f]:
            for s in range(n):
                rows[f, s] /= upper[f, f]
    return rows, mean, upper, keep


@compiled
def _overlap(weights: FloatArray, left: FloatArray, right: FloatArray) -> float:
    """Weighted inner product of two covariates."""
    result = 0.0
    for s in range(weights.size):
        result += weights[s] * left[s] * right[s]
    return result


@compiled
def starting_point(
    problem: ReducedProblem,
    given: FloatArray,  # (F+1,Q), or (0,0) for none
) -> FloatArray:
    """Coordinates C of the likelier of ``given`` and the pooled log-ratios; the maximum is one."""
    table, n_logits = problem.table, problem.isoforms.size - 1
    sums = row_sums(table.counts)
    pooled = np.zeros((problem.kept.size, n_logits))
    for q in range(n_logits):
        pooled[-1, q] = math.log(sums[q]) - math.log(sums[n_logits])
    if pooled.size == 0 or not given.any():
        return pooled  # never less likely than all zeros
    logits = np.zeros((problem.kept.size, n_logits + 1))
    for k in range(problem.kept.size):
        for p in range(n_logits + 1):
            if problem.isoforms[p] < given.shape[1]:
                logits[k, p] = given[problem.kept[k], problem.isoforms[p]]
    relative = logits[:, :n_logits] - logits[:, n_logits:]
    coef = problem.from_design @ relative
    score, information = np.empty_like(coef), np.empty((coef.size, coef.size))
    likelier = fused_pass(table, coef, score, information)
    return coef if likelier > fused_pass(table, pooled, score, information) else pooled


class Climb(NamedTuple):
    """Where an ascent ended, in the coordinates C of the reduced problem."""

    stopped: bool  # by tolerance
    value: float  # without the multinomial coefficient, as values
    values: FloatArray  # (epochs,)
    path: FloatArray  # (epochs,K,Q')
    coef: FloatArray  # (K,Q')
    score: FloatArray  # (K,Q')
    information: FloatArray  # (KQ',KQ')
    from_design: FloatArray  # (K,K), C = from_design B
    constant: float  # log multinomial coefficient
    reads: float
    farthest: float  # the largest squared norm of a row


@compiled
def climb(
    counts: FloatArray,
    rows: FloatArray,
    place: IndexArray,
    start: FloatArray,
    least_squares: bool,
    lr: float,
    tol: float,
    tol_relative: bool,
    max_epochs: int,
    patience: int,
) -> Climb:
    """Reduce the gene and climb by Newton steps; coefficients of size 0 where none is left."""
    problem = reduce_gene(counts, rows, place)
    coef = starting_point(problem, start)
    stopped, value, values, path = True, 0.0, np.empty(0), np.empty((0, *coef.shape))
    score, information = coef, np.empty((coef.size, coef.size))
    farthest = 0.0
    if coef.size:
        stopped, value, values, path, coef, score, information = newton_ascent(
            problem.table, coef, least_squares, lr, tol, tol_relative, max_epochs, patience
        )
        farthest = row_sums((problem.table.rows**2).T).max()
    return Climb(
        *(stopped, value, values, path, coef, score, information, problem.from_design),
        *(log_coefficient(counts), problem.table.totals.sum(), farthest),
    )
