"""The maximum of the joint density of one gene: nu, beta, bias at their mode, then the variances.

At given ``(sigma, theta)`` the joint density is concave in ``(nu, B)`` and its maximum is the
bordered mode of ``fit/marginal/conditional_mode.py`` with the nugget profiled out, since

    max_{w, e} [...]  with  nu = D^1/2 w + e   equals   log p(Y | eta) - 1/2 nu' C^-1 nu.

What is left is a function of the variances alone; by the envelope theorem its gradient is the
partial one. With free sigma the joint density has no interior maximum worth the name (see the
documentation), hence the floor of the search.
"""

import math
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.marginal.conditional_mode import Mode, cold_start, find_mode
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask


@dataclass(frozen=True)
class JointState:
    """What the objective keeps with a point; ``log_dets`` (Q, 3): ``log|C_q|``, d/dD, d/dT."""

    mode: Mode
    variances: Variances
    log_dets: FloatArray


@dataclass(frozen=True)
class JointObjective:
    """``max over (nu, B) of log_joint`` as a function of the variances.

    ``space.free`` must be all False (the coefficients move with the field); ``free`` says which do.
    """

    problem: LatentProblem
    space: OuterSpace
    free: Mask  # (F+1, Q) mask

    def value(self, u: FloatArray, near: Evaluation[JointState] | None) -> tuple[float, JointState]:
        """Find the bordered mode at ``u`` and return the log joint density there."""
        coefficients, variances = self.space.unpack(u)
        if near is None:
            start = cold_start(self.problem, coefficients, variances.spatial, variances.nugget)
        else:
            start = near.state.mode
        free = self.free if self.free.any() else None
        mode = find_mode(self.problem, start, variances.spatial, variances.nugget, free)
        state = JointState(mode, variances, self._log_dets(variances))
        return log_joint(self.problem, state) + self.space.log_prior(
            variances, mode.coefficients
        ), state

    def gradient(self, u: FloatArray, state: JointState) -> tuple[FloatArray, JointState]:
        """Return the gradient in the variances."""
        mode, variances = state.mode, state.variances
        by_spatial = 0.5 * (mode.w * mode.alpha).sum(axis=0)
        by_spatial -= 0.5 * variances.spatial * state.log_dets[:, 1]
        by_nugget = 0.5 * (mode.terms.score**2).sum(axis=0)
        by_sigma, by_theta = variances.pull_back(by_spatial, by_nugget, -0.5 * state.log_dets[:, 2])
        packed = self.space.pack(by_sigma, by_theta, mode.coefficients)
        return packed + self.space.prior_gradient(variances, mode.coefficients), state

    def evaluate(
        self, u: FloatArray, near: Evaluation[JointState] | None = None
    ) -> Evaluation[JointState]:
        """Value and gradient."""
        value, state = self.value(u, near)
        return Evaluation(u, value, self.gradient(u, state)[0], state)

    def information(self, at: Evaluation[JointState]) -> FloatArray:
        """Return a first guess of the negative Hessian: steps of about one unit."""
        return np.diag(np.maximum(np.abs(at.gradient), 1.0))

    def _log_dets(self, variances: Variances) -> FloatArray:
        """``log|D V + T I|`` and its derivatives for every logit; computed once per component."""
        kernel, spatial, white = self.problem.kernel, variances.spatial, variances.white
        rows = [
            kernel.log_det_terms(float(spatial[c]), float(white[c]))
            for c in range(self.space.n_components)
        ]
        return np.broadcast_to(np.array(rows), (spatial.size, 3))


def log_joint(problem: LatentProblem, state: JointState) -> float:
    """Return ``log p(Y | eta) + log p(nu | sigma, theta)`` at the mode of ``state``, in nats."""
    size = problem.kernel.n_spots * problem.gene.n_logits
    normal = -0.5 * float(state.log_dets[:, 0].sum()) - 0.5 * size * math.log(2.0 * math.pi)
    normal -= problem.kernel.n_spots * problem.turn.log_det  # a density of the logits
    return state.mode.psi + problem.gene.log_coefficient + normal
