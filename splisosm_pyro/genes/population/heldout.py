"""Held-out spots under the population, beside each gene's own fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.starting_values import starting_values
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.marginal.usage import linear_predictor
from splisosm_pyro.fit.result import failed
from splisosm_pyro.genes.batches import GeneInput
from splisosm_pyro.genes.job import Job, gene_seed
from splisosm_pyro.genes.population.usage import places_under
from splisosm_pyro.maths.axes import as_counts
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.spot.gaussian import log_coefficient, log_kernel_density
from splisosm_pyro.population.effects import GeneUnderPopulation
from splisosm_pyro.population.grid import GRID
from splisosm_pyro.population.moderated import Moderated
from splisosm_pyro.population.surface import NO_PLACE, surface_of_fit
from splisosm_pyro.studies.comparison.folds import spot_folds

BROKEN = (*NO_PLACE, ArithmeticError, ValueError)


@dataclass(frozen=True, eq=False)
class HeldOutJob:
    """What a gene's scores need: the run, the population's log probabilities, k folds of a seed."""

    job: Job
    log_mass: FloatArray
    k: int
    seed: int


def heldout_batch(asked: HeldOutJob, genes: list[GeneInput]) -> list[dict[str, Any]]:
    """Score a batch of genes."""
    return [heldout_scores(asked, gene) for gene in genes]


@interrupts_heard()
def heldout_scores(asked: HeldOutJob, gene: GeneInput) -> dict[str, Any]:
    """Return a gene's held-out log score, summed over its occupied spots, by both ways.

    Every fold is fitted anew and each held-out spot predicted from the others; never raises.
    """
    counts = np.asarray(gene.counts, dtype=np.float64)
    row: dict[str, Any] = {"index": gene.index, "gene": gene.name, "reason": ""}
    rng = np.random.default_rng(gene_seed(asked.seed, gene.name))
    total = counts.sum(axis=1)
    if (total > 0).sum() < asked.k:
        return row | {"reason": f"fewer occupied spots than {asked.k} folds"}
    folds, scores = spot_folds(total, asked.k, rng), np.zeros(2)
    try:
        for fold in range(asked.k):
            scores += _fold(asked, counts, folds == fold)
    except BROKEN as error:
        return row | {"reason": failed(error)}
    return row | {"fit": float(scores[0]), "population": float(scores[1])}


def _fold(asked: HeldOutJob, counts: FloatArray, out: Any) -> FloatArray:  # (2,)
    """Return the log scores of the spots of one fold, by the fit and under the population."""
    spec = asked.job.prepared().for_isoforms(counts.shape[1]).spec
    kept, held = np.where(out[:, None], 0.0, counts), counts[out]
    spec = spec.of_gene(kept)
    checked, n_covariates = as_counts(kept[None]), len(spec.names)
    begin = starting_values(checked, n_covariates, 1, "uniform")
    fit = fit_gene(spec, kept, {name: one[0].numpy() for name, one in begin.items()}, keep_end=True)
    if fit.ended is None:
        raise ValueError("a fold leaves no counts to fit")
    objective = fit.ended.objective
    assert isinstance(objective, MarginalObjective)
    own = _log_density(spec, objective, fit.ended.at.state, held, out)
    surface = surface_of_fit(fit.ended)
    moderated = Moderated.of_gene(GRID.log_likelihood(surface), asked.log_mass)
    parts = [
        np.log(place.weight) + _log_density(spec, place.objective, place.at.state, held, out)
        for place in places_under(spec, kept, GeneUnderPopulation(surface, moderated))
    ]
    # a spot's density is averaged over the places
    return np.array([own.sum(), logsumexp(np.stack(parts), axis=0).sum()])


def _log_density(
    spec: GLMMSpec, objective: MarginalObjective, state: MarginalState, held: FloatArray, out: Any
) -> FloatArray:
    """Return the log density (n,) of held-out counts (n, P), field and nugget integrated out."""
    turn = spec.turn
    mean, cov = linear_predictor(objective.problem, state.mode, spec.design.with_intercept)
    logits = turn.to_logits(mean[out])
    spread = turn.covariance(cov[out] + np.diag(state.variances.nugget))
    return np.asarray(log_kernel_density(held, logits, spread) + log_coefficient(held))
