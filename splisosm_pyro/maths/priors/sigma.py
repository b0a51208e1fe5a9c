"""Priors of sigma with a closed form, each stated on its own variable."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors.base import ScalePrior, Slopes, Variable, check_positive, float64
from splisosm_pyro.maths.priors.pyro_improper import Flat


@dataclass(frozen=True)
class NoPrior(ScalePrior):
    """No prior: contributes exactly 0 everywhere, whatever variable is looked at.

    Examples
    --------
    >>> NoPrior().value(np.array([0.5, 2.0]))
    array([0., 0.])
    """

    kind: ClassVar[str] = "none"

    @property
    def proper(self) -> bool:
        """No."""
        return False

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Zeros of the shape of sigma."""
        return torch.zeros_like(sigma)

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """Zeros of the shape of sigma."""
        return np.zeros_like(sigma)

    def distribution(self) -> dist.TorchDistribution:
        """Return the flat improper distribution on the positive half line."""
        return Flat(dist.constraints.positive, (), ())


@dataclass(frozen=True)
class GammaPrior(ScalePrior):
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
    kind: ClassVar[str] = "gamma"

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma, elementwise."""
        power: Tensor = torch.special.xlogy(
            torch.as_tensor(self.alpha - 1, dtype=sigma.dtype), sigma
        )
        return power + _gamma_constant(self.alpha, self.beta) - self.beta * sigma

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        return self.alpha - 1 - self.beta * sigma

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in alpha and beta."""
        return {"alpha": np.ones_like(sigma), "beta": -sigma}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma."""
        return dist.Gamma(float64(self.alpha), float64(self.beta))


@dataclass(frozen=True)
class InvGammaPrior(ScalePrior):
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
    kind: ClassVar[str] = "inv_gamma"
    site: ClassVar[Variable] = "sigma_sq"

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma^2 at sigma, elementwise; minus infinity at 0."""
        variance = sigma**2
        inside = variance > 0
        # both branches of a where are differentiated, so the unused one gets a harmless number
        safe = torch.where(inside, variance, torch.ones_like(variance))
        density = _gamma_constant(self.alpha, self.beta) - self.beta / safe
        density = density - (self.alpha + 1) * torch.log(safe)
        return torch.where(inside, density, torch.full_like(density, -math.inf))

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise; plus infinity at 0."""
        with np.errstate(divide="ignore", over="ignore"):
            return 2 * (self.beta / sigma**2 - (self.alpha + 1))

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in alpha and beta."""
        with np.errstate(divide="ignore", over="ignore"):
            return {"alpha": np.full_like(sigma, -2.0), "beta": 2.0 / sigma**2}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma^2."""
        return dist.InverseGamma(float64(self.alpha), float64(self.beta))


@dataclass(frozen=True)
class HalfNormalPrior(ScalePrior):
    """``sigma ~ HalfNormal(scale)``: ``log p = log sqrt(2 / pi) - log scale - z^2 / 2``.

    ``z = sigma / scale``.

    Raises
    ------
    TypeError, ValueError
        If the scale is not a positive finite number.

    Examples
    --------
    >>> HalfNormalPrior(2.0).value(np.array([1.0])).round(6)
    array([-1.043939])
    """

    scale: float = 1.0
    kind: ClassVar[str] = "half_normal"

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma, elementwise."""
        constant = 0.5 * math.log(2.0 / math.pi) - math.log(self.scale)
        return constant - 0.5 * (sigma / self.scale) ** 2

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        return -((sigma / self.scale) ** 2)

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return the derivative of ``gradient`` in the scale."""
        return {"scale": 2.0 * sigma**2 / self.scale**3}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma."""
        made: dist.TorchDistribution = dist.HalfNormal(float64(self.scale))
        return made


@dataclass(frozen=True)
class HalfTPrior(ScalePrior):
    """``sigma ~ half-t(df, scale)``, a Student's t folded at 0; ``df = 1`` is the half-Cauchy.

    ``log p = const - (df + 1) / 2 log(1 + z^2 / df)`` with ``z = sigma / scale``. Gelman (2006),
    doi:10.1214/06-BA117A.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a positive finite number.

    Examples
    --------
    >>> HalfTPrior(1.0, 1.0).value(np.array([1.0])).round(6)  # 1 / pi
    array([-1.14473])
    """

    df: float = 3.0
    scale: float = 1.0
    kind: ClassVar[str] = "half_t"

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma, elementwise."""
        df = self.df
        constant = math.lgamma(0.5 * (df + 1)) - math.lgamma(0.5 * df)
        constant += math.log(2.0) - 0.5 * math.log(df * math.pi) - math.log(self.scale)
        return constant - 0.5 * (df + 1) * torch.log1p((sigma / self.scale) ** 2 / df)

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        z = (sigma / self.scale) ** 2
        return -(self.df + 1) * z / (self.df + z)

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in df and scale."""
        df, z = self.df, (sigma / self.scale) ** 2
        by_z = -(df + 1) * df / (df + z) ** 2
        return {"df": z * (1.0 - z) / (df + z) ** 2, "scale": by_z * -2.0 * z / self.scale}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma."""
        base = dist.StudentT(float64(self.df), float64(0.0), float64(self.scale))
        return dist.FoldedDistribution(base)


class ExponentialScale(ScalePrior):
    """``sigma ~ Exponential(rate)``, however the rate is stated."""

    @property
    @abstractmethod
    def rate(self) -> float:
        """The rate."""

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma, elementwise."""
        return math.log(self.rate) - self.rate * sigma

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise."""
        return -self.rate * sigma

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return the derivative of ``gradient`` in the rate."""
        return {"rate": -sigma}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma."""
        made: dist.TorchDistribution = dist.Exponential(float64(self.rate))
        return made


@dataclass(frozen=True)
class ExponentialPrior(ExponentialScale):
    """``sigma ~ Exponential(rate)``: ``log p = log rate - rate sigma``.

    Raises
    ------
    TypeError, ValueError
        If the rate is not a positive finite number.

    Examples
    --------
    >>> ExponentialPrior(2.0).value(np.array([1.0])).round(6)
    array([-1.306853])
    """

    rate: float = 1.0
    kind: ClassVar[str] = "exponential"


@dataclass(frozen=True)
class PCPrior(ExponentialScale):
    """The penalised-complexity prior of a standard deviation, by ``P(sigma > upper) = prob``.

    The distance of the model from that without random effect is sigma, and a constant rate of
    penalising it makes sigma exponential, with rate ``-log(prob) / upper``. Simpson, Rue, Riebler,
    Martins and Sorbye (2017), doi:10.1214/16-STS576.

    Parameters
    ----------
    upper : float
        A standard deviation on the logit scale.
    prob : float
        How likely one that is larger is, in (0, 1).

    Raises
    ------
    TypeError, ValueError
        If ``upper`` is not a positive finite number, or ``prob`` not in (0, 1).

    Examples
    --------
    >>> prior = PCPrior(upper=2.0, prob=0.05)
    >>> round(float(prior.distribution().cdf(torch.tensor(2.0))), 6)
    0.95
    """

    upper: float = 2.0
    prob: float = 0.05
    kind: ClassVar[str] = "pc"

    def __post_init__(self) -> None:
        check_positive(self, {"upper": self.upper})
        check_positive(self, {"prob": self.prob}, below=1.0)

    @property
    def rate(self) -> float:
        """The rate of the exponential."""
        return -math.log(self.prob) / self.upper

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in ``upper`` and ``prob``."""
        return {
            "upper": self.rate / self.upper * sigma,
            "prob": sigma / (self.upper * self.prob),
        }


@dataclass(frozen=True)
class LogNormalPrior(ScalePrior):
    """``log sigma ~ Normal(log median, log_sd)``, stated on sigma.

    ``log p = -log sigma - log(log_sd sqrt(2 pi)) - z^2 / 2``, ``z = log(sigma / median) / log_sd``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a positive finite number.

    Examples
    --------
    >>> LogNormalPrior(1.0, 1.0).value(np.array([1.0])).round(6)
    array([-0.918939])
    """

    median: float = 0.7
    log_sd: float = 0.7
    kind: ClassVar[str] = "log_normal"

    def log_prob(self, sigma: Tensor) -> Tensor:
        """Log density of sigma, elementwise; minus infinity at 0."""
        inside = sigma > 0
        # both branches of a where are differentiated, so the unused one gets a harmless number
        log_sigma = torch.log(torch.where(inside, sigma, torch.ones_like(sigma)))
        z = (log_sigma - math.log(self.median)) / self.log_sd
        density = -0.5 * z**2 - log_sigma - math.log(self.log_sd * math.sqrt(2.0 * math.pi))
        return torch.where(inside, density, torch.full_like(density, -math.inf))

    def gradient(self, sigma: FloatArray) -> FloatArray:
        """``d log p / d log sigma``, elementwise; plus infinity at 0."""
        with np.errstate(divide="ignore"):
            return -1.0 - np.log(sigma / self.median) / self.log_sd**2

    def parameter_gradients(self, sigma: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in the median and log_sd."""
        with np.errstate(divide="ignore"):
            far = np.log(sigma / self.median)
        return {
            "median": np.full_like(sigma, 1.0 / (self.median * self.log_sd**2)),
            "log_sd": 2.0 * far / self.log_sd**3,
        }

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of sigma."""
        made: dist.TorchDistribution = dist.LogNormal(
            float64(math.log(self.median)), float64(self.log_sd)
        )
        return made


def _gamma_constant(alpha: float, beta: float) -> float:
    return alpha * math.log(beta) - math.lgamma(alpha)
