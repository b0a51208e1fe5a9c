"""Reading an ``.h5ad``: isoforms in columns, the name of their gene in ``var``."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.accelerator.memory import available_bytes
from splisosm_pyro.genes.data.covariates import Covariate, check_references, covariate
from splisosm_pyro.genes.data.keys import SlideKeys
from splisosm_pyro.genes.data.slide import GeneGroup, Slide, as_coords
from splisosm_pyro.maths.numeric.arrays import AnyArray, IndexArray, StrArray


def read_h5ad(path: Path, keys: SlideKeys) -> Slide:
    """Read isoform counts from an AnnData file, spots in rows and isoforms in columns.

    Raises
    ------
    ModuleNotFoundError
        If the package anndata is not installed.
    OSError, ValueError
        If the file cannot be read, or something asked for is not in it.
    """
    adata = _open(path)
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
    spatial_key = keys.spatial_key or "spatial"
    places = np.asarray(_entry(adata.obsm, spatial_key, "obsm", "spatial_key"))[:, :2]
    coords = as_coords(places, f"obsm[{spatial_key!r}]", spots)
    matrix, genes = _matrix(adata, keys.layer), _genes(adata, keys.group_iso_by)
    groups, single = _groups(matrix, genes, adata.var_names, keys.n_isos)
    graph, slides = keys.adj_key, keys.library_key
    return Slide(
        coords=coords,
        adjacency=None if graph is None else _entry(adata.obsp, graph, "obsp", "adj_key"),
        library=None if slides is None else _library(adata, slides),
        covariates=tuple(_covariate(adata, name, levels.get(name)) for name in keys.covariates),
        groups=groups,
        single=single,
        spot_names=spots,
    )


def _genes(adata: Any, key: str) -> "pd.Series[str]":
    """Return the gene of each isoform."""
    genes = _entry(adata.var, key, "var", "group_iso_by")
    if genes.isna().any():
        raise ValueError(
            f"var[{key!r}] must name a gene for every isoform, "
            f"came {int(genes.isna().sum())} without: remove these isoforms, or name their genes"
        )
    found: pd.Series[str] = genes.astype(str)
    return found


def _library(adata: Any, key: str) -> StrArray:
    """Return the slide of each spot."""
    column = _entry(adata.obs, key, "obs", "library_key")
    if column.isna().any():
        raise ValueError(
            f"obs[{key!r}] must name a slide for every spot, {int(column.isna().sum())} lack it: "
            "remove these spots"
        )
    return np.asarray(column.astype(str), dtype=str)


def _open(path: Path) -> Any:
    """Read an AnnData file, or say what is missing to do so."""
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


def _matrix(adata: Any, layer: str) -> Any:
    """Return the counts, spots x isoforms."""
    if layer == "X" and adata.X is None:
        raise ValueError("X is empty: set layer to the one with the counts")
    if layer != "X" and layer not in adata.layers:
        there = ", ".join(map(repr, adata.layers.keys()))
        there = f"{there}, or to 'X', the main matrix" if there else "'X', the main matrix"
        raise ValueError(f"there is no layer {layer!r}: set layer to {there}")
    return adata.X if layer == "X" else adata.layers[layer]


def _groups(
    matrix: Any, genes: "pd.Series[str]", iso_names: pd.Index, n_isos: int | None
) -> tuple[tuple[GeneGroup, ...], tuple[str, ...]]:
    """Gather the columns of each gene, genes of the same number of isoforms together."""
    codes, names = pd.factorize(genes.to_numpy())
    sizes = np.bincount(codes)
    first = np.cumsum(sizes) - sizes
    order = np.argsort(codes, kind="stable")  # columns gene by gene, in the order of the file
    wanted = [int(size) for size in np.unique(sizes) if size > 1 and n_isos in (None, size)]
    if not wanted and n_isos is not None and sizes.max(initial=0) > 1:
        there = ", ".join(map(str, np.unique(sizes)))
        raise ValueError(f"no gene has {n_isos} isoforms: set n_isos to what there is, {there}")
    if not wanted:
        raise ValueError(
            f"no gene has two or more isoforms: the {len(codes)} isoforms belong to {len(names)} "
            "genes; set group_iso_by to the column with the gene, not the isoform"
        )
    _check_room(matrix, sum(int(size) * int((sizes == size).sum()) for size in wanted))
    by_column = matrix.tocsc() if hasattr(matrix, "tocsc") else matrix
    groups = []
    for size in wanted:
        members = np.flatnonzero(sizes == size)
        columns = order[first[members, None] + np.arange(size)]  # (G, P)
        groups.append(
            GeneGroup(
                counts=_gather(by_column, columns),
                gene_names=np.asarray(names[members], dtype=str),
                iso_names=np.asarray(iso_names, dtype=str)[columns],
            )
        )
    return tuple(groups), tuple(str(name) for name in names[sizes == 1])


def _check_room(matrix: Any, n_columns: int) -> None:
    """Raise if so many columns of counts do not fit into memory."""
    needed, free = matrix.shape[0] * n_columns * matrix.dtype.itemsize, available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"the counts need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available: "
            "fit part of the genes at a time, or use a machine with more memory"
        )


def _gather(matrix: Any, columns: IndexArray) -> AnyArray:  # (G, S, P)
    """Pick the columns (G, P) of a dense or sparse matrix (S, isoforms)."""
    picked = matrix[:, columns.ravel()]
    dense = picked.toarray() if hasattr(picked, "toarray") else np.asarray(picked)
    n_genes, n_isos = columns.shape
    return np.ascontiguousarray(dense.T.reshape(n_genes, n_isos, -1).transpose(0, 2, 1))


def _covariate(adata: Any, name: str, reference: str | None) -> Covariate:
    """Encode a column of obs, or a matrix of obsm."""
    if name in adata.obs:
        return covariate(name, adata.obs[name], reference=reference)
    if name not in adata.obsm:
        there = ", ".join([*map(str, adata.obs), *map(str, adata.obsm)])
        raise ValueError(f"covariate {name!r} is neither in obs nor in obsm; they have {there}")
    values = adata.obsm[name]
    named = list(map(str, values.columns)) if isinstance(values, pd.DataFrame) else None
    return covariate(name, np.asarray(values), named, reference)
