"""A result as AnnData."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from splisosm_pyro.genes.covariates import as_given
from splisosm_pyro.genes.job import Job
from splisosm_pyro.genes.slide import Floats

if TYPE_CHECKING:
    from splisosm_pyro.genes.fits import GeneFits

# Columns of the genes' table that every isoform is shown with.
GENE_COLUMNS = ("status", "sigma", "theta", "gain_over_white", "gain_over_glm")


def as_anndata(fits: "GeneFits", *, errors: bool) -> Any:
    """Return spots x isoforms with the fitted usage as layers; see `GeneFits.to_anndata`."""
    try:
        import anndata
    except ImportError:
        raise ModuleNotFoundError(
            "to_anndata needs the package anndata: pip install 'splisosm-pyro[anndata]'"
        ) from None
    slide = fits.slide
    parts = [_layers(fits, place, errors) for place in range(len(fits.table))]
    counts, usage, error = (np.column_stack(layer) for layer in zip(*parts, strict=True))
    var = fits.isoforms.copy()
    shown = [name for name in fits.table if str(name).startswith(GENE_COLUMNS)]
    repeated = fits.table[shown].loc[fits.table.index.repeat(fits.table["n_isos"])]
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
    adata.obsp["spatial_connectivities"] = csr_matrix(Job.of(slide, fits.options).graph)
    table = _writable(fits.table.set_index(fits.table.index.astype(str)))
    adata.uns["splisosm_pyro"] = {"table": table, "model": fits.options.model}
    return adata


def _layers(fits: "GeneFits", place: int, errors: bool) -> tuple[Floats, Floats, Floats]:
    """Return counts, fitted usage and its error of one gene, (S, P) each."""
    counts = fits.counts(place).astype(np.float64)
    if fits.params[place] is None:
        missing = np.full_like(counts, np.nan)
        return counts, missing, missing
    return counts, *fits.usage(place, errors=errors)


def _writable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns an .h5ad can name: a slash there would be a folder."""
    return table.rename(columns=lambda name: str(name).replace("/", "|"))
