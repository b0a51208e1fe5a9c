"""Expectation propagation for the smooth part ``w`` of the field, for one gene.

Every occupied spot's ``exp g_s(x)``, nugget integrated out, is stood for by a Gaussian site
``exp(b_s' x - x' tau_s x / 2)``. With the sites the posterior of ``w`` is Gaussian, mean ``w`` and
precision ``H = K x I_Q + blockdiag(D^1/2 tau D^1/2)``; a site is right if ``x_s`` has the same mean
and covariance with the exact spot in its place. Let ``Sigma_s = D^1/2 P_s D^1/2`` be the posterior
covariance of ``x_s``, ``xbar`` its mean and ``r = b - tau xbar``. Without its own site a spot sees

    x_s ~ N(mu, v),     v = (I - Sigma tau)^-1 Sigma,     mu = xbar - v r,

and ``v`` joins the nugget (``maths/spot/gaussian.py``): with ``g, a = g', A = -g''`` at ``mu`` for
noise of covariance ``T + v``, the site is right where ``r = a`` and ``tau = (I - A v)^-1 A``.
Nothing divides by ``D`` or ``T``; at theta = 0 there is nothing to approximate. The value is

    log Z = sum_s [ g_s + 1/2 r' v r + 1/2 log|I + v tau| ] - 1/2 w' K w - 1/2 log|I + V G|

and, being stationary in the sites, has a gradient without an implicit part:

    d/d offset = r,   D_q d/dD_q = 1/2 w_q' K w_q - 1/2 sum_s (P_s G_s)_qq,
    d/dT_q = 1/2 sum_s (a_q^2 - A_qq).

References: Minka (2001), arXiv:1301.2294; Kuss and Rasmussen (2005), JMLR 6, 1679-1704; Rasmussen
and Williams (2006), Gaussian Processes for Machine Learning, section 3.6. As the spots are
log-concave, no site has a negative precision.
"""

from dataclasses import dataclass, field

import numpy as np

from splisosm_pyro.fit.marginal.conditional_mode import Linearisation, Mode, ModeError
from splisosm_pyro.fit.marginal.laplace import MarginalGradient
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite
from splisosm_pyro.maths.spot.ep_sites import cavities, mismatch, sites
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.terms import SpotTerms

Sites = tuple[FloatArray, FloatArray]

# Sites are right to this, in units of the posterior's sd, where a gradient is wanted: its error is
# of that order. That of a value is of its square, and points that are only tried do with ROUGH.
SITE_TOLERANCE, ROUGH_TOLERANCE = 3e-7, 3e-5
# Residuals below this that no longer shrink are rounding.
SITE_ROUNDING = 1e-5
MAX_SWEEPS = 200
# The smooth part of a cavity's mean grows with D^1/2 up to this: counts hold it back.
MOST_GROWTH = 2.0
# Nats that the integrals over all spots together may be off, however rough they are asked for; most
# of that is the same at all parameters.
MOST_OFF = 5e-3
# Where they are asked for roughly, a start for the sites may be off by this at every spot.
START_OFF = 1e-3
# A sweep that leaves more than this of the residual is damped by half the next time.
SHRINKS, LEAST_DAMPING = 0.9, 0.05


@dataclass(frozen=True)
class PropagatedMode(Mode):
    """A fixed point laid out as a mode: mean ``w``, site precisions in the place of ``A``.

    ``cavity`` and ``cavity_mean`` are ``v`` and ``mu``, ``next_tau`` and ``next_shift`` the sites
    that the spots would rather have, ``residual`` how far they are from those in force.
    """

    cavity: FloatArray = field(kw_only=True)
    cavity_mean: FloatArray = field(kw_only=True)
    next_tau: FloatArray = field(kw_only=True)
    next_shift: FloatArray = field(kw_only=True)
    residual: float = field(kw_only=True)


def followed_sites(
    problem: LatentProblem,
    old: PropagatedMode,
    coefficients: FloatArray,
    variances: Variances,
    error: float = 0.0,
) -> Sites:
    """Give the sites that the spots call for if their cavities just move with the parameters.

    The cavity's mean follows the offset, its smooth part scales with ``D^1/2``, the nugget is new:
    at theta = 0 that is the fixed point itself. Costs a pass over the spots.
    """
    grown = np.sqrt(variances.spatial) / np.where(old.root > 0.0, old.root, 1.0)
    smooth = old.cavity_mean - problem.gene.design @ old.coefficients
    mean = problem.gene.design @ coefficients + np.minimum(grown, MOST_GROWTH) * smooth
    cavity = grown[:, None] * old.cavity * grown
    return _wanted_sites(problem, mean, cavity, variances, START_OFF if error > 0.0 else 0.0)[1]


def propagate(
    problem: LatentProblem,
    start: Mode,
    variances: Variances,
    tolerance: float = SITE_TOLERANCE,
    error: float = 0.0,
) -> PropagatedMode:
    """Return the fixed point, factorised.

    Parameters
    ----------
    problem
        The gene, its covariance system and its spots, nugget integrated out.
    start
        The coefficients and the sites to start from: the next ones of a fixed point or, of a point
        without sites, ``tau = A`` and ``b = h' + A x``.
    variances
        Where the field's variances are now.
    tolerance
        The residual to stop at.
    error
        Nats that the integral over a spot may be off; 0 for all its digits.

    Returns
    -------
    PropagatedMode
        Its ``terms`` hold ``xbar, r, tau`` and, in ``extra``, ``dg/dT`` (n, Q).

    Raises
    ------
    ModeError
        If the sites stop being finite or positive, or do not settle.

    Notes
    -----
    A sweep costs a factorisation, the blocks of the inverse and one pass over the spots; some four
    sweeps from nothing, one or two from a point nearby, as many more for a gradient.
    """
    tau, shift = _sites_of(start)
    damping, before, residual = 1.0, np.inf, np.inf
    for _ in range(MAX_SWEEPS):
        try:
            sweep = _Sweep(problem, start.coefficients, variances, tau, shift, error)
        except (NotPositiveDefinite, np.linalg.LinAlgError) as error:
            raise ModeError(f"no posterior under the sites: {error}") from error
        residual = sweep.residual
        if not np.isfinite(residual):
            raise ModeError("the sites of expectation propagation are not finite")
        stalled = residual > SHRINKS * before
        if residual <= tolerance or (stalled and residual <= SITE_ROUNDING):
            return sweep.mode()
        damping = max(0.5 * damping, LEAST_DAMPING) if stalled else min(1.0, 1.5 * damping)
        before = residual
        tau = tau + damping * (sweep.site_precision - tau)
        shift = shift + damping * (sweep.site_shift - shift)
        del sweep  # lets go of its array
    raise ModeError(f"the sites did not settle in {MAX_SWEEPS} sweeps (residual {residual:.1g})")


class _Sweep:
    """The posterior under given sites, and the sites that every spot would rather have."""

    def __init__(
        self,
        problem: LatentProblem,
        coefficients: FloatArray,
        variances: Variances,
        tau: FloatArray,  # (n, Q, Q)
        shift: FloatArray,  # (n, Q) b
        error: float,
    ) -> None:
        self.problem, self.coefficients, self.tau = problem, coefficients, tau
        self.nugget, self.root = variances.nugget, np.sqrt(variances.spatial)
        offset = problem.gene.design @ coefficients
        precision = self.root[:, None] * tau * self.root
        factor = problem.factorise(precision)
        self.linear = Linearisation(factor, self.root, tau, precision)
        self.w = factor.solve(self.root * (shift - _times(tau, offset)))
        self.x = offset + self.root * self.w
        self.r = shift - _times(tau, self.x)
        self.cov = self.root[:, None] * factor.blocks() * self.root
        self.cavity, self.mean, self.log_det, self.quad = cavities(self.cov, tau, self.x, self.r)
        each = min(error, MOST_OFF / max(len(tau), 1))
        spots, wanted = _wanted_sites(problem, self.mean, self.cavity, variances, each)
        self.value, self.score, self.neg_hessian = spots
        self.site_precision, self.site_shift = wanted
        self.residual = mismatch(self.cov, tau, self.site_precision, self.r, self.score)

    def mode(self) -> PropagatedMode:
        """Lay the fixed point out as the engine expects a mode."""
        own = np.diagonal(self.neg_hessian, axis1=1, axis2=2)
        terms = SpotTerms(
            x=self.x,
            nugget=self.nugget,
            value=float(self.value.sum()) + 0.5 * self.quad,
            score=self.r,
            neg_hessian=self.tau,
            correction=0.5 * self.log_det,
            extra=(0.5 * (self.score**2 - own),),
        )
        alpha = self.root * self.r
        psi = terms.value - 0.5 * float(np.vdot(self.w, alpha))
        return PropagatedMode(
            self.coefficients,
            self.w,
            alpha,
            self.root,
            terms,
            psi,
            self.linear,
            cavity=self.cavity,
            cavity_mean=self.mean,
            next_tau=self.site_precision,
            next_shift=self.site_shift,
            residual=self.residual,
        )


def _wanted_sites(
    problem: LatentProblem,
    mean: FloatArray,
    cavity: FloatArray,
    variances: Variances,
    error: float,
) -> tuple[tuple[FloatArray, FloatArray, FloatArray], Sites]:
    """Return ``g``, ``a`` and ``A`` of every spot in its cavity, and the sites that follow."""
    assert isinstance(problem.spots, QuadratureNugget)
    spots = problem.spots.blurred(mean, cavity + np.diag(variances.nugget), error)
    return spots, sites(cavity, mean, spots[1], spots[2])


def propagation_gradient(problem: LatentProblem, mode: Mode) -> MarginalGradient:
    """Return the gradient of ``log Z`` at a fixed point; costs nothing beyond it."""
    linear = mode.linearisation
    by_spatial = 0.5 * mode.w * mode.alpha
    by_spatial -= 0.5 * np.einsum("sab,sba->sa", linear.factor.blocks(), linear.precision)
    offset = mode.terms.score
    return MarginalGradient(
        offset,
        problem.gene.design.T @ offset,
        by_spatial.sum(axis=0),
        mode.terms.extra[0].sum(axis=0),
        None,
    )


def _sites_of(start: Mode) -> Sites:
    """Return the sites to start from."""
    if isinstance(start, PropagatedMode):
        return start.next_tau, start.next_shift
    tau = start.terms.neg_hessian
    return tau, start.terms.score + _times(tau, start.terms.x)


def _times(blocks: FloatArray, vector: FloatArray) -> FloatArray:
    """``blocks_s vector_s`` for every spot."""
    return np.asarray((blocks @ vector[:, :, None])[:, :, 0])
