"""The ascent of one gene's log-likelihood, from its counts to where the solver ended.

One compiled call reduces the gene, chooses the start and climbs by Newton steps or IWLS. The
first-order methods take over where that call stands before its first step.
"""

from typing import NamedTuple

import numpy as np

from splisosm_pyro.fit.glm.newton_iwls import fused_pass, log_coefficient, newton_ascent
from splisosm_pyro.fit.glm.reduced_problem import (
    DesignRows,
    ReducedProblem,
    reduce_gene,
    row_sums,
    starting_point,
)
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.search.first_order import ascend
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.numeric.compiled import compiled


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


def climb_gene(
    counts: FloatArray,  # (S,P)
    start: FloatArray,  # (F+1,Q), or (0,0) for none
    rows: DesignRows,
    options: GLMOptions,
) -> Climb:
    """Run the configured solver; a gene with nothing to fit has coefficients of size 0."""
    first_order = options.method == "gd"
    end = _climb(
        counts,
        rows.rows,
        rows.place,
        start,
        options.method == "iwls",
        options.lr,
        options.tol,
        options.tol_relative,
        0 if first_order else options.max_epochs,
        options.patience,
    )
    if not (first_order and end.coef.size):
        return end
    return _first_order(end, reduce_gene(counts, rows.rows, rows.place), options)


@compiled
def _climb(
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
    """Reduce the gene and climb by Newton steps."""
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
