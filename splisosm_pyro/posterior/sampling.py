"""Draws from the posterior of one gene by Pyro's NUTS.

``marginal_nuts``: the outer parameters, the field integrated out; the field drawn given each. The
chains move by a cheap stand-in for their density (``stand_in.py``) and are corrected with the
density itself; where the stand-in is poor they move by the density and its exact gradient, in
coordinates in which the Gaussian at the mode is standard. ``nuts``: the whole program
(``joint_density.py``), which shares nothing with the other methods but the density; it starts from
the GLM and from rough guesses of the variances.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm import fit_glm
from splisosm_pyro.fit.outer import Evaluation
from splisosm_pyro.fit.smooth import MarginalState
from splisosm_pyro.maths.protocols import Kernel
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.chain_check import ChainCheck
from splisosm_pyro.posterior.chains import Chains, Exact, Slope, run_chains
from splisosm_pyro.posterior.fields import DrawnField
from splisosm_pyro.posterior.gene import STAGES, Density, GeneDraws
from splisosm_pyro.posterior.glm_density import GLMDensity
from splisosm_pyro.posterior.joint_density import JointDensity
from splisosm_pyro.posterior.mode import OuterMode
from splisosm_pyro.posterior.noise import Noise
from splisosm_pyro.posterior.outer_density import OuterDensity
from splisosm_pyro.posterior.proposal import WeightedPoints, weigh
from splisosm_pyro.posterior.request import Request
from splisosm_pyro.posterior.stand_in import StandIn
from splisosm_pyro.posterior.warp import Warp, WarpedDensity

# Transitions before the draws, unless the user says how many.
WARMUP = {"stand_in": 100, "marginal_nuts": 250, "nuts": 600}
# Of the run that comes before those of the stand-in, which adds to the points.
PILOT_CHAINS, PILOT_DRAWS, PILOT_WARMUP = 4, 30, 50
# How nearly right the sites of expectation propagation are at every draw: to 0.01 nats.
SITES = 0.03
# A stand-in that is off by more nats than this costs half of the transitions or more.
LARGEST_ERROR = 1.0
# It needs so many effective points an unknown.
LEAST_EFFECTIVE = 5.0
# Starts of ``nuts`` are spread by as much, uniformly, in every coordinate; the GLM's coefficients
# are taken within these bounds, since its maximum may be at infinity.
SPREAD = 1.0
LARGEST_START = 5.0


def marginal_nuts_draws(
    density: Density, mode: OuterMode, design: FloatArray, request: Request, noise: Noise
) -> GeneDraws:
    """Run NUTS over the outer density; ``design`` (S, F+1)."""
    seeds = chain_seeds(request.chains, noise)
    if isinstance(density, OuterDensity):
        warped = WarpedDensity(density.rough(SITES), Warp.of(density), mode.at)
        centre, covariance = warped.gaussian(mode.covariance)
        found = weigh(warped.with_slope, centre, covariance, STAGES, noise.numpy)
        if found.weights.effective >= LEAST_EFFECTIVE * density.size:
            walk = _Walk.after_pilot(warped, found, design, noise)
            if walk.stand_in.error <= LARGEST_ERROR:
                return walk.draws(request, seeds)
    return _gradient_draws(density, mode, design, request, seeds, noise)


class _Walk:
    """Chains that move by a stand-in; the field is drawn with every position evaluated."""

    def __init__(
        self, warped: WarpedDensity, found: WeightedPoints, design: FloatArray, noise: Noise
    ) -> None:
        self.warped, self.found, self.design, self.noise = warped, found, design, noise
        self.stand_in = StandIn.through(found, warped.density.space.n_variance)
        self.seen: list[tuple[FloatArray, float, MarginalState | None]] = []
        self.remembers = False
        self.usable = np.flatnonzero([state is not None for state in found.states])

    @classmethod
    def after_pilot(
        cls, warped: WarpedDensity, found: WeightedPoints, design: FloatArray, noise: Noise
    ) -> "_Walk":
        """Let the stand-in interpolate the points of a short run as well."""
        pilot = cls(warped, found, design, noise)
        pilot.remembers = True
        pilot.run(PILOT_DRAWS, PILOT_WARMUP, chain_seeds(PILOT_CHAINS, noise))
        points, values, states = zip(*pilot.seen, strict=True)
        kept = np.isfinite(values)
        more = WeightedPoints(
            np.concatenate([found.points, np.stack(points)[kept]]),
            np.append(found.log_density, np.array(values)[kept]),
            found.slopes,
            found.states + [state for state in states if state is not None],
            shares=np.append(found.shares, np.zeros(kept.sum())),
        )
        return cls(warped, more, design, noise)

    def exact(self, z: FloatArray) -> Exact:
        """Evaluate the density, from the field of the nearest point, and draw the field."""
        stand_in, density = self.stand_in, self.warped.density
        apart = ((stand_in.points[self.usable] - z) ** 2).sum(axis=1)
        near = self.found.states[self.usable[apart.argmin()]]
        x = stand_in.place(z)
        value, state = self.warped.log_density(x, near)
        if self.remembers:
            self.seen.append((x, value, state))
        if state is None:
            nowhere = (len(self.design), density.space.free.shape[1])
            return Exact(value, value, np.full(nowhere, np.nan))
        eta = density.eta_given(state, 1, self.design, self.noise)[:, :, 0]
        value += float(stand_in.log_det(z))
        return Exact(value, value - stand_in.with_slope(z)[0], eta)

    def run(self, n_draws: int, warmup: int, seeds: list[int]) -> Chains:
        """Run chains from points that are drawn by their weights."""
        shares = self.found.shares
        index = self.noise.numpy.choice(shares.size, size=len(seeds), p=shares)
        starts, slope = self.stand_in.points[index], self.stand_in.with_slope
        return run_chains(slope, starts, n_draws, warmup, seeds, correction=self.exact)

    def draws(self, request: Request, seeds: list[int]) -> GeneDraws:
        """Return the draws of the chains asked for."""
        chains = self.run(request.draws, _warmup(request, "stand_in"), seeds)
        if chains.kept is None or not np.isfinite(chains.stats["lp"]).all():
            raise ArithmeticError("a chain of marginal_nuts found no place with a density")
        field = DrawnField(np.moveaxis(chains.kept, 0, -1))
        u = self.warped.warp.to_u(self.stand_in.place(chains.flat))
        return GeneDraws(u, field, chains.stats["lp"].ravel(), check_of(u, chains), chains.stats)


def _gradient_draws(
    density: Density,
    mode: OuterMode,
    design: FloatArray,
    request: Request,
    seeds: list[int],
    noise: Noise,
) -> GeneDraws:
    """Move by the density and its exact gradient."""
    root = np.asarray(np.linalg.cholesky(mode.covariance), dtype=np.float64)
    starts = noise.numpy.standard_normal((request.chains, density.size))
    whitened = _whitened(density, mode, root)
    starts = np.where([[np.isfinite(whitened(z)[0])] for z in starts], starts, 0.0)
    chains = run_chains(whitened, starts, request.draws, _warmup(request, "marginal_nuts"), seeds)
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
