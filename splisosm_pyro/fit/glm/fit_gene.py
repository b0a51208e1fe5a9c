"""The multinomial GLM of one gene: maximum likelihood, standard errors, certificate.

``eta = X beta + bias``, ``Y ~ Multinomial(total, softmax([eta, 0]))``. The coefficients are one
array B (F+1, Q): rows 0 to F-1 are beta, the last row is the intercept; flat index ``f Q + q``.

The log-likelihood is concave. Where it has no finite maximum (an isoform never occurs, a covariate
separates an isoform) the fit stops within 1e-6 nats of its supremum, at finite coefficients, and
says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.certificate import Ends, certify, judge, limits_in_words, widen
from splisosm_pyro.fit.glm.newton_iwls import fused_pass, log_coefficient, newton_ascent
from splisosm_pyro.fit.glm.reduced_problem import DesignRows, GLMProblem
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.result import Status
from splisosm_pyro.fit.search.first_order import ascend
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask


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
    standard_errors : ndarray, shape (F+1, Q)
        Infinite where ``fixed``.
    fixed : ndarray of bool, shape (F+1, Q)
        Coefficients without a finite or unique optimum, at the values that they were given.
    held : ndarray of bool, shape (F+1, Q)
        A smallest part of ``fixed`` such that the others, given it, have a unique finite optimum.
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
    standard_errors: FloatArray
    fixed: Mask
    held: Mask
    status: str
    reason: str
    gradient_norm: float
    min_eigenvalue: float
    epochs: int
    values: FloatArray
    path: FloatArray


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
    options = GLMOptions.from_configs("iwls") if options is None else options
    rows = design if isinstance(design, DesignRows) else DesignRows.from_design(design)
    held_rows, held_counts = rows.occupied(counts)
    n_factors, n_logits = rows.values.shape[1], counts.shape[1] - 1
    if len(held_rows) == 0:
        return _without_counts(n_factors, n_logits)
    problem = GLMProblem.from_rows(held_rows, held_counts)
    climb = _climb(problem, options, start)
    return _assemble(problem, climb, log_coefficient(counts), options, names, keep_path)


@dataclass(frozen=True, eq=False)
class _Climb:
    """Where the solver ended, in the coordinates C; values without the multinomial coefficient."""

    stopped: bool
    value: float
    values: FloatArray
    path: FloatArray  # (epochs,K,Q')
    coef: FloatArray
    score: FloatArray  # (K,Q')
    information: FloatArray  # (KQ',KQ')


def _climb(problem: GLMProblem, options: GLMOptions, start: FloatArray | None) -> _Climb:
    """Run the configured solver."""
    coef = _better_start(problem, start)
    if coef.size == 0:
        nothing = np.zeros((0, *coef.shape))
        return _Climb(True, 0.0, np.empty(0), nothing, coef, coef, np.zeros((0, 0)))
    if options.method == "gd":
        return _first_order(problem, options, coef)
    stopped, values, path, score, information = newton_ascent(
        problem.table,
        coef,
        options.method == "iwls",
        options.lr,
        options.tol,
        options.tol_relative,
        options.max_epochs,
        options.patience,
    )
    return _Climb(stopped, float(values[-1]), values, path, path[-1], score, information)


def _better_start(problem: GLMProblem, start: FloatArray | None) -> FloatArray:
    """Choose the likelier of the given start and the pooled log-ratios; the maximum is one."""
    pooled = problem.pooled_start()
    if start is None or pooled.size == 0 or not start.any():
        return pooled  # never less likely than all zeros
    given = problem.from_full(start)
    return given if _value(problem, given) > _value(problem, pooled) else pooled


def _value(problem: GLMProblem, coef: FloatArray) -> float:
    """Evaluate the log-likelihood without the multinomial coefficient."""
    return fused_pass(problem.table, coef, np.empty_like(coef), np.empty((coef.size, coef.size)))


def _first_order(problem: GLMProblem, options: GLMOptions, coef: FloatArray) -> _Climb:
    """Ascend by adam, sgd or lbfgs, in units of the information's diagonal at the start."""
    score = np.empty_like(coef)
    information = np.empty((coef.size, coef.size))

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        at = np.ascontiguousarray(flat).reshape(coef.shape)
        value = fused_pass(problem.table, at, score, information)
        return value, score.reshape(-1).copy()

    objective(coef.reshape(-1))
    # a start in the flat part of the likelihood would promise boundless steps
    curvature = np.maximum(information.diagonal(), 1e-3 * problem.table.totals.sum())
    ascent = ascend(objective, coef.reshape(-1), options, curvature)
    objective(ascent.best.at)
    return _Climb(
        ascent.stopped,
        ascent.best.value,
        ascent.values,
        ascent.path.reshape(-1, *coef.shape),
        ascent.best.at.reshape(coef.shape),
        score,
        information,
    )


def _assemble(
    problem: GLMProblem,
    climb: _Climb,
    constant: float,
    options: GLMOptions,
    names: Sequence[str],
    keep_path: bool,
) -> GLMFit:
    """Bring the end of the climb back to the documented coordinates."""
    shape = (problem.n_factors + 1, problem.n_logits)
    own = certify(_ends(problem, climb))
    whole = widen(own, problem.places(), shape[0] * shape[1])
    tolerance = options.tol * (abs(climb.value) if options.tol_relative else 1.0)
    limits = limits_in_words(problem, climb.coef, own.flat[0], names)
    left = float(own.left[0])
    status, reason = judge(limits, left, climb.stopped, tolerance, len(climb.values))
    path = np.array([problem.to_full(coef) for coef in climb.path]) if keep_path else np.empty(0)
    return GLMFit(
        B=problem.to_full(climb.coef),
        log_lik=climb.value + constant,
        information=whole.information[0],
        standard_errors=whole.standard_errors.reshape(shape),
        fixed=whole.fixed.reshape(shape),
        held=whole.held.reshape(shape),
        status=status,
        reason=reason,
        gradient_norm=float(own.gradient_norm[0]),
        min_eigenvalue=float(own.min_eigenvalue[0]),
        epochs=len(climb.values),
        values=climb.values + constant,
        path=path.reshape(-1, *shape),
    )


def _ends(problem: GLMProblem, climb: _Climb) -> Ends:
    """Make a stack of one gene."""
    frame = problem.frame
    return Ends(
        coef=climb.coef[None],
        score=climb.score[None],
        information=climb.information[None],
        to_design=frame.to_design[None],
        from_design=np.asarray(np.linalg.inv(frame.to_design))[None],
        total=np.array([problem.table.totals.sum()]),
        farthest=np.array([(frame.rows**2 @ np.ones(len(frame.kept))).max()]),
        problem=lambda gene: problem,
    )


def _without_counts(n_factors: int, n_logits: int) -> GLMFit:
    """Return the fit of a gene without counts: nothing to learn, B = 0."""
    shape, size = (n_factors + 1, n_logits), (n_factors + 1) * n_logits
    return GLMFit(
        B=np.zeros(shape),
        log_lik=0.0,
        information=np.zeros((size, size)),
        standard_errors=np.full(shape, np.inf),
        fixed=np.ones(shape, dtype=bool),
        held=np.ones(shape, dtype=bool),
        status=Status.NO_COUNTS,
        reason="the gene has no counts: its coefficients stay at 0",
        gradient_norm=0.0,
        min_eigenvalue=np.inf,
        epochs=0,
        values=np.empty(0),
        path=np.empty((0, *shape)),
    )
