"""A gene's GLM as its solvers want it, and the climb to its maximum: two compiled calls a gene.

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
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray
from splisosm_pyro.maths.numeric.compiled import compiled, inlined

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
    pooled: FloatArray  # (K,Q'), the log-ratios of the sums, without an effect of covariates
    constant: float  # log multinomial coefficient
    reads: float
    farthest: float  # the largest squared norm of a row

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
    sums = _pool(counts, place, len(rows)) if place.size else counts
    isoforms, absent = _occurring(sums)
    occupied = _occupied(sums)
    seen = np.empty((isoforms.size, occupied.size))
    covariates = np.empty((rows.shape[1], occupied.size))
    share, reads = np.zeros(occupied.size), 0.0
    for i in range(occupied.size):
        for p in range(isoforms.size):
            seen[p, i] = sums[occupied[i], isoforms[p]]
            share[i] += seen[p, i]
        reads += share[i]
        for f in range(rows.shape[1]):
            covariates[f, i] = rows[occupied[i], f]
    for i in range(share.size):
        share[i] /= reads
    columns, mean, upper, kept = _orthonormal(covariates, share)
    independent, farthest = _chosen(columns, kept)
    return ReducedProblem(
        tabulate(independent, seen),
        _change_of_rows(mean, upper, kept),
        kept,
        isoforms,
        absent,
        occupied,
        _pooled(seen, kept.size),
        log_coefficient(counts),
        reads,
        farthest,
    )


@inlined
def _chosen(columns: FloatArray, kept: IndexArray) -> tuple[FloatArray, float]:
    """Copy the rows that are kept; the largest squared norm of a spot's."""
    chosen, farthest = np.empty((kept.size, columns.shape[1])), 0.0
    for i in range(columns.shape[1]):
        norm = 0.0
        for k in range(kept.size):
            chosen[k, i] = columns[kept[k], i]
            norm += chosen[k, i] * chosen[k, i]
        farthest = max(farthest, norm)
    return chosen, farthest


@inlined
def _pooled(counts: FloatArray, n_rows: int) -> FloatArray:
    """Log-ratios of the sums over rows to the last isoform's, for the row of ones."""
    sums = np.zeros(counts.shape[0])
    for p in range(sums.size):
        for i in range(counts.shape[1]):
            sums[p] += counts[p, i]
    pooled = np.zeros((n_rows, sums.size - 1))
    for q in range(sums.size - 1):
        pooled[n_rows - 1, q] = math.log(sums[q]) - math.log(sums[sums.size - 1])
    return pooled


@inlined
def _pool(counts: FloatArray, place: IndexArray, n_rows: int) -> FloatArray:
    """Sum the counts of spots that share a row."""
    pooled = np.zeros((n_rows, counts.shape[1]))
    for s in range(counts.shape[0]):
        for p in range(counts.shape[1]):
            pooled[place[s], p] += counts[s, p]
    return pooled


@inlined
def _occurring(counts: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Isoforms that occur, one for reference last: the last or else the most abundant; the rest."""
    sums = np.zeros(counts.shape[1])
    for s in range(counts.shape[0]):
        for p in range(sums.size):
            sums[p] += counts[s, p]
    reference = sums.size - 1
    if sums[reference] <= 0.0:
        reference = 0
        for p in range(sums.size):
            reference = p if sums[p] > sums[reference] else reference
    isoforms, absent = np.empty(sums.size, np.intp), np.empty(sums.size, np.intp)
    n_occur, n_absent = 0, 0
    for p in range(sums.size):
        if p != reference and sums[p] > 0.0:
            isoforms[n_occur] = p
            n_occur += 1
        elif p != reference:
            absent[n_absent] = p
            n_absent += 1
    isoforms[n_occur] = reference
    return isoforms[: n_occur + 1], absent[:n_absent]


@inlined
def _occupied(counts: FloatArray) -> IndexArray:
    """Rows with counts."""
    rows, n = np.empty(counts.shape[0], np.intp), 0
    for s in range(rows.size):
        total = 0.0
        for p in range(counts.shape[1]):
            total += counts[s, p]
        if total != 0.0:
            rows[n] = s
            n += 1
    return rows[:n]


@inlined
def _change_of_rows(mean: FloatArray, upper: FloatArray, kept: IndexArray) -> FloatArray:
    """Coordinates of the kept covariates and of 1 in the orthonormal rows, (K,K)."""
    used = kept.size - 1
    from_design = np.zeros((used + 1, used + 1))
    from_design[used, used] = 1.0
    for k in range(used):
        from_design[used, k] = mean[kept[k]]
        for j in range(k + 1):
            from_design[j, k] = upper[kept[j], kept[k]]
    return from_design


@inlined
def _orthonormal(
    design: FloatArray,  # (F,n)
    weights: FloatArray,  # (n,), sum 1
) -> tuple[FloatArray, FloatArray, FloatArray, IndexArray]:
    """Gram-Schmidt, each covariate twice; (F+1,n) with a last row of ones, means, R, kept."""
    n_factors, n = design.shape
    rows = np.ones((n_factors + 1, n))
    mean = np.zeros(n_factors)
    upper = np.zeros((n_factors, n_factors))
    kept, n_kept = np.empty(n_factors + 1, np.intp), 0
    for f in range(n_factors):
        mean[f] = _overlap(weights, design, f, rows, n_factors)
        largest = 0.0
        for s in range(n):
            rows[f, s] = design[f, s] - mean[f]
            largest = max(largest, abs(design[f, s]))
        spread = math.sqrt(_overlap(weights, rows, f, rows, f))
        for again in range(2 * n_kept):
            j = kept[again % n_kept]
            overlap = _overlap(weights, rows, f, rows, j)
            upper[j, f] += overlap
            for s in range(n):
                rows[f, s] -= overlap * rows[j, s]
        upper[f, f] = math.sqrt(_overlap(weights, rows, f, rows, f))
        varies = spread > INDEPENDENT_SHARE * largest
        if varies and upper[f, f] > INDEPENDENT_SHARE * spread:
            kept[n_kept] = f
            n_kept += 1
            for s in range(n):
                rows[f, s] /= upper[f, f]
    kept[n_kept] = n_factors
    return rows, mean, upper, kept[: n_kept + 1]


@compiled
def _overlap(weights: FloatArray, left: FloatArray, i: int, right: FloatArray, j: int) -> float:
    """Weighted inner product of two covariates, rows of two tables."""
    result = 0.0
    for s in range(weights.size):
        result += weights[s] * left[i, s] * right[j, s]
    return result


def starting_point(
    problem: ReducedProblem,
    given: FloatArray,  # (F+1,Q), or (0,0) for none
) -> FloatArray:
    """Coordinates C of the likelier of ``given`` and the pooled log-ratios; the maximum is one."""
    pooled = problem.pooled
    if pooled.size == 0 or given.size == 0 or not given.any():
        return pooled  # never less likely than all zeros
    every = np.append(given, np.zeros((len(given), 1)), axis=1)
    logits = every[problem.kept[:, None], problem.isoforms]
    coef = problem.from_design @ (logits[:, :-1] - logits[:, -1:])
    score, information = np.empty_like(coef), np.empty((coef.size, coef.size))
    likelier = fused_pass(problem.table, coef, score, information)
    return coef if likelier > fused_pass(problem.table, pooled, score, information) else pooled


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
    about = problem.from_design, problem.constant, problem.reads, problem.farthest
    if not coef.size:
        nothing = np.empty(0), np.empty((0, *coef.shape)), coef, coef, np.empty((0, 0))
        return Climb(True, 0.0, *nothing, *about)
    ascent = newton_ascent(
        problem.table, coef, least_squares, lr, tol, tol_relative, max_epochs, patience
    )
    return Climb(*ascent, *about)
