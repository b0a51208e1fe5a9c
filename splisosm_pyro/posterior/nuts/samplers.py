"""Draws from the posterior of one gene by Pyro's NUTS.

``marginal_nuts``: the outer parameters, the field integrated out; the field drawn given each. The
chains move by a cheap surrogate of their density (``surrogate_density.py``) and are corrected with
the density itself; where the surrogate is poor they move by the density and its exact gradient, in
coordinates in which the Gaussian at the mode is standard. ``nuts``: the whole program
(``density/joint.py``), which shares nothing with the other methods but the density; it starts from
the GLM and from rough guesses of the variances.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.joint import JointDensity
from splisosm_pyro.posterior.density.outer import OuterDensity
from splisosm_pyro.posterior.draws.arguments import Request
from splisosm_pyro.posterior.draws.chain_check import ChainCheck
from splisosm_pyro.posterior.draws.gene_draws import Density, GeneDraws
from splisosm_pyro.posterior.draws.laplace_and_nested import interpolated_draws
from splisosm_pyro.posterior.field.drawn_or_gaussian import DrawnField
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedCoefficients
from splisosm_pyro.posterior.interpolation.checked_draws import EvaluatedPoints
from splisosm_pyro.posterior.interpolation.interpolated_density import Interpolated
from splisosm_pyro.posterior.nuts.chains import Chains, Exact, Slope, run_chains
from splisosm_pyro.posterior.nuts.coordinates import Coordinates, NormalScores
from splisosm_pyro.posterior.nuts.surrogate_density import SurrogateDensity

# Transitions before the draws, unless the user says how many.
WARMUP = {"surrogate": 100, "marginal_nuts": 250, "nuts": 600}
# Draws by which the surrogate's coordinates are chosen.
SURROGATE_DRAWS = 4000
# How nearly right the sites of expectation propagation are at every draw: to 0.01 nats.
SITES = 0.03
# Where a smaller share of the surrogate's draws is effective, too few transitions would stand.
LEAST_SHARE = 0.5
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
        draws, _, found = interpolated_draws(density, mode, SURROGATE_DRAWS, noise)
        if found.weights.share >= LEAST_SHARE:
            return _SurrogateWalk(density, mode, found, draws, design, noise).draws(request, seeds)
    return _gradient_draws(density, mode, design, request, seeds, noise)


class _SurrogateWalk:
    """Chains that move by a surrogate; the field is drawn with every position evaluated."""

    def __init__(
        self,
        density: OuterDensity,
        mode: OuterMode,
        found: EvaluatedPoints[Interpolated],
        draws: FloatArray,  # (N, K) of what is between the points
        design: FloatArray,  # (S, F+1)
        noise: Noise,
    ) -> None:
        self.density, self.at = density.rough(SITES), mode.at
        self.design, self.noise = design, noise
        self.coordinates = Coordinates.of(
            AttenuatedCoefficients(density.space), NormalScores.of(density), draws
        )
        self.surrogate = SurrogateDensity.of(found.interpolant, self.coordinates, draws)
        self.starts = self.coordinates.from_u(draws)
        known = np.flatnonzero([state is not None for state in found.states])
        self.states = [found.states[i] for i in known]
        self.scale = draws.std(axis=0)
        self.points = found.points[known] / self.scale

    def exact(self, z: FloatArray) -> Exact:
        """Evaluate the density, from the field of the nearest point, and draw the field."""
        u = self.coordinates.to_u(z)
        nearest = ((self.points - u / self.scale) ** 2).sum(axis=1).argmin()
        value, state = self.density.log_density(u, replace(self.at, state=self.states[nearest]))
        if state is None or not self.coordinates.inside(z):
            nowhere = (len(self.design), self.density.space.free.shape[1])
            return Exact(-np.inf, -np.inf, np.full(nowhere, np.nan))
        eta = self.density.eta_given(state, 1, self.design, self.noise)[:, :, 0]
        ratio = value + self.coordinates.log_det(z) - self.surrogate.with_slope(z)[0]
        return Exact(value, ratio, eta)

    def draws(self, request: Request, seeds: list[int]) -> GeneDraws:
        """Run a chain from a draw of the surrogate for each seed."""
        starts = self.noise.numpy.choice(self.starts, size=len(seeds))
        chains = run_chains(
            self.surrogate.with_slope,
            starts,
            request.draws,
            _warmup(request, "surrogate"),
            seeds,
            correction=self.exact,
        )
        if chains.kept is None or not np.isfinite(chains.stats["lp"]).all():
            raise ArithmeticError("a chain of marginal_nuts found no place with a density")
        field = DrawnField(np.moveaxis(chains.kept, 0, -1))
        u = self.coordinates.to_u(chains.flat)
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
    joint: JointDensity, design: StandardDesign, counts: FloatArray, request: Request, noise: Noise
) -> GeneDraws:
    """Run NUTS over the whole program; ``counts`` (S, P), in the turn's order."""
    space = joint.space
    B = np.clip(fit_glm(counts, design.rows).B, -LARGEST_START, LARGEST_START)
    B = space.turn.ordered_to_turned(B)
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
    eta = joint.eta(chains.flat, design.with_intercept)
    return GeneDraws(u, DrawnField(eta), unknown, check_of(u, chains), chains.stats)


def glm_nuts_draws(
    density: GLMDensity, design: StandardDesign, counts: FloatArray, request: Request, noise: Noise
) -> GeneDraws:
    """Run NUTS over the coefficients of a GLM as they are."""
    B = np.clip(fit_glm(counts, design.rows).B, -LARGEST_START, LARGEST_START)
    seeds = chain_seeds(request.chains, noise)
    starts = B.ravel() + noise.numpy.uniform(-SPREAD, SPREAD, (request.chains, density.size))
    near = density.evaluate(B.ravel())

    def slope_at(u: FloatArray) -> tuple[float, FloatArray]:
        return density.with_slope(u, near)[:2]

    chains = run_chains(slope_at, starts, request.draws, _warmup(request, "nuts"), seeds)
    u = chains.flat
    field = DrawnField(density.eta_along(u, near, design.with_intercept, noise))
    return GeneDraws(u, field, chains.stats["lp"].ravel(), check_of(u, chains), chains.stats)


def nuts_of_gene(
    density: Density,
    kernel: Kernel | None,
    design: StandardDesign,
    counts: FloatArray,
    request: Request,
    noise: Noise,
) -> GeneDraws:
    """Run NUTS over the whole program of a GLM or, with a kernel, of a GLMM.

    ``counts`` are in the turn's order.
    """
    if isinstance(density, GLMDensity) or kernel is None:
        assert isinstance(density, GLMDensity)
        return glm_nuts_draws(density, design, counts, request, noise)
    space = replace(density.space, residual=0.0)  # it is among the eigenvalues
    joint = JointDensity.of_gene(counts, design.columns, kernel, space)
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
