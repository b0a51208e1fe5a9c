"""The GLMM of one gene: from counts and options to a fit with a status and a certificate."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glm.fit_gene import GLMFit, fit_glm
from splisosm_pyro.fit.glmm.bounds_in_words import boundary_reason, bounds_reached
from splisosm_pyro.fit.glmm.several_maxima import GeneObjective, find_maximum
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec, Params
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.result import GeneFit, Status, failed
from splisosm_pyro.fit.search.quasi_newton import Evaluation, SearchResult
from splisosm_pyro.maths.numeric.arrays import FloatArray

# Where the search looks first; the best of these points is where it climbs.
START_SIGMAS = (0.4, 1.2)
START_THETA_LOGITS = {"marginal": (-1.0, 1.5), "joint": (0.0, 15.0)}
# Where a coefficient starts that only its prior holds.
FARTHEST_START = 4.0


def fit_gene(
    spec: GLMMSpec,
    counts: FloatArray,
    start: Params,
    *,
    warm: bool = False,
    keep_path: bool = False,
    keep_end: bool = False,
) -> GeneFit:
    """Fit one gene.

    Parameters
    ----------
    spec
        What to fit and how.
    counts
        (S, P).
    start
        Documented parameters without the gene axis. ``sigma`` is where it stays if it is fixed.
    warm
        Start the search at ``start`` alone: it is the end of an earlier fit.
    keep_path
        Return the parameters after each epoch.
    keep_end
        Return the objective evaluated at the end, an ``EvaluatedObjective``.

    Returns
    -------
    GeneFit
    """
    spec = spec.of_gene(counts)
    problem = spec.problem(counts)
    if problem.gene.occupied.size == 0:
        return _without_counts(spec, start)
    glm = spec.glm(counts)
    free = spec.moving(glm)
    begin = np.where(free & glm.held, np.clip(glm.B, -FARTHEST_START, FARTHEST_START), glm.B)
    begin, glm = spec.turn.ordered_to_turned(begin), turned_glm(spec, glm)
    begin = np.where(spec.held_rows(len(begin)), spec.coefficients(start), begin)
    objective = spec.objective(problem, begin, free, start["sigma"], start["theta_logit"])
    result = find_maximum(
        objective,
        spec.options,
        _starts(spec, objective, start, begin, warm=warm),
        glm,
        keep_trace=keep_path,
    )
    fit = _finish(spec, objective, result, _endless(spec, counts, glm))
    return replace(fit, ended=EvaluatedObjective(objective, result.best)) if keep_end else fit


def _endless(spec: GLMMSpec, counts: FloatArray, glm: GLMFit) -> str:
    """Say why a coefficient has no finite optimum, by the isoforms' own numbers."""
    if not spec.endless(glm):
        return ""
    return (
        glm.reason
        if spec.turn.plain
        else fit_glm(counts, spec.design.rows, names=spec.names).reason
    )


def _starts(
    spec: GLMMSpec, objective: GeneObjective, start: Params, coefficients: FloatArray, *, warm: bool
) -> list[list[FloatArray]]:
    """Return groups of search vectors to look at first, a group for each region of theta."""
    space = objective.space
    if warm:
        own = spec.coefficients(start)
        least = np.maximum(start["sigma"], 1e-300)
        return [[space.start(own, least, start["theta_logit"])]]
    ones = np.ones(space.n_components)
    sigmas = [start["sigma"]] if spec.fix_sigma else [s * ones for s in START_SIGMAS]
    logits = list(START_THETA_LOGITS["joint" if spec.joint else "marginal"])
    if space.held_theta is not None:
        del logits[1:]  # there is one place only
    return [[space.start(coefficients, sigma, t * ones) for sigma in sigmas] for t in logits]


def _finish(
    spec: GLMMSpec, objective: GeneObjective, result: SearchResult[Any], endless: str
) -> GeneFit:
    """Lay out parameters, status, reason and certificate."""
    best, space = result.best, objective.space
    reasons = boundary_reason(space, result, joint=spec.joint)
    if endless:
        reasons.append(endless)
    if not result.converged:
        status = (
            Status.MAX_EPOCHS if result.exhausted else failed("no ascent along the search step")
        )
        reasons.append(
            "raise max_epochs" if result.exhausted else "the best point seen is returned"
        )
    else:
        status = Status.BOUNDARY if reasons else Status.CONVERGED
    inside = best.gradient[~result.at_bound]
    return GeneFit(
        params=params_of(spec, objective, best),
        standard_errors={},
        objective="log_joint" if spec.joint else "log_marginal",
        value=best.value,
        status=status,
        reason="; ".join(reasons),
        at_bound=tuple(bounds_reached(space, result)),
        gradient_norm=float(np.linalg.norm(inside)),
        min_eigenvalue=np.inf,
        epochs=len(result.path),
        values=np.array(result.path),
        params_path=[params_of(spec, objective, at) for at in result.trace],
    )


def turned_glm(spec: GLMMSpec, glm: GLMFit) -> GLMFit:
    """Return a gene's GLM as the search knows it: ``B`` turned."""
    return replace(glm, B=spec.turn.ordered_to_turned(glm.B))


def params_of(
    spec: GLMMSpec, objective: GeneObjective, at: Evaluation[Any]
) -> dict[str, FloatArray]:
    """Return the documented parameters at an evaluation."""
    space = objective.space
    theta_logit = at.u[space.n_sigma : space.n_variance]
    return {
        **spec.documented(at.state.mode.coefficients),
        "nu": field_of(objective.problem, at),
        "sigma": at.state.variances.sigma,
        "theta_logit": theta_logit,
    }


def field_of(problem: LatentProblem, at: Evaluation[Any]) -> FloatArray:
    """Return nu (S, Q) at a mode: ``D^1/2 w`` everywhere, and ``T a`` where there are counts."""
    mode, occupied = at.state.mode, problem.gene.occupied
    nu: FloatArray = mode.root * problem.kernel.smooth(mode.alpha, occupied)
    nu[occupied] = mode.root * mode.w + at.state.variances.nugget * mode.terms.score
    return problem.turn.to_logits(nu)


def _without_counts(spec: GLMMSpec, start: Params) -> GeneFit:
    """Leave a gene without counts at its start, its field and coefficients at zero."""
    params = {name: np.zeros_like(value) for name, value in start.items()}
    params["sigma"], params["theta_logit"] = start["sigma"], start["theta_logit"]
    value = spec.log_prior(params)
    if spec.joint:
        variances = Variances(
            np.maximum(start["sigma"], spec.sigma_floor),
            expit(start["theta_logit"]),
            start["bias_eta"].size,
        )
        for spatial, white in zip(variances.spatial, variances.white, strict=True):
            log_det = spec.kernel.log_det_terms(float(spatial), float(white))[0]
            value -= 0.5 * (log_det + spec.kernel.n_spots * np.log(2.0 * np.pi))
        value -= spec.kernel.n_spots * spec.turn.log_det
    return GeneFit(
        params=params,
        standard_errors={},
        objective="log_joint" if spec.joint else "log_marginal",
        value=value,
        status=Status.NO_COUNTS,
        reason="the gene has no counts; its parameters were left at their start",
        gradient_norm=0.0,
        min_eigenvalue=np.inf,
        epochs=0,
        values=np.empty(0),
    )
