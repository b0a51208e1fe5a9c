"""The priors of all parameters together: the sum of their logarithms, its slope, Jacobians, draws.

Parameters are ``sigma`` and ``theta`` (*, C), and the coefficients B (*, F+1, Q): ``beta``, with
``bias_eta`` in the last row, each on the columns that its prior is stated on
(``CoefficientPriors.stated``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors.base import MULTIPLES, POWERS, ScalePrior, Variable
from splisosm_pyro.maths.priors.by_name import (
    as_coefficient_prior,
    as_theta_prior,
    prior_from_name,
)
from splisosm_pyro.maths.priors.coefficients import (
    STANDARDISED,
    CoefficientPrior,
    CoefficientPriors,
    NormalPrior,
)
from splisosm_pyro.maths.priors.theta import ThetaPrior, UniformTheta
from splisosm_pyro.maths.priors.wrapped import stated_on


@dataclass(frozen=True, init=False)
class Priors:
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
    >>> priors = Priors("half_normal", theta=("beta", {"a": 1.0}), beta=("normal", {}))
    >>> priors.sigma.words, priors.theta.words, priors.beta.words
    ('half_normal(scale=1)', 'beta(a=1, b=2)', 'normal(scale=10, loc=0)')
    """

    sigma: ScalePrior
    theta: ThetaPrior
    beta: CoefficientPrior
    bias: CoefficientPrior

    def __init__(
        self, sigma: Any = "none", theta: Any = None, beta: Any = None, bias: Any = None
    ) -> None:
        checked = {
            "sigma": prior_from_name(*(sigma if isinstance(sigma, tuple) else (sigma,))),
            "theta": as_theta_prior(theta),
            "beta": as_coefficient_prior(beta, "beta prior"),
            "bias": as_coefficient_prior(bias, "bias prior"),
        }
        for name, prior in checked.items():
            object.__setattr__(self, name, prior)

    @classmethod
    def of(cls, given: Any, params: Mapping[str, float] | None = None) -> "Priors":
        """Return priors as they are, or those of sigma alone, by its name and parameters."""
        if not isinstance(given, Priors):
            return Priors(prior_from_name(given, params))
        if params:
            raise ValueError("var_prior_model_params belong to the name of a prior of sigma")
        return given

    def for_gene(self, kernel: Kernel, n_isos: int) -> Self:
        """Return the priors as they stand for a gene of P isoforms on a tissue."""
        sigma, theta = self.sigma.for_gene(kernel, n_isos), self.theta.for_gene(kernel, n_isos)
        if sigma is self.sigma and theta is self.theta:
            return self
        return replace(self, sigma=sigma, theta=theta)

    def stated_on(self, variable: Variable) -> Self:
        """Return the same beliefs, that of sigma as a density of another variable."""
        return replace(self, sigma=stated_on(self.sigma, variable))

    @property
    def coefficients(self) -> CoefficientPriors:
        """The priors of beta and bias_eta."""
        return CoefficientPriors(self.beta, self.bias)

    def by_name(
        self, coefficients: FloatArray, theta: FloatArray | None = None,
        sigma: FloatArray | None = None,
    ) -> dict[str, FloatArray]:  # fmt: skip
        """Log density (*,) of every parameter that is given, by the name of its variable."""
        parts = self.coefficients.by_name(coefficients)
        if theta is not None:
            parts["theta"] = self.theta.value(theta).sum(axis=-1)
        if sigma is not None:
            parts[self.sigma.variable] = self.sigma.value(sigma).sum(axis=-1)
        return parts

    def value(
        self,
        sigma: FloatArray,
        theta: FloatArray,
        coefficients: FloatArray,
        log_turn: float = 0.0,
    ) -> FloatArray:  # (*,)
        """Return the sum of all log priors, each on the variable it is stated on.

        ``log_turn`` is ``log |det M|`` where the coefficients are turned (``maths/coding.py``).
        """
        parts = sum(self.by_name(coefficients, theta, sigma).values())
        return np.asarray(parts - log_turn * self.coefficients.n_proper(coefficients.shape[-2]))

    def log_prob(
        self, sigma: Tensor, theta: Tensor, beta: Tensor, bias_eta: Tensor
    ) -> Tensor:  # (*,)
        """Return the same sum of tensors, differentiable; beta (*, F, Q), bias_eta (*, Q)."""
        of_variances = self.sigma.log_prob(sigma).sum(-1) + self.theta.log_prob(theta).sum(-1)
        return of_variances + self.coefficients.log_prob(beta, bias_eta)

    def slopes(
        self, sigma: FloatArray, theta: FloatArray, coefficients: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return its gradient in log sigma, theta_logit and the coefficients."""
        return (
            self.sigma.gradient(sigma),
            self.theta.gradient(theta),
            self.coefficients.gradient(coefficients),
        )

    def log_jacobian(self, theta: FloatArray, sigma: FloatArray | None = None) -> FloatArray:
        """``log |d (variable, theta) / d (log sigma, theta_logit)|``, (*,).

        The variable is the one that the prior of sigma is stated on; None: sigma does not move.
        """
        by_theta = np.asarray((np.log(theta) + np.log1p(-theta)).sum(axis=-1))
        if sigma is None:
            return by_theta
        power, multiple = POWERS[self.sigma.variable], MULTIPLES[self.sigma.variable]
        by_sigma = (power * np.log(sigma) + math.log(multiple)).sum(axis=-1)
        return np.asarray(by_theta + by_sigma)

    def slopes_in_u(
        self, sigma: FloatArray, theta: FloatArray, coefficients: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the gradients of all log priors and of the Jacobian together."""
        by_sigma, by_theta, by_coefficients = self.slopes(sigma, theta, coefficients)
        power = POWERS[self.sigma.variable]
        return by_sigma + power, by_theta + 1.0 - 2.0 * theta, by_coefficients

    def sample(
        self,
        n_draws: int,
        shape: tuple[int, int],
        n_components: int,
        generator: np.random.Generator,
    ) -> dict[str, FloatArray]:
        """Draw ``coefficients`` (N, F+1, Q) of that shape, ``sigma`` and ``theta`` (N, C).

        Torch's global generator is seeded for the draws and put back afterwards.
        """
        (n_rows, n_logits), sizes = shape, (n_draws, n_components)
        with torch.random.fork_rng():
            torch.manual_seed(int(generator.integers(2**62)))
            beta = self.beta.distribution().sample((n_draws, n_rows - 1, n_logits))
            bias = self.bias.distribution().sample((n_draws, 1, n_logits))
            sigma = self.sigma.draw(sizes)
            theta = self.theta.distribution().sample(sizes).to(torch.float64).numpy()
        coefficients = torch.cat([beta, bias], dim=1).numpy()
        return {"coefficients": coefficients, "sigma": sigma, "theta": theta}

    def attributes(self) -> dict[str, str]:
        """Return the priors in words, by parameter."""
        uniform = isinstance(self.theta, UniformTheta)
        return {
            "prior_beta": _as_written(self.beta),
            "prior_bias_eta": _as_written(self.bias),
            f"prior_{self.sigma.variable}": self.sigma.words,
            "prior_theta": "Uniform(0, 1)" if uniform else self.theta.words,
        }


def _as_written(prior: CoefficientPrior) -> str:
    """Return a normal prior as statisticians write it, others by their parameters."""
    if isinstance(prior, NormalPrior):
        return f"Normal({prior.loc:g}, {prior.scale:g})" + STANDARDISED * prior.standardised
    return prior.words


ModelPriors = Priors
