"""Pointwise log predictive densities as the installed ArviZ's ``ELPDData``."""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.arviz.container import uses_data_tree

# Above this leverage a value is not trusted: as a k-hat, whose place it takes.
GOOD_LEVERAGE = 0.7


def spread_error(pointwise: FloatArray) -> float:
    """Return the standard error of the sum of n pointwise values, ``sqrt(n var)``."""
    return float(np.sqrt(pointwise.size * pointwise.var())) if pointwise.size else 0.0


def to_elpd_data(
    pointwise: FloatArray,
    leverage: FloatArray,
    spots: Sequence[Any],
    n_parameters: float,
    *,
    warning: bool,
    arviz: Any = None,
) -> Any:
    """Return an ``ELPDData`` of the installed ArviZ.

    Parameters
    ----------
    pointwise, leverage : ndarray, shape (n,)
        Log predictive density of every spot, nats; its leverage, which takes the place of k-hat.
    spots : sequence
        The spots' names.
    n_parameters : float
        Effective number of parameters.
    warning : bool
        Whether the values are not to be trusted.
    arviz : module, optional
        ArviZ, where it is not the installed one.

    Returns
    -------
    ELPDData
        ``n_samples`` is 0: there are no draws behind it.
    """
    arviz = importlib.import_module("arviz") if arviz is None else arviz
    coords = {"spot": list(spots)}
    elpd_i, pareto_k = (
        xr.DataArray(values, dims="spot", coords=coords, name=name)
        for name, values in (("loo_i", pointwise), ("pareto_shape", leverage))
    )
    common: dict[str, Any] = {
        "se": spread_error(pointwise),
        "n_samples": 0,
        "n_data_points": pointwise.size,
        "warning": warning,
        "scale": "log",
        "good_k": GOOD_LEVERAGE,
        "pareto_k": pareto_k,
    }
    total = float(pointwise.sum())
    if uses_data_tree(arviz):
        utils = importlib.import_module("arviz_stats.utils")
        made: Any = getattr(utils, "ELPDDataLOO", utils.ELPDData)
        if "kind" in inspect.signature(made).parameters:  # the class itself says it from 1.3 on
            common["kind"] = "loo"
        return made(elpd=total, p=n_parameters, elpd_i=elpd_i, **common)
    stats = importlib.import_module("arviz.stats.stats_utils")
    values = {"elpd_loo": total, "p_loo": n_parameters, "loo_i": elpd_i, **common}
    order = ("elpd_loo", "se", "p_loo", "n_samples", "n_data_points", "warning", "loo_i")
    names = (*order, "pareto_k", "scale", "good_k")
    return stats.ELPDData(data=[values[name] for name in names], index=list(names))
