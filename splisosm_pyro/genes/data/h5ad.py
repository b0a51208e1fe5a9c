"""Reading an ``.h5ad`` or ``.zarr``: isoforms in columns, the name of their gene in ``var``.

A SpatialData or MuData, or the store of a SpatialData, is read where it holds one table.
"""

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
    """Read an AnnData file or store, or say what is missing to do so."""
    stored = is_zarr(path)
    if not stored and not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        import anndata
    except ImportError:
        raise ModuleNotFoundError(
            f"reading {'a .zarr' if stored else 'an .h5ad'} needs the package anndata: "
            "pip install 'splisosm-pyro[anndata]'"
        ) from None
    place = _only_table(path) if stored else path
    try:
        return anndata.io.read_zarr(place) if stored else anndata.read_h5ad(place)
    except Exception as error:  # whatever HDF5 or zarr stumbles over first
        raise OSError(
            f"{path} is no readable {'.zarr' if stored else '.h5ad'}, perhaps truncated: download "
            f"or write it again ({error})"
        ) from error


def is_zarr(path: Path) -> bool:
    """Tell whether a path is a group of a zarr store."""
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def _only_table(path: Path) -> Path:
    """Return the path of the AnnData in a store: itself, or the one table of a SpatialData."""
    tables = sorted(one for one in (path / "tables").glob("*") if is_zarr(one))
    if len(tables) > 1:
        listed = ", ".join(str(one) for one in tables)
        raise ValueError(f"{path.name} holds {len(tables)} tables: give the path of one, {listed}")
    return tables[0] if tables else path


def table_in(source: Any) -> Any:
    """Return the AnnData of a SpatialData or MuData that holds one; anything else as it is.

    A table of a SpatialData without ``obsm['spatial']`` gets the centres of its shapes there.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> table_in(SimpleNamespace(mod={"isoforms": "an AnnData"}))
    'an AnnData'
    >>> table_in(SimpleNamespace(mod={"rna": 0, "isoforms": 1}))
    Traceback (most recent call last):
    ValueError: adata_or_counts holds several AnnData: give one, .mod['rna'] or .mod['isoforms']
    """
    for name in ("tables", "mod"):
        held = getattr(source, name, None)
        if not isinstance(held, Mapping):
            continue
        if len(held) != 1:
            each = " or ".join(f".{name}[{key!r}]" for key in held)
            raise ValueError(
                f"adata_or_counts holds several AnnData: give one, {each}"
                if held
                else "adata_or_counts holds no AnnData: give one"
            )
        (table,) = held.values()
        return _with_centres(source, table) if name == "tables" else table
    return source


def _with_centres(source: Any, table: Any) -> Any:
    """Return a table of a SpatialData with the centres of the shapes that it annotates."""
    said = table.uns.get("spatialdata_attrs", {})
    shapes = getattr(source, "shapes", {})
    region = said.get("region")
    if "spatial" in table.obsm or not isinstance(region, str) or region not in shapes:
        return table
    centres = shapes[region].geometry.centroid
    frame = pd.DataFrame({"x": centres.x, "y": centres.y}, index=shapes[region].index)
    placed = table.copy()
    placed.obsm["spatial"] = frame.loc[table.obs[said["instance_key"]]].to_numpy(dtype=np.float64)
    return placed


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
