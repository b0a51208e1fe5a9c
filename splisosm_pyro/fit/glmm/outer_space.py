"""The unknowns of the outer search: what moves, in which coordinates, within which box.

Coefficients are those of the standard columns (``fit/glm/standard_design.py``), so that the box and
the longest steps mean the same whatever the units of a covariate.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from splisosm_pyro.fit.glm.coefficients import on_logits
from splisosm_pyro.fit.marginal.conditional_mode import Linearisation
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.search.quasi_newton import Box
from splisosm_pyro.maths.coding import NOTHING, Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.maths.priors import Priors

# The search box. theta_logit = 15 is theta = 1 - 3e-7; beyond it the value hardly changes.
SIGMA_RANGE = (1e-4, 50.0)
THETA_LOGIT_BOUND = 15.0
COEFFICIENT_BOUND = 60.0
# The longest steps of one epoch, and where a coordinate is tried at its bound.
LONGEST = {"log_sigma": 1.0, "theta_logit": 2.5, "coefficient": 3.0}
TRY_SIGMA = (0.1, 12.0)
TRY_THETA_LOGIT = 3.0
# Added to the information about log sigma and theta_logit, which may be nil at the start.
RIDGE = 0.1


@dataclass(frozen=True)
class OuterSpace:
    """The map between the search vector ``u`` and ``(B, sigma, theta)``.

    ``u = [log sigma (C, if free), theta_logit (C), B[free]]``.

    Attributes
    ----------
    n_components
        C, 1 or Q.
    fixed_sigma
        (C,) where sigma is not searched for, else None.
    free
        (F+1, Q) mask of coefficients that are searched for.
    coefficients
        (F+1, Q) values of the others.
    priors
        Of all parameters.
    back
        (F+1, F+1), takes the coefficients to those of the user's columns.
    sigma_floor
        The least sigma of the search (0: that of the box).
    white
        Whether theta_logit is held at its lower bound, theta = 3e-7.
    turn
        Of what coordinates the coefficients are.
    held_theta
        (C,) where theta_logit stays by choice, as far as the box goes; else None.
    """

    n_components: int
    fixed_sigma: FloatArray | None
    free: Mask
    coefficients: FloatArray
    priors: Priors
    back: FloatArray
    residual: float = 0.0
    sigma_floor: float = 0.0
    white: bool = False
    turn: Turn = NOTHING
    held_theta: FloatArray | None = None

    @property
    def n_sigma(self) -> int:
        """How many sigmas are searched for."""
        return self.n_components if self.fixed_sigma is None else 0

    @property
    def n_variance(self) -> int:
        """How many of the leading unknowns are variance parameters."""
        return self.n_sigma + self.n_components

    @property
    def size(self) -> int:
        """K, how many unknowns there are."""
        return self.n_variance + int(self.free.sum())

    def with_free(self, free: Mask, coefficients: FloatArray) -> "OuterSpace":
        """Return the space in which these coefficients move too."""
        return replace(self, free=free, coefficients=coefficients)

    def start(
        self, coefficients: FloatArray, sigma: FloatArray, theta_logit: FloatArray
    ) -> FloatArray:
        """Return the search vector at given parameters, moved into the box."""
        return self.box().project(self.pack(np.log(sigma), theta_logit, coefficients))

    def pack(
        self, by_log_sigma: FloatArray, by_theta_logit: FloatArray, by_coefficients: FloatArray
    ) -> FloatArray:
        """Lay out values or derivatives as a search vector; fixed parameters drop out."""
        return np.concatenate(
            [by_log_sigma[: self.n_sigma], by_theta_logit, by_coefficients[self.free]]
        )

    def unpack(self, u: FloatArray) -> tuple[FloatArray, Variances]:
        """Return the coefficients (F+1, Q) and the variances at ``u``."""
        coefficients = self.coefficients.copy()
        coefficients[self.free] = u[self.n_variance :]
        log_sigma = u[: self.n_sigma] if self.fixed_sigma is None else np.log(self.fixed_sigma)
        theta_logit = u[self.n_sigma : self.n_variance]
        n_logits = self.coefficients.shape[1]
        return coefficients, Variances.from_unconstrained(
            log_sigma, theta_logit, n_logits, self.residual
        )

    def box(self) -> Box:
        """Return the bounds of the search."""
        n_b = int(self.free.sum())
        c = self.n_components
        least = max(SIGMA_RANGE[0], self.sigma_floor)

        top, tried = THETA_LOGIT_BOUND, TRY_THETA_LOGIT
        if self.white:
            top, tried = -top, np.inf

        def lay(sigma: float, theta: float, coefficient: float) -> FloatArray:
            return np.repeat([sigma, theta, coefficient], [self.n_sigma, c, n_b]).astype(float)

        box = Box(
            lower=lay(np.log(least), -THETA_LOGIT_BOUND, -COEFFICIENT_BOUND),
            upper=lay(np.log(SIGMA_RANGE[1]), top, COEFFICIENT_BOUND),
            longest=lay(*LONGEST.values()),
            try_lower=lay(np.log(max(TRY_SIGMA[0], 1.5 * least)), -tried, -np.inf),
            try_upper=lay(np.log(TRY_SIGMA[1]), tried, np.inf),
        )
        return box if self.held_theta is None else self._with_theta(box, self.held_theta)

    def _with_theta(self, box: Box, held: FloatArray) -> Box:
        """Return the box with no room for theta_logit."""
        own = slice(self.n_sigma, self.n_variance)
        for bound in (box.lower, box.upper):
            bound[own] = np.clip(held, -THETA_LOGIT_BOUND, THETA_LOGIT_BOUND)
        box.try_lower[own], box.try_upper[own] = -np.inf, np.inf
        return box

    def log_prior(self, variances: Variances, coefficients: FloatArray) -> float:
        """Return the sum of all log priors, each on the variable it is stated on."""
        own = self.stated @ coefficients
        log_turn = self.turn.log_det
        return float(self.priors.value(variances.sigma, variances.theta, own, log_turn))

    def prior_gradient(self, variances: Variances, coefficients: FloatArray) -> FloatArray:
        """Return its gradient in the search vector, (K,)."""
        own = self.stated @ coefficients
        by_sigma, by_theta, slope = self.priors.slopes(variances.sigma, variances.theta, own)
        return self.pack(by_sigma, by_theta, self.stated.T @ slope)

    def log_prior_of(self, coefficients: FloatArray) -> float:
        """Return the log prior of the coefficients (F+1, Q) alone."""
        return float(self.priors.coefficients.value(self.stated @ coefficients))

    def prior_slope_of(self, coefficients: FloatArray) -> FloatArray:
        """Return its gradient, (F+1, Q)."""
        return self.stated.T @ self.priors.coefficients.gradient(self.stated @ coefficients)

    @cached_property
    def stated(self) -> FloatArray:
        """What takes the coefficients to those that the priors are stated on, (F+1, F+1)."""
        return self.priors.coefficients.stated(self.back)

    def prior_precision(self) -> FloatArray:
        """Return the curvature of the coefficients' priors in the unknowns, at their centre."""
        own = self.priors.coefficients.precision(len(self.free))
        whole = on_logits(self.stated.T @ (own * self.stated), self.free.shape[1])
        free = self.free.ravel()
        return np.asarray(whole[np.ix_(free, free)])

    def field_parts(
        self, smooth: FloatArray, white: FloatArray, variances: Variances
    ) -> list[FloatArray]:
        """Return the field's derivative (n, Q) in each variance unknown at fixed ``(w, a)``.

        ``smooth = D^1/2 w + residual D a`` and ``white = T a`` scale with D and T.
        """
        ones = np.ones((1, smooth.shape[1]))
        masks = ones if self.n_components == 1 else np.eye(smooth.shape[1])
        by_sigma = [2.0 * (smooth + white) * mask for mask in masks[: self.n_sigma]]
        by_theta = [
            ((1.0 - theta) * smooth - theta * white) * mask
            for theta, mask in zip(variances.theta, masks, strict=True)
        ]
        return by_sigma + by_theta

    def assemble(
        self, linear: Linearisation, schur: FloatArray, parts: list[FloatArray]
    ) -> FloatArray:
        """Return the block-diagonal information; ``schur`` is that of the coefficients."""
        k = self.n_variance
        information = np.zeros((self.size, self.size))
        information[k:, k:] = schur
        if not self.priors.coefficients.flat:
            information[k:, k:] += self.prior_precision()
        stacked = np.stack(parts, axis=-1)  # (n, Q, k)
        through = linear.neg_hessian @ stacked
        pulled = linear.root[:, None] * through
        quad = np.einsum("sqi,sqj->ij", stacked, through)
        quad -= np.einsum("sqi,sqj->ij", pulled, linear.factor.solve(pulled))
        information[:k, :k] = 0.5 * quad + RIDGE * np.eye(k)
        return information
