"""Log predictive densities of genes under several models, spot by spot, and their differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask, ObjectArray
from splisosm_pyro.posterior.arviz.elpd import spread_error, to_elpd_data

# Models whose elpd differs by no more nats than this are equally good.
TIED = 0.01


@dataclass(frozen=True, eq=False)
class Scores:
    """Pointwise log predictive densities (nats) of G genes under M models at S spots.

    Attributes
    ----------
    pointwise : ndarray, shape (G, M, S)
        0 where there is nothing to predict, minus infinity for a gene that broke.
    scored : ndarray of bool, shape (G, S)
        Spots with reads to predict.
    status : ndarray of str, shape (G, M)
        ``'ok'``, ``'no counts'``, ``'unreliable: ...'`` or ``'failed: ...'``.
    genes, models, spots : tuple
        Names along the axes.
    n_reads : ndarray, shape (G,)
        Reads that were predicted.
    attrs : dict
        How it was done.
    n_parameters : ndarray, shape (G, M), optional
        Effective numbers of parameters, where they are known.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, design="none", seed=0)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> model.fit(quiet=True)
    >>> from splisosm_pyro.studies import heldout_log_lik
    >>> scores = heldout_log_lik(model, "spots", k=2)
    >>> scores.pointwise.shape, scores.table["status"].unique().tolist()
    ((1, 3, 37), ['ok'])
    """

    pointwise: FloatArray
    scored: Mask
    status: ObjectArray
    genes: tuple[Any, ...]
    models: tuple[str, ...]
    spots: tuple[Any, ...]
    n_reads: FloatArray
    attrs: Mapping[str, Any] = field(default_factory=dict)
    n_parameters: FloatArray | None = None

    @property
    def table(self) -> pd.DataFrame:
        """One row for each gene and model, by (``gene``, ``model``).

        ``status``, ``elpd`` (sum over spots) and its standard error ``se``, ``n_spots``,
        ``n_reads``. A gene that broke has an ``elpd`` of minus infinity and an infinite ``se``.
        """
        rows = []
        for g in range(len(self.genes)):
            for m in range(len(self.models)):
                own = self.pointwise[g, m, self.scored[g]]
                rows.append((self.status[g, m], *_sum_and_error(own), own.size, self.n_reads[g]))
        index = pd.MultiIndex.from_product([self.genes, self.models], names=["gene", "model"])
        return pd.DataFrame(
            rows, index=index, columns=["status", "elpd", "se", "n_spots", "n_reads"]
        )

    def differences(self, reference: str | None = None) -> pd.DataFrame:
        """Compare the models with one of them, spot by spot.

        Parameters
        ----------
        reference : str, optional
            A model; the first by default.

        Returns
        -------
        DataFrame
            By (``gene``, ``model``): ``diff`` (elpd less that of the reference, nats), its standard
            error ``se`` over spots, and ``best``, whether no model has an elpd that is larger by
            more than 0.01 nats. Where either model broke ``diff`` is 0 and ``se`` infinite.
        """
        against = self.models[0] if reference is None else reference
        if against not in self.models:
            raise ValueError(f"reference must be one of {self.models}, came {reference!r}")
        r, rows = self.models.index(against), []
        for g in range(len(self.genes)):
            totals = self.pointwise[g].sum(axis=1)
            for m in range(len(self.models)):
                both = self.pointwise[g][[m, r]][:, self.scored[g]]
                sane = bool(np.isfinite(both).all())
                own = _sum_and_error(both[0] - both[1]) if sane else (0.0, np.inf)
                rows.append((*own, bool(totals[m] >= totals.max() - TIED)))
        index = pd.MultiIndex.from_product([self.genes, self.models], names=["gene", "model"])
        return pd.DataFrame(rows, index=index, columns=["diff", "se", "best"])

    def elpd_data(self, gene: Any) -> dict[str, Any]:
        """Return an ``arviz.ELPDData`` for each model of a gene, as ``arviz.compare`` takes them.

        Their effective number of parameters is 0 where it is not known.
        """
        g = self.genes.index(gene)
        where = np.flatnonzero(self.scored[g])
        names = [self.spots[s] for s in where]
        return {
            model: to_elpd_data(
                self.pointwise[g, m, where],
                np.zeros(where.size),
                names,
                0.0 if self.n_parameters is None else float(self.n_parameters[g, m]),
                warning=self.status[g, m] != "ok",
            )
            for m, model in enumerate(self.models)
        }

    def to_dataset(self) -> xr.Dataset:
        """Return ``log_density`` (gene, model, spot), ``scored`` and ``status``, labelled."""
        return xr.Dataset(
            {
                "log_density": (("gene", "model", "spot"), self.pointwise),
                "scored": (("gene", "spot"), self.scored),
                "status": (("gene", "model"), self.status.astype(str)),
            },
            coords={"gene": list(self.genes), "model": list(self.models), "spot": list(self.spots)},
            attrs=dict(self.attrs),
        )


def _sum_and_error(values: FloatArray) -> tuple[float, float]:
    """Return the sum of pointwise values and its standard error."""
    if not np.isfinite(values).all():
        return -np.inf, np.inf
    return float(values.sum()), spread_error(values)


def stacked(
    outcomes: Sequence[tuple[FloatArray, list[str]]],
    counts: FloatArray,
    names: tuple[tuple[Any, ...], tuple[str, ...], tuple[Any, ...]],
    attrs: Mapping[str, Any],
    n_parameters: FloatArray | None = None,
) -> Scores:
    """Put the outcomes (M, S) of all genes together; ``counts`` (G, S, P) were predicted."""
    pointwise = np.stack([values for values, _ in outcomes])
    status = np.array([words for _, words in outcomes], dtype=object)
    totals = counts.sum(axis=2)
    return Scores(pointwise, totals > 0, status, *names, totals.sum(axis=1), attrs, n_parameters)
