"""The posterior density of a GLM's coefficients, those of the standard columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.marginal.latent_problem import GeneData
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.space import PosteriorSpace
from splisosm_pyro.posterior.field.drawn_or_gaussian import Field, GaussianField
from splisosm_pyro.posterior.field.noise import Noise


@dataclass(frozen=True)
class GLMDensity:
    """``log_lik(B) + log p(B)`` as an objective of ``fit.outer``; its state is the ratios (n, P).

    Examples
    --------
    >>> counts, design = np.array([[2.0, 1.0], [0.0, 0.0]]), StandardDesign.of(np.zeros((2, 0)))
    >>> density = GLMDensity.of_gene(counts, design, Priors(beta="normal", bias="normal"))
    >>> round(density.value(np.zeros(1), None)[0], 6)
    -4.202353
    """

    gene: GeneData
    space: PosteriorSpace

    @classmethod
    def of_gene(cls, counts: FloatArray, design: StandardDesign, priors: Priors) -> "GLMDensity":
        """Build the density of one gene, from counts (S, P) and the design."""
        shape = (len(design.back), counts.shape[1] - 1)
        free, none = np.ones(shape, dtype=bool), np.empty(0)
        space = PosteriorSpace(0, none, free, np.zeros(shape), priors, design.back)
        return cls(GeneData.from_arrays(counts, design.columns), space)

    @property
    def size(self) -> int:
        """K, how many unknowns there are."""
        return self.space.size

    def rough(self, tolerance: float) -> "GLMDensity":
        """Return this: its values are cheap."""
        return self

    def value(self, u: FloatArray, near: Evaluation[FloatArray] | None) -> tuple[float, FloatArray]:
        """Return the log density and the ratios."""
        coefficients = u.reshape(self.space.free.shape)
        eta = np.pad(self.gene.design @ coefficients, ((0, 0), (0, 1)))
        top = eta.max(axis=1, keepdims=True)
        log_ratio = eta - top - np.log(np.exp(eta - top).sum(axis=1, keepdims=True))
        log_lik = float((self.gene.counts * log_ratio).sum()) + self.gene.log_coefficient
        return log_lik + self.space.log_prior_of(coefficients), np.exp(log_ratio)

    def gradient(self, u: FloatArray, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the gradient."""
        totals = self.gene.counts.sum(axis=1, keepdims=True)
        score = (self.gene.counts - totals * state)[:, :-1]
        prior = self.space.prior_slope_of(u.reshape(self.space.free.shape))
        return (self.gene.design.T @ score + prior).ravel(), state

    def evaluate(
        self, u: FloatArray, near: Evaluation[FloatArray] | None = None
    ) -> Evaluation[FloatArray]:
        """Value and gradient."""
        value, state = self.value(u, near)
        return Evaluation(u, value, self.gradient(u, state)[0], state)

    def information(self, at: Evaluation[FloatArray]) -> FloatArray:
        """Return the negative Hessian, exactly."""
        ratio, design = at.state[:, :-1], self.gene.design
        totals = self.gene.counts.sum(axis=1)[:, None, None]
        blocks = ratio[:, :, None] * (np.eye(ratio.shape[1]) - ratio[:, None, :])
        information = np.einsum("sf,sqp,sg->fqgp", design, totals * blocks, design)
        information = information.reshape(self.size, self.size)
        return np.asarray(information + self.space.prior_precision())

    def log_density(
        self, u: FloatArray, near: Evaluation[FloatArray]
    ) -> tuple[float, FloatArray | None]:
        """Return the value for any ``u``: minus infinity outside the box."""
        box = self.space.box()
        if not np.isfinite(u).all() or (u < box.lower).any() or (u > box.upper).any():
            return -np.inf, None
        return self.value(u, near)

    def with_slope(
        self, u: FloatArray, near: Evaluation[FloatArray]
    ) -> tuple[float, FloatArray, FloatArray | None]:
        """Return ``log_density`` with its gradient, zero where there is no value."""
        value, state = self.log_density(u, near)
        if state is None:
            return value, np.zeros(u.size), None
        slope, state = self.gradient(u, state)
        return value, slope, state

    def starts(self) -> list[FloatArray]:
        """Return where to look for the mode first: the maximum of the likelihood, and zero."""
        box = self.space.box()
        return [
            box.project(fit_glm(self.gene.counts, self.gene.design[:, :-1]).B.ravel()),
            np.zeros(self.size),
        ]

    def field_linear(
        self, mode: OuterMode, u: FloatArray, design: FloatArray, noise: Noise
    ) -> Field:
        """Return the Gaussian of ``eta``, linear in ``u`` (N, K)."""
        n_logits = self.space.free.shape[1]
        response = np.einsum("sf,qp->sqfp", design, np.eye(n_logits))
        response = response.reshape(len(design), n_logits, self.size)
        apart = u - mode.mean
        return GaussianField(response @ mode.mean, response, apart, mode.covariance, None, noise)

    def eta_near(
        self,
        points: FloatArray,
        values: FloatArray,
        states: Sequence[FloatArray],
        mode: OuterMode,
        u: FloatArray,
        design: FloatArray,
        noise: Noise,
    ) -> FloatArray:
        """Return ``eta`` (S, Q, N) at ``u`` (N, K)."""
        return self._eta(u, design)

    def eta_along(
        self, u: FloatArray, at: Evaluation[FloatArray], design: FloatArray, noise: Noise
    ) -> FloatArray:
        """Return ``eta`` (S, Q, N) at ``u`` (N, K)."""
        return self._eta(u, design)

    def _eta(self, u: FloatArray, design: FloatArray) -> FloatArray:
        """Return ``eta`` (S, Q, N) at ``u`` (N, K), for the design (S, F+1)."""
        coefficients = u.reshape(len(u), *self.space.free.shape)
        return np.asarray(np.einsum("sf,nfq->sqn", design, coefficients))
