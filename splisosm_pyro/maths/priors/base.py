"""What every prior of this package is: a named density that says which variable it is stated on.

A prior holds its density, the gradient that the solvers need, the derivatives of that gradient in
its own parameters, and its Pyro distribution, all in one place. ``log_prob`` is the density of the
variable it is stated on, with its constants and without a Jacobian.
"""

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Literal

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray

Variable = Literal["sigma", "sigma_sq", "log_sigma"]
Slopes = dict[str, FloatArray]

# d variable / d log sigma is a multiple of this power of sigma, and this multiple.
POWERS: dict[str, int] = {"sigma": 1, "sigma_sq": 2, "log_sigma": 0}
MULTIPLES: dict[str, float] = {"sigma": 1.0, "sigma_sq": 2.0, "log_sigma": 1.0}


class NamedPrior(ABC):
    """A name and parameters that are positive finite numbers, unless a prior says otherwise."""

    owner: ClassVar[str] = "var_prior_model_params"
    kind: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The name that options and tables use."""
        return self.kind

    @property
    def params(self) -> dict[str, float]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in parameter_names(type(self))}

    @property
    def proper(self) -> bool:
        """Whether the density integrates to 1."""
        return True

    @property
    def words(self) -> str:
        """The prior with its parameters, for titles and attributes."""
        return f"{self.name}({', '.join(f'{k}={v:g}' for k, v in self.params.items())})"

    @abstractmethod
    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of the variable that the prior is stated on."""

    def __post_init__(self) -> None:
        check_positive(self, self.params)


class ScalePrior(NamedPrior):
    """A prior of sigma, stated on ``variable``: sigma itself, its square or its logarithm."""

    site: ClassVar[Variable] = "sigma"

    @property
    def variable(self) -> Variable:
        """The variable that the density is one of."""
        return self.site

    @abstractmethod
    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of the variable at sigma, elementwise."""

    @abstractmethod
    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return the derivatives of ``gradient`` in the prior's own parameters, by name."""
        return {}

    def value(self, sigma: FloatArray) -> FloatArray:
        """Log density of the variable at sigma, elementwise."""
        return self.log_prob(torch.as_tensor(sigma)).numpy()

    def draw(self, size: Sequence[int]) -> FloatArray:
        """Draw sigma, whatever variable the prior is stated on, from torch's global generator."""
        drawn = self.distribution().sample(torch.Size(size)).to(torch.float64).numpy()
        power = POWERS[self.variable]
        return np.asarray(drawn ** (1.0 / power) if power else np.exp(drawn))

    def for_gene(self, kernel: Kernel, n_isos: int) -> "ScalePrior":
        """Return the prior as it stands for a gene of P isoforms on a tissue; itself, usually."""
        return self


def parameter_names(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the parameters that a user gives."""
    return tuple(field.name for field in fields(kind) if field.init and not field.kw_only)


def check_positive(prior: NamedPrior, params: Mapping[str, float], below: float = math.inf) -> None:
    """Refuse parameters outside (0, ``below``)."""
    for key, value in params.items():
        label = f"{prior.owner}[{key!r}] of {prior.name!r}"
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{label} must be a number, came {type(value).__name__}")
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{label} must be positive and finite, came {value}")
        if value >= below:
            raise ValueError(f"{label} must be below {below:g}, came {value}")


def build(
    registry: Mapping[str, type[Any]],
    name: str,
    params: Mapping[str, float] | None,
    argument: str,
    owner: str,
) -> Any:
    """Build the prior of a name; a misspelt name or parameter raises and names the nearest."""
    if name not in registry:
        hint = nearest(str(name), tuple(registry))
        raise ValueError(f"{argument} must be one of {tuple(registry)}, came {name!r}{hint}")
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"{owner} must be a dict, came {type(params).__name__}")
    valid = parameter_names(registry[name])
    for key in params or {}:
        if key not in valid:
            hint = nearest(str(key), valid)
            raise ValueError(f"{owner} of {name!r} must have keys in {valid}, came {key!r}{hint}")
    return registry[name](**dict(params or {}))


def nearest(word: str, valid: Sequence[str]) -> str:
    """Hint at the nearest valid word, if one is near."""
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def float64(value: float) -> Tensor:
    """Make a float64 scalar; torch's default dtype would lose digits."""
    return torch.tensor(value, dtype=torch.float64)
