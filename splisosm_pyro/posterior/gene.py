"""Draws from the posterior of one gene, by the methods that need no chain.

``laplace``: the outer parameters from a Gaussian at the mode of their density in the unconstrained
space; given them the field from its Gaussian at that mode, moved to first order.
``nested_laplace``: weighted points of the outer density (``proposal.py``); given each the field at
its own mode, spot by spot beyond the Gaussian (``field.py``). Rue, Martino and Chopin (2009),
doi:10.1111/j.1467-9868.2008.00700.x.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.outer import Evaluation, best_start, differenced_hessian, search
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.chain_check import ChainCheck
from splisosm_pyro.posterior.glm_density import GLMDensity
from splisosm_pyro.posterior.noise import Noise
from splisosm_pyro.posterior.outer_density import OuterDensity
from splisosm_pyro.posterior.proposal import weigh
from splisosm_pyro.posterior.weights import Weights, smoothed_weights, systematic

Density = OuterDensity | GLMDensity
# Draws of 'laplace' at which the density is evaluated, for k-hat.
CHECKED = 64
# Most points of each stage of 'nested_laplace'.
STAGES = (128, 128, 128, 256)
# Where the curvature is less than this the Gaussian is as wide as if it were this.
LEAST_CURVATURE = 1e-2


@dataclass(frozen=True, eq=False)
class OuterMode:
    """The mode of an outer density, the covariance of its Gaussian, and how that was found."""

    at: Evaluation[Any]
    covariance: FloatArray
    min_eigenvalue: float
    converged: bool


@dataclass(frozen=True, eq=False)
class GeneDraws:
    """N draws of one gene.

    Attributes
    ----------
    u
        (N, K) outer parameters, unconstrained.
    eta
        (S, Q, N).
    log_density
        (N,) unnormalised log density of ``u``, NaN where it was not evaluated.
    check
        What says whether to trust them: the importance weights of the points at which the density
        was evaluated, or the chains' figures.
    stats
        (C, N / C) each: what a chain says of every transition, by ArviZ's names.
    """

    u: FloatArray
    eta: FloatArray
    log_density: FloatArray
    check: Weights | ChainCheck
    stats: dict[str, FloatArray] = field(default_factory=dict)


def outer_mode(density: Density, starts: list[FloatArray]) -> OuterMode:
    """Return the mode of the density, found from the best of ``starts``."""
    options = GLMMOptions.from_configs("marginal_newton")
    result = search(density, best_start(density, starts), options)
    hessian, _ = differenced_hessian(density, result.best, np.zeros(density.size, dtype=bool))
    values, vectors = np.linalg.eigh(hessian)
    covariance = (vectors / np.maximum(values, LEAST_CURVATURE)) @ vectors.T
    at = density.evaluate(result.best.u, result.best)
    return OuterMode(at, covariance, float(values[0]), result.converged)


def laplace_draws(
    density: Density, mode: OuterMode, design: FloatArray, n_draws: int, noise: Noise
) -> GeneDraws:
    """Draw from the Gaussian at the mode; ``design`` (S, F+1)."""
    root = np.linalg.cholesky(mode.covariance)
    z = noise.numpy.standard_normal((n_draws, density.size))
    u = mode.at.u + z @ root.T
    eta = density.eta_linear(mode.at, u, design, noise)
    log_density = np.full(n_draws, np.nan)
    checked = min(CHECKED, n_draws)
    log_density[:checked] = [density.log_density(row, mode.at)[0] for row in u[:checked]]
    log_ratio = log_density[:checked] + 0.5 * (z[:checked] ** 2).sum(axis=1)
    weights = smoothed_weights(log_ratio)
    return GeneDraws(u, eta, log_density, weights)


def nested_draws(
    density: Density, mode: OuterMode, design: FloatArray, n_draws: int, noise: Noise
) -> GeneDraws:
    """Draw from the weighted points of the outer density; ``design`` (S, F+1)."""
    found = weigh(
        lambda u: density.with_slope(u, mode.at), mode.at.u, mode.covariance, STAGES, noise.numpy
    )
    index = systematic(found.shares, n_draws, noise.numpy)
    eta = density.eta_at_points(found, index, design, noise)
    order = noise.numpy.permutation(n_draws)
    index, eta = index[order], eta[:, :, order]
    return GeneDraws(found.points[index], eta, found.log_density[index], found.weights)
