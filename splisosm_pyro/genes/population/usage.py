"""A gene's usage under the population: a mean over (sigma, theta), at spots old and new."""

import numpy as np

from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import field_posterior
from splisosm_pyro.fit.marginal.usage import usage_at_spots
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.effects import GeneUnderPopulation

# Places of the surface that stand for the posterior: as many as hold this share of it, at most so
# many.
SHARE, MOST_PLACES = 0.95, 8


def usage_under(
    spec: GLMMSpec,
    counts: FloatArray,  # (S, P)
    gene: GeneUnderPopulation,
    *,
    errors: bool,
) -> tuple[FloatArray, FloatArray]:
    """Return posterior means of usage and their standard errors (S, P), sigma and theta averaged.

    Both are sums over the places of the surface that matter; at each the field, its nugget and the
    coefficients are as there. Without ``errors`` these are NaN. Costs a mode of the field a place,
    with errors two more for each coefficient.
    """
    spec = spec.of_gene(counts)
    free = gene.surface.free.astype(bool)
    problem = spec.problem(counts)
    weights, places = _places(gene)
    mean, square = np.zeros_like(counts), np.zeros_like(counts)
    near = None
    for weight, (log_sigma, logit, coefficients, covariance) in zip(weights, places, strict=True):
        objective = spec.objective(problem, coefficients, free, np.ones(1))
        assert isinstance(objective, MarginalObjective)
        space = objective.space
        u = space.start(coefficients, np.exp([log_sigma]), np.array([logit]))
        near = objective.evaluate(u, near)
        state, design = near.state, spec.design.with_intercept
        usage = usage_at_spots(problem, state.mode, state.variances, design)
        mean += weight * usage.mean
        square += weight * usage.mean**2
        if errors:
            outer = np.zeros((space.size, space.size))
            outer[2:, 2:] = covariance
            moved = field_posterior(objective, near, design).outer_covariance(outer)
            square += weight * usage.standard_errors(spec.turn.covariance(moved)) ** 2
    if not errors:
        return mean, np.full_like(mean, np.nan)
    error = np.sqrt(np.maximum(square - mean**2, 0.0))
    error[spec.unknown(spec.glm(counts)).moves_usage(spec.design.with_intercept)] = np.inf
    return mean, error


def _places(
    gene: GeneUnderPopulation,
) -> tuple[FloatArray, list[tuple[float, float, FloatArray, FloatArray]]]:
    """Return weights that sum to 1, and the places: log sigma, theta_logit, B and its covariance.

    Neighbours follow each other, so that a mode is found from one nearby.
    """
    weights = gene.place_weights
    order = np.argsort(weights, axis=None)[::-1]
    enough = int(np.searchsorted(np.cumsum(weights.ravel()[order]), SHARE)) + 1
    kept = np.sort(order[: min(enough, MOST_PLACES)])
    chosen = weights.ravel()[kept]
    at = [gene.place(*np.unravel_index(one, weights.shape)) for one in kept]
    return chosen / chosen.sum(), at
