"""Leave-one-spot-out densities of a batch of genes: a table, and each gene's as ArviZ takes it."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from splisosm_pyro.fit.result import failed
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import KHAT_TRUSTED
from splisosm_pyro.posterior.arviz.container import uses_data_tree
from splisosm_pyro.posterior.loo.gene import GeneLoo

NO_SPOTS = np.empty(0)


@dataclass(frozen=True, eq=False)
class Loo:
    """Leave-one-spot-out densities of some genes; ``loo[gene]`` is an ``arviz.ELPDData``.

    Attributes
    ----------
    table : DataFrame
        One row a gene: ``status`` (``'ok'``, ``'unreliable'``, ``'no counts'`` or
        ``'failed: ...'``), ``reason``, ``elpd_loo`` and its standard error ``se`` (nats),
        ``p_loo`` (effective number of parameters), ``n_spots`` (occupied ones) and
        ``worst_leverage``. A gene that broke has an ``elpd_loo`` of minus infinity.
    genes : dict
        ``GeneLoo`` by gene, for the genes that did not break.
    spot_names : tuple
        Names of all spots.
    """

    table: pd.DataFrame
    genes: dict[Any, GeneLoo]
    spot_names: tuple[Any, ...]

    def __getitem__(self, gene: Any) -> Any:
        """Return a gene's densities as the installed ArviZ has them, for ``arviz.compare``.

        Raises
        ------
        KeyError
            If there is no such gene, or it has no densities.
        """
        if gene not in self.genes:
            status = self.table["status"].get(gene)
            raise KeyError(f"gene {gene!r}: {status or 'not among the genes'}")
        found = self.genes[gene]
        names = [self.spot_names[s] for s in found.spots]
        return to_elpd_data(
            found.pointwise, found.leverage, names, found.n_parameters, warning=bool(found.reason)
        )

    def __len__(self) -> int:
        return len(self.table)


def gather_loo(
    of_gene: Callable[[int], GeneLoo],
    places: Sequence[int],
    gene_names: Sequence[Any],
    spot_names: Sequence[Any],
) -> Loo:
    """Take the genes at ``places`` one by one; one that breaks becomes a status."""
    rows, genes = [], {}
    for place, name in zip(places, gene_names, strict=True):
        try:
            found = of_gene(place)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            rows.append(_row(failed(error), "", -np.inf, np.inf, np.inf, NO_SPOTS))
            continue
        genes[name] = found
        status = "unreliable" if found.reason else "ok" if found.spots.size else "no counts"
        own = (float(found.pointwise.sum()), spread_error(found.pointwise), found.n_parameters)
        rows.append(_row(status, found.reason, *own, found.leverage))
    return Loo(
        pd.DataFrame(rows, index=pd.Index(gene_names, name="gene")), genes, tuple(spot_names)
    )


def _row(
    status: str, reason: str, elpd: float, error: float, p_loo: float, leverage: np.ndarray
) -> dict[str, Any]:
    """Lay out one row of the table."""
    return {
        "status": status,
        "reason": reason,
        "elpd_loo": elpd,
        "se": error,
        "p_loo": p_loo,
        "n_spots": leverage.size,
        "worst_leverage": float(leverage.max(initial=0.0)),
    }


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
    common = {
        "se": spread_error(pointwise),
        "n_samples": 0,
        "n_data_points": pointwise.size,
        "warning": warning,
        "scale": "log",
        "good_k": KHAT_TRUSTED,
        "pareto_k": pareto_k,
    }
    total = float(pointwise.sum())
    if uses_data_tree(arviz):
        utils = importlib.import_module("arviz_stats.utils")
        kind: Any = getattr(utils, "ELPDDataLOO", utils.ELPDData)
        return kind(kind="loo", elpd=total, p=n_parameters, elpd_i=elpd_i, **common)
    stats = importlib.import_module("arviz.stats.stats_utils")
    values = {"elpd_loo": total, "p_loo": n_parameters, "loo_i": elpd_i, **common}
    order = ("elpd_loo", "se", "p_loo", "n_samples", "n_data_points", "warning", "loo_i")
    names = (*order, "pareto_k", "scale", "good_k")
    return stats.ELPDData(data=[values[name] for name in names], index=list(names))
