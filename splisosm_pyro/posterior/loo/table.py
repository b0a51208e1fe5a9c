"""Leave-one-spot-out densities of a batch of genes: a table, and each gene's as ArviZ takes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.result import failed
from splisosm_pyro.posterior.arviz.elpd import spread_error, to_elpd_data
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

    Examples
    --------
    >>> import torch
    >>> from splisosm_pyro import MultinomGLM
    >>> model = MultinomGLM()
    >>> model.setup_data(torch.tensor([[3, 1], [1, 3], [0, 0], [2, 2]]))
    >>> model.fit(quiet=True)
    >>> model.loo().table["status"].tolist()
    ['ok']
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
