"""Proper priors: what a posterior needs beyond the documented model, which is flat in places."""

import math
from dataclasses import dataclass, field

import numpy as np

from splisosm_pyro.maths.priors import GammaPrior, InvGammaPrior, NoPrior, Prior
from splisosm_pyro.maths.spot import FloatArray


@dataclass(frozen=True)
class PosteriorPriors:
    """``beta ~ N(0, beta_sd)``, ``bias_eta ~ N(0, bias_sd)``, ``theta ~ Uniform(0, 1)``, ``sigma``.

    Parameters
    ----------
    beta_sd, bias_sd : float
        Standard deviations of every entry of ``beta`` and ``bias_eta``, logit scale.
    sigma : GammaPrior or InvGammaPrior
        Prior of each component of the scale, on the variable it is stated on.

    Raises
    ------
    TypeError, ValueError
        If a standard deviation is not a positive finite number, or the prior of sigma is improper.

    Examples
    --------
    >>> priors = PosteriorPriors()
    >>> round(float(priors.log_coefficients(np.zeros((2, 1)))), 6)
    -6.443047
    """

    beta_sd: float = 10.0
    bias_sd: float = 10.0
    sigma: Prior = field(default_factory=GammaPrior)

    def __post_init__(self) -> None:
        for name in ("beta_sd", "bias_sd"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, came {type(value).__name__}")
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, came {value}")
        if not isinstance(self.sigma, GammaPrior | InvGammaPrior):
            raise TypeError(
                "sigma must have a proper prior, GammaPrior or InvGammaPrior, "
                f"came {type(self.sigma).__name__}"
            )

    @classmethod
    def of_model(cls, prior: Prior) -> "PosteriorPriors":
        """Take the model's prior of sigma, or Gamma(2, rate 0.3) where the model has none."""
        return cls() if isinstance(prior, NoPrior) else cls(sigma=prior)

    def scales(self, n_rows: int) -> FloatArray:
        """Return the standard deviation of every row of the coefficients (F+1, Q), (F+1, 1)."""
        return np.repeat([self.beta_sd, self.bias_sd], [n_rows - 1, 1])[:, None]

    def log_coefficients(self, coefficients: FloatArray) -> FloatArray:
        """Log density of the coefficients (*, F+1, Q), the intercept in the last row; (*,)."""
        by_name = self.by_name(coefficients)
        return by_name["beta"] + by_name["bias_eta"]

    def by_name(self, coefficients: FloatArray) -> dict[str, FloatArray]:
        """Log density of ``beta`` and of ``bias_eta``, (*,) each, from (*, F+1, Q)."""
        scales = self.scales(coefficients.shape[-2])
        each = -0.5 * (coefficients / scales) ** 2 - np.log(scales * math.sqrt(2.0 * math.pi))
        return {
            "beta": np.asarray(each[..., :-1, :].sum(axis=(-1, -2))),
            "bias_eta": np.asarray(each[..., -1, :].sum(axis=-1)),
        }

    def slope_coefficients(self, coefficients: FloatArray) -> FloatArray:
        """Return the gradient of ``log_coefficients``, (F+1, Q)."""
        return np.asarray(-coefficients / self.scales(len(coefficients)) ** 2)

    def log_sigma_jacobian(self, sigma: FloatArray) -> FloatArray:
        """``log |d variable / d log sigma|`` (*,) of sigma (*, C).

        The variable is the one that the prior is stated on.
        """
        if self.sigma.variable == "sigma_sq":
            return np.asarray((2.0 * np.log(sigma) + math.log(2.0)).sum(axis=-1))
        return np.asarray(np.log(sigma).sum(axis=-1))

    def sample(
        self,
        n_draws: int,
        n_rows: int,
        n_logits: int,
        n_components: int,
        generator: np.random.Generator,
    ) -> dict[str, FloatArray]:
        """Draw ``coefficients`` (N, F+1, Q), ``sigma`` and ``theta`` (N, C)."""
        prior = self.sigma
        assert not isinstance(prior, NoPrior)
        gamma = generator.gamma(prior.alpha, 1.0 / prior.beta, (n_draws, n_components))
        normal = generator.standard_normal((n_draws, n_rows, n_logits))
        return {
            "coefficients": self.scales(n_rows) * normal,
            "sigma": gamma if prior.variable == "sigma" else 1.0 / np.sqrt(gamma),
            "theta": generator.uniform(size=(n_draws, n_components)),
        }

    @property
    def jacobian_slope(self) -> float:
        """Return its derivative in every log sigma: the variable's power of sigma."""
        return 2.0 if self.sigma.variable == "sigma_sq" else 1.0

    def attributes(self) -> dict[str, str]:
        """Return the priors in words, by parameter."""
        params = ", ".join(f"{name}={value:g}" for name, value in self.sigma.params.items())
        return {
            "prior_beta": f"Normal(0, {self.beta_sd:g})",
            "prior_bias_eta": f"Normal(0, {self.bias_sd:g})",
            f"prior_{self.sigma.variable}": f"{self.sigma.name}({params})",
            "prior_theta": "Uniform(0, 1)",
        }
