"""What the population says of every gene: columns of the table and of the effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from splisosm_pyro.genes.average_usage import changes_of_draws
from splisosm_pyro.genes.effects import PreparedContrast
from splisosm_pyro.genes.job import Job, PreparedJob, gene_seed
from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.effects import GeneUnderPopulation, fit_effects
from splisosm_pyro.population.grid import GRID
from splisosm_pyro.population.moderated import TAILS, Moderated
from splisosm_pyro.population.prior import PopulationPrior
from splisosm_pyro.population.surface import Surface

Row = dict[str, Any]
# Draws of a gene's effects.
DRAWS = 1000
NOTHING_KNOWN = "no counts, or no likelihood over sigma and theta: the population alone"


@dataclass(frozen=True, eq=False)
class GeneOfRun:
    """A gene's name, its coordinates, and what the population makes of it, if it says anything."""

    name: str
    turn: Turn
    n_isos: int
    under: GeneUnderPopulation | None


def genes_under(
    population: PopulationPrior, surfaces: Sequence[Surface | None]
) -> list[GeneUnderPopulation | None]:
    """Return every gene with its posterior, None where there is no surface."""
    log_mass = population.log_mass()[0]
    return [
        None
        if one is None
        else GeneUnderPopulation(one, Moderated.of_gene(GRID.log_likelihood(one), log_mass))
        for one in surfaces
    ]


def gene_columns(
    population: PopulationPrior, genes: Sequence[GeneUnderPopulation | None]
) -> pd.DataFrame:
    """Return a row a gene: sigma, theta and whether there is space at all.

    ``pop_sigma``, ``pop_theta``: posterior means with ``_sd`` and the ends of 90 % intervals,
    ``_low``, ``_high``; ``p_spatial``; ``sv_lfdr``, what is left of 1; ``pop_reason``.
    """
    alone = population.moderated(None)
    rows = []
    for gene in genes:
        own = alone if gene is None else gene.moderated
        row: Row = {}
        for name, found in (("sigma", own.sigma()), ("theta", own.theta())):
            row[f"pop_{name}"] = found["mean"]
            row |= {f"pop_{name}_{end}": found[end] for end in ("sd", "low", "high")}
        row |= {"p_spatial": own.p_spatial, "sv_lfdr": 1.0 - own.p_spatial}
        rows.append(row | {"pop_reason": "" if gene is not None else NOTHING_KNOWN})
    return pd.DataFrame(rows)


def effect_columns(job: Job, genes: Sequence[GeneOfRun], *, progress: bool) -> pd.DataFrame:
    """Return a row a gene, contrast and isoform: ``pop_change``, its interval, ``lfsr``.

    Each covariate's effects have a distribution over genes of their own (`fit_effects`), the other
    coefficients none. ``lfsr``, the local false sign rate, is the probability that the change is
    not of the sign that it is more likely to have; 1 where nothing is known.
    """
    prepared = job.prepared()
    known = [gene.under for gene in genes if gene.under is not None]
    columns = dict(job.design.covariates)
    shares = {name: fit_effects(known, columns[name]) for name in _covariates(prepared)}
    rows: list[Row] = []
    for gene in tqdm(genes, desc="population", unit="gene", disable=not progress):
        seed = gene_seed(job.options.seed, gene.name)
        for contrast in prepared.contrasts:
            name = _covariate_of(contrast, columns)
            rows += _changes(gene, contrast, columns[name], shares[name], seed)
    return pd.DataFrame(rows)


def _covariates(prepared: PreparedJob) -> list[str]:
    """Return the covariates that are compared."""
    columns = dict(prepared.job.design.covariates)
    return list(dict.fromkeys(_covariate_of(one, columns) for one in prepared.contrasts))


def _covariate_of(contrast: PreparedContrast, columns: Mapping[str, slice]) -> str:
    """Return whose columns are compared: a matrix's columns are compared one by one."""
    first = contrast.contrast.columns.start
    return next(name for name, own in columns.items() if own.start <= first < own.stop)


def _changes(
    gene: GeneOfRun, contrast: PreparedContrast, rows: slice, log_shares: FloatArray, seed: int
) -> list[Row]:
    """Return the rows of one gene and contrast, an isoform each."""
    under = gene.under
    if under is None or under.block(rows) is None:
        unknown = {"pop_change": np.nan, "pop_low": -1.0, "pop_high": 1.0, "lfsr": 1.0}
        return [dict(unknown) for _ in range(gene.n_isos)]
    coefficients, sigma, nil = under.draws(rows, log_shares, DRAWS, seed)
    change = changes_of_draws(coefficients, sigma, contrast.rows, gene.turn)
    change[nil] = 0.0
    low, high = np.quantile(change, TAILS, axis=0)
    wrong = np.minimum((change <= 0.0).mean(axis=0), (change >= 0.0).mean(axis=0))
    found = {"pop_change": change.mean(axis=0), "pop_low": low, "pop_high": high, "lfsr": wrong}
    return [{name: float(own[p]) for name, own in found.items()} for p in range(gene.n_isos)]


def least_sign_rates(effects: pd.DataFrame, genes: Sequence[str]) -> pd.DataFrame:
    """Return for every gene and covariate the least ``lfsr`` of its isoforms and contrasts."""
    if effects.empty:
        return pd.DataFrame(index=range(len(genes)))
    wide = effects.groupby(["gene", "covariate"], sort=False)["lfsr"].min().unstack()
    wide = wide.reindex(list(genes))
    return wide.add_prefix("lfsr_").reset_index(drop=True)
