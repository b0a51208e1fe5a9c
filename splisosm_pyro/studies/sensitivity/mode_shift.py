"""How the mode of a fit moves with its priors, to first order, at the cost of one Hessian a gene.

With ``f(u)`` the log marginal likelihood and ``l(u)`` a log prior in the search vector ``u``, the
mode of ``f + w l + (other priors)`` moves by the implicit function theorem as

    du / dw = H^-1 grad l,        du / dh = H^-1 d(grad w l) / dh,

H the negative Hessian of the whole objective at the mode, ``h`` a parameter of the prior. At the
weight 1 that a model's own prior has, ``d/dw = d/d log w``. A coordinate at a bound of the search
(theta = 0 or 1, sigma -> 0) stays there for small changes of w, and the others move given it: for
it there is a note in the place of a number. Gustafson (1996), doi:10.1214/aos/1034276626;
Giordano, Broderick and Jordan (2018), arXiv:1709.02536.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glm.fit_gene import GLMFit
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.uncertainty import (
    OuterUncertainty,
    coefficients_of,
    field_posterior,
    outer_uncertainty,
)
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.posterior.field.summary import ratios
from splisosm_pyro.studies.sensitivity.directions import Direction

# Newton steps that take the end of a search to its mode before it is differentiated.
POLISH = 2
# They are not taken where they would go further than this, in standard errors.
FARTHEST = 0.5
CURVATURE = "the curvature is not positive: no local answer"


@dataclass(frozen=True, eq=False)
class GeneMode:
    """One gene at its mode, with the curvature of the objective there."""

    objective: MarginalObjective
    at: Evaluation[MarginalState]
    outer: OuterUncertainty
    at_bound: Mask
    coefficients: Coefficients
    design: StandardDesign

    @classmethod
    def of_gene(cls, spec: GLMMSpec, counts: FloatArray, glm: GLMFit, params: Params) -> "GeneMode":
        """Differentiate the objective at a fit's end, moved to the mode to rounding.

        Costs two evaluations of the gradient an unknown, and a few.
        """
        spec = spec.of_gene(counts)
        glm = glm if spec.turn.plain else spec.glm(counts)
        fitted = spec.evaluation_at(counts, params, spec.moving(glm))
        if not isinstance(fitted.objective, MarginalObjective):
            raise TypeError("the method must be a marginal one")
        outer = outer_uncertainty(fitted)
        at = _polished(fitted.objective, fitted.at, outer)
        space, values = fitted.objective.space, at.state.mode.coefficients
        own = coefficients_of(spec, space, values, outer, glm)
        return cls(fitted.objective, at, outer, fitted.at_bound, own, spec.design)

    @property
    def space(self) -> OuterSpace:
        """What the search vector means."""
        return self.objective.space

    @cached_property
    def shape(self) -> tuple[FloatArray, Variances]:
        """The coefficients (F+1, Q) and the variances."""
        return self.space.unpack(self.at.u)

    def shifts(self, directions: Sequence[Direction]) -> FloatArray:  # (D, K)
        """Return ``du / dw`` along every direction; 0 where nothing is known."""
        coefficients, variances = self.shape
        slopes = [d.slope(self.space, variances, coefficients) for d in directions]
        return self._moved(slopes)

    def parameter_shifts(self, directions: Sequence[Direction]) -> dict[str, FloatArray]:
        """Return ``du / dh`` (K,) for every parameter of the priors at weight 1, by label."""
        coefficients, variances = self.shape
        slopes = {
            f"{d.label}: {name}": slope
            for d in directions
            if d.weight == 1.0
            for name, slope in d.parameter_slopes(self.space, variances, coefficients).items()
        }
        moved = self._moved(list(slopes.values()))
        return dict(zip(slopes, moved, strict=True))

    def usage_shifts(self, design: FloatArray, shifts: FloatArray) -> FloatArray:  # (D, S, P)
        """Return the first-order changes of the isoform ratios for changes of ``u`` (D, K)."""
        field, turn = field_posterior(self.objective, self.at, design), self.space.turn
        ratio = ratios(turn.to_logits(field.eta)[:, :, None])[:, :, 0]
        d_eta = turn.to_logits(np.einsum("sqk,dk->dsq", field.response, shifts))
        d_eta = np.concatenate([d_eta, np.zeros_like(d_eta[..., :1])], axis=-1)
        mean = (ratio * d_eta).sum(axis=-1, keepdims=True)
        return np.asarray(ratio * (d_eta - mean))

    def notes(self) -> list[str]:
        """Say for every unknown why it has no derivative; empty where it has one."""
        box, u = self.space.box(), self.at.u
        names = ["sigma"] * self.space.n_sigma + ["theta"] * self.space.n_components
        names += ["a coefficient"] * (u.size - len(names))
        limits = {"sigma": ("0", "its upper bound"), "theta": ("0", "1")}
        notes = []
        for i, name in enumerate(names):
            if self.at_bound[i]:
                high = bool(u[i] >= box.upper[i])
                limit = limits.get(name, ("its bound", "its bound"))[high]
                notes.append(f"at a bound: {name} -> {limit}")
            elif self.outer.covariance is None:
                notes.append(CURVATURE)
            else:
                notes.append("" if self.outer.known[i] else f"the objective does not feel {name}")
        return notes

    def _moved(self, slopes: Sequence[FloatArray]) -> FloatArray:
        stacked = np.array(slopes).reshape(len(slopes), self.at.u.size)
        if self.outer.covariance is None:
            return np.zeros_like(stacked)
        return np.asarray(stacked @ self.outer.covariance)


def _polished(
    objective: MarginalObjective, at: Evaluation[MarginalState], outer: OuterUncertainty
) -> Evaluation[MarginalState]:
    """Take Newton steps with a curvature that is known already, while they are short."""
    if outer.covariance is None:
        return at
    errors = np.where(outer.known, outer.standard_errors(), 1.0)
    for _ in range(POLISH):
        step = outer.covariance @ at.gradient
        if np.max(np.abs(step) / errors, initial=0.0) > FARTHEST:
            break
        at = objective.evaluate(objective.space.box().project(at.u + step), at)
    return at
