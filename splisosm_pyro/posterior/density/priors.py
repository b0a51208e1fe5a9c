"""Proper priors: what a posterior needs beyond the documented model, which is flat in places."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import (
    CoefficientPrior,
    CoefficientPriors,
    GammaPrior,
    NormalPrior,
    PoweredPrior,
    Priors,
    ScalePrior,
    ThetaPrior,
    UniformTheta,
)
from splisosm_pyro.maths.priors.base import MULTIPLES, POWERS


@dataclass(frozen=True)
class PosteriorPriors:
    """Proper priors of ``beta``, ``bias_eta``, ``theta`` and ``sigma``.

    Parameters
    ----------
    beta_sd, bias_sd : float
        Standard deviations of normal priors of every entry of ``beta`` and ``bias_eta``, logit
        scale; used where ``beta`` or ``bias`` is not given.
    sigma : ScalePrior
        Prior of each component of the scale, on the variable it is stated on.
    theta : ThetaPrior
        Prior of each component of the spatial share, on theta.
    beta, bias : CoefficientPrior, optional
        Priors of every entry of ``beta`` and ``bias_eta`` in the place of the normal ones.

    Raises
    ------
    TypeError, ValueError
        If a standard deviation is not a positive finite number, or a prior is improper.

    Examples
    --------
    >>> priors = PosteriorPriors()
    >>> round(float(priors.log_coefficients(np.zeros((2, 1)))), 6)
    -6.443047
    """

    beta_sd: float = 10.0
    bias_sd: float = 10.0
    sigma: ScalePrior = field(default_factory=GammaPrior)
    theta: ThetaPrior = field(default_factory=UniformTheta)
    beta: CoefficientPrior | None = None
    bias: CoefficientPrior | None = None

    def __post_init__(self) -> None:
        for name in ("beta_sd", "bias_sd"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, came {type(value).__name__}")
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, came {value}")
        kinds = {"sigma": ScalePrior, "theta": ThetaPrior}
        kinds |= {"beta": CoefficientPrior, "bias": CoefficientPrior}
        for name, kind in kinds.items():
            prior = getattr(self, name)
            if name in ("beta", "bias") and prior is None:
                continue
            if not (isinstance(prior, kind) and prior.proper):
                raise TypeError(
                    f"{name} must have a proper prior, a {kind.__name__}, "
                    f"came {type(prior).__name__}"
                )

    @classmethod
    def of_model(cls, own: Priors) -> "PosteriorPriors":
        """Take the model's priors; sigma ~ Gamma(2, rate 0.3) where the model has none."""
        return cls(
            sigma=own.sigma if own.sigma.proper else GammaPrior(),
            theta=own.theta,
            beta=own.beta if own.beta.proper else None,
            bias=own.bias if own.bias.proper else None,
        )

    def for_gene(self, kernel: Kernel, n_isos: int) -> "PosteriorPriors":
        """Return the priors as they stand for a gene of P isoforms on a tissue."""
        sigma, theta = self.sigma.for_gene(kernel, n_isos), self.theta.for_gene(kernel, n_isos)
        if sigma is self.sigma and theta is self.theta:
            return self
        return PosteriorPriors(self.beta_sd, self.bias_sd, sigma, theta, self.beta, self.bias)

    @cached_property
    def coefficients(self) -> CoefficientPriors:
        """The priors of the coefficients."""
        return CoefficientPriors(
            self.beta or NormalPrior(self.beta_sd), self.bias or NormalPrior(self.bias_sd)
        )

    def scales(self, n_rows: int) -> FloatArray:
        """Return the scale of every row of the coefficients (F+1, Q), (F+1, 1).

        One over the root of the curvature at the centre: the standard deviation of a normal prior.
        """
        return np.asarray(self.coefficients.precision(n_rows) ** -0.5)

    def log_coefficients(self, coefficients: FloatArray) -> FloatArray:
        """Log density of the coefficients (*, F+1, Q), the intercept in the last row; (*,)."""
        return self.coefficients.value(coefficients)

    def by_name(self, coefficients: FloatArray) -> dict[str, FloatArray]:
        """Log density of ``beta`` and of ``bias_eta``, (*,) each, from (*, F+1, Q)."""
        return self.coefficients.by_name(coefficients)

    def slope_coefficients(self, coefficients: FloatArray) -> FloatArray:
        """Return the gradient of ``log_coefficients``, (F+1, Q)."""
        return self.coefficients.gradient(coefficients)

    def log_sigma_jacobian(self, sigma: FloatArray) -> FloatArray:
        """``log |d variable / d log sigma|`` (*,) of sigma (*, C).

        The variable is the one that the prior is stated on.
        """
        constant = math.log(MULTIPLES[self.sigma.variable])
        return np.asarray((self.jacobian_slope * np.log(sigma) + constant).sum(axis=-1))

    @property
    def jacobian_slope(self) -> float:
        """Return its derivative in every log sigma: the variable's power of sigma."""
        return float(POWERS[self.sigma.variable])

    def sample(
        self,
        n_draws: int,
        n_rows: int,
        n_logits: int,
        n_components: int,
        generator: np.random.Generator,
    ) -> dict[str, FloatArray]:
        """Draw ``coefficients`` (N, F+1, Q), ``sigma`` and ``theta`` (N, C).

        Torch's global generator is seeded for the draws and put back afterwards.
        """
        own, sizes = self.coefficients, (n_draws, n_components)
        scale: ScalePrior = self.sigma
        while isinstance(scale, PoweredPrior):  # a power has no distribution; near 1 it is this one
            scale = scale.prior
        with torch.random.fork_rng():
            torch.manual_seed(int(generator.integers(2**62)))
            beta = own.beta.distribution().sample((n_draws, n_rows - 1, n_logits))
            bias = own.bias.distribution().sample((n_draws, 1, n_logits))
            drawn = scale.distribution().sample(sizes).to(torch.float64).numpy()
            theta = self.theta.distribution().sample(sizes).to(torch.float64).numpy()
        power = POWERS[scale.variable]
        return {
            "coefficients": torch.cat([beta, bias], dim=1).numpy(),
            "sigma": np.asarray(drawn ** (1.0 / power) if power else np.exp(drawn)),
            "theta": theta,
        }

    def attributes(self) -> dict[str, str]:
        """Return the priors in words, by parameter."""
        own = self.coefficients
        words = {"prior_beta": own.beta, "prior_bias_eta": own.bias}
        return {
            **{name: _coefficient_words(prior) for name, prior in words.items()},
            f"prior_{self.sigma.variable}": self.sigma.words,
            "prior_theta": "Uniform(0, 1)"
            if isinstance(self.theta, UniformTheta)
            else self.theta.words,
        }


def _coefficient_words(prior: CoefficientPrior) -> str:
    """Return a normal prior as statisticians write it, others by their parameters."""
    if isinstance(prior, NormalPrior):
        return f"Normal({prior.loc:g}, {prior.scale:g})"
    return prior.words
