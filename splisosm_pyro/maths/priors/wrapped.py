"""Priors of sigma made of others: any Pyro distribution, another variable, a power.

``PyroPrior`` takes value, gradient and its parameters' derivatives from the distribution by
automatic differentiation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.transforms import ExpTransform, PowerTransform

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors.base import MULTIPLES, POWERS, ScalePrior, Slopes, Variable, float64


@dataclass(frozen=True, eq=False)
class PyroPrior(ScalePrior):
    """Any Pyro (or torch) distribution on the positive half line, of sigma or of its square.

    Parameters
    ----------
    of : Distribution
        Univariate, without batch shape; no mass below 0.
    on : {'sigma', 'sigma_sq'}
        The variable that it is a distribution of.

    Raises
    ------
    TypeError, ValueError
        If it is no distribution, has a batch or event shape, or reaches below 0.

    Examples
    --------
    >>> prior = PyroPrior(dist.LogNormal(0.0, 0.5), on="sigma")
    >>> prior.name, prior.gradient(np.array([1.0])).round(6) + 0.0
    ('LogNormal', array([-1.]))
    """

    of: Any
    on: Variable = "sigma"

    def __post_init__(self) -> None:
        if not isinstance(self.of, torch.distributions.Distribution):
            raise TypeError(f"of must be a Pyro distribution, came {type(self.of).__name__}")
        if self.on not in ("sigma", "sigma_sq"):
            raise ValueError(f"on must be 'sigma' or 'sigma_sq', came {self.on!r}")
        if len(self.of.batch_shape) or len(self.of.event_shape):
            raise ValueError(
                "of must be univariate without batch shape, "
                f"came batch {tuple(self.of.batch_shape)}, event {tuple(self.of.event_shape)}"
            )
        if bool(_inside(self.of, float64(-1e-6))):
            raise ValueError(f"of must have no mass below 0, came {type(self.of).__name__}")

    @property
    def name(self) -> str:
        """The distribution's name."""
        return type(self.of).__name__

    @property
    def variable(self) -> Variable:
        """The variable that it is a distribution of."""
        return self.on

    @property
    def params(self) -> dict[str, float]:
        """The distribution's parameters that are numbers, by name."""
        return {name: float(value) for name, value in self._tensors().items()}

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of the variable at sigma, elementwise; minus infinity outside."""
        return self._log_prob(self.distribution(), sigma)

    @torch.enable_grad()
    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        log_sigma = torch.as_tensor(np.log(sigma)).requires_grad_()
        total = self.log_prob(torch.exp(log_sigma)).sum()
        if not total.requires_grad:  # a uniform density
            return np.zeros_like(sigma)
        return torch.autograd.grad(total, log_sigma)[0].numpy()

    @torch.enable_grad()
    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in the distribution's own parameters."""
        tensors = {name: value.requires_grad_() for name, value in self._tensors().items()}
        if not tensors:
            return {}
        out: Slopes = {name: np.zeros_like(sigma) for name in tensors}
        for i, one in enumerate(np.asarray(sigma)):
            log_sigma = float64(math.log(one)).requires_grad_()
            log_prob = self._log_prob(type(self.of)(**tensors), torch.exp(log_sigma))
            (slope,) = torch.autograd.grad(log_prob, log_sigma, create_graph=True)
            if not slope.requires_grad:
                continue
            found = torch.autograd.grad(slope, list(tensors.values()), allow_unused=True)
            for name, value in zip(tensors, found, strict=True):
                out[name][i] = 0.0 if value is None else float(value)
        return out

    def distribution(self) -> dist.TorchDistribution:
        """Return the distribution, in double precision where it can be rebuilt."""
        tensors = self._tensors()
        made: dist.TorchDistribution = type(self.of)(**tensors) if tensors else self.of
        return made

    def _log_prob(self, of: Any, sigma: Tensor) -> Tensor:
        value = sigma if self.on == "sigma" else sigma**2
        inside = _inside(of, value)
        safe = torch.where(inside, value, _within(of).to(value))
        return torch.where(inside, of.log_prob(safe), torch.full_like(value, -math.inf))

    def _tensors(self) -> dict[str, Tensor]:
        """Return the scalar parameters, if the distribution can be rebuilt from them alone."""
        found = {name: getattr(self.of, name, None) for name in self.of.arg_constraints}
        tensors = {
            name: value.detach().to(torch.float64)
            for name, value in found.items()
            if isinstance(value, Tensor) and value.dim() == 0
        }
        try:
            type(self.of)(**tensors)
        except (TypeError, ValueError):
            return {}
        return tensors


@dataclass(frozen=True)
class RestatedPrior(ScalePrior):
    """The same belief as another prior, as a density of another variable.

    ``log p(z) = log p(x) + log |dx / dz|``, where ``dx / d log sigma`` is a multiple of a power of
    sigma for each of sigma, sigma^2 and log sigma.
    """

    prior: ScalePrior
    of: Variable

    def __post_init__(self) -> None:
        return

    @property
    def name(self) -> str:
        """The other prior's name."""
        return self.prior.name

    @property
    def params(self) -> dict[str, float]:
        """The other prior's parameters."""
        return self.prior.params

    @property
    def variable(self) -> Variable:
        """The variable that the density is one of."""
        return self.of

    @property
    def _power(self) -> int:
        return POWERS[self.prior.variable] - POWERS[self.of]

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of the variable at sigma, elementwise."""
        constant = math.log(MULTIPLES[self.prior.variable] / MULTIPLES[self.of])
        inside = sigma > 0
        log_sigma = torch.log(torch.where(inside, sigma, torch.ones_like(sigma)))
        limit = float64(-math.inf if self._power > 0 else math.inf)
        jacobian = torch.where(inside, self._power * log_sigma + constant, limit)
        density = self.prior.log_prob(sigma)
        return torch.where(torch.isneginf(density), density, density + jacobian)

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        return self.prior.gradient(sigma) + self._power

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Those of the other prior: the Jacobian has no parameters."""
        return self.prior.parameter_gradients(sigma)

    def for_gene(self, kernel: Kernel, n_isos: int) -> ScalePrior:
        """Return the other prior for a gene, on this variable."""
        return RestatedPrior(self.prior.for_gene(kernel, n_isos), self.of)

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of the variable."""
        to_sigma: dict[str, list[Any]] = {"sigma": [], "sigma_sq": [PowerTransform(float64(0.5))]}
        to_own: dict[str, list[Any]] = {
            "sigma": [],
            "sigma_sq": [PowerTransform(float64(2.0))],
            "log_sigma": [ExpTransform().inv],
        }
        steps = [*to_sigma[self.prior.variable], *to_own[self.of]]
        made: dist.TorchDistribution = dist.TransformedDistribution(
            self.prior.distribution(), steps
        )
        return made


@dataclass(frozen=True)
class PoweredPrior(ScalePrior):
    """A prior's density to a power, not normalised: how a sensitivity study weighs a prior.

    Examples
    --------
    >>> from splisosm_pyro.maths.priors.by_name import ExponentialPrior
    >>> PoweredPrior(ExponentialPrior(2.0), 0.5).gradient(np.array([1.0]))
    array([-1.])
    """

    prior: ScalePrior
    power: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.power) and self.power >= 0):
            raise ValueError(f"power must be finite and not negative, came {self.power}")

    @property
    def name(self) -> str:
        """The prior's name and the power."""
        return f"{self.prior.name}^{self.power:g}"

    @property
    def params(self) -> dict[str, float]:
        """The prior's parameters."""
        return self.prior.params

    @property
    def variable(self) -> Variable:
        """The variable that the prior is stated on."""
        return self.prior.variable

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Power times the log density."""
        return self.power * self.prior.log_prob(sigma)

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        return self.power * self.prior.gradient(sigma)

    def for_gene(self, kernel: Kernel, n_isos: int) -> ScalePrior:
        """Return the power of the prior for a gene."""
        return PoweredPrior(self.prior.for_gene(kernel, n_isos), self.power)

    def draw(self, size: Sequence[int]) -> FloatArray:
        """Draw from the prior itself: near 1 the power of it is this one."""
        return self.prior.draw(size)

    def distribution(self) -> dist.TorchDistribution:
        """Refuse: the power of a density is no distribution until it is normalised."""
        raise ValueError("a density to a power is not normalised and has no distribution")


def stated_on(prior: ScalePrior, variable: Variable) -> ScalePrior:
    """Return the same belief as a density of another variable.

    ``'none'`` contributes 0 in any variable: with it an estimate is that of maximum likelihood.

    Examples
    --------
    >>> from splisosm_pyro.maths.priors.by_name import ExponentialPrior
    >>> squared = stated_on(ExponentialPrior(1.0), "sigma_sq")
    >>> squared.value(np.array([2.0])).round(6)  # exp(-sigma) / (2 sigma)
    array([-3.386294])
    """
    if variable not in POWERS:
        raise ValueError(f"variable must be one of {tuple(POWERS)}, came {variable!r}")
    if isinstance(prior, RestatedPrior):
        return stated_on(prior.prior, variable)
    if variable == prior.variable or not prior.proper:
        return prior
    return RestatedPrior(prior, variable)


def _inside(of: Any, value: Tensor) -> Tensor:
    """Where a distribution has mass."""
    support = of.support
    inside: Tensor = support.check(value)
    return inside


def _drawn(of: Any) -> Tensor:
    """Draw once and leave the global generator as it was."""
    with torch.random.fork_rng():
        drawn: Tensor = of.sample()
    return drawn


def _within(of: Any) -> Tensor:
    """Return a value at which a distribution has mass, for places outside that are not used."""
    one = float64(1.0)
    return one if bool(_inside(of, one)) else _drawn(of)
