"""Draws from the posterior of one gene by Pyro's NUTS.

``marginal_nuts``: the outer parameters by the exact gradient of their density, the field drawn
given each. The chains move in coordinates in which the Gaussian at the mode is standard, so that
the warm-up is short. ``nuts``: the whole program (``joint_density.py``), which shares nothing with
the other methods but the density; it starts from the GLM and from rough guesses of the variances.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm import fit_glm
from splisosm_pyro.fit.outer import Evaluation
from splisosm_pyro.maths.protocols import Kernel
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.chain_check import ChainCheck
from splisosm_pyro.posterior.chains import Chains, Slope, run_chains
from splisosm_pyro.posterior.fields import DrawnField
from splisosm_pyro.posterior.gene import Density, GeneDraws
from splisosm_pyro.posterior.glm_density import GLMDensity
from splisosm_pyro.posterior.joint_density import JointDensity
from splisosm_pyro.posterior.mode import OuterMode
from splisosm_pyro.posterior.noise import Noise
from splisosm_pyro.posterior.request import Request

# Transitions before the draws, unless the user says how many.
WARMUP = {"marginal_nuts": 250, "nuts": 600}
# Starts of ``nuts`` are spread by as much, uniformly, in every coordinate; the GLM's coefficients
# are taken within these bounds, since its maximum may be at infinity.
SPREAD = 1.0
LARGEST_START = 5.0


def marginal_nuts_draws(
    density: Density, mode: OuterMode, design: FloatArray, request: Request, noise: Noise
) -> GeneDraws:
    """Run NUTS over the outer density; ``design`` (S, F+1)."""
    root = np.asarray(np.linalg.cholesky(mode.covariance), dtype=np.float64)
    seeds = chain_seeds(request.chains, noise)
    starts = noise.numpy.standard_normal((request.chains, density.size))
    whitened = _whitened(density, mode, root)
    starts = np.where([[np.isfinite(whitened(z)[0])] for z in starts], starts, 0.0)
    warmup = _warmup(request, "marginal_nuts")
    chains = run_chains(whitened, starts, request.draws, warmup, seeds)
    u = mode.at.u + chains.flat @ root.T
    field = DrawnField(density.eta_along(u, mode.at, design, noise))
    return GeneDraws(u, field, chains.stats["lp"].ravel(), check_of(u, chains), chains.stats)


def _whitened(density: Density, mode: OuterMode, root: FloatArray) -> Slope:
    """Return the density in coordinates z, ``u = mode + root z``; every mode from the last one."""
    last: list[Evaluation[Any]] = [mode.at]

    def slope_at(z: FloatArray) -> tuple[float, FloatArray]:
        u = mode.at.u + root @ z
        value, slope, state = density.with_slope(u, last[0])
        if state is not None:
            last[0] = Evaluation(u, value, slope, state)
        return value, root.T @ slope

    return slope_at


def nuts_draws(
    joint: JointDensity, design: FloatArray, counts: FloatArray, request: Request, noise: Noise
) -> GeneDraws:
    """Run NUTS over the whole program; ``design`` (S, F+1), ``counts`` (S, P)."""
    space = joint.space
    B = np.clip(fit_glm(counts, design[:, :-1]).B, -LARGEST_START, LARGEST_START)
    ones = np.ones(space.n_components)
    centre = np.zeros(joint.size)
    centre[: space.size] = space.start(B, ones, 0.0 * ones)
    seeds = chain_seeds(request.chains, noise)
    starts = centre + noise.numpy.uniform(-SPREAD, SPREAD, (request.chains, joint.size))
    chains = run_chains(
        joint.with_slope, starts, request.draws, _warmup(request, "nuts"), seeds, space.size
    )
    u = chains.flat[:, : space.size]
    unknown = np.full(len(u), np.nan)
    eta = joint.eta(chains.flat, design)
    return GeneDraws(u, DrawnField(eta), unknown, check_of(u, chains), chains.stats)


def glm_nuts_draws(
    density: GLMDensity, design: FloatArray, counts: FloatArray, request: Request, noise: Noise
) -> GeneDraws:
    """Run NUTS over the coefficients of a GLM as they are."""
    B = np.clip(fit_glm(counts, design[:, :-1]).B, -LARGEST_START, LARGEST_START)
    seeds = chain_seeds(request.chains, noise)
    starts = B.ravel() + noise.numpy.uniform(-SPREAD, SPREAD, (request.chains, density.size))
    near = density.evaluate(B.ravel())

    def slope_at(u: FloatArray) -> tuple[float, FloatArray]:
        return density.with_slope(u, near)[:2]

    chains = run_chains(slope_at, starts, request.draws, _warmup(request, "nuts"), seeds)
    u = chains.flat
    field = DrawnField(density.eta_along(u, near, design, noise))
    return GeneDraws(u, field, chains.stats["lp"].ravel(), check_of(u, chains), chains.stats)


def nuts_of_gene(
    density: Density,
    kernel: Kernel | None,
    design: FloatArray,
    counts: FloatArray,
    request: Request,
    noise: Noise,
) -> GeneDraws:
    """Run NUTS over the whole program of a GLM or, with a kernel, of a GLMM."""
    if isinstance(density, GLMDensity) or kernel is None:
        assert isinstance(density, GLMDensity)
        return glm_nuts_draws(density, design, counts, request, noise)
    space = replace(density.space, residual=0.0)  # it is among the eigenvalues
    joint = JointDensity.of_gene(counts, design[:, :-1], kernel, space, density.priors)
    return nuts_draws(joint, design, counts, request, noise)


def check_of(u: FloatArray, chains: Chains) -> ChainCheck:
    """Return the figures of the outer parameters (C N, K) of the chains."""
    by_chain = u.reshape(*chains.positions.shape[:2], -1)
    return ChainCheck.of(by_chain, int(chains.stats["diverging"].sum()))


def chain_seeds(n_chains: int, noise: Noise) -> list[int]:
    """Return a seed for every chain: the first ones do not depend on how many follow."""
    return [int(seed) for seed in noise.numpy.integers(2**62, size=n_chains)]


def _warmup(request: Request, method: str) -> int:
    """Return the number of transitions before the draws."""
    return WARMUP[method] if request.warmup is None else request.warmup
