"""What a run offers of its population."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from splisosm_pyro.fit.options import as_names, positive_int
from splisosm_pyro.genes.batches import genes_of, work_off
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job, RunOptions
from splisosm_pyro.genes.population.columns import (
    GeneOfRun,
    effect_columns,
    gene_columns,
    genes_under,
    least_sign_rates,
)
from splisosm_pyro.genes.population.heldout import HeldOutJob, heldout_batch
from splisosm_pyro.genes.population.usage import usage_under
from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray
from splisosm_pyro.population.effects import GeneUnderPopulation
from splisosm_pyro.population.grid import NO_SPACE
from splisosm_pyro.population.prior import (
    PopulationCheck,
    PopulationPrior,
    check_population,
    fit_population,
)
from splisosm_pyro.population.surface import Surface

# Forms that `population_sensitivity` compares.
COMPARED = {
    "gaussian": ("gaussian", (NO_SPACE,)),
    "gaussian, no masses": ("gaussian", ()),
    "mixture": ("mixture", (NO_SPACE,)),
}


class WithPopulation:
    """The population of a run."""

    table: pd.DataFrame
    effects: pd.DataFrame
    slide: Slide
    options: RunOptions
    surfaces: tuple[Surface | None, ...]
    _place: Callable[[str | int], int]
    counts: Callable[[str | int], AnyArray]
    usage: Callable[..., tuple[FloatArray, FloatArray]]

    @cached_property
    def population(self) -> PopulationPrior:
        """The distribution of sigma and theta over the genes of this run.

        Raises
        ------
        ValueError
            If the run was made without ``population``, or no gene says anything.
        """
        self._need_surfaces()
        return fit_population(self.surfaces, self.options.population)

    @cached_property
    def genes_under_population(self) -> "list[GeneUnderPopulation | None]":
        """Every gene's posterior under the population; None where its counts say nothing."""
        return genes_under(self.population, self.surfaces)

    def _under_population(self, place: int) -> GeneUnderPopulation | None:
        """Return a gene's posterior, None where its counts say nothing."""
        return self.genes_under_population[place]

    def usage_under_population(
        self, gene: str | int, *, errors: bool = True
    ) -> tuple[FloatArray, FloatArray]:
        """Return posterior mean and standard error of a gene's usage (S, P) under the population.

        A gene without information has the fit's, where there is one.
        """
        place = self._place(gene)
        under = self.genes_under_population[place]
        if under is None:
            return self.usage(gene, errors=errors, moderated=False)
        counts = self.counts(place).astype(np.float64)
        prepared = Job.of(self.slide, self.options).prepared().for_isoforms(counts.shape[1])
        return usage_under(prepared.spec, counts, under, errors=errors)

    def check_population(self) -> PopulationCheck:
        """Tell whether a normal distribution describes the genes, by genes left out.

        Returns
        -------
        PopulationCheck
            ``flagged`` where a mixture foretells them better; try ``population='mixture'`` then.
        """
        self._need_surfaces()
        return check_population(self.surfaces)

    def heldout_scores(
        self,
        k: int = 10,
        seed: int = 0,
        *,
        genes: str | Sequence[str] | None = None,
        n_jobs: int = 1,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Compare what each gene's fit and what the population say of spots not seen.

        Parameters
        ----------
        k : int
            Folds of a gene's occupied spots, 2 or more.
        seed : int
            Of the folds.
        genes : str or sequence of str, optional
            Which; all by default.
        n_jobs, progress
            As of `fit_genes`.

        Returns
        -------
        DataFrame
            A row a gene: ``fit`` and ``population``, log scores in nats summed over its spots, the
            ``gain`` of the second over the first, ``reason`` where there are none.

        Notes
        -----
        Costs k fits and surfaces a gene. The population is that of the whole run: a gene's own
        share in it is one in its number.
        """
        self._need_surfaces()
        if positive_int("k", k) < 2:
            raise ValueError(f"k must be 2 or more, came {k}")
        wanted = None if genes is None else set(as_names("genes", genes))
        chosen = [one for one in genes_of(self.slide) if wanted is None or one.name in wanted]
        lacking = sorted((wanted or set()) - {one.name for one in chosen})
        if lacking:
            raise ValueError(f"there is no gene {lacking[0]!r} among the {len(self.table)} fitted")
        job = Job.of(self.slide, self.options)
        asked = HeldOutJob(job, self.population.log_mass()[0], k, seed)
        bar = tqdm(total=len(chosen), desc="held out", unit="gene", disable=not progress)
        rows, _ = work_off(partial(heldout_batch, asked), chosen, n_jobs, "auto", bar)
        ordered = sorted(rows, key=itemgetter("index"))
        table = pd.DataFrame(ordered, columns=["gene", "fit", "population", "reason"])
        gain = table["population"] - table["fit"]
        table.insert(3, "gain", gain)
        return table

    def population_sensitivity(self) -> pd.DataFrame:
        """Return what the table would be under other forms of the population; nothing is refitted.

        Returns
        -------
        DataFrame
            A row a gene and form: ``gene``, ``form``, and the columns of the table that a
            population gives, ``pop_sigma``, ``pop_theta`` and so on.
        """
        self._need_surfaces()
        parts = []
        for name, (form, masses) in COMPARED.items():
            population = fit_population(self.surfaces, form, masses)
            found = gene_columns(population, genes_under(population, self.surfaces))
            found.insert(0, "gene", self.table["gene"])
            found.insert(1, "form", name)
            parts.append(found)
        return pd.concat(parts, ignore_index=True)

    def _need_surfaces(self) -> None:
        """Raise where the run has kept none."""
        if not self.surfaces:
            raise ValueError("this run has no population: ask fit_genes for population=True")

    def _genes_of_run(self) -> list[GeneOfRun]:
        """Return the genes with what the population makes of them."""
        return [
            GeneOfRun(
                gene.name,
                Turn.of_gene(self.options.coding, np.asarray(gene.counts, dtype=np.float64)),
                len(gene.isoforms),
                under,
            )
            for gene, under in zip(genes_of(self.slide), self.genes_under_population, strict=True)
        ]


def with_population(fits: Any, *, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table and the effects of a run with the columns of its population."""
    if not any(one is not None for one in fits.surfaces):
        return fits.table, fits.effects
    own = gene_columns(fits.population, fits.genes_under_population)
    table, effects = pd.concat([fits.table, own], axis=1), fits.effects
    if len(effects):
        there = set(effects["gene"])
        genes = [gene for gene in fits._genes_of_run() if gene.name in there]
        job = Job.of(fits.slide, fits.options)
        effects = pd.concat([effects, effect_columns(job, genes, progress=progress)], axis=1)
        table = pd.concat([table, least_sign_rates(effects, list(table["gene"]))], axis=1)
    return table, effects
