"""Standard errors of a fitted GLMM, gene by gene."""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.reduced_problem import DesignRows
from splisosm_pyro.fit.glmm.fit_gene import GLMMSpec, Params
from splisosm_pyro.fit.glmm.joint_objective import JointObjective
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.uncertainty import (
    OuterUncertainty,
    field_posterior,
    ratio_standard_errors,
)
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.search.quasi_newton import Evaluation, differenced_hessian
from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class GeneErrors:
    """Standard errors of the parameters by name, of the ratios (S, P), and the least curvature."""

    standard_errors: Params
    ratio: FloatArray
    min_eigenvalue: float


def unknown_errors(counts: FloatArray, params: Params) -> GeneErrors:
    """Return infinite errors: nothing is known of this gene."""
    names = {
        "beta": "beta",
        "bias_eta": "bias_eta",
        "sigma": "log_sigma",
        "theta_logit": "theta_logit",
    }
    errors = {new: np.full_like(params[old], np.inf) for old, new in names.items()}
    return GeneErrors(errors, np.full_like(counts, np.inf), -np.inf)


def gene_errors(spec: GLMMSpec, rows: DesignRows, counts: FloatArray, params: Params) -> GeneErrors:
    """Return the standard errors of one gene at ``params``."""
    problem = spec.problem(counts)
    if problem.gene.occupied.size == 0:
        return unknown_errors(counts, params)
    free = spec.moving(fit_glm(counts, rows))
    coefficients = np.vstack([params["beta"], params["bias_eta"]])
    objective = spec.objective(problem, coefficients, free, params["sigma"])
    u = objective.space.start(coefficients, params["sigma"], params["theta_logit"])
    if isinstance(objective, JointObjective):
        marginal, at, outer = _of_joint(objective, u)
    elif isinstance(objective, MarginalObjective):
        marginal, at, outer = _of_marginal(objective, u)
    else:
        raise TypeError(f"no standard errors for a {type(objective).__name__}")
    design = np.column_stack([spec.design, np.ones(len(spec.design))])
    posterior = field_posterior(marginal, at, design)
    ratio = ratio_standard_errors(posterior.eta, posterior.total_covariance(outer.covariance))
    return GeneErrors(_by_name(marginal.space, outer), ratio, outer.min_eigenvalue)


_Errors = tuple[MarginalObjective, Evaluation[MarginalState], OuterUncertainty]


def _of_marginal(objective: MarginalObjective, u: FloatArray) -> _Errors:
    """Curvature of ``log_marginal`` in all outer unknowns that are not at a bound."""
    at = objective.evaluate(u)
    at_bound = objective.space.box().blocked(u, at.gradient)
    return (
        objective,
        at,
        OuterUncertainty.from_hessian(*differenced_hessian(objective, at, at_bound)),
    )


def _of_joint(objective: JointObjective, u: FloatArray) -> _Errors:
    """Curvature of ``log_joint``: the variances' profile, the coefficients given them."""
    joint = objective.evaluate(u)
    at_bound = objective.space.box().blocked(u, joint.gradient)
    variance = OuterUncertainty.from_hessian(*differenced_hessian(objective, joint, at_bound))
    joint = objective.evaluate(u)
    mode, own = joint.state.mode, objective.space
    space = own.with_free(objective.free, mode.coefficients)
    marginal = MarginalObjective(objective.problem, space)
    border = mode.linearisation.border
    k = own.n_variance
    total = np.zeros((space.size, space.size))
    if variance.covariance is not None:
        total[:k, :k] = variance.covariance
    least = variance.min_eigenvalue
    if border is not None:
        total[k:, k:] = np.linalg.inv(border.schur)
        least = min(least, float(np.linalg.eigvalsh(border.schur)[0]))
    known = np.ones(space.size, dtype=bool)
    known[:k] = variance.known & (variance.covariance is not None)
    at = marginal.evaluate(
        space.start(mode.coefficients, joint.state.variances.sigma, u[own.n_sigma : k])
    )
    return marginal, at, OuterUncertainty(known, least, total)


def _by_name(space: OuterSpace, outer: OuterUncertainty) -> dict[str, FloatArray]:
    """Lay the standard errors out under the parameters' names; 0 for what is fixed by choice."""
    errors = outer.standard_errors()
    coefficients = np.full(space.free.shape, np.inf)
    coefficients[space.free] = errors[space.n_variance :]
    log_sigma = errors[: space.n_sigma] if space.n_sigma else np.zeros(space.n_components)
    return {
        "beta": coefficients[:-1],
        "bias_eta": coefficients[-1],
        "log_sigma": log_sigma,
        "theta_logit": errors[space.n_sigma : space.n_variance],
    }
