"""Which parameters ended at a bound of the search, as names and as sentences."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from splisosm_pyro.fit.glmm.outer_space import SIGMA_RANGE, OuterSpace
from splisosm_pyro.fit.search.quasi_newton import SearchResult

# Said where a joint fit ends at a bound.
ADVICE_JOINT = (
    "the joint density says little about the variances, "
    "fitting_method='marginal_newton' estimates them"
)


class _Bound(NamedTuple):
    """A variance parameter at a bound."""

    name: str
    component: int
    low: bool


def bounds_reached(space: OuterSpace, result: SearchResult[Any]) -> list[str]:
    """Return each variance parameter at a bound with its value, ``'theta = 1'`` for example."""
    named = []
    for bound in _bounds(space, result):
        number = "" if space.n_components == 1 else f"_{bound.component}"
        limits = (0.0, 1.0) if bound.name == "theta" else (space.sigma_floor, SIGMA_RANGE[1])
        named.append(f"{bound.name}{number} = {limits[not bound.low]:g}")
    return named


def boundary_reason(space: OuterSpace, result: SearchResult[Any], *, joint: bool) -> list[str]:
    """Return one sentence for every parameter that ended at a bound."""
    reasons = [_sentence(space, bound, joint) for bound in _bounds(space, result)]
    if result.at_bound[space.n_variance :].any():
        reasons.append("a coefficient is at the bound of the search")
    if reasons and joint:
        reasons.append(ADVICE_JOINT)
    return reasons


def _bounds(space: OuterSpace, result: SearchResult[Any]) -> Iterator[_Bound]:
    """Yield the variance parameters at a bound."""
    for i in np.flatnonzero(result.at_bound[: space.n_variance]).tolist():
        of_sigma = i < space.n_sigma
        if not of_sigma and space.held_theta is not None:
            continue  # by choice
        name, component = ("sigma", i) if of_sigma else ("theta", i - space.n_sigma)
        yield _Bound(name, component, bool(result.best.u[i] <= space.box().lower[i]))


def _sentence(space: OuterSpace, bound: _Bound, joint: bool) -> str:
    """Say what it means that a parameter is at its bound."""
    label = "" if space.n_components == 1 else f" of logit {bound.component}"
    if bound.name == "theta":
        if bound.low:
            return f"theta{label} -> 0: the field is white noise"
        return f"theta{label} -> 1: all of the field's variance is spatial"
    if not bound.low:
        return f"sigma{label} at its upper bound: the data ask for ever more variance, use a prior"
    if joint:
        return f"sigma{label} at its floor {space.sigma_floor:g}"
    return f"sigma{label} -> 0: no more variation than the covariates explain"
