"""The multinomial GLM of one gene: maximum likelihood, standard errors, certificate.

``eta = X beta + bias``, ``Y ~ Multinomial(total, softmax([eta, 0]))``. The coefficients are one
array B (F+1, Q): rows 0 to F-1 are beta, the last row is the intercept; flat index ``f Q + q``.
They and all that is said of them are in the units of the design that is given: the engine gives the
standard columns of ``standard_design.py``.

The log-likelihood is concave. Where it has no finite maximum (an isoform never occurs, a covariate
separates an isoform) the fit stops within 1e-6 nats of its supremum, at finite coefficients, and
says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from splisosm_pyro.fit.glm.certificate import Certificates, certify, judge, limits_in_words
from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glm.newton_iwls import fused_pass
from splisosm_pyro.fit.glm.reduced_problem import (
    Climb,
    DesignRows,
    ReducedProblem,
    climb,
    reduce_gene,
)
from splisosm_pyro.fit.glm.undetermined import Undetermined, undetermined
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.result import Status
from splisosm_pyro.fit.search.first_order import ascend
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

Fit = TypeVar("Fit")
# Genes that are certified together.
BLOCK = 128
# Newton steps of a fit without a limit of its own.
MOST_NEWTON = 10_000
# The one layout that is compiled for.
WRITABLE: tuple[Literal["C", "W"], ...] = ("C", "W")


@dataclass(frozen=True, eq=False)
class GLMFit:
    """The fit of one gene.

    Attributes
    ----------
    B : ndarray, shape (F+1, Q)
        Coefficients, logit scale; finite.
    log_lik : float
        With the multinomial coefficient, in nats.
    information : ndarray, shape ((F+1)Q, (F+1)Q)
        Observed information at ``B``; rows and columns of what is held from the start are 0.
    covariance : ndarray, shape ((F+1)Q, (F+1)Q)
        Without the directions that have no finite optimum.
    fixed : ndarray of bool, shape (F+1, Q)
        Coefficients without a finite or unique optimum, at one of their values.
    held : ndarray of bool, shape (F+1, Q)
        A smallest part of ``fixed`` such that the others, given it, have a unique finite optimum.
    unknown : Undetermined
        The directions of B that move what is ``fixed``.
    status, reason : str
        See ``GeneFit``.
    gradient_norm, min_eigenvalue : float
        Of the score in all coefficients that were not held from the start; of the information in
        all that are not ``held``. The eigenvalue is infinite where nothing is free.
    epochs : int
        Epochs taken.
    values : ndarray, shape (epochs,)
        Log-likelihood after each.
    path : ndarray, shape (epochs, F+1, Q)
        ``B`` after each; empty unless asked for.
    """

    B: FloatArray
    log_lik: float
    information: FloatArray
    covariance: FloatArray
    fixed: Mask
    held: Mask
    unknown: Undetermined
    status: str
    reason: str
    gradient_norm: float
    min_eigenvalue: float
    epochs: int
    values: FloatArray
    path: FloatArray

    @property
    def coefficients(self) -> Coefficients:
        """``B`` with what is and what is not known of it."""
        return Coefficients(self.B, self.covariance, self.unknown)

    @property
    def standard_errors(self) -> FloatArray:
        """Standard errors (F+1, Q), infinite where ``fixed``."""
        errors = np.sqrt(self.covariance.diagonal()).reshape(self.B.shape)
        return np.where(self.fixed, np.inf, errors)


def fit_glm(
    counts: FloatArray,
    design: FloatArray | DesignRows,
    options: GLMOptions | None = None,
    *,
    start: FloatArray | None = None,
    names: Sequence[str] = (),
    keep_path: bool = False,
) -> GLMFit:
    """Fit the multinomial GLM of one gene.

    Parameters
    ----------
    counts : ndarray, shape (S, P)
        Non-negative, finite; spots without counts are legal.
    design : ndarray, shape (S, F), or DesignRows
        Covariates without intercept; ``DesignRows`` shares the search for repeated rows.
    options : GLMOptions, optional
        Default ``GLMOptions.from_configs('iwls')``.
    start : ndarray, shape (F+1, Q), optional
        Used if it is likelier than the default, the pooled log-ratios without covariate effect.
    names : sequence of str, optional
        The covariates' names, for ``reason``.
    keep_path : bool
        Return the coefficients after each epoch.

    Returns
    -------
    GLMFit

    Notes
    -----
    O(n (P + (F+1)^2 Q^2)) an epoch, n the occupied spots or, where it is at most half of the
    spots, the distinct design rows; 4 to 8 epochs inside, about 25 at a boundary.

    References
    ----------
    Agresti (2013), Categorical Data Analysis, 3rd ed., section 8.1; Albert and Anderson (1984),
    Biometrika 71, 1, doi:10.1093/biomet/71.1.1 (separation).

    Examples
    --------
    >>> counts = np.array([[3.0, 1.0], [1.0, 3.0], [0.0, 0.0], [2.0, 2.0]])
    >>> fit = fit_glm(counts, np.array([[-1.0], [1.0], [5.0], [0.0]]))
    >>> str(fit.status), round(float(fit.B[0, 0]), 6)
    ('converged', -1.098612)
    """
    starts = None if start is None else start[None]
    options = GLMOptions.from_configs("iwls") if options is None else options
    (fit,) = fit_glms(
        counts[None], design, options, starts=starts, names=names, keep_path=keep_path
    )
    return fit


def fit_glms(
    counts: FloatArray,  # (G,S,P)
    design: FloatArray | DesignRows,
    options: GLMOptions,
    *,
    starts: FloatArray | None = None,  # (G,F+1,Q)
    names: Sequence[str] = (),
    keep_path: bool = False,
) -> list[GLMFit]:
    """Fit many genes as ``fit_glm`` does, each as if it were alone.

    A compiled call a gene climbs; genes of which equally much is left to fit are certified
    together, in stacks of small matrices.

    Examples
    --------
    >>> counts = np.array([[[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]], [[1.0, 0.0]] * 3])
    >>> design = np.array([[-1.0], [1.0], [0.0]])
    >>> fits = fit_glms(counts, design, GLMOptions.from_configs("iwls"))
    >>> [(str(fit.status), round(float(fit.B[0, 0]), 6)) for fit in fits]
    [('converged', -1.098612), ('boundary', 0.0)]
    """
    rows = design if isinstance(design, DesignRows) else DesignRows.from_design(design)
    counts = np.require(counts, np.float64, WRITABLE)
    given = np.zeros((len(counts), 0, 0)) if starts is None else starts
    given = np.require(given, np.float64, WRITABLE)
    climbs = [_climb(*own, rows, options) for own in zip(counts, given, strict=True)]
    problem = cache(lambda gene: reduce_gene(counts[gene], rows.rows, rows.place))
    ask = _Ask(options, names, keep_path, rows.rows, counts.shape[2] - 1)
    fits: dict[int, GLMFit] = {}
    for size in {end.coef.shape for end in climbs}:
        alike = {gene: end for gene, end in enumerate(climbs) if end.coef.shape == size}
        ends = certify(alike, problem)
        for i, gene in enumerate(alike):
            fits[gene] = _assemble(ask, ends, i, climbs[gene], partial(problem, gene))
    return [fits[gene] for gene in range(len(counts))]


def _climb(
    counts: FloatArray,  # (S,P)
    start: FloatArray,  # (F+1,Q), or (0,0) for none
    rows: DesignRows,
    options: GLMOptions,
) -> Climb:
    """Run the configured solver; a first-order one begins where the compiled call begins."""
    first_order = options.method == "gd"
    end = climb(
        counts,
        rows.rows,
        rows.place,
        start,
        options.method == "iwls",
        options.lr,
        options.tol,
        options.tol_relative,
        0 if first_order else min(options.most_epochs, MOST_NEWTON),
        options.patience,
    )
    if not (first_order and end.coef.size):
        return end
    return _first_order(end, reduce_gene(counts, rows.rows, rows.place), options)


def _first_order(begin: Climb, problem: ReducedProblem, options: GLMOptions) -> Climb:
    """Ascend by adam, sgd or lbfgs, in units of the information's diagonal at the start."""
    shape = begin.coef.shape
    score, information = np.empty(shape), np.empty_like(begin.information)

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        at = np.ascontiguousarray(flat).reshape(shape)
        value = fused_pass(problem.table, at, score, information)
        return value, score.reshape(-1).copy()

    # a start in the flat part of the likelihood would promise boundless steps
    curvature = np.maximum(begin.information.diagonal(), 1e-3 * begin.reads)
    ascent = ascend(objective, begin.coef.reshape(-1), options, curvature)
    objective(ascent.best.at)
    return begin._replace(
        stopped=ascent.stopped,
        value=ascent.best.value,
        values=ascent.values,
        path=ascent.path.reshape(-1, *shape),
        coef=ascent.best.at.reshape(shape),
        score=score,
        information=information,
    )


class _Ask(NamedTuple):
    """What the fits of many genes have in common."""

    options: GLMOptions
    names: Sequence[str]
    keep_path: bool
    rows: FloatArray  # (U,F)
    n_logits: int  # Q

    @property
    def shape(self) -> tuple[int, int]:
        """Of B, (F+1, Q)."""
        return self.rows.shape[1] + 1, self.n_logits


def _assemble(
    ask: _Ask, ends: Certificates, i: int, end: Climb, problem: Callable[[], ReducedProblem]
) -> GLMFit:
    """Lay out the fit of the gene at place i among those that were certified together."""
    part = end.coef.shape != ask.shape
    limits, unknown = [], Undetermined.nothing(ask.shape[0] * ask.n_logits)
    if part or ends.fixed[i].any():
        left_out = np.asarray(~ask.rows.any(axis=0))
        limits = limits_in_words(problem(), end.coef, ends.flat[i], ask.names, left_out)
        unknown = undetermined(problem(), ask.rows, ends.flat[i])
    status, reason = judge(limits, float(ends.left[i]), end, ask.options)
    fit = GLMFit(
        B=ends.coef[i],
        log_lik=end.value + end.constant,
        information=ends.information[i],
        covariance=ends.covariance[i],
        fixed=ends.fixed[i],
        held=ends.held[i],
        unknown=unknown,
        status=status,
        reason=reason,
        gradient_norm=float(ends.gradient_norm[i]),
        min_eigenvalue=float(ends.min_eigenvalue[i]),
        epochs=len(end.values),
        values=end.values + end.constant,
        path=ends.to_design[i] @ end.path if ask.keep_path else end.path[:0],
    )
    return _widen(fit, problem(), end.reads > 0.0) if part else fit


def _widen(fit: GLMFit, problem: ReducedProblem, counted: bool) -> GLMFit:
    """Add the coefficients that are held from the start to a fit of the others."""
    fixed = fit.unknown.coefficients.reshape(-1, problem.n_logits)
    whole = replace(
        fit,
        B=problem.whole(fit.B),
        information=problem.spread_square(fit.information),
        covariance=problem.spread_square(fit.covariance),
        fixed=fixed,
        held=problem.spread(fit.held, True),
        path=problem.whole(fit.path),
    )
    if counted:
        return whole
    why = "the gene has no counts: its coefficients stay at 0"
    return replace(whole, B=np.zeros_like(whole.B), status=Status.NO_COUNTS, reason=why)


def one_by_one(
    fit: Callable[[slice], list[Fit]], n_genes: int, block: int = BLOCK
) -> Callable[[int], Fit]:
    """Return what gives a gene's fit when asked for it, and makes a block of neighbours at a time.

    Where a block raises, each of its genes is fitted by itself, so that only one that is to blame
    raises.
    """
    ready: dict[int, Fit | None] = {}

    def get(gene: int) -> Fit:
        if gene not in ready:
            genes = range(gene, min(gene + block, n_genes))
            ready.clear()
            try:
                ready.update(zip(genes, fit(slice(gene, genes.stop)), strict=True))
            except (ArithmeticError, ValueError):
                ready.update(dict.fromkeys(genes))
        return ready[gene] or fit(slice(gene, gene + 1))[0]

    return get
