"""The maximum of the log marginal likelihood of one gene over its outer parameters."""

from dataclasses import dataclass, replace

import numpy as np

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.marginal.conditional_mode import ModeError, bordered, linearise
from splisosm_pyro.fit.marginal.laplace import log_marginal
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import LAPLACE, MarginalState, SmoothPart
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True)
class MarginalObjective:
    """``log_marginal`` and all log priors as a function of the outer unknowns.

    With ``update_every = k`` the field is brought to its mode by Newton steps only where it has
    moved k - 1 times by the mode's derivative alone; in between the value is that much off.
    """

    problem: LatentProblem
    space: OuterSpace
    update_every: int = 1
    smooth: SmoothPart = LAPLACE

    def value(
        self, u: FloatArray, near: Evaluation[MarginalState] | None
    ) -> tuple[float, MarginalState]:
        """Find the mode at ``u``, starting from that of ``near``, and return the objective.

        Minus infinity where there is none to be found from a point nearby: no place to go.
        """
        coefficients, variances = self.space.unpack(u)
        old = None if near is None else near.state
        start = self.smooth.start(self.problem, coefficients, variances, old)
        moves = 0 if old is None else (old.moves + 1) % self.update_every
        if moves:
            mode = replace(start, linear=linearise(self.problem, start))
        else:
            try:
                mode = self.smooth.settle(self.problem, start, variances)
            except ModeError:
                if near is None:
                    raise
                return -np.inf, MarginalState(replace(start, linear=None), variances)
        value = log_marginal(self.problem, mode) + self.space.log_prior(variances, coefficients)
        return value, MarginalState(mode, variances, moves=moves)

    def gradient(self, u: FloatArray, state: MarginalState) -> tuple[FloatArray, MarginalState]:
        """Return the exact gradient at the mode of ``state``."""
        mode = self.smooth.refine(self.problem, state.mode, state.variances)
        state = replace(state, mode=mode)
        gradient = self.smooth.gradient(self.problem, mode)
        by_sigma, by_theta = state.variances.pull_back(gradient.log_spatial, gradient.nugget)
        packed = self.space.pack(by_sigma, by_theta, gradient.coefficients)
        packed += self.space.prior_gradient(state.variances, mode.coefficients)
        return packed, replace(state, gradient=gradient)

    def evaluate(
        self, u: FloatArray, near: Evaluation[MarginalState] | None = None
    ) -> Evaluation[MarginalState]:
        """Value and gradient."""
        value, state = self.value(u, near)
        gradient, state = self.gradient(u, state)
        return Evaluation(u, value, gradient, state)

    def information(self, at: Evaluation[MarginalState]) -> FloatArray:
        """Return a first guess of the negative Hessian: the working model's average information.

        Linearised, a gene is a Gaussian model with covariance ``C + W^-1``; with ``P`` the inverse
        of that covariance the coefficients have ``X' P X`` and the variances ``1/2 v_i' P v_j``,
        where ``v_i`` is the field's part that scales with parameter ``i`` (Gilmour, Thompson and
        Cullis, 1995, doi:10.2307/2533274).
        """
        mode, variances = at.state.mode, at.state.variances
        score = mode.terms.score
        smooth = mode.root * mode.w + variances.residual * variances.spatial * score
        parts = self.space.field_parts(smooth, variances.white * score, variances)
        border = bordered(self.problem, mode.linearisation, self.space.free)
        return self.space.assemble(mode.linearisation, border.schur, parts)
