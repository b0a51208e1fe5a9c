"""Held-out log-likelihood: what a fit without some spots or reads says of them.

Held-out spots have a total of 0 in the fit. Their counts are predicted by the multinomial,
integrated over nugget and smooth part given what was left in. Held-out reads of a spot are
predicted given the spot's other reads,

    log p(y_out | y_in) = log p(y_in + y_out; m, C) - log p(y_in; m, C),

``m, C`` the mean and covariance of the spot's logits given all other spots, ``p(.; m, C)`` the
integrated multinomial: nothing but the outer parameters is plugged in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from splisosm_pyro.fit.glmm.marginal_error import gene_generator
from splisosm_pyro.fit.options import choose, positive_int
from splisosm_pyro.fit.result import failed
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.numeric.worker_processes import worker_options
from splisosm_pyro.maths.spot.gaussian import log_coefficient, log_kernel_density
from splisosm_pyro.model import MultinomGLM
from splisosm_pyro.studies.comparison.candidates import Candidates
from splisosm_pyro.studies.comparison.folds import block_folds, read_folds, spot_folds
from splisosm_pyro.studies.comparison.scores import Scores, stacked

SCHEMES = ("spots", "blocks", "reads")
BROKEN = (ArithmeticError, ValueError, np.linalg.LinAlgError)
Outcome = tuple[FloatArray, list[str]]


def heldout_log_lik(
    model: MultinomGLM,
    scheme: str = "spots",
    k: int = 5,
    seed: int = 0,
    *,
    genes: Sequence[int] | None = None,
    models: Sequence[str] | None = None,
    coords: Any = None,
    names: Mapping[str, Sequence[Any]] | None = None,
    n_jobs: int = 1,
    quiet: bool = True,
) -> Scores:
    """Compare GLM, white noise and space by what each says of spots or reads it has not seen.

    Parameters
    ----------
    model : MultinomGLMM or MultinomGLM
        With data; it needs no fit and stays as it is. Its kernel, design, prior on sigma and
        treatment of the nugget are used. A GLM is scored alone.
    scheme : {'spots', 'blocks', 'reads'}
        Hold out occupied spots at random, contiguous blocks of spots, or single reads.
    k : int
        Folds, 2 or more.
    seed : int
        Of the folds. A gene's folds depend on it and on the gene's own counts (blocks: on it
        alone), not on the batch.
    genes : sequence of int, optional
        Places of the genes wanted, all by default.
    models : sequence of {'glm', 'white', 'spatial'}, optional
        All by default.
    coords : array_like, shape (S, d), optional
        Places of the spots, for the blocks; by default they are cut from the kernel's graph.
    names : mapping, optional
        Names of ``'gene'`` (G) and ``'spot'`` (S).
    n_jobs : int
        Workers, by joblib.
    quiet : bool
        No progress bar.

    Returns
    -------
    Scores
        ``table`` (elpd and standard error by gene and model), ``differences()``,
        ``elpd_data(gene)`` for ``arviz.compare``, ``to_dataset()``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal.

    Notes
    -----
    Costs k fits a gene and model. The outer parameters are those of the fold's fit.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(200, 2, 2, depth=2.0, sigma=1.5, theta=0.9, design="none", seed=1)
    >>> model = MultinomGLMM(fitting_method="marginal_newton", var_fix_sigma=False)
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> scores = heldout_log_lik(model, "blocks", k=3)
    >>> scores.differences("white").loc[(0, "spatial"), "best"]
    np.True_
    """
    choose("scheme", scheme, SCHEMES)
    if positive_int("k", k) < 2:
        raise ValueError(f"k must be 2 or more, came {k}")
    arrays = model.as_arrays()
    places, labels = arrays.chosen(genes, names)
    candidates, counts = Candidates.of_model(arrays), arrays.counts
    asked = candidates.checked(models)
    blocks = None
    if scheme == "blocks":
        rng = np.random.default_rng(seed)
        blocks = block_folds(model.data.kernel, coords, model.n_spots, k, rng)

    def one_gene(gene: int) -> Outcome:
        with threadpool_limits(limits=1):
            return _score_gene(candidates, asked, gene, counts[gene], (scheme, k, seed, blocks))

    tasks = tqdm(places, desc="heldout_log_lik", unit="gene", disable=quiet)
    outcomes = Parallel(n_jobs=n_jobs, **worker_options())(
        delayed(one_gene)(gene) for gene in tasks
    )
    axes = (labels.gene, asked, labels.spot)
    attrs = {"scheme": scheme, "k": k, "seed": seed}
    return stacked(list(outcomes), counts[list(places)], axes, attrs)


@interrupts_heard()
def _score_gene(
    candidates: Candidates,
    models: Sequence[str],
    gene: int,
    counts: FloatArray,  # (S, P)
    how: tuple[str, int, int, IndexArray | None],
) -> Outcome:
    """Score a gene under every model, (M, S), with a status each; what breaks becomes one."""
    scheme, k, seed, blocks = how
    out = np.zeros((len(models), len(counts)))
    if not counts.any():
        return out, ["no counts"] * len(models)
    rng, status = gene_generator(seed, counts), []
    try:
        if scheme == "reads":
            parts = list(read_folds(counts, k, rng))
        else:
            folds = spot_folds(counts.sum(axis=1), k, rng) if blocks is None else blocks
            parts = [counts * (folds == fold)[:, None] for fold in range(k)]
    except ValueError as error:
        return out - np.inf, [failed(error)] * len(models)
    for m, name in enumerate(models):
        try:
            for held_out in parts:
                if held_out.any():
                    out[m] += _score_fold(candidates, name, gene, counts - held_out, held_out)
            status.append("ok")
        except BROKEN as error:
            out[m] = -np.inf
            status.append(failed(error))
    return out, status


def _score_fold(
    candidates: Candidates, name: str, gene: int, kept: FloatArray, held_out: FloatArray
) -> FloatArray:  # (S,)
    """Fit to what was kept (S, P) and return the log density of what was held out, spot by spot."""
    fit = candidates.predictor(name, gene, kept)
    score, where = np.zeros(len(kept)), np.flatnonzero(held_out.sum(axis=1))
    new, old = held_out[where], kept[where]
    mean, cov = fit.mean[where], fit.cov[where]
    score[where] = log_kernel_density(new + old, mean, cov) + log_coefficient(new)
    seen = old.any(axis=1)
    score[where[seen]] -= log_kernel_density(old[seen], mean[seen], cov[seen])
    return score
