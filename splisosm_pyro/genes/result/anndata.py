"""A result as AnnData."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from splisosm_pyro.genes.data.covariates import as_given
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job, RunOptions
from splisosm_pyro.maths.numeric.arrays import FloatArray

# Columns of the genes' table that every isoform is shown with.
GENE_COLUMNS = ("status", "sigma", "theta", "gain_over_white", "gain_over_glm")


def as_anndata(
    table: pd.DataFrame,
    isoforms: pd.DataFrame,
    slide: Slide,
    options: RunOptions,
    layers: Sequence[tuple[FloatArray, FloatArray, FloatArray]],
) -> Any:
    """Return spots x isoforms with the fitted usage as layers; see `GeneFits.to_anndata`.

    ``layers`` are counts, usage and its error of every gene, (S, P) each.
    """
    try:
        import anndata
    except ImportError:
        raise ModuleNotFoundError(
            "to_anndata needs the package anndata: pip install 'splisosm-pyro[anndata]'"
        ) from None
    counts, usage, error = (np.column_stack(layer) for layer in zip(*layers, strict=True))
    var = isoforms.copy()
    shown = [name for name in table if str(name).startswith(GENE_COLUMNS)]
    repeated = table[shown].loc[table.index.repeat(table["n_isos"])]
    var = pd.concat([var, repeated.reset_index(drop=True)], axis=1)
    names = var["isoform"] if var["isoform"].is_unique else var["gene"] + " " + var["isoform"]
    var.index = pd.Index(names.astype(str), name=None)
    columns = [as_given(one) for one in slide.covariates]
    obs = pd.concat([pd.DataFrame(index=range(slide.n_spots)), *columns], axis=1)
    obs.index = pd.Index(slide.names_of_spots().tolist())
    if slide.library is not None:
        obs["library"] = pd.Categorical(slide.library)
    adata = anndata.AnnData(csr_matrix(counts), obs=_writable(obs), var=_writable(var))
    adata.layers["counts"] = csr_matrix(counts)
    adata.layers["usage"], adata.layers["usage_se"] = usage, error
    adata.obsm["spatial"] = slide.coords.copy()
    adata.obsp["spatial_connectivities"] = csr_matrix(Job.of(slide, options).graph)
    written = _writable(table.set_index(table.index.astype(str)))
    adata.uns["splisosm_pyro"] = {"table": written, "model": options.model}
    return adata


def _writable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns an .h5ad can name: a slash there would be a folder."""
    return table.rename(columns=lambda name: str(name).replace("/", "|"))
