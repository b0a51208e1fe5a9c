"""Draws of the linear predictor given the outer parameters.

At a mode the smooth part has the Gaussian posterior ``w ~ N(w^, H^-1)``. A sparse factor of H makes
draws of white noise by half a solve. For others, with ``w0 ~ N(0, V)`` and ``z ~ N(0, I)``, both
independent, ``w0 + H^-1 (G^1/2 z - G w0)`` is a draw of ``N(0, H^-1)``: one solve with a factor
that is there already. Given it, with ``x = offset + D^1/2 w``,

    eta | x ~ N(x + T h'(x), T - T A T)   at an occupied spot,   N(x, T)   at an empty one,

where the mean is taken to first order about the mode; ``spot_sampler.py`` goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import strmm

from splisosm_pyro.fit.glmm.uncertainty import given_covariance
from splisosm_pyro.fit.marginal.conditional_mode import Mode
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.covariance.low_rank import LowRankKernel
from splisosm_pyro.maths.covariance.sparse import SparseKernel
from splisosm_pyro.maths.covariance.sparse_factor import SparsePosterior
from splisosm_pyro.maths.numeric.arrays import FloatArray, SingleArray
from splisosm_pyro.maths.numeric.symmetric_root import symmetric_root
from splisosm_pyro.posterior.field.noise import Noise

# Up to so many logits at occupied spots their covariance is formed and factorised whole.
WHOLE = 800
# Added to its diagonal, as a share of the largest entry, so that it has a root.
JITTER = 1e-12


@dataclass(frozen=True, eq=False)
class FieldDraws:
    """``eta`` at all spots (S, Q, N) and, at the occupied ones, what it was drawn from.

    Attributes
    ----------
    eta
        Draws with the spots' Gaussian in the place of their density.
    x, centre
        (n, Q, N) the smooth part with the offset, and the mean of ``eta`` given it.
    root
        (n, Q, Q) square root of the covariance of ``eta`` given ``x``.
    white
        (n, Q, N) the noise: ``eta = centre + root white``.
    """

    eta: FloatArray
    x: FloatArray
    centre: FloatArray
    root: FloatArray
    white: SingleArray


def smooth_draws(
    kernel: Kernel, n_logits: int, n_draws: int, generator: torch.Generator
) -> FloatArray:  # (S, Q, N)
    """Draws of ``N(0, V_smooth)``."""
    size, shape = n_logits * n_draws, (kernel.n_spots, n_logits, n_draws)
    if isinstance(kernel, SparseKernel):
        return kernel.coloured(normals((kernel.n_spots, size), generator)).reshape(shape)
    if isinstance(kernel, LowRankKernel):
        noise = normals((kernel.basis.shape[1], size), generator)
        return np.asarray(kernel.basis @ noise).reshape(shape)
    if kernel.residual == 0.0:
        draws = kernel.sample((n_logits, n_draws), generator).numpy()
        return np.ascontiguousarray(draws.transpose(2, 0, 1))
    raise TypeError(f"no draws of the smooth part of a {type(kernel).__name__}")


def _posterior_draws(
    problem: LatentProblem, mode: Mode, n_draws: int, generator: torch.Generator
) -> FloatArray:  # (S, Q, N)
    """Draws of ``N(0, H^-1)`` at all spots, by the factor alone where it knows them all."""
    factor, precision = mode.linearisation.factor, mode.linearisation.precision
    if isinstance(factor, SparsePosterior):
        return factor.sample_everywhere(normals((factor.n_noise, n_draws), generator))
    kernel, occupied = problem.kernel, problem.gene.occupied
    before = smooth_draws(kernel, precision.shape[1], n_draws, generator)
    noise = normals((*precision.shape[:2], n_draws), generator)
    push = symmetric_root(precision) @ noise - precision @ before[occupied]
    d_alpha = push - precision @ factor.solve(push)
    before += kernel.smooth(d_alpha.reshape(occupied.size, -1), occupied).reshape(before.shape)
    return before


def gaussian_draws(
    problem: LatentProblem,
    state: MarginalState,
    design: FloatArray,  # (S, F+1)
    n_draws: int,
    generator: torch.Generator,
    moved: FloatArray | None = None,  # (S, Q, n_draws)
) -> FieldDraws:
    """Draw ``eta`` given the outer parameters of a factorised mode, every part Gaussian.

    By ``moved`` the mean is off at every draw, that of the smooth part as well.
    """
    mode, occupied, nugget = state.mode, problem.gene.occupied, state.variances.nugget
    eta = _posterior_draws(problem, mode, n_draws, generator)
    eta *= mode.root[:, None]
    d_x = eta[occupied]
    x = mode.terms.x[:, :, None] + d_x
    if moved is not None:
        x += moved[occupied]
        eta += moved
    eta += eta_mean(problem, state, design)[:, :, None]
    image = nugget[:, None] * mode.terms.neg_hessian  # T A
    centre = eta[occupied] - image @ d_x
    root = symmetric_root(np.diag(nugget) - image * nugget)
    white = singles(eta.shape, generator)
    eta += np.sqrt(nugget)[:, None] * white
    here = white[occupied]
    eta[occupied] = centre + root @ here
    return FieldDraws(eta, x, centre, root, here)


@dataclass(frozen=True, eq=False)
class FieldAtMode:
    """The field about its mean at one mode."""

    problem: LatentProblem
    state: MarginalState
    design: FloatArray  # (S, F+1)

    def covariance(self) -> FloatArray:  # (S, Q, Q)
        """Return the blocks of its covariance."""
        return given_covariance(self.problem, self.state)

    def draws(self, n_draws: int, noise: Noise) -> FloatArray:  # (S, Q, n_draws)
        """Draw at all spots."""
        state = self.state
        drawn = gaussian_draws(self.problem, state, self.design, n_draws, noise.torch)
        return drawn.eta - eta_mean(self.problem, state, self.design)[:, :, None]

    def occupied_draws(self, n_draws: int, noise: Noise) -> SingleArray:  # (n, Q, n_draws)
        """Draw at the occupied spots, from their whole covariance or by solves with the factor."""
        state = self.state
        shape = (*state.mode.w.shape, n_draws)
        shrink, spread = _spot_parts(state)
        if shape[0] * shape[1] > WHOLE:
            factor = state.mode.linearisation.factor
            z = normals((factor.n_noise, n_draws), noise.torch)
            smooth = shrink @ (state.mode.root[:, None] * factor.sample(z))
            white = symmetric_root(spread).astype(np.float32) @ singles(shape, noise.torch)
            return np.asarray(smooth + white, dtype=np.float32)
        lower = np.linalg.cholesky(_occupied_covariance(state)).astype(np.float32)
        drawn = singles((len(lower), n_draws), noise.torch)
        drawn = strmm(1.0, lower.T, drawn.T, side=1, overwrite_b=True).T  # lower @ drawn
        return np.asarray(drawn, dtype=np.float32).reshape(shape)


def _spot_parts(state: MarginalState) -> tuple[FloatArray, FloatArray]:
    """Return ``I - T A``, by which ``eta`` follows ``x``, and ``T - T A T``, both (n, Q, Q)."""
    nugget = state.variances.nugget
    image = nugget[:, None] * state.mode.terms.neg_hessian
    return np.eye(nugget.size) - image, np.diag(nugget) - image * nugget


def _occupied_covariance(state: MarginalState) -> FloatArray:  # (n Q, n Q)
    """Return the covariance of ``eta`` at all occupied spots, the outer parameters held."""
    shrink, spread = _spot_parts(state)
    n_occupied, n_logits = state.mode.w.shape
    unit = np.eye(n_occupied * n_logits).reshape(n_occupied, n_logits, -1)
    left = shrink * state.mode.root
    half = left @ state.mode.linearisation.factor.solve(unit)  # (n, Q, n Q)
    turned = half.reshape(n_occupied * n_logits, -1).T.reshape(half.shape)
    whole = (left @ turned).reshape(n_occupied * n_logits, -1)
    each = np.arange(n_occupied)
    whole.reshape(n_occupied, n_logits, n_occupied, n_logits)[each, :, each] += spread
    whole[np.diag_indices_from(whole)] += JITTER * whole.diagonal().max(initial=0.0)
    return np.asarray(whole)


def eta_mean(problem: LatentProblem, state: MarginalState, design: FloatArray) -> FloatArray:
    """Return the predictor at the mode at all spots (S, Q), for the design with intercept."""
    return np.asarray(eta_means(problem, [state], design)[0])


def eta_means(
    problem: LatentProblem, states: Sequence[MarginalState], design: FloatArray
) -> FloatArray:  # (M, S, Q)
    """Return ``eta_mean`` of M modes, by one product with the covariance."""
    occupied = problem.gene.occupied
    alpha = np.concatenate([state.mode.alpha for state in states], axis=1)
    smooth = problem.kernel.smooth(alpha, occupied).reshape(len(design), len(states), -1)
    out = np.empty((len(states), *smooth.shape[::2]))
    for m, state in enumerate(states):
        mode = state.mode
        out[m] = design @ mode.coefficients + mode.root * smooth[:, m]
        out[m, occupied] += state.variances.nugget * mode.terms.score
    return out


def normals(shape: tuple[int, ...], generator: torch.Generator) -> FloatArray:
    """Draw standard normals, of single precision since those cost a seventh."""
    return singles(shape, generator).astype(np.float64)


def singles(shape: tuple[int, ...], generator: torch.Generator) -> SingleArray:
    """Draw standard normals in single precision."""
    return np.asarray(torch.randn(shape, generator=generator, dtype=torch.float32).numpy())
