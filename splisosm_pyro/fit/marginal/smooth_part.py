"""How the smooth part of the field is integrated out: Laplace's method or expectation propagation.

Either way a point of the outer search is a ``Mode`` (``conditional_mode.py``) and a gradient;
everything else of the engine is common. ``fitting_configs={'smooth': ...}`` chooses.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from splisosm_pyro.fit.marginal.conditional_mode import Mode, cold_start, find_mode, point_at
from splisosm_pyro.fit.marginal.expectation_propagation import (
    ROUGH_TOLERANCE,
    SITE_TOLERANCE,
    PropagatedMode,
    followed_sites,
    propagate,
    propagation_gradient,
)
from splisosm_pyro.fit.marginal.laplace import MarginalGradient, follow_mode, marginal_gradient
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True)
class MarginalState:
    """What the objective keeps with a point, ``moves`` points after the last Newton steps."""

    mode: Mode
    variances: Variances
    gradient: MarginalGradient | None = None
    moves: int = 0


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

    def refine(self, problem: LatentProblem, mode: Mode, variances: Variances) -> Mode:
        """Return a settled mode, ready for its gradient."""
        ...

    def gradient(self, problem: LatentProblem, mode: Mode) -> MarginalGradient:
        """Return the exact gradient of ``log_marginal`` there."""
        ...

    def rough(self, tolerance: float) -> "SmoothPart":
        """Return the way with values right to ``tolerance`` squared, if that is cheaper."""
        ...

    def for_search(self) -> "SmoothPart":
        """Return the way for points of which many are only tried."""
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
            mode, D, T = old.mode, variances.spatial, variances.nugget
            return point_at(problem, B, mode.w, mode.alpha, D, T, mode.linear)
        return follow_mode(problem, old.mode, old.gradient, B, old.variances, variances)

    def settle(self, problem: LatentProblem, start: Mode, variances: Variances) -> Mode:
        """Find the mode by Newton steps, which end with all digits at once."""
        return find_mode(problem, start, variances.spatial, variances.nugget)

    def refine(self, problem: LatentProblem, mode: Mode, variances: Variances) -> Mode:
        """Return it as it is."""
        return mode

    def gradient(self, problem: LatentProblem, mode: Mode) -> MarginalGradient:
        """Differentiate through the mode."""
        return marginal_gradient(problem, mode)

    def rough(self, tolerance: float) -> SmoothPart:
        """Return this: a mode's value is only right at the mode."""
        return self

    def for_search(self) -> SmoothPart:
        """Return this."""
        return self


@dataclass(frozen=True)
class PropagatedSmooth:
    """``w`` by expectation propagation; the nugget has to be integrated out as well.

    Attributes
    ----------
    tolerance, refined
        How nearly right the sites are for a value, and for its gradient.
    spot_error
        Nats that the integral over a spot may be off; 0 for all its digits.
    """

    tolerance: float = SITE_TOLERANCE
    refined: float = SITE_TOLERANCE
    spot_error: float = 0.0

    def start(
        self, problem: LatentProblem, B: FloatArray, variances: Variances, old: MarginalState | None
    ) -> Mode:
        """Let the old sites follow, or take those of the prior's mean."""
        if old is None:
            return cold_start(problem, B, variances.spatial, variances.nugget)
        assert isinstance(old.mode, PropagatedMode)
        tau, shift = followed_sites(problem, old.mode, B, variances, self.spot_error)
        return replace(old.mode, coefficients=B, next_tau=tau, next_shift=shift)

    def settle(self, problem: LatentProblem, start: Mode, variances: Variances) -> Mode:
        """Sweep until the sites settle."""
        return propagate(problem, start, variances, self.tolerance, self.spot_error)

    def refine(self, problem: LatentProblem, mode: Mode, variances: Variances) -> Mode:
        """Sweep on."""
        assert isinstance(mode, PropagatedMode)
        if mode.residual <= self.refined:
            return mode
        return propagate(problem, mode, variances, self.refined, self.spot_error)

    def gradient(self, problem: LatentProblem, mode: Mode) -> MarginalGradient:
        """Differentiate at fixed sites."""
        return propagation_gradient(problem, mode)

    def rough(self, tolerance: float) -> SmoothPart:
        """Return the sweeps stopped early: the value is right to the square of what is left.

        Spots take as few nodes as that leaves right.
        """
        return PropagatedSmooth(tolerance, tolerance, tolerance**2)

    def for_search(self) -> SmoothPart:
        """Stop early where a value is wanted, and sweep on where its gradient is."""
        return PropagatedSmooth(ROUGH_TOLERANCE)


SMOOTH_PARTS: dict[str, SmoothPart] = {"laplace": LaplaceSmooth(), "ep": PropagatedSmooth()}
LAPLACE = SMOOTH_PARTS["laplace"]
