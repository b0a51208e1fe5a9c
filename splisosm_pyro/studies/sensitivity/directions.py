"""Which priors a sensitivity study looks at, and along which directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from splisosm_pyro.fit.glmm.fit_gene import GLMMSpec
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import (
    BetaPrior,
    CoefficientPrior,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    InvGammaPrior,
    NoPrior,
    PCPrior,
    PCUsagePrior,
    ScalePrior,
    ThetaPrior,
    UniformTheta,
    Variable,
    stated_on,
)
from splisosm_pyro.maths.priors.of_model import ModelPriors

Parameter = Literal["sigma", "theta", "beta", "bias_eta"]
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
        return _laid(space, self.of, self.prior.gradient(self._at(variances, coefficients)))

    def parameter_slopes(
        self, space: OuterSpace, variances: Variances, coefficients: FloatArray
    ) -> dict[str, FloatArray]:
        """Return the derivatives of ``slope`` in the prior's own parameters."""
        found = self.prior.parameter_gradients(self._at(variances, coefficients))
        return {name: _laid(space, self.of, slope) for name, slope in found.items()}

    def _at(self, variances: Variances, coefficients: FloatArray) -> FloatArray:
        rows = {"beta": coefficients[:-1], "bias_eta": coefficients[-1:]}
        return {"sigma": variances.sigma, "theta": variances.theta, **rows}[self.of]


def _laid(space: OuterSpace, of: Parameter, slope: FloatArray) -> FloatArray:
    """Lay the derivative in one parameter out as a search vector."""
    nil = np.zeros(space.n_components)
    coefficients = np.zeros(space.free.shape)
    if of == "beta":
        coefficients[:-1] = slope
    if of == "bias_eta":
        coefficients[-1:] = slope
    by_sigma, by_theta = (slope if of == name else nil for name in ("sigma", "theta"))
    return space.pack(by_sigma, by_theta, coefficients)


def priors_of(spec: GLMMSpec) -> ModelPriors:
    """Return the priors of a specification together."""
    own = spec.coefficient_priors
    return ModelPriors(spec.prior, spec.theta_prior, own.beta, own.bias)


def with_priors(spec: GLMMSpec, priors: ModelPriors, map_in: Variable) -> GLMMSpec:
    """Return the specification with these priors, the mode meant in ``map_in``."""
    return replace(
        spec,
        prior=stated_on(priors.scale, map_in),
        theta_prior=priors.share,
        coefficient_priors=priors.coefficients,
    )


def labelled(priors: Any, own: ModelPriors) -> dict[str, ModelPriors]:
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


def _complete(prior: Any, own: ModelPriors) -> ModelPriors:
    """Fill in the model's own priors."""
    if isinstance(prior, ModelPriors):
        return prior
    if isinstance(prior, ThetaPrior):
        return ModelPriors(own.scale, prior, own.beta, own.bias)
    if isinstance(prior, CoefficientPrior):
        raise TypeError("a prior of a coefficient must say of which: ModelPriors(beta=...)")
    return ModelPriors(prior, own.theta, own.beta, own.bias)


def _words(prior: Any, whole: ModelPriors) -> str:
    """Name a set of priors by what makes it differ from the model's."""
    if isinstance(prior, ModelPriors):
        parts = {"sigma": whole.scale, "theta": whole.share}
        parts |= {"beta": whole.coefficients.beta, "bias": whole.coefficients.bias}
        said = [f"{name} ~ {p.words}" for name, p in parts.items() if p.params]
        return ", ".join(said) or "none"
    chosen = whole.share if isinstance(prior, ThetaPrior) else whole.scale
    return chosen.words if chosen.params else chosen.name


def directions_of(priors: Any, own: ModelPriors, map_in: Variable) -> tuple[Direction, ...]:
    """Return the directions of a local study: the model's priors, and those asked for.

    A prior that the model has is at weight 1; any other is at weight 0, to be brought in. Without
    ``priors`` a model without a prior of sigma or of theta gets the default ones at weight 0.
    """
    found = [d for d in _parts(own, map_in, 1.0)]
    known = {d.label for d in found}
    if priors is None:
        asked = [] if own.scale.proper else [ModelPriors(prior) for prior in DEFAULT_DIRECTIONS]
        if isinstance(own.share, UniformTheta):
            asked.append(ModelPriors(theta=DEFAULT_SHARE))
    else:
        asked = list(labelled(priors, ModelPriors()).values())
    for whole in asked:
        for direction in _parts(whole, map_in, 0.0):
            if direction.label not in known:
                known.add(direction.label)
                found.append(direction)
    if not found:
        raise ValueError("priors must hold at least one proper prior, came none")
    return tuple(found)


def _parts(priors: ModelPriors, map_in: Variable, weight: float) -> list[Direction]:
    """Return a direction for every proper prior."""
    parts: dict[Parameter, Any] = {"sigma": priors.scale, "theta": priors.share}
    parts |= {"beta": priors.coefficients.beta, "bias_eta": priors.coefficients.bias}
    return [
        Direction(
            f"{name} ~ {prior.words}",
            name,
            stated_on(prior, map_in) if name == "sigma" else prior,
            weight,
        )
        for name, prior in parts.items()
        if prior.proper and not isinstance(prior, UniformTheta)
    ]
