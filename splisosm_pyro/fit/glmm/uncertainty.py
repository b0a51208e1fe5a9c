"""How sure one can be of a fitted gene: outer parameters, linear predictor, isoform ratios.

The negative Hessian of ``log_marginal + log prior`` comes from central differences of its exact
gradient. Given the outer parameters the linear predictor at a spot has the posterior covariance

    Sigma_s = (I - T A) D^1/2 P_s D^1/2 (I - A T) + T - T A T,

and to first order the outer parameters ``u`` add ``J_s Cov(u) J_s'`` with ``J_s = d eta_s / d u``
through the implicit derivative of the mode (Kass and Steffey, 1989, doi:10.2307/2289653).
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glm.fit_gene import GLMFit
from splisosm_pyro.fit.glmm.joint_objective import JointObjective
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec, Params
from splisosm_pyro.fit.marginal.laplace import mode_push
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.marginal.usage import usage_at_spots
from splisosm_pyro.fit.search.quasi_newton import DIFFERENCE_STEP, Evaluation, differenced_hessian
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

# A curvature below this is no knowledge: a standard error above 1000 on a logit or log scale.
FLAT = 1e-6


@dataclass(frozen=True)
class OuterUncertainty:
    """What the curvature of the objective says of the outer unknowns.

    ``covariance`` (K, K) is zero in the rows of unknowns that are not ``known`` (K,), those at a
    bound for example. ``min_eigenvalue`` is that of the negative Hessian in the ``known`` ones;
    where it is not positive there is no covariance.
    """

    known: Mask
    min_eigenvalue: float
    covariance: FloatArray | None

    @classmethod
    def from_hessian(cls, neg_hessian: FloatArray, at_bound: Mask) -> "OuterUncertainty":
        """Invert the negative Hessian (K, K) in the unknowns that are not at a bound.

        One that the objective does not feel, such as theta where sigma is 0, is not known either:
        its row is rounding, and must not spoil the others.
        """
        mask = ~at_bound & (np.abs(neg_hessian.diagonal()) > FLAT)
        known = np.flatnonzero(mask)
        values, vectors = np.linalg.eigh(neg_hessian[np.ix_(known, known)])
        least = float(values[0]) if known.size else np.inf
        covariance = None
        if least > 0:
            covariance = np.zeros_like(neg_hessian)
            covariance[np.ix_(known, known)] = (vectors / values) @ vectors.T
        return cls(mask, least, covariance)

    def standard_errors(self) -> FloatArray:
        """Square roots of the variances; infinite where nothing is known."""
        errors = np.full(self.known.size, np.inf)
        if self.covariance is not None:
            errors[self.known] = np.sqrt(self.covariance.diagonal()[self.known])
        return errors


@dataclass(frozen=True)
class FieldPosterior:
    """The linear predictor at all spots: mean (S, Q), covariance given u (S, Q, Q), J (S, Q, K).

    In the problem's coordinates, turned or not.
    """

    eta: FloatArray
    covariance: FloatArray
    response: FloatArray

    def outer_covariance(self, outer: FloatArray | None) -> FloatArray:
        """Return the outer parameters' part of the covariance (S, Q, Q), nothing where unknown."""
        if outer is None:
            return np.zeros_like(self.covariance)
        pushed = np.einsum("sqk,kl->sql", self.response, outer)
        return np.asarray(np.einsum("sqk,spk->sqp", pushed, self.response))


def field_posterior(
    objective: MarginalObjective,
    at: Evaluation[MarginalState],
    design: FloatArray,  # (S, F+1)
) -> FieldPosterior:
    """Return the posterior of ``eta`` at all spots, occupied or not."""
    problem, state = objective.problem, at.state
    assert state.gradient is not None
    spots = state.gradient.spots
    mode, variances = state.mode, state.variances
    occupied, nugget = problem.gene.occupied, variances.nugget
    covariance = given_covariance(problem, state)
    eta = _eta(objective, state, design)
    if spots is None:
        return FieldPosterior(eta, covariance, _differenced_response(objective, at, design))
    smooth = mode.root * problem.kernel.smooth(mode.alpha, occupied)
    columns = []
    for offset, d_log, d_nugget in _directions(objective, design, state):
        push = mode_push(mode, spots, offset[occupied], d_log, d_nugget)
        d_w = mode.linearisation.factor.solve(push)
        d_alpha = push - np.einsum("sab,sb->sa", mode.linearisation.precision, d_w)
        d_smooth = 0.5 * d_log * smooth + mode.root * problem.kernel.smooth(d_alpha, occupied)
        d_eta = offset + d_smooth
        moved = np.einsum("sab,sb->sa", mode.terms.neg_hessian, d_eta[occupied])
        d_score = spots.score_nugget @ d_nugget - moved
        d_eta[occupied] += d_nugget * mode.terms.score + nugget * d_score
        columns.append(d_eta)
    return FieldPosterior(eta, covariance, np.stack(columns, axis=-1))


def given_covariance(problem: LatentProblem, state: MarginalState) -> FloatArray:  # (S, Q, Q)
    """Return the covariance of ``eta`` at all spots, the outer parameters held."""
    mode, nugget, occupied = state.mode, state.variances.nugget, problem.gene.occupied
    covariance = mode.root[:, None] * mode.linearisation.factor.all_blocks() * mode.root
    shrink = np.eye(nugget.size) - nugget[:, None] * mode.terms.neg_hessian
    there = covariance[occupied]
    covariance += np.diag(nugget)
    covariance[occupied] = shrink @ there @ shrink.transpose(0, 2, 1) + shrink * nugget
    return np.asarray(covariance)


def _eta(objective: MarginalObjective, state: MarginalState, design: FloatArray) -> FloatArray:
    """Return the linear predictor (S, Q) at all spots."""
    mode, occupied = state.mode, objective.problem.gene.occupied
    eta = design @ mode.coefficients
    eta += mode.root * objective.problem.kernel.smooth(mode.alpha, occupied)
    eta[occupied] += state.variances.nugget * mode.terms.score
    return np.asarray(eta)


def _differenced_response(
    objective: MarginalObjective, at: Evaluation[MarginalState], design: FloatArray
) -> FloatArray:  # (S, Q, K)
    """Return how ``eta`` moves with the outer unknowns, by central differences."""
    columns = []
    for step in DIFFERENCE_STEP * np.eye(at.u.size):
        sides = [objective.value(at.u + sign * step, at)[1] for sign in (1.0, -1.0)]
        up, down = (_eta(objective, state, design) for state in sides)
        columns.append((up - down) / (2.0 * DIFFERENCE_STEP))
    return np.stack(columns, axis=-1)


def _directions(
    objective: MarginalObjective, design: FloatArray, state: MarginalState
) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
    """Change of (offset, log D, nugget) along every outer unknown."""
    space, n_logits = objective.space, state.variances.n_logits
    still = np.zeros((len(design), n_logits))
    pairs = [state.variances.directions(c) for c in range(space.n_components)]
    moves = [(still, *pair[0]) for pair in pairs[: space.n_sigma]]
    moves += [(still, *pair[1]) for pair in pairs]
    zero = np.zeros(n_logits)
    for f, q in np.argwhere(space.free):
        moves.append((design[:, f, None] * np.eye(n_logits)[q], zero, zero))
    return moves


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


def gene_errors(spec: GLMMSpec, counts: FloatArray, params: Params) -> GeneErrors:
    """Return the standard errors of one gene at ``params``; infinite for what is not determined."""
    if not counts.any():
        return unknown_errors(counts, params)
    spec = spec.of_gene(counts)
    glm = spec.glm(counts)
    here = spec.evaluation_at(counts, params, spec.moving(glm))
    if isinstance(here.objective, JointObjective):
        marginal, at, outer = _of_joint(here.objective, here)
    elif isinstance(here.objective, MarginalObjective):
        marginal, at, outer = here.objective, here.at, outer_uncertainty(here)
    else:
        raise TypeError(f"no standard errors for a {type(here.objective).__name__}")
    own = coefficients_of(spec, marginal.space, at.state.mode.coefficients, outer, glm)
    ratio = usage_posterior(spec, marginal, at, outer, own)[1]
    errors = own.on_scale(spec.design.back, spec.turn).standard_errors()
    return GeneErrors(_by_name(marginal.space, outer, errors), ratio, outer.min_eigenvalue)


def usage_posterior(
    spec: GLMMSpec,
    objective: MarginalObjective,
    at: Evaluation[MarginalState],
    outer: OuterUncertainty,
    own: Coefficients,
) -> tuple[FloatArray, FloatArray]:
    """Return posterior means of usage (S, P) and their standard errors, infinite where unknown.

    The outer parameters' part of the errors is to first order.
    """
    design, state = spec.design.with_intercept, at.state
    usage = usage_at_spots(objective.problem, state.mode, state.variances, design)
    moved = field_posterior(objective, at, design).outer_covariance(outer.covariance)
    errors = usage.standard_errors(spec.turn.covariance(moved))
    errors[own.unknown.moves_usage(design)] = np.inf
    return usage.mean, errors


def outer_uncertainty(here: EvaluatedObjective) -> OuterUncertainty:
    """Return the curvature of the objective in all unknowns that are not at a bound."""
    hessian = differenced_hessian(here.objective, here.at, here.at_bound)
    return OuterUncertainty.from_hessian(*hessian)


def _of_joint(
    objective: JointObjective, here: EvaluatedObjective
) -> tuple[MarginalObjective, Evaluation[MarginalState], OuterUncertainty]:
    """Curvature of ``log_joint``: the variances' profile, the coefficients given them."""
    variance, joint = outer_uncertainty(here), here.at
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
    theta_logit = joint.u[own.n_sigma : k]
    at = marginal.evaluate(space.start(mode.coefficients, joint.state.variances.sigma, theta_logit))
    return marginal, at, OuterUncertainty(known, least, total)


def coefficients_of(
    spec: GLMMSpec, space: OuterSpace, values: FloatArray, outer: OuterUncertainty, glm: GLMFit
) -> Coefficients:
    """Return the standard coefficients ``values`` (F+1, Q) with what ``outer`` knows of them."""
    if outer.covariance is None:
        return Coefficients.all_unknown(values)
    free = space.free.ravel()
    covariance = np.zeros((free.size, free.size))
    covariance[np.ix_(free, free)] = outer.covariance[space.n_variance :, space.n_variance :]
    by_choice = np.repeat(spec.held_rows(len(values)), values.shape[1])
    still = ~free & ~by_choice  # what the data leave open, or the objective does not feel
    still[free] = ~outer.known[space.n_variance :]
    return Coefficients(values, covariance, spec.unknown(glm).and_coefficients(still))


def _by_name(
    space: OuterSpace, outer: OuterUncertainty, coefficients: FloatArray
) -> dict[str, FloatArray]:
    """Lay the standard errors out under the parameters' names; 0 for what is fixed by choice."""
    errors = outer.standard_errors()
    nothing = np.zeros(space.n_components)
    log_sigma = errors[: space.n_sigma] if space.n_sigma else nothing
    of_theta = errors[space.n_sigma : space.n_variance]
    theta_logit = of_theta if space.held_theta is None else nothing
    return {
        "beta": coefficients[:-1],
        "bias_eta": coefficients[-1],
        "log_sigma": log_sigma,
        "theta_logit": theta_logit,
    }
