"""Draws of the linear predictor given the outer parameters.

At a mode the smooth part has the Gaussian posterior ``w ~ N(w^, H^-1)``. With ``w0 ~ N(0, V)`` and
``z ~ N(0, I)``, both independent, ``w0 + H^-1 (G^1/2 z - G w0)`` is a draw of ``N(0, H^-1)``: one
solve with a factor that is there already. Given it, with ``x = offset + D^1/2 w``,

    eta | x ~ N(x + T h'(x), T - T A T)   at an occupied spot,   N(x, T)   at an empty one,

where the mean is taken to first order about the mode. A few steps of an independence sampler turn
that into draws from the exact density at the spot, ``exp(l(eta)) N(eta; x, T)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from splisosm_pyro.fit.latent import LatentProblem
from splisosm_pyro.fit.smooth import MarginalState
from splisosm_pyro.fit.uncertainty import given_covariance
from splisosm_pyro.maths.low_rank import LowRankKernel
from splisosm_pyro.maths.protocols import Kernel
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.noise import Noise

SingleArray = npt.NDArray[np.float32]
# Up to so many logits at occupied spots their covariance is formed and factorised whole.
WHOLE = 500
# Added to its diagonal, as a share of the largest entry, so that it has a root.
JITTER = 1e-12
# Variances of the spots' proposals below this share of T are rounding.
LEAST_SPREAD = 1e-12


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
    """

    eta: FloatArray
    x: FloatArray
    centre: FloatArray
    root: FloatArray

    def moved(self, by: FloatArray, occupied: npt.NDArray[np.intp]) -> "FieldDraws":
        """Return the draws about means that are moved (S, Q, N); ``x`` moves as ``eta`` does."""
        there = by[occupied]
        return FieldDraws(self.eta + by, self.x + there, self.centre + there, self.root)


def smooth_draws(kernel: Kernel, shape: tuple[int, ...], generator: torch.Generator) -> FloatArray:
    """Draws of ``N(0, V_smooth)``, (*shape, S)."""
    if kernel.residual == 0.0:
        return np.asarray(kernel.sample(shape, generator).numpy())
    if not isinstance(kernel, LowRankKernel):
        raise TypeError(f"no draws of the smooth part of a {type(kernel).__name__}")
    return normals((*shape, kernel.basis.shape[1]), generator) @ kernel.basis.T


def gaussian_draws(
    problem: LatentProblem,
    state: MarginalState,
    design: FloatArray,  # (S, F+1)
    n_draws: int,
    generator: torch.Generator,
) -> FieldDraws:
    """Draw ``eta`` given the outer parameters of a factorised mode, every part Gaussian."""
    mode, kernel = state.mode, problem.kernel
    occupied, nugget, root = problem.gene.occupied, state.variances.nugget, mode.root
    before = smooth_draws(kernel, (nugget.size, n_draws), generator)  # (Q, N, S)
    before = np.ascontiguousarray(before.transpose(2, 0, 1))  # (S, Q, N)
    precision = mode.linearisation.precision
    noise = normals((occupied.size, nugget.size, n_draws), generator)
    push = symmetric_root(precision) @ noise - precision @ before[occupied]
    d_alpha = push - precision @ mode.linearisation.factor.solve(push)
    pulled = kernel.smooth(d_alpha.reshape(occupied.size, -1), occupied).reshape(before.shape)
    d_smooth = root[:, None] * (before + pulled)
    image = nugget[:, None] * mode.terms.neg_hessian  # T A
    there = np.broadcast_to(np.diag(np.sqrt(nugget)), (kernel.n_spots, *image.shape[1:])).copy()
    there[occupied] = symmetric_root(np.diag(nugget) - image * nugget)
    mean = eta_mean(problem, state, design)
    d_x = d_smooth[occupied]
    d_smooth[occupied] -= image @ d_x
    centre = mean[:, :, None] + d_smooth
    eta = centre + there @ normals(d_smooth.shape, generator)
    return FieldDraws(eta, mode.terms.x[:, :, None] + d_x, centre[occupied], there[occupied])


def refine(
    problem: LatentProblem,
    nugget: FloatArray,
    draws: FieldDraws,
    n_steps: int,
    generator: torch.Generator,
) -> FloatArray:  # (S, Q, N)
    """Move ``eta`` at the occupied spots towards its exact density given the smooth part.

    ``n_steps`` of an independence Metropolis sampler whose proposal is the spot's Gaussian. Logits
    without nugget stay.
    """
    counts = problem.gene.counts[:, :, None]
    noisy = nugget > 0
    covariance = draws.root @ draws.root + LEAST_SPREAD * np.diag(nugget + (~noisy))
    inverse = np.linalg.inv(covariance)
    weight = np.divide(1.0, nugget, out=np.zeros_like(nugget), where=noisy)[:, None]

    def log_ratio(eta: FloatArray) -> FloatArray:  # (n, N)
        top = np.maximum(eta.max(axis=1), 0.0)
        norm = top + np.log(np.exp(-top) + np.exp(eta - top[:, None]).sum(axis=1))
        log_lik = (counts[:, :-1] * eta).sum(axis=1) - counts.sum(axis=1) * norm
        apart = eta - draws.centre
        proposed = (apart * (inverse @ apart)).sum(axis=1)
        return np.asarray(
            log_lik - 0.5 * (weight * (eta - draws.x) ** 2).sum(axis=1) + 0.5 * proposed
        )

    out = draws.eta.copy()
    now = out[problem.gene.occupied]
    here = log_ratio(now)
    for _ in range(n_steps):
        new = draws.centre + draws.root @ normals(now.shape, generator)
        there = log_ratio(new)
        chance = torch.rand(here.shape, generator=generator, dtype=torch.float64).numpy()
        accepted = np.log(chance) < there - here
        now = np.where(accepted[:, None], new, now)
        here = np.where(accepted, there, here)
    out[problem.gene.occupied] = now
    return out


@dataclass(frozen=True, eq=False)
class FieldAtMode:
    """The field about its mean at one mode; ``state`` returns that mode, its factor alive."""

    problem: LatentProblem
    state: Callable[[], MarginalState]
    design: FloatArray  # (S, F+1)

    def covariance(self) -> FloatArray:  # (S, Q, Q)
        """Return the blocks of its covariance."""
        return given_covariance(self.problem, self.state())

    def draws(self, n_draws: int, noise: Noise) -> FloatArray:  # (S, Q, n_draws)
        """Draw at all spots."""
        state = self.state()
        drawn = gaussian_draws(self.problem, state, self.design, n_draws, noise.torch)
        return drawn.eta - eta_mean(self.problem, state, self.design)[:, :, None]

    def occupied_draws(self, n_draws: int, noise: Noise) -> SingleArray:  # (n, Q, n_draws)
        """Draw at the occupied spots, from their whole covariance or by solves with the factor."""
        state = self.state()
        shape = (*state.mode.w.shape, n_draws)
        shrink, spread = _spot_parts(state)
        if shape[0] * shape[1] > WHOLE:
            factor = state.mode.linearisation.factor
            z = normals((factor.n_noise, n_draws), noise.torch)
            smooth = shrink @ (state.mode.root[:, None] * factor.sample(z))
            white = symmetric_root(spread).astype(np.float32) @ singles(shape, noise.torch)
            return np.asarray(smooth + white, dtype=np.float32)
        root = np.linalg.cholesky(_occupied_covariance(state)).astype(np.float32)
        return np.asarray(root @ singles((len(root), n_draws), noise.torch)).reshape(shape)


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


def symmetric_root(blocks: FloatArray) -> FloatArray:
    """Return the symmetric square roots of positive semi-definite blocks (n, Q, Q)."""
    if blocks.shape[1] == 1:
        return np.asarray(np.sqrt(np.maximum(blocks, 0.0)))
    values, vectors = np.linalg.eigh(0.5 * (blocks + blocks.transpose(0, 2, 1)))
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.asarray(scaled @ vectors.transpose(0, 2, 1))


def normals(shape: tuple[int, ...], generator: torch.Generator) -> FloatArray:
    """Draw standard normals, of single precision since those cost a seventh."""
    return singles(shape, generator).astype(np.float64)


def singles(shape: tuple[int, ...], generator: torch.Generator) -> SingleArray:
    """Draw standard normals in single precision."""
    return np.asarray(torch.randn(shape, generator=generator, dtype=torch.float32).numpy())
