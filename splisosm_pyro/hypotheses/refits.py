"""Fits with a covariate from where the null ended, and the likelihood ratios they give.

The climb begins at the null's maximum with the null's sites or mode. Its first step is Newton's, in
the variances as well: their curvature there, and how they go with an offset of the spots, is found
once for all covariates (``null_curvature.py``). Where that leaves p above ``FINDS`` a statistic is
read to a tenth and the climb mostly over; below it goes on to the maximum. A covariate may take the
field's place: where that leads to another bound there is then a look at the other side of theta, as
for every fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.several_maxima import other_side
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec, Params
from splisosm_pyro.fit.marginal.conditional_mode import ModeError, bordered
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.fit.search.quasi_newton import Evaluation, SearchResult, best_start, maximise
from splisosm_pyro.hypotheses.covariates import (
    CovariateTest,
    Estimate,
    chi_square_tail,
    covariate_score_test,
    remainders,
    with_columns,
    with_new_ones,
)
from splisosm_pyro.hypotheses.null_curvature import Curved, NullCurvature
from splisosm_pyro.maths.numeric.arrays import FloatArray

# A climb for a likelihood ratio ends where a step promises no more nats than ROUGHLY, or ENOUGH
# where p is below FINDS by then; what it promises is added.
ROUGHLY, ENOUGH, FINDS = 5e-2, 1e-5, 0.05
# Its sites are right to this: a value is to its square.
SITES = 3e-4


def null_at(spec: GLMMSpec, counts: FloatArray, params: Params) -> EvaluatedObjective:
    """Return the null's objective where an earlier fit of it ended.

    Parameters
    ----------
    spec
        Of the null, by a marginal method.
    counts
        (S, P), not all 0.
    params
        Documented parameters at its end; ``nu`` is not read, and what is not quite at the maximum
        is brought there.
    """
    spec = spec.of_gene(counts)
    free = spec.moving(spec.glm(counts))
    here = spec.evaluation_at(counts, params, free)
    end = maximise(here.objective, here.at, None, _climbing(spec.options, spec.options.tol))
    return EvaluatedObjective(here.objective, end.best)


def covariate_likelihood_ratio(
    options: GLMMOptions,
    end: EvaluatedObjective,
    covariate: StandardDesign,
    score: CovariateTest,
    curvature: NullCurvature | None = None,
) -> CovariateTest:
    """Fit the model with a covariate, from where the null ended, and compare.

    Parameters
    ----------
    options
        Of the null's fit.
    end
        Where it ended, by a marginal method.
    covariate
        Its k columns.
    score
        Its score test at the null.
    curvature
        What the null's variances do there, the same for all covariates; found if it is left out.

    Returns
    -------
    CovariateTest
        The score test itself if the fit with the covariate does not settle.
    """
    if score.reason or score.estimate is None:
        return score
    try:
        wide = _Wider.of(end, covariate, curvature or NullCurvature.at(end))
        found = maximise(wide.objective, wide.null, None, _climbing(options, ROUGHLY))
        ratio = _ratio(wide.twice_the_gain(found), score)
        if ratio.p < FINDS:
            found = wide.maximum(found, _climbing(options, ENOUGH))
            ratio = _ratio(wide.twice_the_gain(found), score)
    except ModeError:
        return score
    return replace(ratio, estimate=wide.estimate(found.best)) if found.converged else score


@dataclass(frozen=True, eq=False)
class _Wider:
    """The null's objective with k further columns, and where the null ended in it."""

    objective: Curved
    null: Evaluation[MarginalState]
    k: int

    @classmethod
    def of(
        cls, end: EvaluatedObjective, covariate: StandardDesign, curvature: NullCurvature
    ) -> "_Wider":
        """Widen design, search space and mode by columns whose coefficients are 0."""
        old = end.objective
        assert isinstance(old, MarginalObjective)
        k, own = covariate.columns.shape[1], old.space
        problem = with_columns(old.problem, covariate.columns[old.problem.gene.occupied])
        mode = end.at.state.mode
        coefficients = np.vstack([np.zeros((k, problem.gene.n_logits)), mode.coefficients])
        back = np.zeros((k + len(own.back), k + len(own.back)))
        back[k:, k:] = own.back
        back[:k, :k], back[-1, :k] = covariate.back[:-1, :-1], covariate.back[-1, :-1]
        free = with_new_ones(own.free, k)
        space = replace(own, free=free, coefficients=coefficients, back=back)
        state = replace(end.at.state, mode=replace(mode, coefficients=coefficients))
        slope = (problem.gene.design.T @ curvature.slope)[free]
        u = np.concatenate([end.at.u[: own.n_variance], coefficients[free]])
        gradient = np.concatenate([curvature.outwards, slope])
        null = Evaluation(u, end.at.value, gradient, state)
        wide = replace(old, problem=problem, space=space)
        known = curvature.joined(wide.information(null), problem.gene.design, free)
        return cls(Curved.of(wide, known, SITES), null, k)

    def twice_the_gain(self, found: SearchResult[MarginalState]) -> float:
        """Return the likelihood ratio's statistic, with what a last step still promises."""
        best, known = found.best, self.objective.known
        free = ~found.at_bound
        step = np.linalg.solve(known[np.ix_(free, free)], best.gradient[free])
        promised = min(0.5 * float(best.gradient[free] @ step), ROUGHLY)
        return 2.0 * (best.value + promised - self.null.value)

    def maximum(
        self, found: SearchResult[MarginalState], options: GLMMOptions
    ) -> SearchResult[MarginalState]:
        """Climb on; from a bound that the null is not at, look at the other side too."""
        found = maximise(self.objective, found.best, None, options)
        space, best = self.objective.space, found.best
        if not self._other_bounds(best.u):
            return found
        for u in other_side(space, best.u, best.state.mode.coefficients):
            there = best_start(self.objective, [u], best)
            if there.value > found.best.value + options.tol:
                again = maximise(self.objective, there, None, options)
                found = max(found, again, key=lambda one: one.best.value)
        return found

    def _other_bounds(self, u: FloatArray) -> bool:
        """Whether a variance is at a bound where that of the null is not."""
        box, k = self.objective.space.box(), self.objective.space.n_variance
        at = ((u == box.lower) | (u == box.upper)) & (u != self.null.u)
        return bool(at[:k].any())

    def estimate(self, at: Evaluation[MarginalState]) -> Estimate:
        """Return the coefficients at the end with what is known of those tested."""
        mode, free = at.state.mode, self.objective.space.free
        design = self.objective.problem.gene.design
        information = bordered(self.objective.problem, mode.linearisation, free).schur
        alone = np.einsum("sf,sqq->fq", design**2, mode.linearisation.neg_hessian)[free]
        size = self.k * free.shape[1]
        rest = remainders(np.zeros(len(alone)), information, alone, [size])[0]
        found = rest.estimate(mode.coefficients, free[self.k :], at.state.variances.sigma)
        return replace(found, turn=self.objective.problem.turn)


def _climbing(options: GLMMOptions, tol: float) -> GLMMOptions:
    """Return the options of a climb by BFGS, which stops at once where it may."""
    return replace(options, lr=1.0, tol=tol, tol_relative=False, patience=1)


def fitted_covariate_test(
    spec: GLMMSpec, counts: FloatArray, full: GeneFit, own: slice
) -> CovariateTest:
    """Test a covariate that was fitted: the model is fitted without it, and compared.

    Parameters
    ----------
    spec, counts, full
        What was fitted to which gene (S, P), by a marginal method.
    own
        The covariate's columns among the F.

    Returns
    -------
    CovariateTest
        By likelihood ratio, with the degrees of freedom and ``score_p`` of the score test at the
        fit without; by that alone where either fit did not settle.
    """
    given, kept = spec.design.given, np.ones(spec.design.given.shape[1], dtype=bool)
    kept[own] = False
    names = tuple(name for name, stays in zip(spec.names, kept, strict=True) if stays)
    less = replace(spec, design=StandardDesign.of(given[:, kept]), names=names)
    start = dict(full.params)
    # at the covariate's mean, where it was
    start["bias_eta"] = start["bias_eta"] + spec.design.centre[own] @ start["beta"][own]
    start["beta"] = start["beta"][kept]
    null = fit_gene(less, counts, start, warm=True, keep_end=True)
    score = covariate_score_test(null.ended, [StandardDesign.of(given[:, own])])[0]
    if score.reason or not (null.settled and full.settled):
        return score
    return _ratio(2.0 * (full.value - null.value), score)


def _ratio(statistic: float, score: CovariateTest) -> CovariateTest:
    """Return the likelihood ratio test beside a score test."""
    statistic = max(statistic, 0.0)
    p = chi_square_tail(statistic, score.df)
    return CovariateTest(statistic, score.df, p, "", "likelihood ratio", score.p)


def covariate_tests(
    options: GLMMOptions,
    end: EvaluatedObjective,
    covariates: Sequence[StandardDesign],
    refit_below: float,
) -> list[CovariateTest]:
    """Test covariates: by their score, and by likelihood ratio where that gives a small p.

    Parameters
    ----------
    options, end
        Of the null's fit to a gene, and where it ended.
    covariates
        The k columns of each.
    refit_below
        The score test's p below which a model is refitted: 0 for none, 1 for all.
    """
    scores = covariate_score_test(end, covariates)
    if not any(one.p < refit_below for one in scores):
        return scores
    try:
        near = NullCurvature.at(end)
    except ModeError:
        return scores
    return [
        covariate_likelihood_ratio(options, end, columns, one, near) if one.p < refit_below else one
        for columns, one in zip(covariates, scores, strict=True)
    ]
