"""Fitting genes one by one: the GLM and the marginal GLMM, one row of numbers a gene.

A gene that cannot be fitted is a row as well: its status says why, its numbers are missing.
"""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from splisosm_pyro.fit.result import failed
from splisosm_pyro.genes.slide import Slide
from splisosm_pyro.maths.axes import as_design
from splisosm_pyro.maths.protocols import Kernel
from splisosm_pyro.model import MultinomGLM, MultinomGLMM

Row = dict[str, Any]
Prior = Literal["none", "gamma", "inv_gamma"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is fitted to every gene.

    Attributes
    ----------
    glmm : bool
        Fit the GLMM as well as the GLM.
    share_variance : bool
        One sigma and theta for all logits of a gene.
    prior : {'none', 'gamma', 'inv_gamma'}
        On sigma, with its documented parameters.
    """

    glmm: bool = True
    share_variance: bool = True
    prior: Prior = "none"


@dataclass(frozen=True, eq=False)
class GeneResult:
    """A gene's row, and the fitted models that it was read from.

    Attributes
    ----------
    row : dict
        Column name to value.
    glm : MultinomGLM or None
        None if the fit broke.
    glmm : MultinomGLMM or None
        None if it was not asked for, or the fit broke.
    """

    row: Row
    glm: MultinomGLM | None = None
    glmm: MultinomGLMM | None = None


def fit_slide(
    slide: Slide, kernel: Kernel, options: RunOptions | None = None, *, quiet: bool = False
) -> pd.DataFrame:
    """Fit every gene of a slide.

    Parameters
    ----------
    slide : Slide
    kernel : Kernel
        Spatial covariance of the slide's spots.
    options : RunOptions, optional
    quiet : bool
        No progress bar.

    Returns
    -------
    DataFrame
        One row a gene, in the order of the slide. Isoforms p and logits q count from 0, in the
        order of the file. ``sigma`` and ``theta`` (with ``_q`` where the variance is not shared),
        ``usage_p`` (mean over spots of the fitted usage), ``bias_eta_q`` and ``beta_<covariate>_q``
        (logits) with their standard errors (``_se``) are those of the GLMM, or of the GLM where it
        is alone; the errors of sigma and theta are on the scales where they are symmetric,
        ``log_sigma_se`` and ``theta_logit_se``, and infinite at a bound. ``loglik_glm`` and
        ``log_marginal`` are in nats.

    Raises
    ------
    ValueError
        If the design or the kernel does not fit the spots. What is wrong with one gene is in its
        row instead.
    """
    options = options or RunOptions()
    n_spots = len(slide.coords)
    if kernel.n_spots != n_spots:
        raise ValueError(f"kernel must have {n_spots} spots, came {kernel.n_spots}")
    as_design(slide.design, n_spots)
    rows: list[Row] = []
    with tqdm(total=slide.n_genes, unit="gene", disable=quiet) as bar:
        for group in slide.groups:
            for counts, gene, isos in zip(
                group.counts, group.gene_names, group.iso_names, strict=True
            ):
                fitted = fit_gene(counts, slide.design, kernel, options)
                rows.append({"gene": str(gene), "isoforms": ";".join(isos), **fitted.row})
                bar.update()
    return in_order(rows)


def fit_gene(
    counts: NDArray[Any],
    design: pd.DataFrame,
    kernel: Kernel,
    options: RunOptions,
) -> GeneResult:
    """Fit one gene.

    Parameters
    ----------
    counts : ndarray, shape (S, P)
    design : DataFrame, shape (S, F)
    kernel : Kernel
    options : RunOptions

    Returns
    -------
    GeneResult
        Never raises for what is wrong with the gene.
    """
    start = time.perf_counter()
    # in double precision also where a file has single: parameters take the dtype of the counts
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum(1)
    reads = float(total.sum())
    row: Row = {
        "n_isos": counts.shape[1],
        "reads": int(reads) if reads.is_integer() else reads,
        "occupied_spots": int((total > 0).sum()),
    }
    glm = glmm = None
    try:
        glm = MultinomGLM()
        glm.setup_data(counts[None], design_mtx=design)
        glm.fit(quiet=True)
        row |= {"loglik_glm": glm.diagnose()["log_lik"].item(), "status_glm": glm.status[0]}
        if options.glmm:
            glmm = MultinomGLMM(
                share_variance=options.share_variance,
                var_fix_sigma=False,
                var_prior_model=options.prior,
                fitting_method="marginal_newton",
            )
            glmm.setup_data(counts[None], corr_sp=kernel, design_mtx=design)
            glmm.fit(quiet=True)
            row["log_marginal"] = glmm.diagnose()["log_marginal"].item()
        row |= estimates(glm if glmm is None else glmm, list(design.columns))
    except (ValueError, TypeError, ArithmeticError, RuntimeError, NotImplementedError) as error:
        # what a gene's own counts can bring about; anything else is a defect and stops the run
        glm = glmm = None
        row |= {"status": failed(error), "reason": str(error)}
    row["seconds"] = round(time.perf_counter() - start, 4)
    return GeneResult(row, glm, glmm)


COLUMNS = (
    *("gene", "n_isos", "reads", "occupied_spots", "status", "sigma", "theta"),
    *("log_sigma", "theta_logit", "usage"),
    *("bias_eta", "beta", "loglik_glm", "log_marginal", "gradient_norm", "seconds"),
    *("status_glm", "reason", "isoforms"),
)


def in_order(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a table whose columns stand in one order, whatever the first gene has."""
    table = pd.DataFrame(list(rows))
    columns = sorted((str(name) for name in table.columns), key=_place)
    return table[columns]


def _place(column: str) -> tuple[int, list[str | int]]:
    """Return the sorting key of a column: its kind, then its name with numbers as numbers."""
    kinds = [kind for kind in COLUMNS if column.startswith(f"{kind}_")]
    kind = column if column in COLUMNS else max(kinds, key=len)
    parts = re.split(r"(\d+)", column)
    return COLUMNS.index(kind), [int(part) if part.isdecimal() else part for part in parts]


def estimates(model: MultinomGLM, covariates: list[str]) -> Row:
    """Read parameters, standard errors and the certificate off a fitted model of one gene.

    Parameters
    ----------
    model : MultinomGLM or MultinomGLMM
    covariates : list of str
        Names for the rows of beta.

    Returns
    -------
    dict
        Values under the names of the columns of `fit_slide`.
    """
    certificate = model.diagnose().iloc[0]
    row: Row = {name: certificate[name] for name in ("status", "gradient_norm", "reason")}
    if model.status[0].startswith("failed"):
        return row
    errors = model.standard_errors()
    for q, value in enumerate(model.bias_eta[0]):
        row[f"bias_eta_{q}"] = value.item()
        row[f"bias_eta_{q}_se"] = errors["bias_eta"][0, q].item()
    for f, name in enumerate(covariates):
        for q, value in enumerate(model.beta[0, f]):
            row[f"beta_{name}_{q}"] = value.item()
            row[f"beta_{name}_{q}_se"] = errors["beta"][0, f, q].item()
    if isinstance(model, MultinomGLMM):
        row |= _variances(model, errors)
    for p, value in enumerate(model.get_isoform_ratio()[0].mean(0)):
        row[f"usage_{p}"] = value.item()
    return row


def _variances(model: MultinomGLMM, errors: dict[str, Tensor]) -> Row:
    """Read sigma and theta, numbered where there is one for each logit."""
    row: Row = {}
    shared = model.sigma.shape[1] == 1
    for c, (sigma, theta) in enumerate(zip(model.sigma[0], model.var_sp_prop()[0], strict=True)):
        ending = "" if shared else f"_{c}"
        row |= {f"sigma{ending}": sigma.item(), f"theta{ending}": theta.item()}
        for name in ("log_sigma", "theta_logit"):
            row[f"{name}{ending}_se"] = errors[name][0, c].item()
    return row
