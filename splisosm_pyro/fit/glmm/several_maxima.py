"""The best of several maxima: the objective of a sparse gene may have more than one.

Typical are one maximum with a smooth field and one with white noise, and a small bump beside the
limit sigma -> 0, which is the GLM. The search climbs from the best start of every region of theta
that may still win, and afterwards looks where the other maxima tend to lie.
"""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import GLMFit
from splisosm_pyro.fit.glmm.joint_objective import JointObjective
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.search.quasi_newton import (
    Evaluation,
    Objective,
    SearchResult,
    best_start,
    highest,
    search,
)
from splisosm_pyro.maths.numeric.arrays import FloatArray

# A start is climbed from if it is no more than this many nats below the best one.
AMBIGUOUS = 3.0
# Another place must be better by so many nats to be climbed from.
NOTABLE = 1e-7
# Where a bump beside the limit sigma -> 0 is looked for.
BUMP_SIGMA, BUMP_THETA_LOGITS = 0.2, (-1.0, 15.0)


class GeneObjective(Objective[Any], Protocol):
    """What a method maximises: the marginal or the profiled joint, each with its own state."""

    @property
    def problem(self) -> LatentProblem:
        """The gene's latent problem."""
        ...

    @property
    def space(self) -> OuterSpace:
        """The map between search vectors and parameters."""
        ...

    def evaluate(self, u: FloatArray, /) -> Evaluation[Any]:
        """Value and gradient."""
        ...


def find_maximum(
    objective: GeneObjective,
    options: GLMMOptions,
    groups: list[list[FloatArray]],
    glm: GLMFit,
    *,
    keep_trace: bool = False,
) -> SearchResult[Any]:
    """Return the highest maximum that the starts and a second look lead to.

    Parameters
    ----------
    objective
        What is maximised.
    options
        Optimiser and tolerances.
    groups
        Search vectors; of each group the best is a candidate to climb from.
    glm
        The gene's GLM, the limit sigma -> 0.
    keep_trace
        Keep the evaluations of the climb that won.
    """
    if isinstance(objective, MarginalObjective):
        objective = replace(objective, smooth=objective.smooth.for_search())
    firsts = [highest(objective, group) for group in groups]
    least = max(first.value for first in firsts) - AMBIGUOUS
    climbs = [
        _climb(objective, first, options, keep_trace=keep_trace)
        for first in firsts
        if first.value >= least
    ]
    best = max(climbs, key=lambda result: result.best.value)
    for u in _other_places(objective, best.best, glm):
        there = highest(objective, [u], best.best)
        if there.value > best.best.value + NOTABLE:
            again = _climb(objective, there, options, keep_trace=keep_trace)
            best = max(best, again, key=lambda result: result.best.value)
    return best


def _other_places(objective: GeneObjective, best: Evaluation[Any], glm: GLMFit) -> list[FloatArray]:
    """Return where other maxima tend to lie, seen from the one that was found."""
    space, u, box = objective.space, best.u, objective.space.box()
    places = other_side(space, u, glm.B)
    low = u.copy()
    low[: space.n_sigma] = box.lower[: space.n_sigma]
    if isinstance(objective, JointObjective):
        places += _floors(space, u)
    elif space.n_sigma:
        least = space.unpack(low)[1]
        if glm.log_lik + space.log_prior(least, glm.B) > best.value + NOTABLE:
            theta_logit = low[space.n_sigma : space.n_variance]
            places.append(space.start(glm.B, np.exp(low[: space.n_sigma]), theta_logit))
    return places


def other_side(space: OuterSpace, u: FloatArray, coefficients: FloatArray) -> list[FloatArray]:
    """Return the other end of every theta at a bound, and the bump beside a sigma of 0.

    ``coefficients`` (F+1, Q) are those to look at there, of the GLM or nearly.
    """
    box, places = space.box(), []
    for i in range(space.n_sigma, space.n_variance):
        if u[i] in (box.lower[i], box.upper[i]) and box.lower[i] < box.upper[i]:
            other = u.copy()
            other[i] = box.lower[i] + box.upper[i] - u[i]
            places.append(other)
    if space.n_sigma and (u[: space.n_sigma] <= box.lower[: space.n_sigma]).all():
        ones = np.ones(space.n_components)
        places += [
            space.start(coefficients, BUMP_SIGMA * ones, t * ones) for t in BUMP_THETA_LOGITS
        ]
    return places


def _floors(space: OuterSpace, u: FloatArray) -> list[FloatArray]:
    """Return where the joint density is highest more often than not: one sigma least, or all."""
    box, places = space.box(), []
    every = range(space.n_sigma)
    for some in [[c] for c in every] + [list(every)] * (space.n_sigma > 1):
        for theta in (box.lower, box.upper):
            place = u.copy()
            place[some] = box.lower[some]
            thetas = [space.n_sigma + c for c in some]
            place[thetas] = theta[thetas]
            places.append(place)
    return places


def _climb(
    objective: GeneObjective, start: Evaluation[Any], options: GLMMOptions, *, keep_trace: bool
) -> SearchResult[Any]:
    """Search; with ``update_nu_every_k`` above 1 first with a field that is updated that seldom."""
    every = options.update_nu_every_k
    gradient, state = objective.gradient(start.u, start.state)
    first = replace(start, gradient=gradient, state=state)
    if every == 1 or not isinstance(objective, MarginalObjective):
        return search(objective, first, options, keep_trace=keep_trace)
    seldom = replace(objective, update_every=every)
    coarse = search(seldom, first, options, keep_trace=keep_trace)
    again = best_start(objective, [coarse.best.u])
    fine = search(objective, again, options, keep_trace=keep_trace)
    return replace(fine, path=coarse.path + fine.path, trace=coarse.trace + fine.trace)
