"""Reading an ``.h5ad``: isoforms in columns, the name of their gene in ``var``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.genes.data.anndata_counts import Layer, are_counts, groups_of, layers_of_counts
from splisosm_pyro.genes.data.covariates import Covariate, check_references, covariate
from splisosm_pyro.genes.data.names import NO_WORD, SlideKeys, is_missing, warn_of_nameless
from splisosm_pyro.genes.data.places import as_coords, given_graph
from splisosm_pyro.genes.data.reference import LAST, MOST_READS, reference_of_column, with_reference
from splisosm_pyro.genes.data.slide import Slide, checked
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray, Mask, StrArray


def read_h5ad(path: Path, keys: SlideKeys) -> Slide:
    """Read isoform counts from an AnnData file, spots in rows and isoforms in columns.

    Raises
    ------
    ModuleNotFoundError
        If the package anndata is not installed.
    OSError, ValueError
        If the file cannot be read, or something asked for is not in it.
    """
    adata = open_h5ad(path)
    return slide_of_anndata(adata, keys)


def slide_of_anndata(adata: Any, keys: SlideKeys) -> Slide:
    """Take isoform counts from an AnnData object, spots in rows and isoforms in columns.

    Raises
    ------
    ValueError
        If something asked for is not there, or counts or coordinates are illegal.
    """
    if keys.group_iso_by is None:
        there = ", ".join(map(repr, adata.var.columns)) or "none"
        raise ValueError(
            f"group_iso_by must name the column of var with the gene of an isoform; it has {there}"
        )
    levels = check_references(keys.covariates, keys.reference)
    spots = np.asarray(adata.obs_names, dtype=str)
    coords = _coords(adata, keys, spots)
    layer = Layer.of(adata, keys.layer)
    genes = _entry(layer.var, keys.group_iso_by, "var", "group_iso_by")
    nameless = is_missing(genes)
    if nameless.all() and len(nameless):
        raise ValueError(f"var[{keys.group_iso_by!r}] must name genes, came none: set group_iso_by")
    columns, names, single = _columns(genes, ~nameless, keys.n_isos)
    groups = tuple(groups_of(layer, columns, names))
    graph, slides = keys.adj_key, keys.library_key
    slide = Slide(
        coords=coords,
        adjacency=None if graph is None else _graph(adata, graph, coords),
        library=None if slides is None else _library(adata, slides),
        covariates=tuple(_covariate(adata, name, levels.get(name)) for name in keys.covariates),
        groups=groups,
        single=single,
        spot_names=spots,
        library_name=slides or Slide.library_name,
        nameless=tuple(map(str, layer.var_names[nameless])),
    )
    if not are_counts(groups):
        slide = replace(slide, whole=layers_of_counts(adata))
    warn_of_nameless(int(nameless.sum()), len(nameless), f"var[{keys.group_iso_by!r}]")
    return with_reference(checked(slide), _reference(layer, genes, keys.reference_isoform))


def _coords(adata: Any, keys: SlideKeys, spots: StrArray) -> FloatArray:
    """Return the coordinates (S, d), with d = 0 where there is a graph and none are asked for."""
    key = keys.spatial_key or "spatial"
    if keys.adj_key is not None and keys.spatial_key is None and key not in adata.obsm:
        return np.zeros((len(spots), 0))
    return as_coords(_entry(adata.obsm, key, "obsm", "spatial_key"), f"obsm[{key!r}]", spots)


def _graph(adata: Any, key: str, coords: FloatArray) -> Any:
    """Return the graph of the spots."""
    return given_graph(_entry(adata.obsp, key, "obsp", "adj_key"), f"obsp[{key!r}]", coords)


def _library(adata: Any, key: str) -> StrArray:
    """Return the slide of each spot."""
    column = _entry(adata.obs, key, "obs", "library_key")
    missing = is_missing(column, NO_WORD)
    if missing.any():
        raise ValueError(
            f"obs[{key!r}] must name a slide for every spot, {int(missing.sum())} lack it: "
            "remove these spots"
        )
    return np.asarray(column.astype(str), dtype=str)


def _reference(
    layer: Layer, genes: "pd.Series[Any]", chosen: str | Mapping[str, str]
) -> str | Mapping[str, str]:
    """Return what is chosen as reference isoform, a column of var gene by gene."""
    if not isinstance(chosen, str) or chosen in (LAST, MOST_READS) or chosen not in layer.var:
        return chosen
    return reference_of_column(layer.var[chosen], genes, layer.var_names)


def open_h5ad(path: Path) -> Any:
    """Read an AnnData file, or say what is missing to do so."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        import anndata
    except ImportError:
        raise ModuleNotFoundError(
            "reading an .h5ad needs the package anndata: pip install 'splisosm-pyro[anndata]'"
        ) from None
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # whatever HDF5 stumbles over first
        raise OSError(
            f"{path} is no readable .h5ad, perhaps truncated: download or write it again ({error})"
        ) from error


def _entry(mapping: Any, key: str, where: str, option: str) -> Any:
    """Return an entry of one of AnnData's mappings, or raise with those that there are."""
    if key not in mapping:
        there = ", ".join(map(repr, mapping.keys())) or "nothing"
        raise ValueError(f"{where} has no {key!r}: set {option} to what it has, {there}")
    return mapping[key]


def _columns(
    genes: "pd.Series[Any]", named: Mask, n_isos: int | None
) -> tuple[dict[int, IndexArray], dict[int, StrArray], tuple[str, ...]]:
    """Return the columns (G, P) and names (G,) of genes by number of isoforms, and of single ones.

    Isoforms without a name of their gene are in none.
    """
    there = np.flatnonzero(named)
    codes, names = pd.factorize(genes.astype(str).to_numpy()[there])
    sizes = np.bincount(codes)
    first = np.cumsum(sizes) - sizes
    order = there[np.argsort(codes, kind="stable")]  # columns gene by gene, in the file's order
    wanted = [int(size) for size in np.unique(sizes) if size > 1 and n_isos in (None, size)]
    if not wanted and n_isos is not None and sizes.max(initial=0) > 1:
        known = ", ".join(map(str, np.unique(sizes)))
        raise ValueError(f"no gene has {n_isos} isoforms: set n_isos to what there is, {known}")
    if not wanted:
        raise ValueError(
            f"no gene has two or more isoforms: the {len(codes)} isoforms belong to {len(names)} "
            "genes; set group_iso_by to the column with the gene, not the isoform"
        )
    members = {size: np.flatnonzero(sizes == size) for size in wanted}
    columns = {size: order[first[own, None] + np.arange(size)] for size, own in members.items()}
    single = tuple(str(name) for name in names[sizes == 1])
    return columns, {size: names[own].astype(str) for size, own in members.items()}, single


def _covariate(adata: Any, name: str, reference: str | None) -> Covariate:
    """Encode a column of obs, or a matrix of obsm."""
    if name in adata.obs:
        return covariate(name, adata.obs[name], reference=reference)
    if name not in adata.obsm:
        there = ", ".join([*map(str, adata.obs), *map(str, adata.obsm)])
        raise ValueError(f"covariate {name!r} is neither in obs nor in obsm; they have {there}")
    return covariate(name, adata.obsm[name], reference=reference)
