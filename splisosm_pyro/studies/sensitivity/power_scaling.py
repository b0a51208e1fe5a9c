"""Power-scaling of prior and likelihood by importance weights on posterior draws.

Kallioinen, Paananen, Buerkner and Vehtari (2023), doi:10.1007/s11222-023-10366-5. The density that
was drawn from, ``p(y | u) p(u)``, is replaced by ``p(y | u) p(u)^a`` or ``p(y | u)^a p(u)``; a draw
gets the weight ``p(u)^(a - 1)`` or ``p(y | u)^(a - 1)``, its tail smoothed. The sensitivity of a
quantity is ArviZ's: the cumulative Jensen-Shannon distance between the two distributions, as a
derivative in ``log2 a``. The likelihood is that of the parameters, the random effect integrated out
(``log_marginal`` in ``sample_stats``). The prior is the density of the variables that it is stated
on, without a Jacobian, so the power means what it says. k-hat is taken over the distinct draws:
nested Laplace returns a point as often as its weight says.
"""

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import KHAT_TRUSTED, Weights, smoothed_weights
from splisosm_pyro.posterior.arviz.container import to_container

COMPONENTS = ("prior", "likelihood")
# The powers: the derivative is taken between the first and the last.
ALPHAS = (0.8, 0.9, 1.0, 1.0 / 0.9, 1.25)
# From here on a quantity counts as sensitive. Kallioinen et al. and ArviZ take 0.05, at which one
# sparse gene in eight or more raises a false alarm; at 0.1 one in fifty to one in twenty-two
# (docs/prior_sensitivity.md).
THRESHOLD = 0.1
CONFLICT, WEAK, NONE = "prior-data conflict", "weak likelihood", "none"
UNTRUSTED = f"k-hat above {KHAT_TRUSTED}: refit"
QUANTITIES = ("sigma", "theta", "log_sigma", "theta_logit", "beta", "bias_eta")
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class PowerScaling:
    """One gene's draws under every power.

    Attributes
    ----------
    quantities
        Draws of the quantities, dims (chain, draw, ...).
    weights
        By component, a ``Weights`` for every power.
    sensitivity
        By component, ArviZ's measure of every quantity.
    """

    quantities: xr.Dataset
    weights: dict[str, list[Weights]]
    sensitivity: dict[str, xr.Dataset]

    def summary(self, name: str, component: str, place: int) -> dict[str, FloatArray]:
        """Return mean, its Monte Carlo error, sd and quantiles of a quantity under a power."""
        draws = self.quantities[name].stack(sample=("chain", "draw")).transpose("sample", ...)
        values, weights = draws.values, self.weights[component][place].values
        mean = np.tensordot(weights, values, axes=1)
        apart = values - mean
        variance = np.tensordot(weights, apart**2, axes=1)
        error = np.sqrt(np.tensordot(weights**2, apart**2, axes=1))
        ends = np.stack([weighted_quantiles(values, weights, q) for q in QUANTILES])
        return {"mean": mean, "mcse": error, "sd": np.sqrt(variance), "quantile": ends}

    def khat(self, component: str) -> float:
        """Return the largest k-hat over the powers; minus infinity where all weights are one."""
        return max(w.khat for w in self.weights[component])

    def trusted(self) -> bool:
        """Whether every set of weights is; of nearly equal weights the tail says nothing."""
        return all(w.trusted for weights in self.weights.values() for w in weights)


def power_scaling(
    groups: dict[str, xr.Dataset], alphas: Sequence[float], scaled: Sequence[str] | None
) -> PowerScaling:
    """Weigh one gene's draws.

    Parameters
    ----------
    groups
        ``posterior``, ``log_prior`` and ``log_likelihood`` of one gene, without the gene axis.
    alphas
        The powers.
    scaled
        Names among ``log_prior`` whose densities are scaled; None: all.
    """
    prior = groups["log_prior"][list(scaled)] if scaled is not None else groups["log_prior"]
    logs = {"prior": prior, "likelihood": groups["log_likelihood"]}
    total = {
        name: np.sum([part.values.reshape(-1) for part in group.data_vars.values()], axis=0)
        for name, group in logs.items()
    }
    weights = {
        name: [_weights((alpha - 1.0) * value) for alpha in alphas] for name, value in total.items()
    }
    quantities = quantities_of(groups["posterior"])
    container = to_container(
        {"posterior": quantities, "log_prior": prior, "log_likelihood": groups["log_likelihood"]}
    )
    sensitivity = {name: arviz_sensitivity(container, name) for name in COMPONENTS}
    return PowerScaling(quantities, weights, sensitivity)


def _weights(log_ratios: FloatArray) -> Weights:
    """Return smoothed weights with the k-hat of the distinct ones."""
    distinct = np.unique(log_ratios)
    khat = smoothed_weights(distinct).khat if distinct.size > 1 else -np.inf
    return replace(smoothed_weights(log_ratios), khat=khat)


def quantities_of(posterior: xr.Dataset) -> xr.Dataset:
    """Return the parameters of the draws and, where the ratios were kept, the usage.

    The usage's mean and range over the spots, per isoform.
    """
    found = {name: posterior[name] for name in QUANTITIES if name in posterior}
    if "sigma" in posterior and posterior["sigma"].std() > 0:
        found["log_sigma"] = xr.apply_ufunc(np.log, posterior["sigma"])
    else:
        found.pop("sigma", None)
    if "isoform_ratio" in posterior:
        ratio = posterior["isoform_ratio"]
        found["usage_mean"] = ratio.mean("spot")
        found["usage_range"] = ratio.max("spot") - ratio.min("spot")
    kept = {name: value for name, value in found.items() if value.size}
    return xr.Dataset(kept)


def arviz_sensitivity(container: Any, component: str) -> xr.Dataset:
    """Return the installed ArviZ's own measure, between the powers 0.8 and 1.25."""
    arviz = importlib.import_module("arviz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tails that cannot be fitted; k-hat says so
        if hasattr(arviz, "psens"):
            found = arviz.psens(container, component=component, delta=0.25)
        else:
            found = arviz.psense(container, group=component, alphas=(0.8, 1.25))
    made: xr.Dataset = found
    return made


def diagnosis(
    prior: float, likelihood: float, threshold: float = THRESHOLD, *, trusted: bool = True
) -> str:
    """Say in words what two sensitivities mean.

    Examples
    --------
    >>> diagnosis(0.2, 0.3), diagnosis(0.2, 0.01), diagnosis(0.01, 0.3)
    ('prior-data conflict', 'weak likelihood', 'none')
    """
    if not trusted:
        return UNTRUSTED
    if not prior >= threshold:
        return NONE
    return CONFLICT if likelihood >= threshold else WEAK


def weighted_quantiles(values: FloatArray, weights: FloatArray, share: float) -> FloatArray:
    """Return a quantile (*,) of weighted draws (N, *)."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    mass = np.cumsum(weights[order], axis=0)
    place = np.minimum((mass < share).sum(axis=0), len(values) - 1)
    return np.asarray(np.take_along_axis(ordered, place[None], axis=0)[0])
