"""What is fitted to every gene of a batch, and its objective at any parameters."""

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
from splisosm_pyro.fit.glmm.several_maxima import GeneObjective
from splisosm_pyro.fit.marginal.latent_problem import GeneData, LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import SMOOTH_PARTS, SmoothPart
from splisosm_pyro.fit.options import NUGGETS, SMOOTHS, GLMMOptions, choose
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.coding import NOTHING, Turn, turns
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.maths.priors.symmetric import check_coding
from splisosm_pyro.maths.spot.laplace import LaplaceNugget
from splisosm_pyro.maths.spot.symmetric import integrated
from splisosm_pyro.maths.spot.terms import SpotLikelihood

# The joint density's variances are degenerate; the search stops at this floor (sigma^2 >= 1e-2).
JOINT_SIGMA_FLOOR = 0.1

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
    coding
        Whether every logit against the last isoform has a field, or every isoform.
    turn
        Of one gene, by ``of_gene``: the coordinates of coefficients and field.
    held
        Names of parameters that stay where they start.

    Raises
    ------
    ValueError
        If there are priors on the coefficients of a joint method, which has none; if symmetric
        coding meets what is not alike for all isoforms.
    """

    kernel: Kernel
    design: StandardDesign
    share_variance: bool
    fix_sigma: bool
    priors: Priors
    options: GLMMOptions
    names: tuple[str, ...] = ()
    white: bool = False
    coding: str = "reference"
    turn: Turn = NOTHING
    held: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_coding(self.coding, share_variance=self.share_variance, priors=self.priors)
        if self.joint and not self.priors.coefficients.flat:
            raise ValueError(
                "priors of beta and bias_eta need a marginal fitting_method, "
                f"came {self.options.method!r}"
            )

    def of_gene(self, counts: FloatArray) -> "GLMMSpec":
        """Return the specification in the coordinates of a gene, ``counts`` (S, P)."""
        return replace(self, turn=Turn.of_gene(self.coding, counts))

    def glm(self, counts: FloatArray) -> GLMFit:
        """Fit a gene's GLM, its isoforms in the turn's order."""
        return fit_glm(self.turn.counts(counts), self.design.rows, names=self.names)

    def for_isoforms(self, n_isos: int) -> "GLMMSpec":
        """Return the specification with its priors as they stand for a gene of P isoforms."""
        return replace(self, priors=self.priors.for_gene(self.kernel, n_isos))

    def moving(self, glm: GLMFit) -> Mask:
        """Return which coefficients (F+1, Q) move: a proper prior lets all of its own."""
        return np.asarray((~glm.held | self._with_prior(len(glm.B))) & ~self.held_rows(len(glm.B)))

    def held_rows(self, n_rows: int) -> Mask:  # (F+1, 1)
        """Return which rows of the coefficients stay by choice."""
        by_choice = ["beta" in self.held, "bias_eta" in self.held]
        return np.repeat(by_choice, [n_rows - 1, 1])[:, None]

    def endless(self, glm: GLMFit) -> bool:
        """Whether a coefficient has no finite optimum: the data have none, and no prior does."""
        given = self._with_prior(len(glm.B)) | self.held_rows(len(glm.B))
        return bool((glm.fixed & ~given).any())

    def unknown(self, glm: GLMFit) -> Undetermined:
        """Return what neither the data nor a proper prior of a coefficient determines.

        Directions of turned coefficients; ``glm`` is that of ``self.glm``.
        """
        by_prior = np.repeat(self._with_prior(len(glm.B)), glm.B.shape[1])
        stated = on_logits(self.priors.coefficients.stated(self.design.back), glm.B.shape[1])
        left = ~(glm.unknown.on_scale(stated).directions[by_prior] != 0.0).any(axis=0)
        own = Undetermined(glm.unknown.directions[:, left], glm.unknown.absent[left])
        return own if self.turn.plain else own.on_scale(self.turn.whole_from_ordered(len(glm.B)))

    def _with_prior(self, n_rows: int) -> Mask:  # (F+1, 1)
        by_beta, by_bias = self.priors.coefficients.proper
        return np.repeat([by_beta, by_bias], [n_rows - 1, 1])[:, None]

    def log_prior(self, params: Params) -> float:
        """Return the sum of all log priors at documented parameters, of a gene or of any."""
        n_isos = params["bias_eta"].shape[0] + 1
        if self.turn.plain and turns(self.coding, n_isos):
            return replace(self, turn=Turn.of_size(n_isos)).log_prior(params)
        own = self.priors.coefficients.stated(self.design.back) @ self.coefficients(params)
        theta, sigma = expit(params["theta_logit"]), np.maximum(params["sigma"], self.sigma_floor)
        return float(self.priors.value(sigma, theta, own, self.turn.log_det))

    def coefficients(self, params: Params) -> FloatArray:
        """Return the standard coefficients (F+1, Q), turned, of documented parameters."""
        return self.turn.from_logits(self.design.standard(params["beta"], params["bias_eta"]))

    def documented(self, coefficients: FloatArray) -> dict[str, FloatArray]:
        """Return beta and bias_eta of standard coefficients (F+1, Q), turned: the way back."""
        own = self.turn.to_logits(self.design.back @ coefficients)
        return {"beta": own[:-1], "bias_eta": own[-1]}

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
            return integrated(counts, self.turn, self.options.nugget_nodes)
        return LaplaceNugget(counts, self.turn.root)

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
        if self.turn.plain and turns(self.coding, counts.shape[1]):
            raise ValueError("a gene's own coordinates are not known: ask the spec of_gene")
        gene = GeneData.from_arrays(self.turn.counts(counts), self.design.columns)
        return LatentProblem(gene, self.kernel, self.spots(gene.counts), self.turn)

    def objective(
        self,
        problem: LatentProblem,
        coefficients: FloatArray,
        free: Mask,
        sigma: FloatArray,
        theta_logit: FloatArray | None = None,
    ) -> GeneObjective:
        """Return what the method maximises; ``free`` (F+1, Q) says which coefficients move.

        ``theta_logit`` (C,) is where it stays, if it is held.
        """
        space = self.space(coefficients, np.zeros_like(free) if self.joint else free, sigma)
        if "theta_logit" in self.held:
            space = replace(space, held_theta=theta_logit)
        if self.joint:
            return JointObjective(problem, space, free)
        return MarginalObjective(problem, space, smooth=self.smooth)

    def evaluation_at(self, counts: FloatArray, params: Params, free: Mask) -> EvaluatedObjective:
        """Evaluate a gene's objective at documented parameters; ``nu`` is not read."""
        own = self.coefficients(params)
        variance = params["sigma"], params["theta_logit"]
        objective = self.objective(self.problem(counts), own, free, *variance)
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
            turn=self.turn,
        )
