"""``fit_genes``: from AnnData, a file or arrays to a table, batch after batch on workers."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from splisosm_pyro.genes.data.arrays import slide_of_arrays
from splisosm_pyro.genes.data.filters import Filters, filtered
from splisosm_pyro.genes.data.h5ad import slide_of_anndata
from splisosm_pyro.genes.data.read import read_slide
from splisosm_pyro.genes.data.slide import PathLike, Slide, checked
from splisosm_pyro.genes.job import Job, ModelName, PriorName, RunOptions, digest_of
from splisosm_pyro.genes.result.gene_fits import GeneFits
from splisosm_pyro.genes.result.table import gene_table, isoform_table
from splisosm_pyro.genes.run.memory import check_memory
from splisosm_pyro.genes.run.records import Records
from splisosm_pyro.genes.run.workers import (
    Outcome,
    batches,
    n_workers,
    on_this_machine,
    run_batches,
    shuffled,
)
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.numeric.arrays import AnyArray
from splisosm_pyro.studies.sensitivity.columns import asked_sensitivity

logger = logging.getLogger("splisosm_pyro")
# Raised when the same data and options give other numbers: records of before are not continued.
NUMBERS = 2


def fit_genes(
    adata_or_counts: Any,
    *,
    group_iso_by: str | None = None,
    layer: str = "counts",
    spatial_key: str | None = None,
    adj_key: str | None = None,
    covariates: Sequence[str] | pd.DataFrame | None = None,
    library_key: str | None = None,
    model: ModelName = "glmm",
    nugget: Literal["quadrature", "laplace"] = "quadrature",
    smooth: Literal["auto", "ep", "laplace"] = "auto",
    share_variance: bool = True,
    var_prior_model: PriorName = "none",
    var_prior_model_params: Mapping[str, float] | None = None,
    fitting_configs: Mapping[str, Any] | None = None,
    k: int = 6,
    rho: float = 0.99,
    reference: Mapping[str, str] | None = None,
    standardise: bool = False,
    n_isos: int | None = None,
    min_counts: float = 0.0,
    min_spots: int = 0,
    min_share: float = 0.0,
    rare: Literal["drop", "merge"] = "drop",
    coords: AnyArray | None = None,
    gene_names: Sequence[str] | None = None,
    iso_names: Sequence[Sequence[str]] | None = None,
    sensitivity: bool | Sequence[Any] = False,
    n_jobs: int = 1,
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    progress: bool = True,
    resume: PathLike | None = None,
) -> GeneFits:
    """Fit every gene: the GLM, the white-noise model and the spatial GLMM, side by side.

    Parameters
    ----------
    adata_or_counts : AnnData, path, Slide, or ndarray (G, S, P), or sequence of ndarray (S, P_g)
        Counts: spots x isoforms in AnnData, a file as the command line takes it, what `read_slide`
        returns, or arrays together with ``coords``.
    group_iso_by : str
        Column of ``var`` with the gene of each isoform.
    layer : str
        Layer with the counts; ``'X'`` stands for the main matrix.
    spatial_key : str, optional
        Key of the coordinates; default ``'spatial'`` (``'coords'`` in an .npz).
    adj_key : str, optional
        Key of ``obsp`` with the graph of the spots; default: mutual nearest neighbours.
    covariates : sequence of str, optional
        Columns of ``obs`` or matrices of ``obsm``; for arrays a DataFrame of S rows.
    library_key : str, optional
        Column of ``obs`` with the slide of each spot: V is block-diagonal over slides.
    model : {'glmm', 'glm'}
        'glm' fits no random effect.
    nugget : {'quadrature', 'laplace'}
        How the white part of the random effect is eliminated: by exact integration, or at its mode,
        which misleads where spots have a read or two.
    smooth : {'auto', 'ep', 'laplace'}
        How its smooth part is: by expectation propagation, which takes the bias out of theta, or by
        Laplace's method. 'auto': by the first for genes of up to three isoforms where the white
        part is integrated. The table's ``smooth`` says which one a gene had.
    share_variance, var_prior_model, var_prior_model_params, fitting_configs
        As for `MultinomGLMM`, fitted by 'marginal_newton' with free sigma.
    k, rho : int, float
        Neighbours of a spot and strength of the dependence, of the CAR kernel.
    reference : mapping of str to str, optional
        For each categorical covariate the level that the others are compared with.
    standardise : bool
        Fit numeric covariates in units of their standard deviation. Estimates come back in the
        user's units either way.
    n_isos : int, optional
        Fit genes with this number of isoforms alone.
    min_counts, min_spots, min_share, rare
        What is left out, see `Filters`; by default nothing.
    coords, gene_names, iso_names
        Of counts that are arrays: places (S, 2), and names.
    sensitivity : bool or sequence
        Add columns that say how far log sigma and theta_logit move to first order with the weight
        of a prior of sigma: ``sens_<prior>_log_sigma``, ``sens_<prior>_theta_logit`` and
        ``sens_note``, see `studies.prior_sensitivity`. True: of the fit's own prior, or of
        Gamma(2, rate 0.3) and HalfNormal(1) where it has none; or names, or (name, parameters).
    n_jobs : int
        Workers; -1 stands for all. Inside ``joblib.parallel_config`` they are those of its backend.
    batch_size : int or 'auto'
        Genes that a worker gets at a time.
    seed : int
        Each gene gets its own seed of it and its name. The fits draw nothing.
    progress : bool
        Show a bar.
    resume : str or path, optional
        A folder where finished batches are recorded. One with the records of a run on the same data
        with the same options is continued; any other is refused.

    Returns
    -------
    GeneFits
        After Ctrl-C the genes that were done, with ``complete`` False.

    Raises
    ------
    ValueError, TypeError
        If an argument or the data are illegal, ``resume`` belongs to another run, or the memory
        that is available does not suffice. What is wrong with one gene is in its row instead.
    OSError
        If a file or the folder cannot be read or written.

    Notes
    -----
    A gene's numbers do not depend on ``n_jobs``, ``batch_size`` or the other genes. A gene of 900
    spots takes about 0.15 s; memory is the counts, 0.5 GB a worker, and one factor.

    On a cluster the workers are those of joblib's backend, with this package installed on each::

        with distributed.Client(address), joblib.parallel_config(backend="dask"):
            fits = fit_genes(adata, group_iso_by="gene_symbol", n_jobs=-1, resume="results")

    Examples
    --------
    >>> from splisosm_pyro import simulate_tissue
    >>> tissue = simulate_tissue(n_spots=60, n_genes=2, depth=3.0, seed=0)
    >>> fits = fit_genes(tissue.counts.numpy(), coords=tissue.coords, progress=False)
    >>> fits.table[["gene", "n_isos", "reads"]].values.tolist()
    [['gene_0', 3, 155], ['gene_1', 3, 169]]
    """
    given = dict(locals())
    cut = {name: given[name] for name in ("min_counts", "min_spots", "min_share", "rare")}
    return fit_slide(
        _slide_of(adata_or_counts, given),
        _options_of(given),
        Filters(**cut),
        n_jobs=n_jobs,
        batch_size=batch_size,
        progress=progress,
        resume=resume,
    )


def fit_slide(
    slide: Slide,
    options: RunOptions | None = None,
    filters: Filters | None = None,
    *,
    n_jobs: int = 1,
    batch_size: int | str = "auto",
    progress: bool = True,
    resume: PathLike | None = None,
) -> GeneFits:
    """Fit every gene of a slide; `fit_genes` explains the arguments.

    Parameters
    ----------
    slide : Slide
    options : RunOptions, optional
    filters : Filters, optional
    n_jobs, batch_size, progress, resume
        See `fit_genes`.

    Returns
    -------
    GeneFits
    """
    options = options or RunOptions()
    slide, removed = filtered(slide, filters or Filters())
    job, workers = Job.of(slide, options), n_workers(n_jobs)
    if on_this_machine():
        check_memory(slide, job.prepared().kernel, workers)
    _warn_of_fractions(slide)
    outcomes: dict[int, Outcome] = {}
    with ExitStack() as stack:
        records = None
        if resume is not None:
            records = stack.enter_context(Records(resume, _header(slide, options)))
            outcomes = {outcome["index"]: outcome for outcome in records.finished}
        left = [gene for gene in shuffled(slide) if gene.index not in outcomes]
        parts = batches(left, batch_size, workers)
        bar = stack.enter_context(
            tqdm(total=slide.n_genes, initial=len(outcomes), unit="gene", disable=not progress)
        )
        complete = _collect(run_batches(job, parts, n_jobs), outcomes, records, bar)
    return _result(slide, options, removed, outcomes, complete=complete)


def _collect(
    done: Iterator[list[Outcome]],
    outcomes: dict[int, Outcome],
    records: Records | None,
    bar: "tqdm[Any]",
) -> bool:
    """Take in batch after batch; return False if that was interrupted."""
    try:
        for part in done:
            if records is not None:
                records.append(part)
            outcomes |= {outcome["index"]: outcome for outcome in part}
            bar.update(len(part))
    except KeyboardInterrupt:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of workers that are ended in the middle
            _close(done)
        logger.warning("interrupted after %d genes", len(outcomes))
        return False
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a worker was ended from outside, perhaps for want of memory, after {len(outcomes)} "
            "genes: lower n_jobs; with resume the run goes on from there"
        ) from error
    return True


def _close(done: Iterator[list[Outcome]]) -> None:
    """End the workers."""
    close = getattr(done, "close", None)
    if close is not None:
        close()


def _result(
    slide: Slide,
    options: RunOptions,
    removed: pd.DataFrame,
    outcomes: dict[int, Outcome],
    *,
    complete: bool,
) -> GeneFits:
    """Lay out what was done."""
    if not outcomes:
        raise KeyboardInterrupt
    if not complete:
        slide = _taken(slide, sorted(outcomes))
    ordered = [outcomes[index] for index in sorted(outcomes)]
    return GeneFits(
        table=gene_table(ordered),
        isoforms=isoform_table(ordered),
        removed=removed,
        slide=slide,
        options=options,
        params=tuple(outcome["params"] for outcome in ordered),
        complete=complete,
    )


def _taken(slide: Slide, indices: list[int]) -> Slide:
    """Return the slide with some of its genes."""
    mask = np.zeros(slide.n_genes, dtype=bool)
    mask[indices] = True
    groups, start = [], 0
    for group in slide.groups:
        stop = start + len(group.gene_names)
        groups.append(group.take(mask[start:stop]))
        start = stop
    return slide.with_groups(groups)


def _header(slide: Slide, options: RunOptions) -> dict[str, Any]:
    """Say which run it is."""
    return {"version": NUMBERS, "data": digest_of(slide), "options": options.as_dict()}


def _warn_of_fractions(slide: Slide) -> None:
    """Warn once of counts that are no whole numbers."""
    fractional = sum(
        int((group.counts % 1 != 0).any(axis=(1, 2)).sum())
        for group in slide.groups
        if group.counts.dtype.kind == "f"
    )
    if fractional:
        warnings.warn(
            f"{fractional} genes have counts that are no whole numbers: they are fitted as they "
            "are; check that the layer holds counts",
            SplisosmWarning,
            stacklevel=4,
        )


def _options_of(given: Mapping[str, Any]) -> RunOptions:
    """Translate the arguments of `fit_genes`."""
    params = given["var_prior_model_params"]
    same = ("model", "nugget", "smooth", "share_variance", "k", "rho", "standardise", "seed")
    return RunOptions(
        prior=given["var_prior_model"],
        prior_params=None if params is None else dict(params),
        sensitivity=asked_sensitivity(given["sensitivity"], given["var_prior_model"], params),
        fitting_configs=dict(given["fitting_configs"] or {}),
        **{name: given[name] for name in same},
    )


READ_KEYS = (
    *("group_iso_by", "layer", "spatial_key", "adj_key", "library_key", "reference", "n_isos"),
)


def _slide_of(source: Any, given: Mapping[str, Any]) -> Slide:
    """Read a slide off whatever was given."""
    covariates = given["covariates"]
    framed = isinstance(covariates, pd.DataFrame)
    if isinstance(source, Slide):
        return checked(source)
    if isinstance(source, np.ndarray | list | tuple):
        if covariates is not None and not framed:
            raise TypeError("covariates must be a DataFrame where the counts are arrays")
        names = ("coords", "covariates", "reference", "gene_names", "iso_names")
        return slide_of_arrays(source, **{name: given[name] for name in names})
    if framed:
        raise TypeError("covariates must be names of columns, the DataFrame is for arrays")
    keys = {name: given[name] for name in READ_KEYS}
    keys["covariates"] = () if covariates is None else tuple(covariates)
    if isinstance(source, str | os.PathLike):
        keys["group_iso_by"] = keys["group_iso_by"] or "gene_symbol"
        return read_slide(Path(source), **keys)
    if hasattr(source, "obsm") and hasattr(source, "var"):
        keys["spatial_key"] = keys["spatial_key"] or "spatial"
        return slide_of_anndata(source, **keys)
    raise TypeError(
        "adata_or_counts must be an AnnData, a path, a Slide or arrays of counts, "
        f"came {type(source).__name__}"
    )
