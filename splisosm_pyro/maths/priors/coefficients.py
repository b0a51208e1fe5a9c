"""Priors of the coefficients beta and bias_eta, every entry alike, on the logit scale.

A prior is stated on a coefficient in the units of the user's covariate, that of ``bias_eta`` on the
intercept where all covariates are 0. One that is ``standardised`` is stated on the effect of one
standard deviation of a number, or of the step between two values such as 0 and 1 of an indicator,
and on the intercept at the covariates' means: it means the same whatever the units.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors.base import NamedPrior, Slopes, check_positive, float64
from splisosm_pyro.maths.priors.pyro_improper import Flat

# Said of a prior that does not depend on the covariates' units.
STANDARDISED = ", standardised"


class CoefficientPrior(NamedPrior):
    """A prior of one coefficient."""

    owner: ClassVar[str] = "coefficient prior"
    variable: ClassVar[str] = "coefficient"
    standardised: bool = False

    @abstractmethod
    def log_prob(self, b: Tensor) -> Tensor:
        """Log density of the coefficient, elementwise."""

    @abstractmethod
    def gradient(self, b: FloatArray) -> FloatArray:
        """``d log p / d b``, elementwise."""

    @property
    @abstractmethod
    def precision(self) -> float:
        """``-d^2 log p / d b^2`` at the centre, its largest value."""

    @property
    def words(self) -> str:
        """The prior with its parameters, and whether it is stated on standard columns."""
        return super().words + (STANDARDISED if self.standardised else "")

    def parameter_gradients(self, b: FloatArray) -> Slopes:
        """Return the derivatives of ``gradient`` in the prior's own parameters, by name."""
        return {}

    def value(self, b: FloatArray) -> FloatArray:
        """Log density of the coefficient, elementwise."""
        return self.log_prob(torch.as_tensor(b)).numpy()


@dataclass(frozen=True)
class FlatPrior(CoefficientPrior):
    """No prior, the documented one: contributes 0."""

    kind: ClassVar[str] = "none"

    @property
    def proper(self) -> bool:
        """No."""
        return False

    @property
    def precision(self) -> float:
        """0."""
        return 0.0

    def log_prob(self, b: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(b)

    def gradient(self, b: FloatArray) -> FloatArray:
        """Zeros."""
        return np.zeros_like(b)

    def distribution(self) -> dist.TorchDistribution:
        """Return the flat improper distribution on the real line."""
        return Flat(dist.constraints.real, (), ())


@dataclass(frozen=True)
class NormalPrior(CoefficientPrior):
    """``b ~ Normal(loc, scale)``.

    Raises
    ------
    TypeError, ValueError
        If the scale is not a positive finite number or loc not finite.

    Examples
    --------
    >>> NormalPrior(scale=2.0).value(np.array([1.0])).round(6)
    array([-1.737086])
    """

    scale: float = 10.0
    loc: float = 0.0
    standardised: bool = field(default=False, kw_only=True)
    kind: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        check_positive(self, {"scale": self.scale})
        _check_loc(self, self.loc)

    @property
    def precision(self) -> float:
        """``1 / scale^2``."""
        return 1.0 / self.scale**2

    def log_prob(self, b: Tensor) -> Tensor:
        """Log density, elementwise."""
        out: Tensor = self._log_density(b)
        return out

    def value(self, b: FloatArray) -> FloatArray:
        """Log density of the coefficient, elementwise, without a detour through torch."""
        return np.asarray(self._log_density(b))

    def _log_density(self, b: Any) -> Any:
        """Take a tensor or an array."""
        constant = math.log(self.scale) + 0.5 * math.log(2.0 * math.pi)
        return -0.5 * ((b - self.loc) / self.scale) ** 2 - constant

    def gradient(self, b: FloatArray) -> FloatArray:
        """``d log p / d b``, elementwise."""
        return (self.loc - b) / self.scale**2

    def parameter_gradients(self, b: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in scale and loc."""
        return {
            "scale": 2.0 * (b - self.loc) / self.scale**3,
            "loc": np.full_like(b, self.precision),
        }

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution."""
        return dist.Normal(float64(self.loc), float64(self.scale))


@dataclass(frozen=True)
class StudentTPrior(CoefficientPrior):
    """``b ~ StudentT(df, loc, scale)``; not log-concave: a far coefficient is let go.

    Raises
    ------
    TypeError, ValueError
        If df or scale is not a positive finite number or loc not finite.

    Examples
    --------
    >>> StudentTPrior(df=1.0, scale=1.0).value(np.array([0.0])).round(6)  # 1 / pi
    array([-1.14473])
    """

    df: float = 3.0
    scale: float = 2.5
    loc: float = 0.0
    standardised: bool = field(default=False, kw_only=True)
    kind: ClassVar[str] = "student_t"

    def __post_init__(self) -> None:
        check_positive(self, {"df": self.df, "scale": self.scale})
        _check_loc(self, self.loc)

    @property
    def precision(self) -> float:
        """``(df + 1) / (df scale^2)``."""
        return (self.df + 1.0) / (self.df * self.scale**2)

    def log_prob(self, b: Tensor) -> Tensor:
        """Log density, elementwise."""
        df = self.df
        constant = math.lgamma(0.5 * (df + 1)) - math.lgamma(0.5 * df)
        constant -= 0.5 * math.log(df * math.pi) + math.log(self.scale)
        return constant - 0.5 * (df + 1) * torch.log1p(((b - self.loc) / self.scale) ** 2 / df)

    def gradient(self, b: FloatArray) -> FloatArray:
        """``d log p / d b``, elementwise."""
        apart = b - self.loc
        return -(self.df + 1.0) * apart / (self.df * self.scale**2 + apart**2)

    def parameter_gradients(self, b: FloatArray) -> Slopes:
        """Return derivatives of ``gradient`` in df, scale and loc."""
        df, apart, s2 = self.df, b - self.loc, self.scale**2
        below = df * s2 + apart**2
        return {
            "df": -apart / below + (df + 1.0) * apart * s2 / below**2,
            "scale": (df + 1.0) * apart * 2.0 * df * self.scale / below**2,
            "loc": (df + 1.0) * (df * s2 - apart**2) / below**2,
        }

    def distribution(self) -> dist.TorchDistribution:
        """Return the Pyro distribution."""
        made: dist.TorchDistribution = dist.StudentT(
            float64(self.df), float64(self.loc), float64(self.scale)
        )
        return made


@dataclass(frozen=True)
class CoefficientPriors:
    """Priors of ``beta`` and of ``bias_eta``, seen on the coefficients B (F+1, Q).

    The intercept is the last row of B.
    """

    beta: CoefficientPrior = field(default_factory=FlatPrior)
    bias: CoefficientPrior = field(default_factory=FlatPrior)

    @property
    def proper(self) -> tuple[bool, bool]:
        """Whether each of them is a prior at all."""
        return self.beta.proper, self.bias.proper

    @property
    def flat(self) -> bool:
        """Whether there is no prior on any coefficient."""
        return not any(self.proper)

    def n_proper(self, n_rows: int) -> int:
        """How many of the F+1 rows of B have a prior."""
        return (n_rows - 1) * self.beta.proper + int(self.bias.proper)

    def stated(self, back: FloatArray) -> FloatArray:
        """Return what takes standard coefficients to those that the priors are stated on.

        ``back`` (F+1, F+1) takes them to the user's; a prior that is ``standardised`` is stated on
        the standard ones themselves.
        """
        rows = np.repeat([self.beta.standardised, self.bias.standardised], [len(back) - 1, 1])
        return np.where(rows[:, None], np.eye(len(back)), back)

    def by_name(self, coefficients: FloatArray) -> dict[str, FloatArray]:
        """Log density of ``beta`` and of ``bias_eta``, (*,) each, from (*, F+1, Q)."""
        parts = {
            "beta": (self.beta, coefficients[..., :-1, :]),
            "bias_eta": (self.bias, coefficients[..., -1:, :]),
        }
        nil = np.zeros(coefficients.shape[:-2])  # a flat one counts as zero
        return {
            name: prior.value(own).sum(axis=(-1, -2)) if prior.proper and own.size else nil
            for name, (prior, own) in parts.items()
        }

    def value(self, coefficients: FloatArray) -> FloatArray:
        """Log density of the coefficients (*, F+1, Q); (*,)."""
        return np.asarray(sum(self.by_name(coefficients).values()))

    def log_prob(self, beta: Tensor, bias_eta: Tensor) -> Tensor:
        """Log density of ``beta`` (*, F, Q) and ``bias_eta`` (*, Q); (*,), differentiable."""
        return self.beta.log_prob(beta).sum((-1, -2)) + self.bias.log_prob(bias_eta).sum(-1)

    def gradient(self, coefficients: FloatArray) -> FloatArray:
        """Return the gradient in the coefficients, (*, F+1, Q)."""
        beta, bias = coefficients[..., :-1, :], coefficients[..., -1:, :]
        return np.concatenate([self.beta.gradient(beta), self.bias.gradient(bias)], axis=-2)

    def precision(self, n_rows: int) -> FloatArray:
        """Return the curvature at the centre of every row of B, (F+1, 1)."""
        return np.repeat([self.beta.precision, self.bias.precision], [n_rows - 1, 1])[:, None]


COEFFICIENT_PRIORS: dict[str, type[CoefficientPrior]] = {
    "none": FlatPrior,
    "normal": NormalPrior,
    "student_t": StudentTPrior,
}


def _check_loc(prior: NamedPrior, loc: Any) -> None:
    """Refuse a centre that is no finite number."""
    if isinstance(loc, bool) or not isinstance(loc, int | float | np.number):
        raise TypeError(f"loc of {prior.name!r} must be a number, came {type(loc).__name__}")
    if not math.isfinite(loc):
        raise ValueError(f"loc of {prior.name!r} must be finite, came {loc}")
