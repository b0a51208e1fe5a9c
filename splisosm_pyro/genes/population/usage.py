"""A gene's usage under the population: a mean over (sigma, theta), at spots old and new."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import field_posterior
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.marginal.usage import usage_at_spots
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.effects import GeneUnderPopulation

# Places of the surface that stand for the posterior: as many as hold this share of it, at most so
# many.
SHARE, MOST_PLACES = 0.95, 8


@dataclass(frozen=True, eq=False)
class PlaceUnder:
    """A place of the posterior: its weight, the objective and the mode there.

    ``covariance`` (K, K) is that of the coefficients that move.
    """

    weight: float
    objective: MarginalObjective
    at: Evaluation[MarginalState]
    covariance: FloatArray


def places_under(
    spec: GLMMSpec,
    counts: FloatArray,  # (S, P)
    gene: GeneUnderPopulation,
) -> Iterator[PlaceUnder]:
    """Yield the places that stand for a gene's posterior; ``spec`` is of the gene.

    Each mode is found from that of the place before.
    """
    free, problem = gene.surface.free.astype(bool), spec.problem(counts)
    near = None
    for weight, (log_sigma, logit, coefficients, covariance) in _places(gene):
        objective = spec.objective(problem, coefficients, free, np.ones(1))
        assert isinstance(objective, MarginalObjective)
        u = objective.space.start(coefficients, np.exp([log_sigma]), np.array([logit]))
        near = objective.evaluate(u, near)
        yield PlaceUnder(weight, objective, near, covariance)


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
    spec, design = spec.of_gene(counts), spec.design.with_intercept
    mean, square = np.zeros_like(counts), np.zeros_like(counts)
    for place in places_under(spec, counts, gene):
        problem, state = place.objective.problem, place.at.state
        usage = usage_at_spots(problem, state.mode, state.variances, design)
        mean += place.weight * usage.mean
        square += place.weight * usage.mean**2
        if errors:
            outer = np.zeros((place.at.u.size, place.at.u.size))
            outer[2:, 2:] = place.covariance
            moved = field_posterior(place.objective, place.at, design).outer_covariance(outer)
            square += place.weight * usage.standard_errors(spec.turn.covariance(moved)) ** 2
    if not errors:
        return mean, np.full_like(mean, np.nan)
    error = np.sqrt(np.maximum(square - mean**2, 0.0))
    error[spec.unknown(spec.glm(counts)).moves_usage(design)] = np.inf
    return mean, error


def _places(
    gene: GeneUnderPopulation,
) -> list[tuple[float, tuple[float, float, FloatArray, FloatArray]]]:
    """Return weights that sum to 1, and log sigma, theta_logit, B and its covariance at each.

    Neighbours follow each other.
    """
    weights = gene.place_weights
    order = np.argsort(weights, axis=None)[::-1]
    enough = int(np.searchsorted(np.cumsum(weights.ravel()[order]), SHARE)) + 1
    kept = np.sort(order[: min(enough, MOST_PLACES)])
    chosen = weights.ravel()[kept]
    at = [gene.place(*np.unravel_index(one, weights.shape)) for one in kept]
    return list(zip((chosen / chosen.sum()).tolist(), at, strict=True))
