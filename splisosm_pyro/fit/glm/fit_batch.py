"""The GLM of many genes at once, for those with nothing to hold: the common case, without ado.

``fit_glm`` handles one gene whatever befalls it. Most genes need little of that: every isoform
occurs and every covariate carries something of its own. Those are climbed by one compiled call
each and certified in stacks of small matrices; all others are left to ``fit_glm``. No gene's
result depends on which others it came with.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from splisosm_pyro.fit.glm.certificate import Ends, certify, judge, limits_in_words
from splisosm_pyro.fit.glm.fit_gene import GLMFit
from splisosm_pyro.fit.glm.newton_iwls import ReadTable, log_coefficient, newton_ascent, tabulate
from splisosm_pyro.fit.glm.reduced_problem import (
    DesignRows,
    Frame,
    GLMProblem,
    Occurring,
    orthonormal,
    pool,
)
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.numeric.compiled import compiled

# Genes that are certified together.
BLOCK = 128


@dataclass
class GLMFits:
    """Fits genes of one batch when they are asked for, a block of neighbours at a time.

    Attributes
    ----------
    counts : ndarray, shape (G, S, P)
    rows : DesignRows
    options : GLMOptions
        Of the method ``'iwls'`` or ``'newton'``.
    names : sequence of str
        The covariates' names, or none.
    """

    counts: FloatArray
    rows: DesignRows
    options: GLMOptions
    names: Sequence[str] = ()
    _ready: dict[int, GLMFit | None] = field(default_factory=dict, init=False, repr=False)

    def get(self, gene: int) -> GLMFit | None:
        """Return the fit of a gene from the default start; None if it needs ``fit_glm``."""
        if gene not in self._ready:
            genes = range(gene, min(gene + BLOCK, len(self.counts)))
            try:
                block = self.counts[genes.start : genes.stop]
                fits = fit_whole(block, self.rows, self.options, self.names)
            except (ArithmeticError, ValueError):  # of any of them: each shows by itself
                fits = [None] * len(genes)
            self._ready = dict(zip(genes, fits, strict=True))
        return self._ready[gene]


def fit_whole(
    counts: FloatArray,  # (G,S,P)
    rows: DesignRows,
    options: GLMOptions,
    names: Sequence[str] = (),
) -> list[GLMFit | None]:
    """Fit genes by ``'iwls'`` or ``'newton'`` from their default start.

    Returns
    -------
    list of GLMFit or None
        What ``fit_glm`` returns, to rounding; None for a gene of which it would hold a part.

    Examples
    --------
    >>> counts = np.array([[[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]], [[1.0, 0.0]] * 3])
    >>> rows = DesignRows.from_design(np.array([[-1.0], [1.0], [0.0]]))
    >>> whole, absent = fit_whole(counts, rows, GLMOptions.from_configs("iwls"))
    >>> round(float(whole.B[0, 0]), 6), absent
    (-1.098612, None)
    """
    pooled = rows.distinct is not None and rows.place is not None
    design = rows.distinct if rows.distinct is not None and pooled else rows.values
    place = rows.place if rows.place is not None and pooled else np.empty(0, dtype=np.intp)
    fits: list[GLMFit | None] = [None] * len(counts)
    climbs: dict[int, _Climb] = {}
    for gene, own in enumerate(counts):
        climb = _Climb(
            *_climb(
                own,
                design,
                place,
                options.method == "iwls",
                options.lr,
                options.tol,
                options.tol_relative,
                options.max_epochs,
                options.patience,
            )
        )
        if climb.whole and np.isfinite(climb.information).all():
            climbs[gene] = climb
    if climbs:
        genes = list(climbs)
        done = _certified(
            list(climbs.values()), lambda i: rows.occupied(counts[genes[i]]), options, names
        )
        for gene, fit in zip(genes, done, strict=True):
            fits[gene] = fit
    return fits


@dataclass(frozen=True, eq=False, slots=True)
class _Climb:
    """Where a gene's ascent ended, in the coordinates C of orthonormal rows."""

    whole: bool  # nothing had to be held
    stopped: bool
    values: FloatArray  # (epochs,) without the multinomial coefficient
    coef: FloatArray  # (K,Q)
    score: FloatArray  # (K,Q)
    information: FloatArray  # (KQ,KQ)
    mean: FloatArray  # (F,)
    upper: FloatArray  # (F,F); rows = (X - mean) upper^-1
    constant: float  # log multinomial coefficient
    total: float  # reads
    farthest: float  # the largest squared norm of a row


@compiled
def _climb(
    counts: FloatArray,  # (S,P)
    design: FloatArray,  # (S,F), or its distinct rows
    place: IndexArray,  # (S,) each spot's row, or empty
    least_squares: bool,
    lr: float,
    tol: float,
    tol_relative: bool,
    max_epochs: int,
    patience: int,
) -> tuple[
    bool,
    bool,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    float,
    float,
    float,
]:
    """Fill a ``_Climb``; it has no end where an isoform or a covariate would have to be held."""
    sums = pool(counts, place, len(design)) if place.size else counts
    n_isos, n_factors = counts.shape[1], design.shape[1]
    held = np.flatnonzero(_row_sums(sums))
    seen, covariates = np.empty((n_isos, held.size)), np.empty((held.size, n_factors))
    for i in range(held.size):
        for p in range(n_isos):
            seen[p, i] = sums[held[i], p]
        for f in range(n_factors):
            covariates[i, f] = design[held[i], f]
    totals = _row_sums(seen.T)
    total = totals.sum()
    occurring = _row_sums(seen)
    n_rows, size = n_factors + 1, (n_factors + 1) * (n_isos - 1)
    start, square = np.zeros((n_rows, n_isos - 1)), np.zeros((size, size))
    if not occurring.min() > 0.0:
        nothing = np.empty((n_factors, n_factors))
        return False, False, totals, start, start, square, totals, nothing, 0.0, 0.0, 0.0
    rows, mean, upper, keep = orthonormal(covariates, totals / total)
    if not keep.all():
        return False, False, totals, start, start, square, mean, upper, 0.0, 0.0, 0.0
    farthest = _row_sums(rows**2).max()
    for q in range(n_isos - 1):
        start[-1, q] = math.log(occurring[q]) - math.log(occurring[n_isos - 1])
    table = tabulate(rows.T.copy(), seen)
    stopped, values, path, score, information = newton_ascent(
        table, start, least_squares, lr, tol, tol_relative, max_epochs, patience
    )
    constant = log_coefficient(counts)
    return (
        *(True, stopped, values, path[-1].copy(), score, information),
        *(mean, upper, constant, total, farthest),
    )


@compiled
def _row_sums(table: FloatArray) -> FloatArray:
    """Sum over the last axis of a table with a few long columns."""
    sums = np.zeros(table.shape[0])
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            sums[i] += table[i, j]
    return sums


def _certified(
    climbs: list[_Climb],
    occupied: Callable[[int], tuple[FloatArray, FloatArray]],
    options: GLMOptions,
    names: Sequence[str],
) -> list[GLMFit]:
    """Certify the ends of all climbs and bring them back to the documented coordinates."""
    to_design, from_design = _frames(climbs)

    @cache
    def problem(gene: int) -> GLMProblem:
        return _problem(*occupied(gene), to_design[gene])

    ends = Ends(
        coef=_stack([c.coef for c in climbs]),
        score=_stack([c.score for c in climbs]),
        information=_stack([c.information for c in climbs]),
        to_design=to_design,
        from_design=from_design,
        total=_stack([c.total for c in climbs]),
        farthest=_stack([c.farthest for c in climbs]),
        problem=problem,
    )
    certificates = certify(ends)
    B = to_design @ ends.coef
    errors = certificates.standard_errors.reshape(B.shape)
    fixed, held = certificates.fixed.reshape(B.shape), certificates.held.reshape(B.shape)
    no_path = np.empty((0, *B.shape[1:]))
    fits = []
    for i, climb in enumerate(climbs):
        flat, value, epochs = certificates.flat[i], float(climb.values[-1]), len(climb.values)
        limits = limits_in_words(problem(i), climb.coef, flat, names) if flat.any() else []
        tolerance = options.tol * (abs(value) if options.tol_relative else 1.0)
        left = float(certificates.left[i])
        status, reason = judge(limits, left, climb.stopped, tolerance, epochs)
        fits.append(
            GLMFit(
                B=B[i],
                log_lik=value + climb.constant,
                information=certificates.information[i],
                standard_errors=errors[i],
                fixed=fixed[i],
                held=held[i],
                status=status,
                reason=reason,
                gradient_norm=float(certificates.gradient_norm[i]),
                min_eigenvalue=float(certificates.min_eigenvalue[i]),
                epochs=epochs,
                values=climb.values + climb.constant,
                path=no_path,
            )
        )
    return fits


def _frames(climbs: list[_Climb]) -> tuple[FloatArray, FloatArray]:
    """Matrices (G,K,K) from coefficients of orthonormal rows to those of the design, and back."""
    upper, mean = _stack([c.upper for c in climbs]), _stack([c.mean for c in climbs])
    n_factors = mean.shape[1]
    back = np.zeros((len(climbs), n_factors + 1, n_factors + 1))
    back[:, -1, -1] = 1.0
    back[:, :-1, :-1], back[:, -1, :-1] = upper, mean
    return np.linalg.inv(back), back


def _problem(design: FloatArray, counts: FloatArray, to_design: FloatArray) -> GLMProblem:
    """Return the problem of a gene of which nothing is held."""
    n_factors, n_isos = design.shape[1], counts.shape[1]
    rows = design @ to_design[:-1] + to_design[-1]
    none = np.empty(0, dtype=np.intp)
    frame = Frame(rows, to_design, np.arange(n_factors + 1), none)
    table = ReadTable.from_rows(rows, counts)
    return GLMProblem(frame, Occurring(np.arange(n_isos), none, n_isos), table)


def _stack(parts: list[FloatArray] | list[float]) -> FloatArray:
    """Put genes along a first axis."""
    return np.array(parts, dtype=np.float64)
