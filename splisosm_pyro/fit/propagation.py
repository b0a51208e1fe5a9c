"""Expectation propagation for the smooth part ``w`` of the field, for one gene.

Every occupied spot's ``exp g_s(x)``, nugget integrated out, is stood for by a Gaussian site
``exp(b_s' x - x' tau_s x / 2)``. With the sites the posterior of ``w`` is Gaussian, mean ``w`` and
precision ``H = K x I_Q + blockdiag(D^1/2 tau D^1/2)``; a site is right if ``x_s`` has the same mean
and covariance with the exact spot in its place. Let ``Sigma_s = D^1/2 P_s D^1/2`` be the posterior
covariance of ``x_s``, ``xbar`` its mean and ``r = b - tau xbar``. Without its own site a spot sees

    x_s ~ N(mu, v),     v = (I - Sigma tau)^-1 Sigma,     mu = xbar - v r,

and ``v`` joins the nugget (``maths/spot_blur.py``): with ``g, a = g', A = -g''`` at ``mu`` for
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

import numpy as np

from splisosm_pyro.fit.latent import LatentProblem
from splisosm_pyro.fit.marginal import MarginalGradient
from splisosm_pyro.fit.mode import Linearisation, Mode, ModeError
from splisosm_pyro.fit.variance import Variances
from splisosm_pyro.maths.errors import NotPositiveDefinite
from splisosm_pyro.maths.nugget_quadrature import QuadratureNugget
from splisosm_pyro.maths.spot import FloatArray, SpotTerms

# Sites are right to this, in units of the posterior's sd; the value is then right to its square.
SITE_TOLERANCE = 1e-7
# Residuals below this that no longer shrink are rounding.
SITE_ROUNDING = 1e-5
MAX_SWEEPS = 200
# A sweep that leaves more than this of the residual is damped by half the next time.
SHRINKS, LEAST_DAMPING = 0.9, 0.05


def propagate(
    problem: LatentProblem, start: Mode, variances: Variances, tolerance: float = SITE_TOLERANCE
) -> Mode:
    """Return the fixed point as a ``Mode``: mean ``w``, site precisions in the place of ``A``.

    Parameters
    ----------
    problem
        The gene, its covariance system and its spots, nugget integrated out.
    start
        Its terms give the sites to start from, ``tau = neg_hessian`` and ``b = score + tau x``.
    variances
        Where the field's variances are now.
    tolerance
        How nearly right the sites have to be, in units of the posterior's sd.

    Returns
    -------
    Mode
        Factorised. Its ``terms`` hold ``xbar, r, tau`` and, in ``extra``, ``dg/dT`` (n, Q).

    Raises
    ------
    ModeError
        If the sites stop being finite or positive, or do not settle.

    Notes
    -----
    A sweep costs a factorisation, the blocks of the inverse and one pass over the spots; about
    eight sweeps from nothing, four from the sites of a point nearby.
    """
    tau = start.terms.neg_hessian
    shift = start.terms.score + _times(tau, start.terms.x)
    damping, before, residual = 1.0, np.inf, np.inf
    for _ in range(MAX_SWEEPS):
        try:
            sweep = _Sweep(problem, start.coefficients, variances, tau, shift)
        except (NotPositiveDefinite, np.linalg.LinAlgError) as error:
            raise ModeError(f"no posterior under the sites: {error}") from error
        residual = sweep.residual()
        if not np.isfinite(residual):
            raise ModeError("the sites of expectation propagation are not finite")
        stalled = residual > SHRINKS * before
        if residual <= tolerance or (stalled and residual <= SITE_ROUNDING):
            return sweep.mode()
        damping = max(0.5 * damping, LEAST_DAMPING) if stalled else min(1.0, 1.5 * damping)
        before = residual
        tau = tau + damping * (sweep.site_precision - tau)
        shift = shift + damping * (sweep.site_shift - shift)
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
    ) -> None:
        assert isinstance(problem.spots, QuadratureNugget)
        self.problem, self.coefficients, self.tau = problem, coefficients, tau
        self.nugget, self.root = variances.nugget, np.sqrt(variances.spatial)
        offset = problem.gene.design @ coefficients
        precision = self.root[:, None] * tau * self.root
        factor = problem.factorise(precision)
        self.linear = Linearisation(factor, self.root, tau, precision)
        problem.current = self.linear
        self.w = factor.solve(self.root * (shift - _times(tau, offset)))
        self.x = offset + self.root * self.w
        self.r = shift - _times(tau, self.x)
        self.cov = self.root[:, None] * factor.blocks() * self.root
        without = np.linalg.inv(np.eye(self.root.size) - self.cov @ tau)  # I + v tau
        self.cavity = _symmetric(without @ self.cov)
        self.log_det = float(np.linalg.slogdet(without)[1].sum())
        mean = self.x - _times(self.cavity, self.r)
        blurred = self.cavity + np.diag(self.nugget)
        self.value, self.score, self.neg_hessian = problem.spots.blurred(mean, blurred)
        shrink = np.eye(self.root.size) - self.neg_hessian @ self.cavity
        self.site_precision = _symmetric(np.asarray(np.linalg.solve(shrink, self.neg_hessian)))
        centre = mean + _times(self.cavity, self.score)
        self.site_shift = self.score + _times(self.site_precision, centre)

    def residual(self) -> float:
        """Largest move of a spot's posterior mean, in sd, of its covariance or score, relatively.

        Where the field hardly varies only the score has something to say: the gradient is its sum.
        """
        off = self.score - self.r
        by_mean = np.sqrt(np.einsum("sa,sab,sb->s", off, self.cov, off).max(initial=0.0))
        by_cov = np.abs(self.cov @ (self.site_precision - self.tau)).max(initial=0.0)
        by_score = np.abs(off / (1.0 + np.abs(self.score))).max(initial=0.0)
        return float(max(by_mean, by_cov, by_score))

    def mode(self) -> Mode:
        """Lay the fixed point out as the engine expects a mode."""
        half = 0.5 * float(np.einsum("sa,sab,sb->", self.r, self.cavity, self.r))
        own = np.diagonal(self.neg_hessian, axis1=1, axis2=2)
        terms = SpotTerms(
            x=self.x,
            nugget=self.nugget,
            value=float(self.value.sum()) + half,
            score=self.r,
            neg_hessian=self.tau,
            correction=0.5 * self.log_det,
            extra=(0.5 * (self.score**2 - own),),
        )
        alpha = self.root * self.r
        psi = terms.value - 0.5 * float(np.vdot(self.w, alpha))
        return Mode(self.coefficients, self.w, alpha, self.root, terms, psi, self.linear)


def propagation_gradient(problem: LatentProblem, mode: Mode) -> MarginalGradient:
    """Return the gradient of ``log Z`` at a fixed point; costs nothing beyond it."""
    linear = mode.linearisation
    by_spatial = 0.5 * mode.w * mode.alpha
    by_spatial -= 0.5 * np.einsum("sab,sba->sa", linear.factor.blocks(), linear.precision)
    return MarginalGradient(
        problem.gene.design.T @ mode.terms.score,
        by_spatial.sum(axis=0),
        mode.terms.extra[0].sum(axis=0),
        None,
    )


def _times(blocks: FloatArray, vector: FloatArray) -> FloatArray:
    """``blocks_s vector_s`` for every spot."""
    return np.asarray((blocks @ vector[:, :, None])[:, :, 0])


def _symmetric(blocks: FloatArray) -> FloatArray:
    """Take the rounding out of blocks that are symmetric."""
    return np.asarray(0.5 * (blocks + blocks.transpose(0, 2, 1)))
