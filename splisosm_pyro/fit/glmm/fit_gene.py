"""The GLMM of one gene: from counts and options to a fit with a status and a certificate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glm.coefficients import on_logits
from splisosm_pyro.fit.glm.fit_gene import GLMFit, fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glm.undetermined import Undetermined
from splisosm_pyro.fit.glmm.joint_objective import JointObjective
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.several_maxima import GeneObjective, find_maximum
from splisosm_pyro.fit.marginal.latent_problem import GeneData, LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import SMOOTH_PARTS, SmoothPart
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.options import NUGGETS, SMOOTHS, GLMMOptions, choose
from splisosm_pyro.fit.result import GeneFit, Status, failed
from splisosm_pyro.fit.search.quasi_newton import Evaluation, SearchResult
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.laplace import LaplaceNugget
from splisosm_pyro.maths.spot.terms import SpotLikelihood

# The joint density's variances are degenerate; the search stops at this floor (sigma^2 >= 1e-2).
JOINT_SIGMA_FLOOR = 0.1
# Where the search looks first; the best of these points is where it climbs.
START_SIGMAS = (0.4, 1.2)
# Where a coefficient starts that only its prior holds.
FARTHEST_START = 4.0
START_THETA_LOGITS = {"marginal": (-1.0, 1.5), "joint": (0.0, 15.0)}
# Said where a joint fit ends at a bound.
ADVICE_JOINT = (
    "the joint density says little about the variances, "
    "fitting_method='marginal_newton' estimates them"
)

Params = Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class EvaluatedObjective:
    """What a method maximises for a gene, and an evaluation of it, such as where a fit ended."""

    objective: GeneObjective
    at: Evaluation[Any]

    @property
    def at_bound(self) -> Mask:
        """Mask (K,) of unknowns at a bound of the search."""
        return self.objective.space.box().blocked(self.at.u, self.at.gradient)


@dataclass(frozen=True, eq=False)
class GLMMSpec:
    """What is fitted, the same for every gene of a batch.

    Attributes
    ----------
    kernel
        The spatial covariance V over S spots.
    design
        The covariates of the S spots.
    share_variance
        One (sigma, theta) for all logits, or one each.
    fix_sigma
        Whether sigma stays where it starts.
    priors
        Of all parameters.
    options
        Method, optimiser, tolerances.
    names
        The covariates' names, for the reasons.
    white
        Whether theta stays at 0, the field being white noise.

    Raises
    ------
    ValueError
        If there are priors on the coefficients of a joint method, which has none.
    """

    kernel: Kernel
    design: StandardDesign
    share_variance: bool
    fix_sigma: bool
    priors: Priors
    options: GLMMOptions
    names: tuple[str, ...] = ()
    white: bool = False

    def __post_init__(self) -> None:
        if self.joint and not self.priors.coefficients.flat:
            raise ValueError(
                "priors of beta and bias_eta need a marginal fitting_method, "
                f"came {self.options.method!r}"
            )

    def for_isoforms(self, n_isos: int) -> "GLMMSpec":
        """Return the specification with its priors as they stand for a gene of P isoforms."""
        return replace(self, priors=self.priors.for_gene(self.kernel, n_isos))

    def moving(self, glm: GLMFit) -> Mask:
        """Return which coefficients (F+1, Q) move: a proper prior lets all of its own."""
        return np.asarray(~glm.held | self._with_prior(len(glm.B)))

    def endless(self, glm: GLMFit) -> bool:
        """Whether a coefficient has no finite optimum: the data have none, and no prior does."""
        return bool((glm.fixed & ~self._with_prior(len(glm.B))).any())

    def unknown(self, glm: GLMFit) -> Undetermined:
        """Return what neither the data nor a proper prior of a coefficient determines."""
        by_prior = np.repeat(self._with_prior(len(glm.B)), glm.B.shape[1])
        stated = on_logits(self.priors.coefficients.stated(self.design.back), glm.B.shape[1])
        left = ~(glm.unknown.on_scale(stated).directions[by_prior] != 0.0).any(axis=0)
        return Undetermined(glm.unknown.directions[:, left], glm.unknown.absent[left])

    def _with_prior(self, n_rows: int) -> Mask:  # (F+1, 1)
        by_beta, by_bias = self.priors.coefficients.proper
        return np.repeat([by_beta, by_bias], [n_rows - 1, 1])[:, None]

    def log_prior(self, params: Params) -> float:
        """Return the sum of all log priors at documented parameters."""
        own = self.priors.coefficients.stated(self.design.back) @ self.coefficients(params)
        theta, sigma = expit(params["theta_logit"]), np.maximum(params["sigma"], self.sigma_floor)
        return float(self.priors.value(sigma, theta, own))

    def coefficients(self, params: Params) -> FloatArray:
        """Return the standard coefficients (F+1, Q) of documented parameters."""
        return self.design.standard(params["beta"], params["bias_eta"])

    @property
    def joint(self) -> bool:
        """Whether the method maximises the joint density."""
        return self.options.method.startswith("joint")

    @property
    def sigma_floor(self) -> float:
        """The least sigma in force."""
        return JOINT_SIGMA_FLOOR if self.joint else 0.0

    def spots(self, counts: FloatArray) -> SpotLikelihood:
        """Return the treatment of the nugget at the occupied spots, ``counts`` (n, P)."""
        if self.options.nugget == "quadrature" and not self.joint:
            return QuadratureNugget(counts, self.options.nugget_nodes)
        return LaplaceNugget(counts)

    @property
    def smooth(self) -> SmoothPart:
        """The treatment of the smooth part."""
        return SMOOTH_PARTS["laplace" if self.joint else self.options.smooth]

    def with_nugget(self, nugget: str | None = None, smooth: str | None = None) -> "GLMMSpec":
        """Return the specification of a marginal with this treatment of nugget and smooth part.

        Left out, either stays as it is, ``smooth`` only where it goes with the nugget.
        """
        method = "marginal_newton" if self.joint else self.options.method
        nugget = self.options.nugget if nugget is None else choose("nugget", nugget, NUGGETS)
        if smooth is None:
            smooth = self.options.smooth if nugget == "quadrature" else "laplace"
        choose("smooth", smooth, SMOOTHS)
        options = replace(self.options, method=method, nugget=nugget, smooth=smooth)
        return replace(self, options=options)

    def problem(self, counts: FloatArray) -> LatentProblem:
        """Return the latent problem of a gene, ``counts`` (S, P)."""
        gene = GeneData.from_arrays(counts, self.design.columns)
        return LatentProblem(gene, self.kernel, self.spots(gene.counts))

    def objective(
        self, problem: LatentProblem, coefficients: FloatArray, free: Mask, sigma: FloatArray
    ) -> GeneObjective:
        """Return what the method maximises; ``free`` (F+1, Q) says which coefficients move."""
        space = self.space(coefficients, np.zeros_like(free) if self.joint else free, sigma)
        if self.joint:
            return JointObjective(problem, space, free)
        return MarginalObjective(problem, space, smooth=self.smooth)

    def evaluation_at(self, counts: FloatArray, params: Params, free: Mask) -> EvaluatedObjective:
        """Evaluate a gene's objective at documented parameters; ``nu`` is not read."""
        own = self.coefficients(params)
        objective = self.objective(self.problem(counts), own, free, params["sigma"])
        u = objective.space.start(own, params["sigma"], params["theta_logit"])
        return EvaluatedObjective(objective, objective.evaluate(u))

    def space(self, coefficients: FloatArray, free: Mask, sigma: FloatArray) -> OuterSpace:
        """Return the outer unknowns; ``free`` (F+1, Q) says which coefficients are among them."""
        return OuterSpace(
            n_components=sigma.size,
            fixed_sigma=np.maximum(sigma, self.sigma_floor) if self.fix_sigma else None,
            free=free,
            coefficients=coefficients,
            priors=self.priors,
            residual=self.kernel.residual,
            back=self.design.back,
            sigma_floor=self.sigma_floor,
            white=self.white,
        )


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
    problem = spec.problem(counts)
    if problem.gene.occupied.size == 0:
        return _without_counts(spec, start)
    glm = fit_glm(counts, spec.design.rows, names=spec.names)
    free = spec.moving(glm)
    begin = np.where(free & glm.held, np.clip(glm.B, -FARTHEST_START, FARTHEST_START), glm.B)
    objective = spec.objective(problem, begin, free, start["sigma"])
    result = find_maximum(
        objective,
        spec.options,
        _starts(spec, objective, start, begin, warm=warm),
        glm,
        keep_trace=keep_path,
    )
    fit = _finish(spec, objective, result, glm)
    return replace(fit, ended=EvaluatedObjective(objective, result.best)) if keep_end else fit


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
    logits = START_THETA_LOGITS["joint" if spec.joint else "marginal"]
    return [[space.start(coefficients, sigma, t * ones) for sigma in sigmas] for t in logits]


def _finish(
    spec: GLMMSpec, objective: GeneObjective, result: SearchResult[Any], glm: GLMFit
) -> GeneFit:
    """Lay out parameters, status, reason and certificate."""
    best, space = result.best, objective.space
    reasons = boundary_reason(space, result, joint=spec.joint)
    if spec.endless(glm):
        reasons.append(glm.reason)
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
        params=params_of(objective, best),
        standard_errors={},
        objective="log_joint" if spec.joint else "log_marginal",
        value=best.value,
        status=status,
        reason="; ".join(reasons),
        gradient_norm=float(np.linalg.norm(inside)),
        min_eigenvalue=np.inf,
        epochs=len(result.path),
        values=np.array(result.path),
        params_path=[params_of(objective, at) for at in result.trace],
    )


def params_of(objective: GeneObjective, at: Evaluation[Any]) -> dict[str, FloatArray]:
    """Return the documented parameters at an evaluation."""
    space = objective.space
    own = space.back @ at.state.mode.coefficients
    theta_logit = at.u[space.n_sigma : space.n_variance]
    return {
        "beta": own[:-1],
        "bias_eta": own[-1],
        "nu": field_of(objective.problem, at),
        "sigma": at.state.variances.sigma,
        "theta_logit": theta_logit,
    }


def field_of(problem: LatentProblem, at: Evaluation[Any]) -> FloatArray:
    """Return nu (S, Q) at a mode: ``D^1/2 w`` everywhere, and ``T a`` where there are counts."""
    mode, occupied = at.state.mode, problem.gene.occupied
    nu: FloatArray = mode.root * problem.kernel.smooth(mode.alpha, occupied)
    nu[occupied] = mode.root * mode.w + at.state.variances.nugget * mode.terms.score
    return nu


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


def boundary_reason(space: OuterSpace, result: SearchResult[Any], *, joint: bool) -> list[str]:
    """Return one sentence for every variance parameter that ended at a bound."""
    reasons = []
    for i in result.at_bound.nonzero()[0]:
        if i >= space.n_variance:
            reasons.append("a coefficient is at the bound of the search")
            continue
        low = bool(result.best.u[i] <= space.box().lower[i])
        of_sigma = i < space.n_sigma
        component = int(i) if of_sigma else int(i) - space.n_sigma
        label = _label(space, component)
        if of_sigma and joint and low:
            reasons.append(f"sigma{label} at its floor {space.sigma_floor:g}")
        else:
            reasons.append((_sigma if of_sigma else _theta)(label, low=low))
    if reasons and joint:
        reasons.append(ADVICE_JOINT)
    return reasons


def _label(space: OuterSpace, component: int) -> str:
    return "" if space.n_components == 1 else f" of logit {component}"


def _sigma(label: str, *, low: bool) -> str:
    if low:
        return f"sigma{label} -> 0: no more variation than the covariates explain"
    return f"sigma{label} at its upper bound: the data ask for ever more variance, use a prior"


def _theta(label: str, *, low: bool) -> str:
    if low:
        return f"theta{label} -> 0: the field is white noise"
    return f"theta{label} -> 1: all of the field's variance is spatial"
