"""Leave-one-spot-out log predictive densities of one gene, from its fit, without refitting.

At the fitted outer parameters ``u`` (sigma, theta, beta, bias) the density of a spot's counts given
all others is the multinomial integrated over nugget and cavity (``cavity.py``),

    e_s(u) = log int Multinomial(y_s | softmax([eta, 0])) N(eta; x_cav, C_cav + T) d eta.

The outer parameters have seen the spot too. Since ``log p(Y) = log p(Y_-s) + e_s``, the fit without
it maximises ``L(u) - e_s(u)``: to first order it lies at ``u - H^-1 e_s'``, H the negative Hessian
of the objective ``L``, and there the density is ``e_s - e_s' H^-1 e_s'``. Both derivatives come
from the same central differences. That is the default, ``outer='one_step'``. ``'refit'`` fits the
gene again without each spot for which the step changes the density by more than 0.1 nats, a handful
as a rule, or whose own Gaussian is not to be trusted. ``'plug_in'`` leaves ``u`` where it is, and
favours the model with more outer parameters.

In a GLM the coefficients are all there is: their Newton step without the spot is exact in the
leverage (approximate leave-one-out).

References: Vehtari et al. (2016), arXiv:1412.7461; Rad and Maleki (2020),
doi:10.1111/rssb.12374; Giordano, Stephenson, Liu, Jordan and Broderick (2019), A Swiss army
infinitesimal jackknife, arXiv:1806.00550.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_error import Conditional
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.uncertainty import OuterUncertainty
from splisosm_pyro.fit.marginal.cavity import Cavity, smooth_cavity, smooth_covariance
from splisosm_pyro.fit.marginal.latent_problem import GeneData, LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.search.quasi_newton import DIFFERENCE_STEP, Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.numeric.psis import KHAT_TRUSTED
from splisosm_pyro.maths.spot.gaussian import log_coefficient, log_counts_density

OUTER = ("one_step", "refit", "plug_in")
# A spot whose Gaussian factor is off by more than this many nats is not approximated well.
GAP_TRUSTED = 0.5
# Outer parameters that a Newton step would improve by more nats than this are not at a maximum.
AT_MAXIMUM = 1e-2
# The one-step change of a spot's density, in nats, above which 'refit' fits without the spot, and
# above which first order is not enough.
REFIT_ABOVE = 0.1
STEP_TRUSTED = 0.5


@dataclass(frozen=True, eq=False)
class GeneLoo:
    """Leave-one-spot-out densities of one gene at its n occupied spots.

    Attributes
    ----------
    spots
        (n,) places of the occupied spots.
    pointwise
        (n,) log predictive density of the spot's counts given all other spots, nats.
    in_sample
        (n,) the same given all spots.
    leverage
        (n,) the spot's weight in its own prediction, in the place of Pareto's k.
    reason
        Why the values are not to be trusted; empty where they are.
    """

    spots: IndexArray
    pointwise: FloatArray
    in_sample: FloatArray
    leverage: FloatArray
    reason: str = ""

    @property
    def n_parameters(self) -> float:
        """Effective number of parameters, in-sample less left-out."""
        return float((self.in_sample - self.pointwise).sum())


@dataclass(frozen=True, eq=False)
class _Densities:
    """Densities (n,) of the spots at one point of the outer parameters."""

    left_out: FloatArray
    in_sample: FloatArray
    leverage: FloatArray
    gap: FloatArray  # of the left-out density beyond what the Gaussian factor gives


@interrupts_heard()
def glmm_loo(
    spec: GLMMSpec,
    counts: FloatArray,  # (S, P)
    params: Params,
    *,
    outer: str = "one_step",
) -> GeneLoo:
    """Return the leave-one-out densities of a GLMM at its fitted parameters.

    Parameters
    ----------
    spec
        Of a marginal method, ``without_space`` for white noise; its nugget is that of the fit.
    counts
        (S, P).
    params
        Documented parameters; ``nu`` is not read.
    outer
        ``'one_step'``, ``'refit'`` or ``'plug_in'``.

    Notes
    -----
    Costs one evaluation at ``'plug_in'``, one and two for each outer parameter at ``'one_step'``,
    each with its gradient.
    """
    spec = spec.of_gene(counts)
    fitted = spec.evaluation_at(counts, params, ~spec.glm(counts).held)
    objective, at = fitted.objective, fitted.at
    if not isinstance(objective, MarginalObjective):
        raise TypeError(f"no leave-one-out densities for a {type(objective).__name__}")
    occupied = objective.problem.gene.occupied
    here = _densities(objective, at, gaps=spec.options.smooth == "laplace")
    leverage, gap = here.leverage, here.gap
    left_out, change = here.left_out, np.zeros(len(gap))
    reasons: list[str] = []
    if outer != "plug_in":
        change, reasons = _one_step(objective, at)
        left_out = left_out - change
    if outer == "refit":
        far = (change > REFIT_ABOVE) | (leverage > KHAT_TRUSTED) | (np.abs(gap) > GAP_TRUSTED)
        spots = occupied[far]
        left_out[far] = [_refitted(spec, counts, params, spot) for spot in spots]
    else:
        reasons = _spot_reasons(leverage, gap, change) + reasons
    return GeneLoo(occupied, left_out, here.in_sample, leverage, "; ".join(reasons))


def _refitted(spec: GLMMSpec, counts: FloatArray, params: Params, spot: int) -> float:
    """Return the density of one spot's counts under a fit without it."""
    rest = counts.copy()
    rest[spot] = 0.0
    fit = fit_gene(spec, rest, params, warm=True)
    at = Conditional.of_gene(spec, rest, fit.params)
    mean, cov = at.predictor(spec.design.with_intercept)
    turn = at.problem.turn
    own = turn.to_ordered(mean[[spot]], cov[[spot]])
    return float(log_counts_density(turn.counts(counts[[spot]]), *own)[0])


def _densities(
    objective: MarginalObjective, at: Evaluation[MarginalState], *, gaps: bool
) -> _Densities:
    """Densities at an evaluated point.

    Without ``gaps`` they count as none: factors that are no expansion about the mode.
    """
    state = at.state
    problem, terms = objective.problem, state.mode.terms
    nugget = np.diag(state.variances.nugget)
    cavity = smooth_cavity(state.mode)
    left_out = _log_density(problem, cavity.mean, cavity.cov + nugget)
    in_sample = _log_density(problem, terms.x, smooth_covariance(state.mode) + nugget)
    gap = np.zeros(len(left_out))
    if gaps:
        at_mode = _log_density(problem, terms.x, np.broadcast_to(nugget, cavity.cov.shape))
        pull = 0.5 * np.einsum("sa,sab,sb->s", terms.score, cavity.cov, terms.score)
        gap = left_out - (at_mode - pull + cavity.log_shrinkage)
    return _Densities(left_out, in_sample, cavity.leverage, gap)


def _left_out(problem: LatentProblem, state: MarginalState) -> FloatArray:
    """Return the left-out densities alone, (n,)."""
    cavity = smooth_cavity(state.mode)
    return _log_density(problem, cavity.mean, cavity.cov + np.diag(state.variances.nugget))


def _log_density(problem: LatentProblem, mean: FloatArray, cov: FloatArray) -> FloatArray:
    """Return log densities (n,) of the occupied spots' counts for Gaussians of the predictor."""
    return log_counts_density(problem.gene.counts, *problem.turn.to_ordered(mean, cov))


def _one_step(
    objective: MarginalObjective, at: Evaluation[MarginalState]
) -> tuple[FloatArray, list[str]]:
    """Return ``e' H^-1 e'`` of every spot (n,) and what speaks against it."""
    counts, still = objective.problem.gene.counts, objective.space.box().blocked(at.u, at.gradient)
    hessian, slopes = np.zeros((at.u.size, at.u.size)), np.zeros((len(counts), at.u.size))
    for i in np.flatnonzero(~still):
        sides = []
        for sign in (1.0, -1.0):
            u = at.u.copy()
            u[i] += sign * DIFFERENCE_STEP
            _, state = objective.value(u, at)
            sides.append((objective.gradient(u, state)[0], _left_out(objective.problem, state)))
        hessian[i] = (sides[1][0] - sides[0][0]) / (2.0 * DIFFERENCE_STEP)
        slopes[:, i] = (sides[0][1] - sides[1][1]) / (2.0 * DIFFERENCE_STEP)
    hessian[:, still] = 0.0
    outer = OuterUncertainty.from_hessian(0.5 * (hessian + hessian.T), still)
    if outer.covariance is None:
        return np.zeros(len(counts)), [
            "the outer parameters are not at a maximum (curvature not positive): "
            "they were left as they are"
        ]
    change = np.einsum("sk,kl,sl->s", slopes, outer.covariance, slopes)
    reasons = []
    free = np.where(outer.known, at.gradient, 0.0)
    if (missed := 0.5 * float(free @ outer.covariance @ free)) > AT_MAXIMUM:
        reasons.append(
            f"the outer parameters are {missed:.2g} nats from the maximum: fit by a marginal method"
        )
    return change, reasons


def _spot_reasons(leverage: FloatArray, gap: FloatArray, change: FloatArray) -> list[str]:
    """Say in words how many spots are beyond the approximation."""
    found = {
        f"leverage above {KHAT_TRUSTED}": leverage > KHAT_TRUSTED,
        f"a density off by more than {GAP_TRUSTED} nats": np.abs(gap) > GAP_TRUSTED,
        "a hold on the outer parameters": change > STEP_TRUSTED,
    }
    return [
        f"{what} at {int(where.sum())} of {where.size} spots: say outer='refit'"
        for what, where in found.items()
        if where.any()
    ]


def glm_loo(counts: FloatArray, design: StandardDesign, *, outer: str = "one_step") -> GeneLoo:
    """Return the leave-one-out densities of a GLM at its maximum; counts (S, P).

    With ``outer='refit'`` spots of a leverage above 0.7 are left out by a fit of its own each.
    """
    gene, fit = GeneData.from_arrays(counts, design.columns), fit_glm(counts, design.rows)
    free = ~fit.held.ravel()
    inverse = np.zeros_like(fit.information)
    inverse[np.ix_(free, free)] = np.linalg.inv(fit.information[np.ix_(free, free)])
    n_rows, n_logits = fit.B.shape
    shaped = inverse.reshape(n_rows, n_logits, n_rows, n_logits)
    cov = np.einsum("sf,fpgq,sg->spq", gene.design, shaped, gene.design)
    eta = gene.design @ fit.B
    ratio, in_sample = _multinomial(gene.counts, eta)
    totals = gene.counts.sum(axis=1, keepdims=True)
    information = ratio[:, :, None] * (np.eye(n_logits) - ratio[:, None, :])
    cavity = Cavity.of(
        eta, cov, gene.counts[:, :-1] - totals * ratio, totals[:, :, None] * information
    )
    left_out = _multinomial(gene.counts, cavity.mean)[1]
    heavy = cavity.leverage > (KHAT_TRUSTED if outer == "refit" else np.inf)
    for place in np.flatnonzero(heavy):
        rest = counts.copy()
        rest[gene.occupied[place]] = 0.0
        own = gene.design[[place]] @ fit_glm(rest, design.rows).B
        left_out[place] = _multinomial(gene.counts[[place]], own)[1][0]
    none_known = np.zeros(len(eta))
    reasons = [] if outer == "refit" else _spot_reasons(cavity.leverage, none_known, none_known)
    return GeneLoo(gene.occupied, left_out, in_sample, cavity.leverage, "; ".join(reasons))


def _multinomial(counts: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give ratios (n, Q) of all but the reference and log probabilities (n,) of counts (n, P)."""
    full = np.pad(eta, ((0, 0), (0, 1)))
    log_ratio = full - np.logaddexp.reduce(full, axis=1, keepdims=True)
    return np.exp(log_ratio[:, :-1]), log_coefficient(counts) + (counts * log_ratio).sum(axis=1)
