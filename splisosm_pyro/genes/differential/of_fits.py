"""What a run offers of tests afterwards: covariates that it was not fitted with."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from splisosm_pyro.fit.options import as_names, boolean
from splisosm_pyro.genes.batches import genes_of, work_off
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.differential.asked import Asked, asked_covariates
from splisosm_pyro.genes.differential.one_gene import CovariateJob, FittedGene, screen_batch
from splisosm_pyro.genes.job import Job, RunOptions
from splisosm_pyro.hypotheses.many import false_discovery_rates

COLUMNS = (
    *("gene", "covariate", "level", "statistic", "df", "p", "q", "kind", "score_p"),
    *("contrast", "isoform", "change", "low", "high", "reason"),
)
WORDS = ("kind", "contrast", "isoform", "reason")
INTERRUPTED = "interrupted before this gene was tested"


class WithDifferentialUsage:
    """The tests of a run."""

    table: pd.DataFrame
    slide: Slide
    options: RunOptions
    params: tuple[dict[str, Any] | None, ...]

    def differential_usage(
        self,
        covariates: Any,
        adata: Any = None,
        *,
        layer: str = "X",
        spatial: bool = True,
        genes: str | Sequence[str] | None = None,
        refit_below: float = 0.2,
        n_jobs: int = 1,
        batch_size: int | str = "auto",
        progress: bool = True,
    ) -> pd.DataFrame:
        """Test covariates that were not fitted, one by one, in every gene.

        The null is the run's own fit, with its covariates, priors and options; its field is found
        again where the fit ended. Each covariate is tested by its score there, the field and the
        fitted coefficients moving along, and by a likelihood ratio where that finds something.

        Parameters
        ----------
        covariates : str or sequence of str, DataFrame, Series, mapping, array or AnnData
            Names of ``adata``: columns of ``obs``, matrices of ``obsm``, variables, in this order.
            Or values: a table or mapping of columns, an array (S, K), or an AnnData of which every
            variable is tested, such as the expression of regulators. Rows go by the names of the
            spots where both have some, else by their order. Words are factors.
        adata : AnnData, optional
            Where names are looked up; it may have more spots than were fitted.
        layer : str
            Of the variables of an AnnData; 'X' is the main matrix.
        spatial : bool
            Whether the null has the field. Without it smooth covariates of no effect are found far
            too often.
        genes : str or sequence of str, optional
            Which; all by default.
        refit_below : float
            The score test's p below which the model is refitted with the covariate for the
            likelihood ratio: 0 for none, which is several times quicker, 1 for all.
        n_jobs, batch_size, progress
            As of `fit_genes`. After Ctrl-C the genes that were not reached say so.

        Returns
        -------
        DataFrame
            One row a gene and covariate: ``statistic`` (chi-square), ``df``, ``p``, ``q``
            (Benjamini and Hochberg over the genes, for each covariate), ``kind`` of the test,
            ``score_p``. A factor or matrix is tested as a whole (``level`` empty) and then
            level against all other spots, or column, by itself. ``isoform``, ``change``: the one
            whose usage changes most and by how much, with the ends of a 95 % interval, ``low`` and
            ``high``, from the refit or one Newton step from the null; ``contrast``: what it
            compares, the level with all other spots, or a number with one standard deviation more
            (``'+sd'``). ``reason``: why there is no test, with no p, which does not count in q.

        Raises
        ------
        TypeError, ValueError
            If an argument is not legal; the message names the covariate or the spots.

        Notes
        -----
        Nothing is drawn at random, and neither workers nor the order of the spots matter. 100
        covariates cost less than a gene's fit (0.8 of it), each refit an eighth of one.

        Examples
        --------
        >>> from splisosm_pyro import fit_genes, simulate_tissue
        >>> tissue = simulate_tissue(n_spots=60, n_genes=2, n_isos=2, depth=3.0, seed=0)
        >>> fits = fit_genes(tissue.counts.numpy(), coords=tissue.coords, progress=False)
        >>> found = fits.differential_usage({"layer": tissue.layers}, progress=False)
        >>> found[["gene", "level", "df"]].values.tolist()[:2]
        [['gene_0', '', 4], ['gene_0', 'layer 1', 1]]
        """
        job = self._screen(covariates, adata, layer, spatial, refit_below)
        chosen = self._chosen(genes)
        bar = tqdm(total=len(chosen), desc="tests", unit="gene", disable=not progress)
        work = partial(screen_batch, job)
        outcomes, _ = work_off(work, chosen, n_jobs, batch_size, bar)
        return _table(chosen, job.asked, outcomes)

    def _screen(
        self, covariates: Any, adata: Any, layer: str, spatial: bool, refit_below: float
    ) -> CovariateJob:
        """Check what is asked."""
        boolean("spatial", spatial)
        if not isinstance(refit_below, int | float) or not 0.0 <= refit_below <= 1.0:
            raise ValueError(f"refit_below must be within 0 and 1, came {refit_below!r}")
        if spatial and not self.options.glmm:
            raise ValueError("spatial must be False: GLMs were fitted, which have no spatial field")
        asked = asked_covariates(covariates, adata, layer, self.slide)
        return CovariateJob.of(Job.of(self.slide, self.options), asked, spatial, refit_below)

    def _chosen(self, genes: str | Sequence[str] | None) -> list[FittedGene]:
        """Return genes with what was found of them."""
        status = self.table["status"].astype(str)
        fitted = [
            FittedGene(gene, params, end)
            for gene, params, end in zip(genes_of(self.slide), self.params, status, strict=True)
        ]
        if genes is None:
            return fitted
        by_name = {one.gene.name: one for one in fitted}
        for name in as_names("genes", genes):
            if name not in by_name:
                raise ValueError(f"there is no gene {name!r} among the {len(fitted)} fitted")
        return [by_name[name] for name in dict.fromkeys(as_names("genes", genes))]


def _table(
    genes: Sequence[FittedGene], asked: Sequence[Asked], outcomes: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """Put tests under each other, gene by gene, and the false discovery rates beside them."""
    found = {outcome["index"]: outcome["tests"] for outcome in outcomes}
    nothing = [{"reason": INTERRUPTED}] * len(asked)
    rows = [row for one in genes for row in found.get(one.gene.index, nothing)]
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "q"])
    table["gene"] = np.repeat([one.gene.name for one in genes], len(asked))
    table["covariate"] = [one.covariate for one in asked] * len(genes)
    table["level"] = [one.level for one in asked] * len(genes)
    table[list(WORDS)] = table[list(WORDS)].fillna("").astype(str)
    table["df"] = table["df"].fillna(0).astype(int)
    q = table.groupby(["covariate", "level"], sort=False)["p"].transform(
        lambda p: false_discovery_rates(p.to_numpy(dtype=np.float64))
    )
    table.insert(COLUMNS.index("q"), "q", q)
    return table
