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

# What holds coefficients where nobody says: little, and whatever the units of the covariates.
WEAK = NormalPrior(10.0, standardised=True)
# The documented priors of sigma and theta.
GAMMA, UNIFORM = GammaPrior(), UniformTheta()


@dataclass(frozen=True, init=False)
class PosteriorPriors(Priors):
    """Proper priors of ``beta``, ``bias_eta``, ``theta`` and ``sigma``.

    Parameters
    ----------
    beta_sd, bias_sd : float, optional
        Standard deviations of normal priors of every entry of ``beta`` and ``bias_eta``, logit
        scale, in the units of the covariates; used where ``beta`` or ``bias`` is not given.
        By default 10 for the effect of one standard deviation of a number, or of the step between
        two values (an indicator's 0 and 1), and for the intercept at the covariates' means:
        whatever their units.
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
    ('gamma(alpha=2, beta=0.3)', 'normal(scale=10, loc=0), standardised')
    """

    beta_sd: float | None
    bias_sd: float | None

    def __init__(
        self,
        beta_sd: float | None = None,
        bias_sd: float | None = None,
        sigma: ScalePrior = GAMMA,
        theta: ThetaPrior = UNIFORM,
        beta: CoefficientPrior | None = None,
        bias: CoefficientPrior | None = None,
    ) -> None:
        for name, value in {"beta_sd": beta_sd, "bias_sd": bias_sd}.items():
            object.__setattr__(self, name, _checked(name, value))
        beta = _normal(beta_sd) if beta is None else beta
        bias = _normal(bias_sd) if bias is None else bias
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
        """Return what a user asks for, made proper; if nothing, the model's own priors."""
        if given is None:
            return cls.of_model(own or Priors())
        if isinstance(given, cls):
            return given
        if not isinstance(given, Priors):
            raise TypeError(f"prior must be a PosteriorPriors, came {type(given).__name__}")
        return cls.of_model(given)

    @classmethod
    def of_model(cls, own: Priors) -> "PosteriorPriors":
        """Take the model's priors; sigma ~ Gamma(2, rate 0.3) where the model has none."""
        return cls(
            sigma=own.sigma if own.sigma.proper else GAMMA,
            theta=own.theta,
            beta=own.beta if own.beta.proper else None,
            bias=own.bias if own.bias.proper else None,
        )


def _checked(name: str, value: float | None) -> float | None:
    """Return a standard deviation, or None where none is given."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, came {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, came {value}")
    return value


def _normal(sd: float | None) -> NormalPrior:
    """Return a normal prior of that standard deviation in the user's units, or the default."""
    return WEAK if sd is None else NormalPrior(sd)
