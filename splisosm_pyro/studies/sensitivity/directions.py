"""Which priors a sensitivity study looks at, and along which directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import (
    BetaPrior,
    CoefficientPrior,
    CoefficientPriors,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    InvGammaPrior,
    NoPrior,
    PCPrior,
    PCUsagePrior,
    Priors,
    ScalePrior,
    ThetaPrior,
    UniformTheta,
    Variable,
)

Parameter = Literal["sigma", "theta", "beta", "bias_eta"]
# The rows of the coefficients that a prior of that name is on.
ROWS = {"beta": slice(None, -1), "bias_eta": slice(-1, None)}
# What a refit compares by default: weak and strong beliefs, with light and heavy tails.
DEFAULT_GRID: tuple[ScalePrior, ...] = (
    NoPrior(),
    GammaPrior(),
    InvGammaPrior(),
    HalfNormalPrior(),
    HalfTPrior(),
    PCPrior(),
    PCUsagePrior(),
)
# What 'local' asks of a model without a prior of sigma or theta.
DEFAULT_DIRECTIONS = (GammaPrior(), HalfNormalPrior())
DEFAULT_SHARE = BetaPrior(2.0, 2.0)


@dataclass(frozen=True)
class Direction:
    """One prior whose weight a study changes, its density to the power ``weight``.

    Attributes
    ----------
    label
        The prior in words, with the parameter it is on.
    of
        The parameter.
    prior
        The prior; that of sigma as a density of the variable in which the mode is meant.
    weight
        1: a prior that the model has; 0: one that it has not, to be brought in.
    """

    label: str
    of: Parameter
    prior: Any
    weight: float

    @property
    def parameters(self) -> tuple[str, ...]:
        """The prior's own parameters in which the mode is differentiated."""
        return tuple(self.prior.parameter_gradients(np.full(1, 0.5)))

    def slope(
        self, space: OuterSpace, variances: Variances, coefficients: FloatArray
    ) -> FloatArray:  # (K,)
        """Return the gradient of the log prior in the search vector."""
        at = self._at(space, variances, coefficients)
        return self._laid(space, self.prior.gradient(at))

    def parameter_slopes(
        self, space: OuterSpace, variances: Variances, coefficients: FloatArray
    ) -> dict[str, FloatArray]:
        """Return the derivatives of ``slope`` in the prior's own parameters."""
        found = self.prior.parameter_gradients(self._at(space, variances, coefficients))
        return {name: self._laid(space, slope) for name, slope in found.items()}

    def _at(self, space: OuterSpace, variances: Variances, coefficients: FloatArray) -> FloatArray:
        """Return the values that the prior is stated on."""
        if self.of in ROWS:
            return (self._stated(space) @ coefficients)[ROWS[self.of]]
        return {"sigma": variances.sigma, "theta": variances.theta}[self.of]

    def _stated(self, space: OuterSpace) -> FloatArray:
        """Return what takes coefficients to those that the prior is stated on, (F+1, F+1)."""
        return CoefficientPriors(self.prior, self.prior).stated(space.back)

    def _laid(self, space: OuterSpace, slope: FloatArray) -> FloatArray:
        """Lay the derivative in those values out as a search vector."""
        nil = np.zeros(space.n_components)
        coefficients = np.zeros(space.free.shape)
        if self.of in ROWS:
            coefficients[ROWS[self.of]] = slope
            coefficients = self._stated(space).T @ coefficients
        by_sigma, by_theta = (slope if self.of == name else nil for name in ("sigma", "theta"))
        return space.pack(by_sigma, by_theta, coefficients)


def labelled(priors: Any, own: Priors) -> dict[str, Priors]:
    """Return priors by label: a mapping as it is, a sequence by its priors' words.

    An entry that is no ``ModelPriors`` replaces the model's prior of sigma, or of theta.
    """
    if priors is None:
        priors = DEFAULT_GRID
    if isinstance(priors, Mapping):
        return {str(label): _complete(prior, own) for label, prior in priors.items()}
    alone = isinstance(priors, str | tuple) and not _is_sequence_of_priors(priors)
    if alone or not isinstance(priors, Sequence):
        priors = [priors]
    complete = [(prior, _complete(prior, own)) for prior in priors]
    found = {_words(prior, whole): whole for prior, whole in complete}
    if len(found) < len(complete):
        raise ValueError("priors must differ from each other; give them labels in a dict")
    if not found:
        raise ValueError("priors must hold at least one prior, came none")
    return found


def _is_sequence_of_priors(given: Any) -> bool:
    """Whether a tuple is one of several priors, and not a name with its parameters."""
    named = len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], Mapping)
    return isinstance(given, tuple) and not named


def _complete(prior: Any, own: Priors) -> Priors:
    """Fill in the model's own priors."""
    if isinstance(prior, Priors):
        return prior
    if isinstance(prior, ThetaPrior):
        return Priors(own.sigma, prior, own.beta, own.bias)
    if isinstance(prior, CoefficientPrior):
        raise TypeError("a prior of a coefficient must say of which: ModelPriors(beta=...)")
    return Priors(prior, own.theta, own.beta, own.bias)


def _words(prior: Any, whole: Priors) -> str:
    """Name a set of priors by what makes it differ from the model's."""
    if isinstance(prior, Priors):
        said = [f"{name} ~ {p.words}" for name, p in vars(whole).items() if p.params]
        return ", ".join(said) or "none"
    chosen = whole.theta if isinstance(prior, ThetaPrior) else whole.sigma
    return chosen.words if chosen.params else chosen.name


def directions_of(priors: Any, own: Priors, map_in: Variable) -> tuple[Direction, ...]:
    """Return the directions of a local study: the model's priors, and those asked for.

    A prior that the model has is at weight 1; any other is at weight 0, to be brought in. Without
    ``priors`` a model without a prior of sigma or of theta gets the default ones at weight 0.
    """
    found = [d for d in _parts(own, map_in, 1.0)]
    known = {d.label for d in found}
    if priors is None:
        asked = [] if own.sigma.proper else [Priors(prior) for prior in DEFAULT_DIRECTIONS]
        if isinstance(own.theta, UniformTheta):
            asked.append(Priors(theta=DEFAULT_SHARE))
    else:
        asked = list(labelled(priors, Priors()).values())
    for whole in asked:
        for direction in _parts(whole, map_in, 0.0):
            if direction.label not in known:
                known.add(direction.label)
                found.append(direction)
    if not found:
        raise ValueError("priors must hold at least one proper prior, came none")
    return tuple(found)


def _parts(priors: Priors, map_in: Variable, weight: float) -> list[Direction]:
    """Return a direction for every proper prior."""
    meant = priors.stated_on(map_in)
    parts: dict[Parameter, Any] = {"sigma": meant.sigma, "theta": meant.theta}
    parts |= {"beta": meant.beta, "bias_eta": meant.bias}
    return [
        Direction(f"{name} ~ {prior.words}", name, prior, weight)
        for name, prior in parts.items()
        if prior.proper and not isinstance(prior, UniformTheta)
    ]
