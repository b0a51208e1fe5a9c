"""Predictive checks: whether a gene's counts look like counts from its posterior, or its prior.

References: Gelman, Meng and Stern (1996), Posterior predictive assessment of model fitness via
realized discrepancies, Statistica Sinica 6; Gabry, Simpson, Vehtari, Betancourt and Gelman (2019),
doi:10.1111/rssa.12378.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from splisosm_pyro.fit.options import choose
from splisosm_pyro.fit.result import failed
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.model import MultinomGLM
from splisosm_pyro.model.densities import Densities
from splisosm_pyro.plots import FINE, FLAGGED, panels
from splisosm_pyro.posterior.arviz.predictive_groups import predictive_counts
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.arguments import Request
from splisosm_pyro.posterior.draws.from_prior import prior_draws
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.run import draw_gene
from splisosm_pyro.studies.comparison.heldout import BROKEN
from splisosm_pyro.studies.prediction.statistics import (
    Statistic,
    graph_of,
    moran_i,
    overdispersion,
    share_empty,
)

KINDS = ("posterior", "prior")
COLUMNS = ("status", "observed", "mean", "sd", "p_value")


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """Statistics of the counts beside those of replicated counts with the same totals.

    Attributes
    ----------
    table : DataFrame
        By (``gene``, ``statistic``): ``status``, ``observed``, ``mean`` and ``sd`` of the
        replicates, two-sided ``p_value`` (twice the smaller tail, ties counted half). A gene that
        broke has the replicates' mean at the observed value, an infinite ``sd`` and a p-value of 1.
    replicates : ndarray, shape (G, statistics, draws)
        0 for a gene that broke.
    kind : {'posterior', 'prior'}

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, design="none", seed=0)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> model.fit(quiet=True)
    >>> check = predictive_check(model, draws=20)
    >>> check.table.index.get_level_values("statistic").tolist()
    ['moran_i', 'overdispersion', 'share_empty']
    """

    table: pd.DataFrame
    replicates: FloatArray
    kind: str

    def plot(self, genes: Sequence[Any] | None = None) -> Any:
        """Draw histograms of the replicates with the observed values, a row a gene.

        Parameters
        ----------
        genes : sequence, optional
            Names of genes, the first four by default.

        Returns
        -------
        matplotlib Figure
        """
        return predictive_figure(self, genes)


def predictive_check(
    model: MultinomGLM,
    kind: str = "posterior",
    draws: int = 200,
    seed: int = 0,
    *,
    method: str = "laplace",
    genes: Sequence[int] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    graph: Any = None,
    prior: PosteriorPriors | None = None,
    nugget: str = "quadrature",
    names: Mapping[str, Sequence[Any]] | None = None,
    quiet: bool = True,
) -> PredictiveCheck:
    """Compare statistics of the counts with those of counts replicated by the model.

    Every spot keeps its own total. Replicates are drawn at the same spots, with the field of the
    posterior: they ask whether the fit describes these counts, not whether it predicts others.

    Parameters
    ----------
    model : MultinomGLM or MultinomGLMM
        With data; it needs no fit and stays as it is.
    kind : {'posterior', 'prior'}
        What parameters and field are drawn from.
    draws : int
        Replicates a gene.
    seed : int
    method, prior, nugget, genes, names
        As in ``model.posterior``.
    statistics : mapping of str to callable, optional
        Each takes replicates (N, S, P) and returns (N,). By default ``moran_i`` of usage (where the
        kernel has a graph of neighbours or ``graph`` is given), ``overdispersion`` and
        ``share_empty``; see `studies.prediction`.
    graph : array_like or sparse, shape (S, S), optional
        Weights between neighbouring spots, for Moran's I.
    quiet : bool
        No progress bar.

    Returns
    -------
    PredictiveCheck
        ``table`` and ``plot()``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal.

    Notes
    -----
    Costs a posterior a gene. Memory: the draws of one gene at a time.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLM, simulate_tissue
    >>> tissue = simulate_tissue(200, 1, 2, depth=3.0, sigma=2.0, theta=0.9, design="none", seed=1)
    >>> model = MultinomGLM()
    >>> model.setup_data(tissue.counts)
    >>> check = predictive_check(model, graph=tissue.kernel.adjacency)
    >>> bool(check.table.loc[(0, "overdispersion"), "p_value"] < 0.05)
    True
    """
    choose("kind", kind, KINDS)
    arrays = model.as_arrays()
    places, labels = arrays.chosen(genes, names)
    densities = Densities.of_model(arrays, prior, nugget)
    chosen = dict(statistics or _statistics(model, graph))
    request = Request(method, draws, 1, seed, places)
    counts = arrays.counts
    rows, replicates = [], np.zeros((len(places), len(chosen), draws))
    for g, gene in enumerate(tqdm(places, desc="predictive_check", unit="gene", disable=quiet)):
        observed = [float(f(counts[gene][None])[0]) for f in chosen.values()]
        try:
            with threadpool_limits(limits=1):
                drawn = _replicated(densities, counts[gene], gene, kind, request)
            replicates[g] = [f(drawn) for f in chosen.values()]
            status = "ok" if counts[gene].any() else "no counts"
            rows += [_row(status, o, r) for o, r in zip(observed, replicates[g], strict=True)]
        except BROKEN as error:
            rows += [(failed(error), o, o, np.inf, 1.0) for o in observed]
    index = pd.MultiIndex.from_product([labels.gene, chosen], names=["gene", "statistic"])
    return PredictiveCheck(pd.DataFrame(rows, index, list(COLUMNS)), replicates, kind)


def _statistics(model: MultinomGLM, graph: Any) -> dict[str, Statistic]:
    """Return the statistics that there are by default."""
    found: dict[str, Statistic] = {}
    neighbours = graph_of(model.data.kernel, graph, model.n_spots)
    if neighbours is not None:
        found["moran_i"] = moran_i(neighbours)
    return found | {"overdispersion": overdispersion, "share_empty": share_empty}


def _replicated(
    densities: Densities, counts: FloatArray, gene: int, kind: str, request: Request
) -> Any:
    """Return replicated counts (N, S, P) of a gene."""
    noise = Noise.of_gene(request.seed, counts)
    density = densities.of_gene(counts, gene)
    if kind == "prior":
        drawn = prior_draws(
            density, densities.design.with_intercept, densities.kernel, request.size, noise
        )
    else:
        drawn = draw_gene(density, counts, densities.design, densities.kernel, request)[0]
    return predictive_counts(drawn.eta, counts.sum(axis=1), noise.numpy)


def _row(
    status: str, observed: float, replicates: FloatArray
) -> tuple[str, float, float, float, float]:
    """Summarise the replicates of one statistic."""
    below = float((replicates < observed).mean() + 0.5 * (replicates == observed).mean())
    p_value = min(1.0, 2.0 * min(below, 1.0 - below))
    return status, observed, float(replicates.mean()), float(replicates.std()), p_value


def predictive_figure(check: PredictiveCheck, genes: Sequence[Any] | None = None) -> Figure:
    """Draw histograms of the replicated statistics and the observed values, a row a gene."""
    known = list(check.table.index.unique("gene"))
    statistics = list(check.table.index.unique("statistic"))
    shown = known[:4] if genes is None else [genes] if isinstance(genes, str) else list(genes)
    if not shown or any(gene not in known for gene in shown):
        raise ValueError(f"genes must be among those of the check, came {genes!r}")
    figure, axes = panels(len(shown) * len(statistics), len(statistics))
    cells = [(gene, k) for gene in shown for k in range(len(statistics))]
    for ax, (gene, k) in zip(axes, cells, strict=True):
        row = check.table.loc[(gene, statistics[k])]
        ax.hist(check.replicates[known.index(gene), k], bins=30, color="0.75")
        ax.axvline(row["observed"], color=FLAGGED if row["p_value"] < 0.05 else FINE)
        ax.set(xlabel=statistics[k], ylabel="replicates")
        ax.set_title(f"{gene}: p = {row['p_value']:.2g}", fontsize=9)
    figure.suptitle(f"{check.kind} predictive check", fontsize=10)
    return figure
