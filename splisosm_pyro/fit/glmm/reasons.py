"""The sentences that say at which bound a fit ended, and what to do about it."""

from typing import Any

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.search.quasi_newton import SearchResult

ADVICE_JOINT = (
    "the joint density says little about the variances, "
    "fitting_method='marginal_newton' estimates them"
)


def boundary_reason(space: OuterSpace, result: SearchResult[Any], *, joint: bool) -> list[str]:
    """Return one sentence for every variance parameter that ended at a bound."""
    reasons = []
    for i in result.at_bound.nonzero()[0]:
        if i >= space.n_variance:
            reasons.append("a coefficient is at the bound of the search")
            continue
        low = bool(result.best.u[i] <= space.box().lower[i])
        of_sigma = i < space.n_sigma
        component = int(i) if of_sigma else int(i) - space.n_sigma
        label = _label(space, component)
        if of_sigma and joint and low:
            reasons.append(f"sigma{label} at its floor {space.sigma_floor:g}")
        else:
            reasons.append((_sigma if of_sigma else _theta)(label, low=low))
    if reasons and joint:
        reasons.append(ADVICE_JOINT)
    return reasons


def _label(space: OuterSpace, component: int) -> str:
    return "" if space.n_components == 1 else f" of logit {component}"


def _sigma(label: str, *, low: bool) -> str:
    if low:
        return f"sigma{label} -> 0: no more variation than the covariates explain"
    return f"sigma{label} at its upper bound: the data ask for ever more variance, use a prior"


def _theta(label: str, *, low: bool) -> str:
    if low:
        return f"theta{label} -> 0: the field is white noise"
    return f"theta{label} -> 1: all of the field's variance is spatial"
