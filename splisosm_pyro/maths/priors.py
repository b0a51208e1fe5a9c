"""Priors of the random effect's scale, each stated on its own variable.

The gamma prior is a density of ``sigma``, the inverse gamma one of ``sigma^2``. ``log_prob`` is
that density as it stands, with its constants and without a Jacobian: what a maximum a posteriori
estimate of the documented model adds. A sampler gets the Jacobian from Pyro, because the program
puts the prior on the site it is stated on (``variable``).
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
import torch
from torch import Tensor

from splisosm_pyro.maths.distributions import Flat

Array = npt.NDArray[np.float64]
Variable = Literal["sigma", "sigma_sq"]


@dataclass(frozen=True)
class NoPrior:
    """No prior: contributes exactly 0 everywhere.

    Examples
    --------
    >>> NoPrior().value(np.array([0.5, 2.0]))
    array([0., 0.])
    """

    name: ClassVar[str] = "none"
    variable: ClassVar[Variable] = "sigma"

    @property
    def params(self) -> dict[str, float]:
        """The parameters by name."""
        return {}

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Zeros of the shape of sigma."""
        return torch.zeros_like(sigma)

    def value(self, sigma: Array) -> Array:
        """Zeros of the shape of sigma."""
        return np.zeros_like(sigma)

    def gradient(self, sigma: Array) -> Array:
        """Zeros of the shape of sigma."""
        return np.zeros_like(sigma)

    def distribution(self) -> dist.TorchDistribution:
        """Return the flat improper distribution on the positive half line."""
        return Flat(dist.constraints.positive, (), ())


@dataclass(frozen=True)
class GammaPrior:
    """``sigma ~ Gamma(alpha, rate beta)``.

    ``log p = alpha log beta - log Gamma(alpha) + (alpha - 1) log sigma - beta sigma``

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a positive finite number.

    Examples
    --------
    >>> GammaPrior().value(np.array([1.0])).round(6)
    array([-2.707946])
    """

    alpha: float = 2.0
    beta: float = 0.3
    name: ClassVar[str] = "gamma"
    variable: ClassVar[Variable] = "sigma"

    def __post_init__(self) -> None:
        _check_positive(self.name, self.params)

    @property
    def params(self) -> dict[str, float]:
        """The parameters by name."""
        return asdict(self)

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma, elementwise."""
        power: Tensor = torch.special.xlogy(
            torch.as_tensor(self.alpha - 1, dtype=sigma.dtype), sigma
        )
        return power + self._constant() - self.beta * sigma

    def value(self, sigma: Array) -> Array:
        """Log density of sigma, elementwise."""
        return self.log_prob(torch.as_tensor(sigma)).numpy()

    def gradient(self, sigma: Array) -> Array:
        """``d log p / d log sigma``, elementwise."""
        return self.alpha - 1 - self.beta * sigma

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma."""
        return dist.Gamma(_float64(self.alpha), _float64(self.beta))

    def _constant(self) -> float:
        return self.alpha * math.log(self.beta) - math.lgamma(self.alpha)


@dataclass(frozen=True)
class InvGammaPrior:
    """``sigma^2 ~ InverseGamma(alpha, scale beta)``, a density of ``v = sigma^2``.

    ``log p = alpha log beta - log Gamma(alpha) - (alpha + 1) log v - beta / v``; it falls to minus
    infinity as sigma goes to 0, faster than the joint density rises.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a positive finite number.

    Examples
    --------
    >>> InvGammaPrior().value(np.array([1.0])).round(6)
    array([-3.272589])
    """

    alpha: float = 3.0
    beta: float = 0.5
    name: ClassVar[str] = "inv_gamma"
    variable: ClassVar[Variable] = "sigma_sq"

    def __post_init__(self) -> None:
        _check_positive(self.name, self.params)

    @property
    def params(self) -> dict[str, float]:
        """The parameters by name."""
        return asdict(self)

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma^2 at sigma, elementwise; minus infinity at 0."""
        variance = sigma**2
        inside = variance > 0
        # both branches of a where are differentiated, so the unused one gets a harmless number
        safe = torch.where(inside, variance, torch.ones_like(variance))
        density = self._constant() - (self.alpha + 1) * torch.log(safe) - self.beta / safe
        return torch.where(inside, density, torch.full_like(density, -math.inf))

    def value(self, sigma: Array) -> Array:
        """Log density of sigma^2 at sigma, elementwise; minus infinity at 0."""
        return self.log_prob(torch.as_tensor(sigma)).numpy()

    def gradient(self, sigma: Array) -> Array:
        """``d log p / d log sigma``, elementwise; plus infinity at 0."""
        with np.errstate(divide="ignore", over="ignore"):
            return 2 * (self.beta / sigma**2 - (self.alpha + 1))

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma^2."""
        return dist.InverseGamma(_float64(self.alpha), _float64(self.beta))

    def _constant(self) -> float:
        return self.alpha * math.log(self.beta) - math.lgamma(self.alpha)


Prior = NoPrior | GammaPrior | InvGammaPrior
PRIORS: dict[str, type[NoPrior] | type[GammaPrior] | type[InvGammaPrior]] = {
    prior.name: prior for prior in (NoPrior, GammaPrior, InvGammaPrior)
}


def prior_from_name(name: str, params: Mapping[str, float] | None = None) -> Prior:
    """Build the prior of a name and its parameters.

    Parameters
    ----------
    name : {'none', 'gamma', 'inv_gamma'}
        The prior.
    params : mapping, optional
        Some or all of ``alpha`` and ``beta``; the others keep their defaults.

    Raises
    ------
    TypeError, ValueError
        If the name or a parameter is unknown, or a parameter is not a positive finite number.

    Examples
    --------
    >>> prior_from_name("gamma", {"beta": 1.0})
    GammaPrior(alpha=2.0, beta=1.0)
    """
    if name not in PRIORS:
        raise ValueError(f"var_prior_model must be one of {tuple(PRIORS)}, came {name!r}")
    kind = PRIORS[name]
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"var_prior_model_params must be a dict, came {type(params).__name__}")
    given = dict(params or {})
    valid = tuple(field.name for field in fields(kind))
    for key in given:
        if key not in valid:
            near = difflib.get_close_matches(str(key), valid, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"var_prior_model_params of {name!r} must have keys in {valid}, came {key!r}{hint}"
            )
    return kind(**given)


def _check_positive(name: str, params: Mapping[str, float]) -> None:
    """Refuse parameters outside (0, inf)."""
    for key, value in params.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(
                f"var_prior_model_params[{key!r}] of {name!r} must be a number, "
                f"came {type(value).__name__}"
            )
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(
                f"var_prior_model_params[{key!r}] of {name!r} must be positive and finite, "
                f"came {value}"
            )


def _float64(value: float) -> Tensor:
    """Make a float64 scalar; torch's default dtype would lose digits."""
    return torch.tensor(value, dtype=torch.float64)
