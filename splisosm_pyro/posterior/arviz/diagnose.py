"""A posterior's own checks as a table: one row a gene, with reasons and remedies in words."""

from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.posterior.arviz.predictive_groups import NOTE

FIGURES = ("khat", "effective_points", "r_hat", "ess_bulk", "ess_tail", "divergences")
REMEDIES = {
    "laplace": "method='nested_laplace'",
    "nested_laplace": "method='marginal_nuts'",
    "marginal_nuts": "more draws or a longer warmup",
    "nuts": "more draws or a longer warmup, else method='marginal_nuts'",
}
NEITHER = "look at the gene's counts"


def diagnose(posterior: Any) -> pd.DataFrame:
    """Say of every gene of a posterior whether to trust it.

    Parameters
    ----------
    posterior : InferenceData or DataTree
        As ``model.posterior`` made it, or read from a file.

    Returns
    -------
    DataFrame
        Index ``gene``. ``method``; ``trusted``; the figures of that method, NaN for others:
        ``khat`` (Pareto, up to 0.7), ``effective_points`` (of weighted points or draws), ``r_hat``
        (up to 1.01), ``ess_bulk`` and ``ess_tail`` (from 100 a chain; the worst of the outer
        parameters), ``divergences`` (transitions; up to 1 %); ``reason`` and ``remedy`` where not
        trusted.

    Raises
    ------
    ValueError
        If there is no group ``sample_stats`` with ``method`` and ``status``.

    Examples
    --------
    >>> import xarray as xr
    >>> stats = xr.Dataset(
    ...     {"method": ("gene", ["laplace"]), "status": ("gene", ["ok"]), "khat": ("gene", [0.2])},
    ...     coords={"gene": ["Myl6"]},
    ... )
    >>> diagnose({"sample_stats": stats})[["method", "trusted", "khat"]].values.tolist()
    [['laplace', True, 0.2]]
    """
    try:
        stats = posterior["sample_stats"]
        methods = stats["method"].values
        statuses = [str(status).partition(NOTE)[0] for status in stats["status"].values]
    except KeyError as error:
        raise ValueError(
            "posterior must have a group sample_stats with method and status, as model.posterior "
            f"makes it; {error} is missing"
        ) from error
    genes = stats["gene"].values
    table = pd.DataFrame({"method": methods}, index=pd.Index(genes, name="gene"))
    table["trusted"] = [status in ("ok", "no counts") for status in statuses]
    for name in FIGURES:
        table[name] = stats[name].values if name in stats else np.nan
    table["reason"] = [
        "" if ok else _reason(status) for ok, status in zip(table.trusted, statuses, strict=True)
    ]
    table["remedy"] = [
        "" if ok else REMEDIES.get(method, NEITHER)
        for ok, method in zip(table.trusted, methods, strict=True)
    ]
    return table


def _reason(status: str) -> str:
    """Return the status without its advice."""
    return status.removesuffix(": do not trust these draws")


def with_posterior(table: pd.DataFrame, posterior: Any) -> pd.DataFrame:
    """Join the posterior's own checks to a model's table of certificates.

    Parameters
    ----------
    table : DataFrame
        One row a gene, by place.
    posterior : InferenceData or DataTree
        Of all genes of the model, in order, or of some of them by place.

    Returns
    -------
    DataFrame
        The table and the columns of `diagnose` with the prefix ``posterior_``; rows of
        genes without draws are NaN there.

    Raises
    ------
    ValueError
        If the posterior is none, or its genes cannot be told: some only, and by name.
    """
    checks = diagnose(posterior).add_prefix("posterior_")
    places = checks.index
    by_place = pd.api.types.is_integer_dtype(places) and bool(np.isin(places, table.index).all())
    if not by_place:
        if len(checks) != len(table):
            raise ValueError(
                f"posterior must have the model's {len(table)} genes, or some of them by place, "
                f"came {len(checks)} genes: {', '.join(map(str, places[:3]))}"
                f"{', ...' if len(places) > 3 else ''}"
            )
        checks = checks.set_axis(table.index)
    return table.join(checks)
