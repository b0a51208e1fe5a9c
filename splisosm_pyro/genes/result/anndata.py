"""A result as AnnData: one of its own, or written into the user's, of which nothing is lost."""

import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_matrix

from splisosm_pyro.fit.accelerator.memory import available_bytes
from splisosm_pyro.genes.data.covariates import as_given
from splisosm_pyro.genes.data.names import listed
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job, RunOptions
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

# Columns of the genes' table that every isoform is shown with.
GENE_COLUMNS = ("status", "sigma", "theta", "gain_over_white", "gain_over_glm")
OWN = "splisosm_pyro"  # our entry of uns, and what a name begins with that is taken
GRAPH = "spatial_connectivities"


@dataclass(frozen=True, eq=False)
class Shown:
    """What is written: the whole table, and of the genes that are shown their isoforms.

    Attributes
    ----------
    table : DataFrame
        Of all genes.
    isoforms : DataFrame
        A row for each isoform that is shown.
    slide : Slide
    options : RunOptions
    counts, usage, error : ndarray, shape (S, isoforms)
    """

    table: pd.DataFrame
    isoforms: pd.DataFrame
    slide: Slide
    options: RunOptions
    counts: FloatArray
    usage: FloatArray
    error: FloatArray

    def var(self) -> pd.DataFrame:
        """Return the isoforms' table with the main columns of the genes', by isoform."""
        names = [name for name in self.table if str(name).startswith(GENE_COLUMNS)]
        genes = self.table.set_index("gene")[names].loc[self.isoforms["gene"]]
        both = [self.isoforms.reset_index(drop=True), genes.reset_index(drop=True)]
        return pd.concat(both, axis=1)

    def obs(self) -> pd.DataFrame:
        """Return covariates and slides as they came."""
        columns = [as_given(one) for one in self.slide.covariates]
        obs = pd.concat([pd.DataFrame(index=range(self.slide.n_spots)), *columns], axis=1)
        obs.index = pd.Index(self.slide.names_of_spots().tolist())
        if self.slide.library is not None:
            # a covariate may be the slide itself, or be called like it
            name, slides = self.slide.library_name, self.slide.library
            if name not in obs or obs[name].astype(str).tolist() != slides.tolist():
                obs[_free(name, obs)] = pd.Categorical(slides)
        return obs

    def graph(self) -> coo_array:
        """Return which spots are neighbours (S, S)."""
        return coo_array(Job.of(self.slide, self.options).graph)


def as_anndata(shown: Shown) -> Any:
    """Return spots x isoforms with the fitted usage as layers; see `GeneFits.to_anndata`."""
    anndata, var = _package(), shown.var()
    names = var["isoform"] if var["isoform"].is_unique else var["gene"] + " " + var["isoform"]
    var.index = pd.Index(names.astype(str), name=None)
    counts = csr_matrix(shown.counts)
    adata = anndata.AnnData(counts, obs=_writable(shown.obs()), var=_writable(var))
    adata.layers["counts"] = counts.copy()
    adata.layers["usage"], adata.layers["usage_se"] = shown.usage, shown.error
    if shown.slide.coords.shape[1]:
        adata.obsm["spatial"] = shown.slide.coords.copy()
    adata.obsp[GRAPH] = csr_matrix(shown.graph())
    adata.uns[OWN] = _entry(shown, [])
    return adata


def into_anndata(adata: Any, shown: Shown, *, inplace: bool) -> Any:
    """Write the fitted usage into an AnnData or its copy; see `GeneFits.to_anndata`.

    Spots and isoforms go by their names. What has the name of ours stays, and ours begins with
    ``splisosm_pyro_``; what an earlier call has written is written over.
    """
    spots = _spots_in(adata, shown.slide)
    columns, there = _isoforms_in(adata, shown.isoforms["isoform"].astype(str).tolist())
    _check_room(2 * adata.n_obs * adata.n_vars)
    backed = bool(getattr(adata, "isbacked", False))
    if backed and inplace:
        raise ValueError("inplace must be False where the AnnData is backed by a file, came True")
    target = adata if inplace else adata.to_memory() if backed else adata.copy()
    ours = set(map(str, target.uns.get(OWN, {}).get("wrote", ())))
    wrote: list[str] = []
    for name, values in (("usage", shown.usage), ("usage_se", shown.error)):
        place = _name(name, "layers", target.layers, ours, wrote)
        layer = np.full(target.shape, np.nan)
        if place in target.layers:
            layer = np.array(target.layers[place], dtype=np.float64)
        layer[np.ix_(spots, columns)] = values[:, there]
        target.layers[place] = layer
    var = _writable(shown.var()).drop(columns=["gene", "isoform"]).iloc[there]
    for column in map(str, var):
        place = _name(column, "var", target.var, ours, wrote)
        target.var[place] = _spread(var[column], columns, target.var.get(place), target.n_vars)
    _add_obs(target, shown, spots)
    edges = shown.graph()
    entries = (edges.data, (spots[edges.row], spots[edges.col]))
    place = _name(GRAPH, "obsp", target.obsp, ours, wrote)
    target.obsp[place] = csr_matrix(entries, shape=(target.n_obs, target.n_obs))
    target.uns[OWN] = _entry(shown, wrote)
    return target


def _add_obs(target: Any, shown: Shown, spots: IndexArray) -> None:
    """Add what the AnnData does not have of covariates, slides and places."""
    known = {one.name for one in shown.slide.covariates if one.name in target.obsm}
    for name, column in _writable(shown.obs()).items():
        if name not in target.obs and str(name).partition("=")[0] not in known:
            words = column.astype(object)
            target.obs[name] = _spread(words.infer_objects(), spots, None, target.n_obs)
    coords = shown.slide.coords
    if "spatial" not in target.obsm and coords.shape[1]:
        places = np.full((target.n_obs, coords.shape[1]), np.nan)
        places[spots] = coords
        target.obsm["spatial"] = places


def _spots_in(adata: Any, slide: Slide) -> IndexArray:
    """Return the row of each spot of the fit in the AnnData."""
    if not hasattr(adata, "obsm") or not hasattr(adata, "var"):
        raise TypeError(f"adata must be an AnnData, came {type(adata).__name__}")
    return slide.rows_in(adata.obs_names, "adata", "obs_names")


def _isoforms_in(adata: Any, names: list[str]) -> tuple[IndexArray, IndexArray]:
    """Return columns of the AnnData and, beside them, the isoforms of the fit that they are."""
    if not adata.var_names.is_unique:
        raise ValueError("adata must have different names of isoforms: var_names_make_unique")
    found = np.asarray(adata.var_names.astype(str).get_indexer(pd.Index(names)), dtype=np.intp)
    lacking = [name for name, column in zip(names, found, strict=True) if column < 0]
    if len(lacking) == len(names):
        raise ValueError(
            f"adata must hold the isoforms of the fit, none of {listed(names)} is in var_names"
        )
    if lacking:
        warnings.warn(
            f"{len(lacking)} of {len(names)} isoforms of the fit are not in var_names "
            f"({listed(lacking)}): they are not written",
            SplisosmWarning,
            stacklevel=4,
        )
    there = np.flatnonzero(found >= 0)
    return found[there], there


def _name(
    name: str, where: str, taken: Container[str], ours: Container[str], wrote: list[str]
) -> str:
    """Return the name under which something is written, and note it."""
    place = name if f"{where}/{name}" in ours else _free(name, taken)
    if f"{where}/{OWN}_{name}" in ours:
        place = f"{OWN}_{name}"
    wrote.append(f"{where}/{place}")
    return place


def _free(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken."""
    while name in taken:
        name = f"{OWN}_{name}"
    return name


def _spread(
    values: "pd.Series[Any]", places: IndexArray, before: "pd.Series[Any] | None", size: int
) -> Any:
    """Return values at their places; elsewhere what was there before, or nothing."""
    words = not pd.api.types.is_numeric_dtype(values.dtype)
    if before is None:
        full = np.full(size, "" if words else np.nan, dtype=object if words else np.float64)
    else:
        full = np.array(before, dtype=object if words else np.float64)
    full[places] = values.to_numpy()
    return full


def _entry(shown: Shown, wrote: Sequence[str]) -> dict[str, Any]:
    """Return our entry of uns: the genes' table, the model, the names that were written."""
    table = _writable(shown.table.set_index(shown.table.index.astype(str)))
    entry = {"table": table, "model": shown.options.model}
    return entry | ({"wrote": np.array(wrote)} if wrote else {})


def _writable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns an .h5ad can name: a slash there would be a folder."""
    names: list[str] = []
    for column in map(str, table.columns):
        names.append(_free(column.replace("/", "|"), names))
    return table.set_axis(names, axis=1)


def _check_room(n_numbers: int) -> None:
    """Raise if so many numbers do not fit into memory."""
    needed, free = 8.0 * n_numbers, available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"usage of all isoforms needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are "
            "available: give an AnnData of fewer isoforms, or none and genes="
        )


def _package() -> Any:
    """Return the package anndata, or say how to have it."""
    try:
        import anndata
    except ImportError:
        raise ModuleNotFoundError(
            "to_anndata needs the package anndata: pip install 'splisosm-pyro[anndata]'"
        ) from None
    return anndata
