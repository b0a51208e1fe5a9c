"""How the smooth part of the field is integrated out: Laplace's method or expectation propagation.

Either way a point of the outer search is a ``Mode`` (``fit/mode.py``) and a gradient; everything
else of the engine is common. ``fitting_configs={'smooth': ...}`` chooses.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from splisosm_pyro.fit.latent import LatentProblem
from splisosm_pyro.fit.marginal import MarginalGradient, follow_mode, marginal_gradient
from splisosm_pyro.fit.mode import Mode, cold_start, find_mode, point_at
from splisosm_pyro.fit.propagation import (
    SITE_TOLERANCE,
    propagate,
    propagation_gradient,
)
from splisosm_pyro.fit.variance import Variances
from splisosm_pyro.maths.spot import FloatArray


@dataclass(frozen=True)
class MarginalState:
    """What the objective keeps with a point."""

    mode: Mode
    variances: Variances
    gradient: MarginalGradient | None = None


class SmoothPart(Protocol):
    """The two ways to integrate ``w`` out obey this protocol."""

    def start(
        self, problem: LatentProblem, B: FloatArray, variances: Variances, old: MarginalState | None
    ) -> Mode:
        """Return where to start at coefficients B (F+1, Q), from nothing or a point nearby."""
        ...

    def settle(self, problem: LatentProblem, start: Mode, variances: Variances) -> Mode:
        """Return the factorised mode, or what stands for it."""
        ...

    def gradient(self, problem: LatentProblem, mode: Mode) -> MarginalGradient:
        """Return the exact gradient of ``log_marginal`` there."""
        ...

    def rough(self, tolerance: float) -> "SmoothPart":
        """Return the way with values right to ``tolerance`` squared, if that is cheaper."""
        ...


class LaplaceSmooth:
    """``w`` at its conditional mode, with the curvature there."""

    def start(
        self, problem: LatentProblem, B: FloatArray, variances: Variances, old: MarginalState | None
    ) -> Mode:
        """Move the old mode by its derivative, where there is one."""
        if old is None:
            return cold_start(problem, B, variances.spatial, variances.nugget)
        if old.gradient is None:
            w, alpha = old.mode.w, old.mode.alpha
            return point_at(problem, B, w, alpha, variances.spatial, variances.nugget)
        return follow_mode(problem, old.mode, old.gradient, B, old.variances, variances)

    def settle(self, problem: LatentProblem, start: Mode, variances: Variances) -> Mode:
        """Find the mode by Newton steps."""
        return find_mode(problem, start, variances.spatial, variances.nugget)

    def gradient(self, problem: LatentProblem, mode: Mode) -> MarginalGradient:
        """Differentiate through the mode."""
        return marginal_gradient(problem, mode)

    def rough(self, tolerance: float) -> SmoothPart:
        """Return this: a mode's value is only right at the mode."""
        return self


@dataclass(frozen=True)
class PropagatedSmooth:
    """``w`` by expectation propagation; the nugget has to be integrated out as well."""

    tolerance: float = SITE_TOLERANCE

    def start(
        self, problem: LatentProblem, B: FloatArray, variances: Variances, old: MarginalState | None
    ) -> Mode:
        """Take the old sites, or those of the prior's mean."""
        if old is None:
            return cold_start(problem, B, variances.spatial, variances.nugget)
        return replace(old.mode, coefficients=B)

    def settle(self, problem: LatentProblem, start: Mode, variances: Variances) -> Mode:
        """Sweep until the sites settle."""
        return propagate(problem, start, variances, self.tolerance)

    def gradient(self, problem: LatentProblem, mode: Mode) -> MarginalGradient:
        """Differentiate at fixed sites."""
        return propagation_gradient(problem, mode)

    def rough(self, tolerance: float) -> SmoothPart:
        """Return the sweeps stopped early: the value is right to the square of what is left."""
        return PropagatedSmooth(tolerance)


SMOOTH_PARTS: dict[str, SmoothPart] = {"laplace": LaplaceSmooth(), "ep": PropagatedSmooth()}
LAPLACE = SMOOTH_PARTS["laplace"]
