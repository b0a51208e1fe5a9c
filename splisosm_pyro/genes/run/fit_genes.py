"""``fit_genes``: from AnnData, a file or arrays to a table, batch after batch on workers."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from splisosm_pyro.fit.accelerator.memory import available_bytes
from splisosm_pyro.genes.batches import n_workers
from splisosm_pyro.genes.contrasts import Asked, checked_contrasts
from splisosm_pyro.genes.data.filters import Filters, filtered
from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.places import warn_of_close_sections
from splisosm_pyro.genes.data.read import slide_of
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job, ModelName, PriorName, RunOptions
from splisosm_pyro.genes.kept_usage import BYTES
from splisosm_pyro.genes.result.gene_fits import GeneFits
from splisosm_pyro.genes.run.first_use import compile_ahead
from splisosm_pyro.genes.run.records import Records
from splisosm_pyro.genes.run.workers import check_memory, fit_rest
from splisosm_pyro.maths.numeric.arrays import AnyArray
from splisosm_pyro.paths import PathLike
from splisosm_pyro.population.forms import FORMS
from splisosm_pyro.studies.sensitivity.columns import asked_sensitivity


def fit_genes(
    adata_or_counts: Any,
    *,
    group_iso_by: str | None = None,
    layer: str = "counts",
    spatial_key: str | None = None,
    adj_key: str | None = None,
    covariates: str | Sequence[str] | pd.DataFrame | None = None,
    library_key: str | None = None,
    model: ModelName = "glmm",
    nugget: Literal["quadrature", "laplace"] = "quadrature",
    smooth: Literal["auto", "ep", "laplace"] = "auto",
    share_variance: bool = True,
    coding: Literal["symmetric", "reference"] = "symmetric",
    var_prior_model: PriorName = "half_normal",
    var_prior_model_params: Mapping[str, float] | None = None,
    fitting_configs: Mapping[str, Any] | None = None,
    k: int = 6,
    rho: float = 0.99,
    reference: Mapping[str, str] | None = None,
    reference_isoform: str | Mapping[str, str] = "last",
    contrasts: str | Sequence[Asked] = "reference",
    standardise: bool = False,
    n_isos: int | None = None,
    min_counts: float = 0.0,
    min_spots: int = 0,
    min_share: float = 0.0,
    rare: Literal["drop", "merge"] = "drop",
    coords: AnyArray | None = None,
    gene_names: Sequence[str] | None = None,
    iso_names: Sequence[Sequence[str]] | None = None,
    sensitivity: bool | str | Sequence[Any] = False,
    keep_usage: bool = False,
    tests: bool = True,
    population: bool | Literal["gaussian", "mixture"] = False,
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
        Layer with the counts; ``'X'`` stands for the main matrix, ``'raw'`` for that of ``raw``.
    spatial_key : str, optional
        Key of the coordinates, (S, 2) or (S, 3); default ``'spatial'`` (``'coords'`` in an .npz).
    adj_key : str, optional
        Key of ``obsp`` with the graph of the spots; default: mutual nearest neighbours. With it
        there need be no coordinates, only no maps then.
    covariates : str or sequence of str, optional
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
        As for `MultinomGLMM`, fitted by 'marginal_newton' with free sigma. The prior of sigma is
        half normal of scale 1 unless another is named; 'none' is maximum likelihood, by which a
        gene of few reads often has a sigma without bound.
    coding : {'symmetric', 'reference'}
        Whether every isoform has a random effect of its own, so that nothing depends on the order
        of isoforms, or every logit against the last one, as documented for `MultinomGLMM`. A
        variance of each logit, ``share_variance=False``, needs ``'reference'``. Two isoforms have
        the same model either way.
    k, rho : int, float
        Neighbours of a spot and strength of the dependence, of the CAR kernel.
    reference : mapping of str to str, optional
        For each categorical covariate the level that the others are compared with.
    reference_isoform : {'last', 'most reads'}, other str, or mapping of str to str
        Which isoform of a gene the logits are relative to: the last in the order of the data, the
        one with the most reads, the one that a column of ``var`` marks (True, or its name at every
        isoform of the gene), the one of this name, or one for each gene. It is moved to the end.
        Under symmetric coding the coefficients alone depend on it.
    contrasts : {'reference', 'pairwise'} or sequence of (str, str or float, str or float)
        What ``effects`` compares: each level of a category with the reference, or every two, and
        numbers by one standard deviation; or by name, ``[("region", "B", "A"), ("age", 60, 30)]``:
        B against A, age 60 against 30.
    standardise : bool
        Kept for older scripts: covariates are fitted in standard units in any case, and estimates
        come back in the user's.
    n_isos : int, optional
        Fit genes with this number of isoforms alone.
    min_counts, min_spots, min_share, rare
        What is left out, see `Filters`; by default nothing.
    coords, gene_names, iso_names
        Of counts that are arrays: places (S, 2) or (S, 3), and names, of genes all different.
    sensitivity : bool, str or sequence
        Add columns that say how far log sigma and theta_logit move to first order with the weight
        of a prior of sigma: ``sens_<prior>_log_sigma``, ``sens_<prior>_theta_logit`` and
        ``sens_note``, see `studies.prior_sensitivity`. True: of the fit's own prior, or of
        Gamma(2, rate 0.3) and HalfNormal(1) where it has none; or names, or (name, parameters).
    keep_usage : bool
        Keep the fitted usage and its standard error, 8 bytes for each isoform and spot: `usage`,
        `to_anndata` and figures then read what they find again else. Takes a quarter more time.
    tests : bool
        Test every gene for space and for each covariate: ``sv_p``, ``du_<covariate>_p`` and their
        q. Takes a further fit for each covariate.
    population : bool or {'gaussian', 'mixture'}
        Estimate how sigma and theta are distributed over the genes, and add what each gene's are
        under it: posterior means with 90 % intervals inside the bounds, ``p_spatial``, local false
        sign rates of the covariates; see `GeneFits`. True stands for the first form. Takes up to
        as long again, and needs ``share_variance``.
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
    keys = SlideKeys(group_iso_by, layer, spatial_key, adj_key, library_key, reference, n_isos)
    keys = replace(keys, reference_isoform=reference_isoform)
    slide = slide_of(adata_or_counts, keys, covariates, coords, gene_names, iso_names)
    how: dict[str, Any] = {"model": model, "nugget": nugget, "smooth": smooth, "coding": coding}
    how |= {"k": k, "rho": rho, "seed": seed, "keep_usage": keep_usage, "tests": tests}
    options = RunOptions(
        **how,
        share_variance=share_variance,
        prior=var_prior_model,
        prior_params=None if var_prior_model_params is None else dict(var_prior_model_params),
        fitting_configs=dict(fitting_configs or {}),
        contrasts=checked_contrasts(contrasts),
        sensitivity=asked_sensitivity(sensitivity, var_prior_model, var_prior_model_params),
        population=_form_of(population),
    )
    filters = Filters(min_counts=min_counts, min_spots=min_spots, min_share=min_share, rare=rare)
    return fit_slide(slide, options, filters, n_jobs, batch_size, progress, resume)


def _form_of(population: bool | str) -> str:
    """Return the form of the population that is meant."""
    if isinstance(population, bool):
        return FORMS[0] if population else "none"
    return population


def fit_slide(
    slide: Slide,
    options: RunOptions | None = None,
    filters: Filters | None = None,
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
    warn_of_close_sections(slide)
    compile_ahead(options, [group.iso_names.shape[1] for group in slide.groups], progress)
    check_memory(slide, job, workers)
    if options.keep_usage:
        _check_room(slide)
    with nullcontext() if resume is None else Records.of_run(resume, slide, options) as records:
        outcomes, complete = fit_rest(job, slide, records, n_jobs, batch_size, progress)
    return GeneFits.of_outcomes(slide, options, removed, outcomes, complete, progress)


def _check_room(slide: Slide) -> None:
    """Raise if the usage of all isoforms does not fit into memory."""
    needed = BYTES * sum(group.counts.size for group in slide.groups)
    free = available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"keep_usage needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available: "
            "leave it out, and ask for some genes afterwards"
        )
