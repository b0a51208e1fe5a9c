"""The GLM of many genes at once, for those whose maximum lies inside: the common case, without ado.

``fit_glm`` handles one gene whatever befalls it. Most genes need little of that: every isoform
occurs, every covariate carries something of its own, and the maximum is finite. Those are climbed
by one compiled call each and certified in stacks of small matrices, by the formulas of
``fit_glm``; all others are left to it. No gene's result depends on which others it came with.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from splisosm_pyro.fit.glm import GLMFit
from splisosm_pyro.fit.glm_certificate import FLAT, LEFT_OVER
from splisosm_pyro.fit.glm_rows import DesignRows, orthonormal, pool
from splisosm_pyro.fit.iwls import log_coefficient, newton_ascent, tabulate
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.result import Array, Status
from splisosm_pyro.maths.compiled import compiled

Index = npt.NDArray[np.intp]

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
    """

    counts: Array
    rows: DesignRows
    options: GLMOptions
    _ready: dict[int, GLMFit | None] = field(default_factory=dict, init=False, repr=False)

    def get(self, gene: int) -> GLMFit | None:
        """Return the fit of a gene from the default start; None if it needs ``fit_glm``."""
        if gene not in self._ready:
            genes = range(gene, min(gene + BLOCK, len(self.counts)))
            try:
                fits = fit_inside(self.counts[genes.start : genes.stop], self.rows, self.options)
            except (ArithmeticError, ValueError):  # of any of them: each shows by itself
                fits = [None] * len(genes)
            self._ready = dict(zip(genes, fits, strict=True))
        return self._ready[gene]


def fit_inside(
    counts: Array,  # (G,S,P)
    rows: DesignRows,
    options: GLMOptions,
) -> list[GLMFit | None]:
    """Fit genes by ``'iwls'`` or ``'newton'`` from their default start.

    Returns
    -------
    list of GLMFit or None
        What ``fit_glm`` returns, to rounding, for a gene that converges inside; None for others.

    Examples
    --------
    >>> counts = np.array([[[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]], [[1.0, 0.0]] * 3])
    >>> rows = DesignRows.from_design(np.array([[-1.0], [1.0], [0.0]]))
    >>> inside, absent = fit_inside(counts, rows, GLMOptions.from_configs("iwls"))
    >>> round(float(inside.B[0, 0]), 6), absent
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
        if climb.stopped and np.isfinite(climb.information).all():
            climbs[gene] = climb
    if climbs:
        for gene, fit in zip(climbs, _certified(list(climbs.values()), options), strict=True):
            fits[gene] = fit
    return fits


@dataclass(frozen=True, eq=False, slots=True)
class _Climb:
    """Where a gene's ascent ended, in the coordinates C of orthonormal rows."""

    stopped: bool  # at a maximum as it seems, with nothing dropped
    values: Array  # (epochs,) without the multinomial coefficient
    coef: Array  # (K,Q)
    score: Array  # (K,Q)
    information: Array  # (KQ,KQ)
    mean: Array  # (F,)
    upper: Array  # (F,F); rows = (X - mean) upper^-1
    constant: float  # log multinomial coefficient
    total: float  # reads
    farthest: float  # the largest squared norm of a row


@compiled
def _climb(
    counts: Array,  # (S,P)
    design: Array,  # (S,F), or its distinct rows
    place: Index,  # (S,) each spot's row, or empty
    least_squares: bool,
    lr: float,
    tol: float,
    tol_relative: bool,
    max_epochs: int,
    patience: int,
) -> tuple[bool, Array, Array, Array, Array, Array, Array, float, float, float]:
    """Fill a ``_Climb``; not ``stopped`` where an isoform or a covariate would have to be held."""
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
        return False, totals, start, start, square, totals, nothing, 0.0, 0.0, 0.0
    rows, mean, upper, keep = orthonormal(covariates, totals / total)
    if not keep.all():
        return False, totals, start, start, square, mean, upper, 0.0, 0.0, 0.0
    farthest = _row_sums(rows**2).max()
    for q in range(n_isos - 1):
        start[-1, q] = math.log(occurring[q]) - math.log(occurring[n_isos - 1])
    table = tabulate(rows.T.copy(), seen)
    stopped, values, path, score, information = newton_ascent(
        table, start, least_squares, lr, tol, tol_relative, max_epochs, patience
    )
    constant = log_coefficient(counts)
    return (
        *(stopped, values, path[-1].copy(), score, information),
        *(mean, upper, constant, total, farthest),
    )


@compiled
def _row_sums(table: Array) -> Array:
    """Sum over the last axis of a table with a few long columns."""
    sums = np.zeros(table.shape[0])
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            sums[i] += table[i, j]
    return sums


def _certified(climbs: list[_Climb], options: GLMOptions) -> list[GLMFit | None]:
    """Split information into what ``glm_certificate.certify`` says, for genes without limits."""
    coef, score = _stack([c.coef for c in climbs]), _stack([c.score for c in climbs])
    information = _stack([c.information for c in climbs])
    eigenvalues, vectors = np.linalg.eigh(information)
    total, farthest = _stack([c.total for c in climbs]), _stack([c.farthest for c in climbs])
    threshold = np.maximum(FLAT * np.minimum(1.0, total), 1e-14 * total) * farthest
    flat = score.reshape(len(climbs), -1)
    along = (flat[:, None] @ vectors)[:, 0]
    inside = eigenvalues[:, 0] > threshold
    eigenvalues[~inside] = 1.0
    left = 0.5 * (along**2 / eigenvalues).sum(axis=1)
    last = _stack([c.values[-1] for c in climbs])
    tolerance = 10.0 * options.tol * (np.abs(last) if options.tol_relative else 1.0)
    inside &= left <= np.maximum(LEFT_OVER, tolerance)
    to_design, from_design = _frames(climbs)
    B = to_design @ coef
    logits = coef.shape[2]
    spread_out, back = _kron(to_design, logits) @ vectors, _kron(from_design, logits)
    errors = np.sqrt((spread_out**2 / eigenvalues[:, None]).sum(axis=2)).reshape(B.shape)
    original = back.transpose(0, 2, 1) @ information @ back
    smallest = np.linalg.eigvalsh(original)[:, 0]
    norms = np.linalg.norm((flat[:, None] @ back)[:, 0], axis=1)
    nowhere, no_path = np.zeros(B.shape[1:], dtype=bool), np.empty((0, *B.shape[1:]))
    return [
        GLMFit(
            B=B[i],
            log_lik=float(last[i] + climb.constant),
            information=original[i],
            standard_errors=errors[i],
            fixed=nowhere,
            held=nowhere,
            status=Status.CONVERGED,
            reason="",
            gradient_norm=float(norms[i]),
            min_eigenvalue=float(smallest[i]),
            epochs=len(climb.values),
            values=climb.values + climb.constant,
            path=no_path,
        )
        if inside[i]
        else None
        for i, climb in enumerate(climbs)
    ]


def _frames(climbs: list[_Climb]) -> tuple[Array, Array]:
    """Matrices (G,K,K) from coefficients of orthonormal rows to those of the design, and back."""
    upper, mean = _stack([c.upper for c in climbs]), _stack([c.mean for c in climbs])
    n_factors = mean.shape[1]
    back = np.zeros((len(climbs), n_factors + 1, n_factors + 1))
    back[:, -1, -1] = 1.0
    back[:, :-1, :-1], back[:, -1, :-1] = upper, mean
    return np.linalg.inv(back), back


def _kron(left: Array, logits: int) -> Array:
    """Kronecker products of matrices (G,K,K) with the identity."""
    blocks = left[:, :, None, :, None] * np.eye(logits)[:, None, :]
    return np.asarray(blocks.reshape(len(left), left.shape[1] * logits, -1))


def _stack(parts: list[Array] | list[float]) -> Array:
    """Put genes along a first axis."""
    return np.array(parts, dtype=np.float64)
