"""Draws from the posterior of one gene, by the methods that need no chain.

``laplace``: the outer parameters from a Gaussian at the mode of their density in the unconstrained
space; given them the field from its Gaussian at that mode, moved to first order.
``nested_laplace``: weighted points of the outer density (``proposal.py``); given each the field at
its own mode, spot by spot beyond the Gaussian (``field.py``). Rue, Martino and Chopin (2009),
doi:10.1111/j.1467-9868.2008.00700.x.
"""

from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np

from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.outer import DIFFERENCE_STEP, best_start, search
from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.chain_check import ChainCheck
from splisosm_pyro.posterior.fields import DrawnField, Field
from splisosm_pyro.posterior.glm_density import GLMDensity
from splisosm_pyro.posterior.mode import OuterMode, one_sided_hessian
from splisosm_pyro.posterior.noise import Noise
from splisosm_pyro.posterior.outer_density import LEAST_CURVATURE, OuterDensity
from splisosm_pyro.posterior.proposal import weigh
from splisosm_pyro.posterior.weights import Weights, smoothed_weights, systematic

Density = OuterDensity | GLMDensity
# Draws of the Gaussian at which the density is evaluated, for k-hat: the fewest that have a tail,
# and more where it decides which method is used.
CHECKED, CHECKED_TO_CHOOSE = 25, 64
# Most points of each stage of 'nested_laplace'.
STAGES = (128, 128, 128, 256)
# The search for the mode ends so near to it, in nats; a Newton step does the rest.
SEARCH_TOLERANCE = 1e-6
# How nearly right the sites of expectation propagation have to be for that search, and for weights
# that are good to a hundredth of a nat.
SEARCH_SITES, WEIGHT_SITES = 3e-4, 0.1


@dataclass(frozen=True, eq=False)
class GeneDraws:
    """N draws of one gene.

    Attributes
    ----------
    u
        (N, K) outer parameters, unconstrained.
    field
        The logits at all spots.
    log_density
        (N,) unnormalised log density of ``u``, NaN where it was not evaluated.
    check
        What says whether to trust them: the importance weights of the points at which the density
        was evaluated, or the chains' figures.
    stats
        (C, N / C) each: what a chain says of every transition, by ArviZ's names.
    """

    u: FloatArray
    field: Field
    log_density: FloatArray
    check: Weights | ChainCheck
    stats: dict[str, FloatArray] = dataclass_field(default_factory=dict)

    @property
    def eta(self) -> FloatArray:
        """Joint draws of the logits, (S, Q, N)."""
        return self.field.eta


def outer_mode(density: Density, starts: list[FloatArray]) -> OuterMode:
    """Return the mode of the density, found from the best of ``starts``."""
    options = GLMMOptions.from_configs("marginal_newton", {"tol": SEARCH_TOLERANCE})
    rough = density.rough(SEARCH_SITES)
    result = search(rough, best_start(rough, starts), options)
    at = density.evaluate(result.best.u, result.best)
    hessian, steps = one_sided_hessian(density, at, DIFFERENCE_STEP)
    values, vectors = np.linalg.eigh(hessian)
    covariance = (vectors / np.maximum(values, LEAST_CURVATURE)) @ vectors.T
    least = float(values[0])
    mean = at.u + covariance @ at.gradient if least > LEAST_CURVATURE else at.u
    return OuterMode(at, steps, mean, covariance, least, result.converged)


def laplace_draws(
    density: Density,
    mode: OuterMode,
    design: FloatArray,  # (S, F+1)
    n_draws: int,
    noise: Noise,
    checked: int = CHECKED,
) -> GeneDraws:
    """Draw from the Gaussian at the mode, and evaluate the density at the first of the draws."""
    root = np.linalg.cholesky(mode.covariance)
    z = noise.numpy.standard_normal((n_draws, density.size))
    u = mode.mean + z @ root.T
    log_density = np.full(n_draws, np.nan)
    checked = min(checked, n_draws)
    rough = density.rough(WEIGHT_SITES)
    log_density[:checked] = [rough.log_density(row, mode.at)[0] for row in u[:checked]]
    log_ratio = log_density[:checked] + 0.5 * (z[:checked] ** 2).sum(axis=1)
    weights = smoothed_weights(log_ratio)
    field = density.field_linear(mode, u, design, noise)
    return GeneDraws(u, field, log_density, weights)


def nested_draws(
    density: Density, mode: OuterMode, design: FloatArray, n_draws: int, noise: Noise
) -> GeneDraws:
    """Draw from the weighted points of the outer density; ``design`` (S, F+1)."""
    found = weigh(
        lambda u: density.with_slope(u, mode.at), mode.mean, mode.covariance, STAGES, noise.numpy
    )
    index = systematic(found.shares, n_draws, noise.numpy)
    eta = density.eta_at_points(found, index, design, noise)
    order = noise.numpy.permutation(n_draws)
    index, eta = index[order], eta[:, :, order]
    field = DrawnField(eta)
    return GeneDraws(found.points[index], field, found.log_density[index], found.weights)
