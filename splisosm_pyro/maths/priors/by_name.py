"""All priors by name: of the random effect's scale, of its spatial share, of the coefficients.

The gamma prior is a density of ``sigma``, the inverse gamma one of ``sigma^2``. ``log_prob`` is
that density as it stands, with its constants and without a Jacobian: what a maximum a posteriori
estimate of the documented model adds. A sampler gets the Jacobian from Pyro, because the program
puts the prior on the site it is stated on (``variable``).
"""

from collections.abc import Mapping
from typing import Any

import torch

from splisosm_pyro.maths.priors.base import ScalePrior, build
from splisosm_pyro.maths.priors.coefficients import (
    COEFFICIENT_PRIORS,
    CoefficientPrior,
    FlatPrior,
)
from splisosm_pyro.maths.priors.sigma import (
    ExponentialPrior,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    InvGammaPrior,
    LogNormalPrior,
    NoPrior,
    PCPrior,
)
from splisosm_pyro.maths.priors.theta import (
    THETA_PRIORS,
    ThetaPrior,
    UniformTheta,
)
from splisosm_pyro.maths.priors.usage_range import PCUsagePrior
from splisosm_pyro.maths.priors.wrapped import PyroPrior

Prior = ScalePrior
PRIORS: dict[str, type[ScalePrior]] = {
    "none": NoPrior,
    "gamma": GammaPrior,
    "inv_gamma": InvGammaPrior,
    "half_normal": HalfNormalPrior,
    "half_t": HalfTPrior,
    "exponential": ExponentialPrior,
    "log_normal": LogNormalPrior,
    "pc": PCPrior,
    "pc_usage": PCUsagePrior,
}


def prior_from_name(
    name: str | ScalePrior | Any, params: Mapping[str, float] | None = None
) -> ScalePrior:
    """Build the prior of sigma of a name and its parameters.

    Parameters
    ----------
    name : str, ScalePrior or Pyro distribution
        A key of ``PRIORS``; a prior is returned as it is, a distribution is taken as one of sigma.
    params : mapping, optional
        Some or all of the prior's parameters; the others keep their defaults.

    Raises
    ------
    TypeError, ValueError
        If the name or a parameter is unknown, or a parameter is not legal.

    Examples
    --------
    >>> prior_from_name("gamma", {"beta": 1.0})
    GammaPrior(alpha=2.0, beta=1.0)
    """
    if isinstance(name, torch.distributions.Distribution):
        name = PyroPrior(name)
    if isinstance(name, ScalePrior):
        if params and dict(params) != name.params:
            raise ValueError("var_prior_model_params belong to a prior's name, came with a prior")
        return name
    argument, owner = "var_prior_model", "var_prior_model_params"
    made: ScalePrior = build(PRIORS, name, params, argument, owner)
    return made


def as_theta_prior(given: Any) -> ThetaPrior:
    """Return a prior of theta: None is the uniform one, a name or (name, params) is looked up.

    Examples
    --------
    >>> as_theta_prior(("beta", {"a": 3.0}))
    BetaPrior(a=3.0, b=2.0)
    """
    made: ThetaPrior = _looked_up(given, ThetaPrior, UniformTheta, THETA_PRIORS, "theta prior")
    return made


def as_coefficient_prior(given: Any, name: str = "coefficient prior") -> CoefficientPrior:
    """Return a prior of a coefficient: None is the flat one, a name is looked up.

    Examples
    --------
    >>> as_coefficient_prior(("normal", {"scale": 1.0}))
    NormalPrior(scale=1.0, loc=0.0, standardised=False)
    """
    made: CoefficientPrior = _looked_up(
        given, CoefficientPrior, FlatPrior, COEFFICIENT_PRIORS, name
    )
    return made


def _looked_up(
    given: Any, kind: type[Any], nothing: type[Any], registry: Mapping[str, type[Any]], label: str
) -> Any:
    """Return a prior of a kind from None, itself, a name, or a name with parameters."""
    if given is None:
        return nothing()
    if isinstance(given, kind):
        return given
    if isinstance(given, str):
        return build(registry, given, None, label, f"{label} parameters")
    if isinstance(given, tuple) and len(given) == 2:
        return build(registry, given[0], given[1], label, f"{label} parameters")
    raise TypeError(
        f"{label} must be a {kind.__name__}, a name or (name, parameters), "
        f"came {type(given).__name__}"
    )
