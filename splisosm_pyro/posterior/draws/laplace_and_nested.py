"""Draws from the posterior of one gene, by the methods that need no chain.

``laplace``: the outer parameters from a Gaussian at the mode of their density in the unconstrained
space; given them the field from its Gaussian at that mode, moved to first order.
``nested_laplace``: the outer density interpolated between points (``gaussian_process.py``), or
weighted points of it where that fails its check (``importance_sampling.py``); the field given each
draw from the mode at a point nearby (``nearest_modes.py``), spot by spot beyond the Gaussian
(``spot_sampler.py``). Rue, Martino
and Chopin (2009), doi:10.1111/j.1467-9868.2008.00700.x.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.search.quasi_newton import DIFFERENCE_STEP, SearchResult, best_start, search
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import systematic
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode, one_sided_hessian
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.outer import LEAST_CURVATURE
from splisosm_pyro.posterior.draws.gene_draws import Density, GeneDraws
from splisosm_pyro.posterior.field.drawn_or_gaussian import DrawnField
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedDensity
from splisosm_pyro.posterior.interpolation.checked_draws import EvaluatedPoints, checked_draws
from splisosm_pyro.posterior.interpolation.importance_sampling import StudentT, weigh
from splisosm_pyro.posterior.interpolation.interpolated_density import Interpolated, weighed

# The search for the mode ends so near to it, in nats; a Newton step does the rest.
SEARCH_TOLERANCE = 1e-5
# In more dimensions, and where the interpolation fails its check, points are weighted and drawn
# from again; most points of each stage of that.
MOST_INTERPOLATED = 8
STAGES = (128, 128, 128, 256)
# How nearly right the sites of expectation propagation have to be for that search.
SEARCH_SITES = 3e-4
# A density is interpolated about a Gaussian wider than the one at its mode: draws that are too wide
# are found out and mended, what is too narrow has none where it matters.
WIDER = 1.3
# The same for gradients, right to a hundredth of an sd.
SLOPE_SITES = 5e-3


def outer_mode(density: Density, starts: list[FloatArray]) -> OuterMode:
    """Return the mode of the density, found from the best of ``starts``."""
    options = GLMMOptions.from_configs("marginal_newton", {"tol": SEARCH_TOLERANCE})
    result = _searched(density.rough(SEARCH_SITES), starts, options)
    at = density.evaluate(result.best.u, result.best)
    hessian, steps = one_sided_hessian(density, at, DIFFERENCE_STEP)
    values, vectors = np.linalg.eigh(hessian)
    covariance = (vectors / np.maximum(values, LEAST_CURVATURE)) @ vectors.T
    least = float(values[0])
    mean = at.u + covariance @ at.gradient if least > LEAST_CURVATURE else at.u
    return OuterMode(at, steps, mean, covariance, least, result.converged)


def _searched(rough: Density, starts: list[FloatArray], options: GLMMOptions) -> SearchResult[Any]:
    """Climb to the mode; that of a GLMM in coordinates in which it is nearly a Gaussian's."""
    if isinstance(rough, GLMDensity):
        return search(rough, best_start(rough, starts), options)
    climbed = AttenuatedDensity(rough)
    to_y, to_u = climbed.coordinates.from_u, climbed.coordinates.to_u
    result = search(climbed, best_start(climbed, [to_y(u) for u in starts]), options)
    return replace(result, best=replace(result.best, u=to_u(result.best.u)))


def laplace_draws(
    density: Density,
    mode: OuterMode,
    design: FloatArray,  # (S, F+1)
    n_draws: int,
    noise: Noise,
) -> GeneDraws:
    """Draw from the Gaussian at the mode, and weigh the draws by the density interpolated."""
    root = np.linalg.cholesky(mode.covariance)
    z = noise.numpy.standard_normal((n_draws, density.size))
    u = mode.mean + z @ root.T
    log_density, weights = weighed(density.rough(SLOPE_SITES), mode, u, -0.5 * (z**2).sum(axis=1))
    field = density.field_linear(mode, u, design, noise)
    return GeneDraws(u, field, log_density, weights)


def interpolated_draws(
    density: Density, mode: OuterMode, n_draws: int, noise: Noise
) -> tuple[FloatArray, FloatArray, EvaluatedPoints[Interpolated]]:
    """Draw from the outer density interpolated; see ``checked_draws``."""
    rough, box = density.rough(SLOPE_SITES), density.space.box()
    root = np.asarray(np.linalg.cholesky(mode.covariance), dtype=np.float64)
    return checked_draws(
        lambda u: rough.with_slope(u, mode.at),
        partial(Interpolated.through, rough, mode, width=WIDER, fading=True),
        StudentT(mode.mean, root),
        (box.lower, box.upper),
        n_draws,
        noise.numpy,
    )


def nested_draws(
    density: Density, mode: OuterMode, design: FloatArray, n_draws: int, noise: Noise
) -> GeneDraws:
    """Draw from the outer density, interpolated if it can be; ``design`` (S, F+1)."""
    rough = density.rough(SLOPE_SITES)
    if density.size <= MOST_INTERPOLATED:
        u, log_density, found = interpolated_draws(density, mode, n_draws, noise)
        if found.usable:
            places = (found.points, found.values, found.states)
            eta = rough.eta_near(*places, mode, u, design, noise)
            return GeneDraws(u, DrawnField(eta), log_density, found.weights)
    weighted = weigh(
        lambda u: rough.with_slope(u, mode.at), mode.mean, mode.covariance, STAGES, noise.numpy
    )
    index = noise.numpy.permutation(systematic(weighted.shares, n_draws, noise.numpy))
    u, log_density = weighted.points[index], weighted.log_density[index]
    places = (weighted.points, weighted.log_density, weighted.states)
    eta = rough.eta_near(*places, mode, u, design, noise)
    return GeneDraws(u, DrawnField(eta), log_density, weighted.weights)
