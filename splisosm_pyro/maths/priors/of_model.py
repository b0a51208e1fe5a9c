"""The priors of all parameters of a model together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splisosm_pyro.maths.priors.base import ScalePrior
from splisosm_pyro.maths.priors.by_name import (
    as_coefficient_prior,
    as_theta_prior,
    prior_from_name,
)
from splisosm_pyro.maths.priors.coefficients import CoefficientPrior, CoefficientPriors
from splisosm_pyro.maths.priors.theta import ThetaPrior

Named = str | tuple[str, Mapping[str, float]]


@dataclass(frozen=True)
class ModelPriors:
    """Priors of sigma, theta, beta and bias_eta; without arguments the documented flat ones.

    A maximum a posteriori fit finds the mode of the density in sigma (or the variable that its
    prior is stated on), theta, beta and bias_eta: no Jacobian is added.

    Parameters
    ----------
    sigma : ScalePrior, name, (name, parameters) or Pyro distribution
        Of each component of the scale.
    theta : ThetaPrior, name or (name, parameters), optional
        Of each component of the spatial share; None: uniform.
    beta, bias : CoefficientPrior, name or (name, parameters), optional
        Of every entry of ``beta`` and of ``bias_eta``; None: flat. Only for the ``marginal_*``
        methods.

    Raises
    ------
    TypeError, ValueError
        If a prior, a name or a parameter is not legal.

    Examples
    --------
    >>> priors = ModelPriors("half_normal", theta=("beta", {"a": 1.0}), beta=("normal", {}))
    >>> priors.sigma.words, priors.theta.words, priors.coefficients.beta.words
    ('half_normal(scale=1)', 'beta(a=1, b=2)', 'normal(scale=10, loc=0)')
    """

    sigma: Any = "none"
    theta: ThetaPrior | Named | None = None
    beta: CoefficientPrior | Named | None = None
    bias: CoefficientPrior | Named | None = None

    def __post_init__(self) -> None:
        sigma = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)
        checked: dict[str, Any] = {
            "sigma": prior_from_name(*sigma),
            "theta": as_theta_prior(self.theta),
            "beta": as_coefficient_prior(self.beta, "beta prior"),
            "bias": as_coefficient_prior(self.bias, "bias prior"),
        }
        for name, prior in checked.items():
            object.__setattr__(self, name, prior)

    @classmethod
    def of(cls, given: Any, params: Mapping[str, float] | None = None) -> "ModelPriors":
        """Return priors as they are, or those of sigma alone, by its name and parameters."""
        if not isinstance(given, cls):
            return cls(prior_from_name(given, params))
        if params:
            raise ValueError("var_prior_model_params belong to the name of a prior of sigma")
        return given

    @property
    def scale(self) -> ScalePrior:
        """The prior of sigma."""
        prior: ScalePrior = self.sigma
        return prior

    @property
    def share(self) -> ThetaPrior:
        """The prior of theta."""
        return as_theta_prior(self.theta)

    @property
    def coefficients(self) -> CoefficientPriors:
        """The priors of beta and bias_eta."""
        return CoefficientPriors(as_coefficient_prior(self.beta), as_coefficient_prior(self.bias))
