"""Priors of the spatial share theta, all stated on theta itself.

The penalised-complexity prior measures how far ``N(0, theta V + (1 - theta) I)`` is from white
noise, the simpler model, by ``d(theta) = sqrt(2 KLD) = sqrt(-log|theta V + (1 - theta) I|)`` (V has
a unit diagonal), and makes that distance exponential, cut off at ``d(1)``. Simpson et al. (2017),
doi:10.1214/16-STS576; Riebler, Sorbye, Simpson and Rue (2016), doi:10.1177/0962280216660421. The
distance is tabulated once a kernel and joined by a cubic spline; the density is that of the
spline, so it integrates to 1 whatever the table's spacing.
"""

import math
import weakref
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.special import logit
from torch import Tensor
from torch.distributions.transforms import SigmoidTransform

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors.base import NamedPrior, Slopes, check_positive, float64
from splisosm_pyro.maths.priors.pyro_improper import ClosedUnitUniform

# Places at which the distance is tabulated, closer towards both ends.
NODES = 65


class ThetaPrior(NamedPrior):
    """A prior of theta in [0, 1]."""

    owner: ClassVar[str] = "theta prior"
    variable: ClassVar[str] = "theta"

    @abstractmethod
    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density of theta, elementwise."""

    @abstractmethod
    def gradient(self, theta: FloatArray) -> FloatArray:
        """``d log p / d theta_logit``, elementwise."""

    def parameter_gradients(self, theta: FloatArray) -> Slopes:
        """Return the derivatives of ``gradient`` in the prior's own parameters, by name."""
        return {}

    def value(self, theta: FloatArray) -> FloatArray:
        """Log density of theta, elementwise."""
        return self.log_prob(torch.as_tensor(theta)).numpy()

    def for_gene(self, kernel: Kernel, n_isos: int) -> "ThetaPrior":
        """Return the prior as it stands for a gene on a tissue; itself, usually."""
        return self


@dataclass(frozen=True)
class UniformTheta(ThetaPrior):
    """``theta ~ Uniform(0, 1)``, the documented prior: contributes 0."""

    kind: ClassVar[str] = "uniform"

    def log_prob(self, theta: Tensor) -> Tensor:
        """Zeros of the shape of theta."""
        return torch.zeros_like(theta)

    def value(self, theta: FloatArray) -> FloatArray:
        """Zeros of the shape of theta, without a detour through torch."""
        return np.zeros_like(theta)

    def gradient(self, theta: FloatArray) -> FloatArray:
        """Zeros of the shape of theta."""
        return np.zeros_like(theta)

    def distribution(self) -> dist.TorchDistribution:
        """Return the uniform distribution on the closed interval."""
        return ClosedUnitUniform()


@dataclass(frozen=True)
class BetaPrior(ThetaPrior):
    """``theta ~ Beta(a, b)``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a positive finite number.

    Examples
    --------
    >>> BetaPrior(2.0, 2.0).value(np.array([0.5])).round(6)
    array([0.405465])
    """

    a: float = 2.0
    b: float = 2.0
    kind: ClassVar[str] = "beta"

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density of theta, elementwise."""
        constant = math.lgamma(self.a + self.b) - math.lgamma(self.a) - math.lgamma(self.b)
        low = torch.special.xlogy(torch.as_tensor(self.a - 1.0, dtype=theta.dtype), theta)
        high = torch.special.xlog1py(torch.as_tensor(self.b - 1.0, dtype=theta.dtype), -theta)
        made: Tensor = low + high + constant
        return made

    def gradient(self, theta: FloatArray) -> FloatArray:
        """``d log p / d theta_logit``, elementwise."""
        return (self.a - 1.0) * (1.0 - theta) - (self.b - 1.0) * theta

    def parameter_gradients(self, theta: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in a and b."""
        return {"a": 1.0 - theta, "b": -theta}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of theta."""
        return dist.Beta(float64(self.a), float64(self.b))


@dataclass(frozen=True)
class LogitNormalPrior(ThetaPrior):
    """``theta_logit ~ Normal(logit(median), logit_sd)``, stated on theta.

    Parameters
    ----------
    median : float
        Of theta, in (0, 1).
    logit_sd : float

    Raises
    ------
    TypeError, ValueError
        If a parameter is not positive and finite, or the median not below 1.

    Examples
    --------
    >>> LogitNormalPrior(0.5, 1.0).value(np.array([0.5])).round(6)
    array([0.467356])
    """

    median: float = 0.5
    logit_sd: float = 1.5
    kind: ClassVar[str] = "logit_normal"

    def __post_init__(self) -> None:
        check_positive(self, {"logit_sd": self.logit_sd})
        check_positive(self, {"median": self.median}, below=1.0)

    @property
    def _loc(self) -> float:
        return math.log(self.median / (1.0 - self.median))

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density of theta, elementwise; minus infinity at 0 and 1."""
        inside = (theta > 0) & (theta < 1)
        safe = torch.where(inside, theta, torch.full_like(theta, 0.5))
        z = (torch.logit(safe) - self._loc) / self.logit_sd
        constant = math.log(self.logit_sd * math.sqrt(2.0 * math.pi))
        density = -0.5 * z**2 - torch.log(safe) - torch.log1p(-safe) - constant
        return torch.where(inside, density, torch.full_like(density, -math.inf))

    def gradient(self, theta: FloatArray) -> FloatArray:
        """``d log p / d theta_logit``, elementwise."""
        return 2.0 * theta - 1.0 - (logit(theta) - self._loc) / self.logit_sd**2

    def parameter_gradients(self, theta: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in the median and logit_sd."""
        by_loc = 1.0 / (self.median * (1.0 - self.median) * self.logit_sd**2)
        return {
            "median": np.full_like(theta, by_loc),
            "logit_sd": 2.0 * (logit(theta) - self._loc) / self.logit_sd**3,
        }

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of theta."""
        normal = dist.Normal(float64(self._loc), float64(self.logit_sd))
        made: dist.TorchDistribution = dist.TransformedDistribution(normal, [SigmoidTransform()])
        return made


@dataclass(frozen=True, eq=False)
class Distance:
    """The distance ``d(theta)`` from white noise as a cubic spline through its table."""

    knots: FloatArray
    spline: CubicSpline

    @classmethod
    def of_kernel(cls, kernel: Kernel) -> "Distance":
        """Tabulate; ``NODES`` log-determinants, kept as long as the kernel lives."""
        if kernel not in _DISTANCES:
            knots = np.sin(0.5 * np.pi * np.linspace(0.0, 1.0, NODES)) ** 2
            log_dets = [kernel.log_det_terms(t, 1.0 - t)[0] for t in knots]
            distances = np.sqrt(np.maximum(-np.array(log_dets), 0.0))
            if not (np.isfinite(distances).all() and distances[-1] > 1e-6):
                raise ValueError("the PC prior of theta needs V to be regular and not the identity")
            distances[0] = 0.0
            _DISTANCES[kernel] = cls(knots, CubicSpline(knots, distances))
        return _DISTANCES[kernel]

    @property
    def largest(self) -> float:
        """``d(1)``."""
        return float(self.spline(1.0))

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        coefficients = np.ascontiguousarray(self.spline.c)
        return torch.from_numpy(self.knots), torch.from_numpy(coefficients)

    def with_slope(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return d and d', differentiable in theta."""
        knots, coefficients = self._tensors
        place = torch.bucketize(theta.detach().contiguous(), knots[1:-1].contiguous(), right=True)
        a, b, c, e = (row[place] for row in coefficients)
        x = theta - knots[place]
        return ((a * x + b) * x + c) * x + e, (3.0 * a * x + 2.0 * b) * x + c


_DISTANCES: "weakref.WeakKeyDictionary[Kernel, Distance]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class PCTheta(ThetaPrior):
    """The penalised-complexity prior of theta, by ``P(theta > upper) = prob``.

    It prefers white noise to a spatial field. ``for_gene(kernel, P)`` makes it ready; before, it
    has no density.

    Parameters
    ----------
    upper, prob : float
        Both in (0, 1).

    Raises
    ------
    TypeError, ValueError
        If a parameter is not in (0, 1); at ``for_gene`` if ``prob`` is too large for the kernel:
        a prior that decays from white noise cannot put so much beyond ``upper``.

    Examples
    --------
    >>> from splisosm_pyro.maths.covariance.car import CARKernel
    >>> kernel = CARKernel.from_coords(np.arange(20.0)[:, None], k=2, rho=0.9)
    >>> prior = PCTheta(upper=0.5, prob=0.3).for_gene(kernel, 2)
    >>> grid = np.linspace(0.0, 1.0, 2001)
    >>> round(float(np.trapezoid(np.exp(prior.value(grid)), grid)), 4)
    1.0
    """

    upper: float = 0.5
    prob: float = 0.3
    distance: Distance | None = field(default=None, kw_only=True, repr=False)
    kind: ClassVar[str] = "pc"

    def __post_init__(self) -> None:
        check_positive(self, {"upper": self.upper, "prob": self.prob}, below=1.0)

    def for_gene(self, kernel: Kernel, n_isos: int) -> "PCTheta":
        """Return the prior on the kernel's tissue."""
        if self.distance is not None:
            return self
        made = replace(self, distance=Distance.of_kernel(kernel))
        made.rate  # noqa: B018  (raises where prob is out of reach)
        return made

    @property
    def _ready(self) -> Distance:
        if self.distance is None:
            raise ValueError("a pc prior of theta has a density only for a kernel: call for_gene")
        return self.distance

    @cached_property
    def rate(self) -> float:
        """The rate of the exponential of the distance."""
        distance = self._ready
        share = float(distance.spline(self.upper)) / distance.largest
        if self.prob >= 1.0 - share:
            raise ValueError(
                f"prob of the pc prior of theta must be below {1.0 - share:.4g} for this kernel "
                f"and upper={self.upper:g}, came {self.prob:g}"
            )

        def excess(rate: float) -> float:
            below = math.expm1(-rate * share) / math.expm1(-rate)
            return 1.0 - below - self.prob

        return float(brentq(excess, 1e-9, 1e4, xtol=1e-13)) / distance.largest

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density of theta, elementwise."""
        d, slope = self._ready.with_slope(theta)
        mass = -math.expm1(-self.rate * self._ready.largest)
        return math.log(self.rate / mass) - self.rate * d + torch.log(slope)

    def gradient(self, theta: FloatArray) -> FloatArray:
        """``d log p / d theta_logit``, elementwise."""
        spline = self._ready.spline
        slope = spline(theta, 1)
        by_theta = spline(theta, 2) / slope - self.rate * slope
        return np.asarray(by_theta * theta * (1.0 - theta))

    def parameter_gradients(self, theta: FloatArray) -> Slopes:
        """Return the derivative of ``gradient`` in the rate that the statement was converted to."""
        return {"rate": -self._ready.spline(theta, 1) * theta * (1.0 - theta)}

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution of theta."""
        return PCThetaDistribution(self)


class PCThetaDistribution(TorchDistribution):
    """``PCTheta`` for Pyro; draws by the inverse of its distribution function."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = dist.constraints.unit_interval

    def __init__(self, prior: PCTheta, batch_shape: Any = ()) -> None:
        self.prior = prior
        super().__init__(torch.Size(batch_shape), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PCThetaDistribution":
        """Repeat along a larger batch."""
        return PCThetaDistribution(self.prior, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the prior's density."""
        return self.prior.log_prob(value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw from torch's global generator, as every Pyro distribution does."""
        shape = self._extended_shape(torch.Size(sample_shape))
        chance = torch.rand(shape, dtype=torch.float64).numpy()
        distance, rate = self.prior._ready, self.prior.rate
        mass = -math.expm1(-rate * distance.largest)
        wanted = -np.log1p(-chance * mass) / rate
        fine = np.sin(0.5 * np.pi * np.linspace(0.0, 1.0, 4001)) ** 2
        return torch.from_numpy(np.interp(wanted, distance.spline(fine), fine))


THETA_PRIORS: dict[str, type[ThetaPrior]] = {
    "uniform": UniformTheta,
    "beta": BetaPrior,
    "logit_normal": LogitNormalPrior,
    "pc": PCTheta,
}
