"""Proper priors: what a posterior needs beyond the documented model, which is flat in places."""

import math
from dataclasses import dataclass
from typing import Any

from splisosm_pyro.maths.priors import (
    CoefficientPrior,
    GammaPrior,
    NormalPrior,
    Priors,
    ScalePrior,
    ThetaPrior,
    UniformTheta,
)

# The documented priors of sigma and theta.
GAMMA, UNIFORM = GammaPrior(), UniformTheta()


@dataclass(frozen=True, init=False)
class PosteriorPriors(Priors):
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
    >>> priors.sigma.words, priors.beta.words
    ('gamma(alpha=2, beta=0.3)', 'normal(scale=10, loc=0)')
    """

    beta_sd: float
    bias_sd: float

    def __init__(
        self,
        beta_sd: float = 10.0,
        bias_sd: float = 10.0,
        sigma: ScalePrior = GAMMA,
        theta: ThetaPrior = UNIFORM,
        beta: CoefficientPrior | None = None,
        bias: CoefficientPrior | None = None,
    ) -> None:
        for name, value in {"beta_sd": beta_sd, "bias_sd": bias_sd}.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, came {type(value).__name__}")
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, came {value}")
            object.__setattr__(self, name, value)
        beta = NormalPrior(beta_sd) if beta is None else beta
        bias = NormalPrior(bias_sd) if bias is None else bias
        kinds = {"sigma": (sigma, ScalePrior), "theta": (theta, ThetaPrior)}
        kinds |= {"beta": (beta, CoefficientPrior), "bias": (bias, CoefficientPrior)}
        for name, (prior, kind) in kinds.items():
            if not (isinstance(prior, kind) and prior.proper):
                raise TypeError(
                    f"{name} must have a proper prior, a {kind.__name__}, "
                    f"came {type(prior).__name__}"
                )
        super().__init__(sigma, theta, beta, bias)

    @classmethod
    def asked(cls, given: Any, own: Priors | None = None) -> "PosteriorPriors":
        """Return what a user asks for; if nothing, the model's own priors, made proper."""
        if given is None:
            return cls.of_model(own or Priors())
        if not isinstance(given, cls):
            raise TypeError(f"prior must be a PosteriorPriors, came {type(given).__name__}")
        return given

    @classmethod
    def of_model(cls, own: Priors) -> "PosteriorPriors":
        """Take the model's priors; sigma ~ Gamma(2, rate 0.3) where the model has none."""
        return cls(
            sigma=own.sigma if own.sigma.proper else GAMMA,
            theta=own.theta,
            beta=own.beta if own.beta.proper else None,
            bias=own.bias if own.bias.proper else None,
        )
