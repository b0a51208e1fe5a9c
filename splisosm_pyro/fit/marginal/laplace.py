"""The log marginal likelihood of one gene: value and exact gradient at a conditional mode.

For either treatment of the nugget (``maths/spot/terms.py``), with ``H`` the posterior precision of
the smooth part ``w``,

    log_marginal = sum_s (h_s + c_s) - 1/2 w' K w - 1/2 log|I + V G| + log multinomial coefficients.

The gradient differentiates the value through the mode as well (the implicit part), so it is the
gradient of what is computed.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.marginal.conditional_mode import Mode, point_at
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.terms import SpotDerivatives

# The derivative foresees the mode over changes of log variances up to FORESEEABLE; where psi falls
# by more than TOLERATED_FALL nats all the same, it was too long a way.
FORESEEABLE = 2.0
TOLERATED_FALL = 1.0


@dataclass(frozen=True)
class MarginalGradient:
    """Gradient of ``log_marginal`` at a mode, and the spot derivatives it was made of."""

    offset: FloatArray  # (n, Q) in X B
    coefficients: FloatArray  # (F+1, Q)
    log_spatial: FloatArray  # (Q,) D d/dD
    nugget: FloatArray  # (Q,) d/dT
    spots: SpotDerivatives | None  # what the mode's own derivative needs; None without a mode


def log_marginal(problem: LatentProblem, mode: Mode) -> float:
    """Return the Laplace value at a factorised mode, in nats."""
    log_det = mode.linearisation.factor.log_det
    return mode.psi + mode.terms.correction - 0.5 * log_det + problem.gene.log_coefficient


def marginal_gradient(problem: LatentProblem, mode: Mode) -> MarginalGradient:
    """Return the exact gradient at a factorised mode; costs the inverse's blocks and one solve."""
    linear, terms, root = mode.linearisation, mode.terms, mode.root
    blocks = linear.factor.blocks()
    spots = problem.spots.derivatives(terms, root[:, None] * blocks * root)
    lam = root * linear.factor.solve(root * spots.phi_x)
    kappa = spots.phi_x - np.einsum("sab,sb->sa", terms.neg_hessian, lam)
    smooth = root * mode.w
    by_spatial = 0.5 * ((terms.score - kappa) * smooth - lam * terms.score)
    by_spatial -= 0.5 * np.einsum("sab,sba->sa", blocks, linear.precision)
    by_nugget = spots.value_nugget - spots.phi_nugget
    by_nugget = by_nugget - np.einsum("sk,skq->sq", lam, spots.score_nugget)
    offset = terms.score - kappa
    return MarginalGradient(
        offset,
        problem.gene.design.T @ offset,
        by_spatial.sum(axis=0),
        by_nugget.sum(axis=0),
        spots,
    )


def mode_push(
    mode: Mode,
    spots: SpotDerivatives,
    offset: FloatArray,  # (n, Q) change of X B
    d_log_spatial: FloatArray,  # (Q,)
    d_nugget: FloatArray,  # (Q,)
) -> FloatArray:  # (n, Q)
    """Return ``b`` such that the mode moves by ``dw = H^-1 b`` to first order."""
    terms, root = mode.terms, mode.root
    shift = offset + 0.5 * root * mode.w * d_log_spatial
    push = 0.5 * terms.score * d_log_spatial + spots.score_nugget @ d_nugget
    return np.asarray(root * (push - np.einsum("sab,sb->sa", terms.neg_hessian, shift)))


def follow_mode(
    problem: LatentProblem,
    mode: Mode,
    gradient: MarginalGradient,
    coefficients: FloatArray,
    old: Variances,
    new: Variances,
) -> Mode:
    """Return a start for the mode at new outer parameters: the old one moved by its derivative."""
    linear, w, alpha = mode.linear, mode.w, mode.alpha
    d_log = np.log(new.spatial / old.spatial)
    spots = gradient.spots
    if linear is not None and spots is not None and np.abs(d_log).max() <= FORESEEABLE:
        offset = problem.gene.design @ (coefficients - mode.coefficients)
        push = mode_push(mode, spots, offset, d_log, new.nugget - old.nugget)
        d_w = linear.factor.solve(push)
        d_alpha = push - np.einsum("sab,sb->sa", linear.precision, d_w)
        moved = point_at(
            problem, coefficients, w + d_w, alpha + d_alpha, new.spatial, new.nugget, linear
        )
        if moved.psi >= mode.psi - TOLERATED_FALL:
            return moved
    return point_at(problem, coefficients, w, alpha, new.spatial, new.nugget)
