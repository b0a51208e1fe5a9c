"""Local sensitivity as columns of a table of many genes, from the Hessian that is there already."""

from collections.abc import Mapping, Sequence
from typing import Any

from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.uncertainty import OuterUncertainty
from splisosm_pyro.maths.numeric.arrays import Mask
from splisosm_pyro.maths.priors import prior_from_name, stated_on
from splisosm_pyro.studies.sensitivity.directions import DEFAULT_DIRECTIONS, Direction

Asked = tuple[tuple[str, dict[str, float]], ...]


def asked_sensitivity(
    given: bool | str | Sequence[Any], own: str, own_params: Mapping[str, float] | None
) -> Asked | None:
    """Return the priors whose effect is wanted, by name and parameters; None for none.

    Examples
    --------
    >>> asked_sensitivity(["pc"], "none", None)
    (('pc', {'upper': 2.0, 'prob': 0.05}),)
    """
    if given is False:
        return None
    given = [given] if isinstance(given, str) else given
    if given is True:
        prior = prior_from_name(own, own_params)
        priors = [prior] if prior.proper else list(DEFAULT_DIRECTIONS)
    elif not isinstance(given, Sequence):
        raise TypeError(f"sensitivity must be True, False or a sequence of priors, came {given!r}")
    else:
        priors = [prior_from_name(*(g if isinstance(g, tuple) else (g,))) for g in given]
    return tuple((prior.name, prior.params) for prior in priors)


def checked_sensitivity(asked: Asked | None) -> None:
    """Refuse priors that are unknown, improper or there twice."""
    priors = [prior_from_name(name, params) for name, params in asked or ()]
    if any(not prior.proper for prior in priors) or (asked is not None and not priors):
        raise ValueError("sensitivity must name at least one prior, and proper ones, came 'none'")
    if len({prior.name for prior in priors}) < len(priors):
        raise ValueError("sensitivity must name different priors, came one twice")


def sensitivity_columns(
    spec: GLMMSpec, free: Mask, params: Params, outer: OuterUncertainty, asked: Asked
) -> dict[str, Any]:
    """Return how the mode of one gene moves with the weight of every prior, as columns.

    ``d log sigma / dw`` and ``d theta_logit / dw``, the mode meant in the variable of the fit's own
    prior; at weight 1 for the fit's own prior, at weight 0 for another. What has no derivative is
    left out, and ``sens_note`` says why.
    """
    own = spec.coefficients(params)
    space = spec.space(own, free, params["sigma"])
    coefficients, variances = space.unpack(space.start(own, params["sigma"], params["theta_logit"]))
    if outer.covariance is None:
        return {"sens_note": "the curvature is not positive"}
    names = [("log_sigma", c) for c in range(space.n_sigma)]
    names += [("theta_logit", c) for c in range(space.n_components)]
    row: dict[str, Any] = {}
    for name, given in asked:
        prior = prior_from_name(name, given).for_gene(spec.kernel, own.shape[1] + 1)
        meant = stated_on(prior, spec.priors.sigma.variable)
        slope = Direction(name, "sigma", meant, 0.0).slope(space, variances, coefficients)
        shift = outer.covariance @ slope
        for i, (parameter, c) in enumerate(names):
            if outer.known[i]:
                number = f"_{c}" if space.n_components > 1 else ""
                row[f"sens_{name}_{parameter}{number}"] = float(shift[i])
    missing = [parameter for i, (parameter, _) in enumerate(names) if not outer.known[i]]
    row["sens_note"] = f"at a bound or not felt: {', '.join(missing)}" if missing else ""
    return row
