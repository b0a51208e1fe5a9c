"""The posterior density of a gene's outer parameters, the field integrated out.

In ``u = [log sigma (C, unless fixed), theta_logit (C), B ((F+1) Q)]``,

    log p(u | Y) + const = log_marginal(u) + log p(B) + log p(sigma) + log p(theta)
                           + log |d sigma / d log sigma| + sum log theta (1 - theta)

(``sigma^2`` in the place of ``sigma`` where the prior is stated on it). The gradient is exact: it
is that of ``log_marginal`` as computed, mode and all. Outside the box of the search the density is
taken as zero; there is a prior mass of 6e-7 a component beyond the bounds of theta.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glmm.fit_gene import START_SIGMAS, START_THETA_LOGITS
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.marginal.conditional_mode import ModeError
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.options import NUGGETS, choose, smooth_by_default
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.space import PosteriorSpace
from splisosm_pyro.posterior.field.drawn_or_gaussian import Field, GaussianField
from splisosm_pyro.posterior.field.gaussian_draws import FieldAtMode, eta_means, gaussian_draws
from splisosm_pyro.posterior.field.nearest_modes import coefficient_response, nearest_modes
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.field.spot_sampler import refine

# Standard coefficients (F+1, Q) of the logits, sigma (C,) and theta_logit (C,).
Fitted = tuple[FloatArray, FloatArray, FloatArray]
# Where a mode is looked for at first whose fit is beyond: proper priors pull it inside.
INTERIOR_SIGMA, INTERIOR_LOGIT = (0.2, 4.0), 1.5
# Where the curvature is less than this the Gaussian is as wide as if it were this.
LEAST_CURVATURE = 1e-2
# Beyond this a fitted coefficient is on its way to infinity.
FARTHEST_START = 10.0
# Steps of the spots' sampler; most of its proposals are accepted.
SPOT_STEPS = 4


@dataclass(frozen=True)
class OuterDensity(MarginalObjective):
    """The unnormalised log posterior of the outer parameters: the objective of a fit, in ``u``.

    Attributes
    ----------
    space
        What the vector ``u`` means, with the priors.
    near
        (K,) where the mode is expected; by default it is looked for from several places.
    """

    space: PosteriorSpace
    near: FloatArray | None = None

    @classmethod
    def of_gene(
        cls,
        spec: GLMMSpec,
        counts: FloatArray,  # (S, P)
        priors: Priors,
        sigma: FloatArray,  # (C,), where it is if the model fixes it
        fitted: Fitted | None = None,
    ) -> "OuterDensity":
        """Build the density of one gene; every coefficient moves, its prior holds it.

        ``fitted`` is the maximum of a similar density, such as a fit: the mode is not far.
        """
        spec = spec.of_gene(counts)
        shape = (len(spec.design.back), counts.shape[1] - 1)
        space = PosteriorSpace(
            n_components=sigma.size,
            fixed_sigma=sigma if spec.fix_sigma else None,
            free=np.ones(shape, dtype=bool),
            coefficients=np.zeros(shape),
            priors=priors,
            back=spec.design.back,
            residual=spec.kernel.residual,
            turn=spec.turn,
        )
        near = None
        if fitted is not None:
            near = interior(space, spec.turn.from_logits(fitted[0]), *fitted[1:])
        return cls(spec.problem(counts), space, smooth=spec.smooth, near=near)

    @property
    def size(self) -> int:
        """K, how many unknowns there are."""
        return self.space.size

    def rough(self, tolerance: float) -> "OuterDensity":
        """Return the density with values right to ``tolerance`` squared where that is cheaper."""
        return replace(self, smooth=self.smooth.rough(tolerance))

    def information(self, at: Evaluation[MarginalState]) -> FloatArray:
        """Return a first guess of the negative Hessian, that of the priors included."""
        theta, nil = at.state.variances.theta, np.zeros(self.space.free.shape)
        of_jacobian = self.space.pack(0.0 * theta, 2.0 * theta * (1.0 - theta), nil)
        return super().information(at) + np.diag(of_jacobian)

    def log_density(
        self, u: FloatArray, near: Evaluation[MarginalState]
    ) -> tuple[float, MarginalState | None]:
        """Return the value for any ``u``: minus infinity outside the box or without a mode."""
        box = self.space.box()
        if not np.isfinite(u).all() or (u < box.lower).any() or (u > box.upper).any():
            return -np.inf, None
        try:
            value, state = self.value(u, near)
        except (ModeError, NotPositiveDefinite, np.linalg.LinAlgError):
            return -np.inf, None
        return (value, state) if np.isfinite(value) else (-np.inf, None)

    def with_slope(
        self, u: FloatArray, near: Evaluation[MarginalState]
    ) -> tuple[float, FloatArray, MarginalState | None]:
        """Return ``log_density`` with its gradient, zero where there is no value."""
        value, state = self.log_density(u, near)
        if state is None:
            return value, np.zeros(u.size), None
        slope, state = self.gradient(u, state)
        return value, slope, state

    def starts(self) -> list[FloatArray]:
        """Return where to look for the mode first."""
        if self.near is not None:
            return [self.near]
        space, ones = self.space, np.ones(self.space.n_components)
        gene = self.problem.gene
        glm = fit_glm(gene.counts, gene.design[:, :-1]).B
        glm = self.problem.turn.ordered_to_turned(glm)
        sigmas = (1.0,) if space.fixed_sigma is not None else START_SIGMAS
        return [
            space.start(glm, sigma * ones, logit * ones)
            for sigma in sigmas
            for logit in START_THETA_LOGITS["marginal"]
        ]

    def field_linear(
        self,
        mode: OuterMode,
        u: FloatArray,  # (N, K)
        design: FloatArray,  # (S, F+1)
        noise: Noise,
    ) -> Field:
        """Return ``eta`` given each ``u``: the Gaussian at the mode, its mean moved to first order.

        One factorisation whatever N.
        """
        problem, at = self.problem, mode.at
        mean, response = mode.linear(eta_means(problem, [at.state, *mode.steps], design))
        given = FieldAtMode(problem, at.state, design)
        return GaussianField(mean, response, u - mode.mean, mode.covariance, given, noise)

    def eta_near(
        self,
        points: FloatArray,  # (n, K)
        values: FloatArray,  # (n,)
        states: Sequence[MarginalState],
        mode: OuterMode,
        u: FloatArray,  # (N, K)
        design: FloatArray,  # (S, F+1)
        noise: Noise,
    ) -> FloatArray:  # (S, Q, N)
        """Draw ``eta`` given each ``u`` from the mode at the one of ``points`` near it.

        Near means near in the variances; where the coefficients differ the mean follows them.
        """
        problem, n_variance = self.problem, self.space.n_variance
        _, response = mode.linear(eta_means(problem, [mode.at.state, *mode.steps], design))
        owner = nearest_modes(points[:, :n_variance], values, u[:, :n_variance])
        out = np.empty((len(design), self.space.free.shape[1], len(u)))
        for i in np.unique(owner):
            state, mine = states[i], np.flatnonzero(owner == i)
            response[:, :, n_variance:] = coefficient_response(problem, state, design)
            moved = response.reshape(-1, self.size) @ (u[mine] - points[i]).T
            moved = moved.reshape(*response.shape[:2], -1)
            draws = gaussian_draws(problem, state, design, mine.size, noise.torch, moved)
            nugget = state.variances.nugget
            out[:, :, mine] = refine(problem, nugget, draws, SPOT_STEPS, noise.torch)
        return out

    def eta_along(
        self,
        u: FloatArray,  # (N, K)
        at: Evaluation[MarginalState],
        design: FloatArray,  # (S, F+1)
        noise: Noise,
    ) -> FloatArray:  # (S, Q, N)
        """Draw ``eta`` given each ``u`` at its own mode, found from that of the one before."""
        out = np.empty((len(design), self.space.free.shape[1], len(u)))
        near = at
        for n, row in enumerate(u):
            value, state = self.value(row, near)
            near = Evaluation(row, value, row, state)
            out[:, :, n] = self.eta_given(state, 1, design, noise)[:, :, 0]
        return out

    def eta_given(
        self, state: MarginalState, n_draws: int, design: FloatArray, noise: Noise
    ) -> FloatArray:
        """Draw ``eta`` (S, Q, n_draws) given the outer parameters of a mode."""
        problem = self.problem
        draws = gaussian_draws(problem, state, design, n_draws, noise.torch)
        return refine(problem, state.variances.nugget, draws, SPOT_STEPS, noise.torch)


def interior(
    space: PosteriorSpace, coefficients: FloatArray, sigma: FloatArray, theta_logit: FloatArray
) -> FloatArray:
    """Return the search vector (K,) at a fit, pulled inside where that went far out."""
    return space.start(
        np.clip(coefficients, -FARTHEST_START, FARTHEST_START),
        np.clip(sigma, *INTERIOR_SIGMA),
        np.clip(theta_logit, -INTERIOR_LOGIT, INTERIOR_LOGIT),
    )


def with_nugget(spec: GLMMSpec, n_isos: int, nugget: str, smooth: str | None = None) -> GLMMSpec:
    """Return the specification of a posterior that integrates the field out in that way."""
    choose("nugget", nugget, NUGGETS)
    return spec.with_nugget(nugget, smooth or smooth_by_default(nugget, n_isos))
