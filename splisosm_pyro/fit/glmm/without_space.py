"""The GLMM of one gene without space: the same marginal objective with theta held at 0.

What a fit with space gains over it, in nats, says how much the data ask for a spatial field.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from splisosm_pyro.fit.glm.reduced_problem import DesignRows
from splisosm_pyro.fit.glmm.fit_gene import GLMMSpec, Params, fit_gene
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.several_maxima import GeneObjective
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.fit.search.quasi_newton import Box
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask


@dataclass(frozen=True)
class WhiteNoiseSpace(OuterSpace):
    """An outer space in which theta_logit is held at its lower bound, theta = 3e-7."""

    def box(self) -> Box:
        """Return the bounds of the search, those of theta_logit closed."""
        box = super().box()
        theta = slice(self.n_sigma, self.n_variance)
        upper, low, high = box.upper.copy(), box.try_lower.copy(), box.try_upper.copy()
        upper[theta], low[theta], high[theta] = box.lower[theta], -np.inf, np.inf
        return replace(box, upper=upper, try_lower=low, try_upper=high)


@dataclass(frozen=True, eq=False)
class _WhiteNoiseSpec(GLMMSpec):
    """A marginal specification whose objectives live in a ``WhiteNoiseSpace``."""

    def objective(
        self, problem: LatentProblem, coefficients: FloatArray, free: Mask, sigma: FloatArray
    ) -> GeneObjective:
        space = super().objective(problem, coefficients, free, sigma).space
        held = {field.name: getattr(space, field.name) for field in fields(space)}
        return MarginalObjective(problem, WhiteNoiseSpace(**held), smooth=self.smooth)


def fit_white_noise(spec: GLMMSpec, rows: DesignRows, counts: FloatArray, start: Params) -> GeneFit:
    """Fit one gene with theta held at 0; arguments as those of ``fit_gene``.

    Its status is ``boundary`` at best, theta being at its lower bound.

    Raises
    ------
    ValueError
        If the method of ``spec`` is a joint one, which has no such comparison.
    """
    return fit_gene(without_space(spec), rows, counts, start)


def without_space(spec: GLMMSpec) -> GLMMSpec:
    """Return the same specification with theta held at 0; a ValueError if its method is joint."""
    if spec.joint:
        raise ValueError(f"method must be a marginal one, came {spec.options.method!r}")
    own = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return _WhiteNoiseSpec(**own)
