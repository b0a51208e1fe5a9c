"""Reading an ``.npz``: counts of shape (G, S, P), coordinates, names and covariates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from splisosm_pyro.genes.data.covariates import Covariate, check_references, covariate
from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.places import as_coords, given_graph
from splisosm_pyro.genes.data.reference import with_reference
from splisosm_pyro.genes.data.slide import GeneGroup, Slide, checked, without_nameless
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, StrArray


def read_npz(path: Path, keys: SlideKeys) -> Slide:
    """Read counts and coordinates from an ``.npz``.

    Its keys are ``counts`` (G, S, P), ``gene_names`` (G,), ``iso_names`` (G, P), and the same with
    the ending ``_K`` for genes of K isoforms; names may be missing. With ``n_isos`` K it is
    ``counts_K`` alone (or ``counts``, if that is its P) that is read; else ``counts``, or every
    ``counts_K`` of a file without it.

    Raises
    ------
    ValueError
        If a key is missing, or shapes do not agree.
    """
    with _open(path) as file:
        endings = _endings(file, keys.n_isos)
        coords = _coords(file, keys, endings)
        groups = [_group(file, ending, len(coords)) for ending in endings]
        chosen = keys.covariates or [key for key in ("design",) if key in file.files]
        levels = check_references(chosen, keys.reference)
        found = tuple(_covariate(file, key, len(coords), levels.get(key)) for key in chosen)
        slides, graph = keys.library_key, None
        if keys.adj_key is not None:
            graph = given_graph(_key(file, keys.adj_key), f"the array {keys.adj_key!r}", coords)
        library = None if slides is None else _of_spots(file, slides, len(coords))
        names = _of_spots(file, "spot_names", len(coords)) if "spot_names" in file.files else None
    slide = Slide(
        coords=coords,
        covariates=found,
        groups=tuple(sorted(groups, key=lambda group: group.iso_names.shape[1])),
        adjacency=graph,
        library=library,
        spot_names=names,
        library_name=slides or Slide.library_name,
    )
    slide = checked(without_nameless(slide, "gene_names"))
    return with_reference(slide, keys.reference_isoform)


def _coords(file: Any, keys: SlideKeys, endings: list[str]) -> FloatArray:
    """Return the coordinates (S, d), with d = 0 where there is a graph and none are asked for."""
    key = keys.spatial_key or "coords"
    if keys.adj_key is not None and keys.spatial_key is None and key not in file.files:
        counts = _key(file, f"counts{endings[0]}")
        return np.zeros((counts.shape[1] if counts.ndim == 3 else 0, 0))
    return as_coords(_key(file, key), key)


def _open(path: Path) -> Any:
    """Open without unpickling anything."""
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npz, or truncated: {error}") from None
    if not hasattr(file, "files"):
        raise ValueError(f"{path} must be an archive of arrays, came a single array")
    return file


def _key(file: Any, key: str) -> AnyArray:
    """Return an array, or raise with the keys that there are."""
    if key not in file.files:
        raise ValueError(f"the file has no {key!r}: its arrays are {', '.join(sorted(file.files))}")
    return np.asarray(file[key])


def _endings(file: Any, n_isos: int | None) -> list[str]:
    """Return the endings ('' or '_K') of the arrays of counts that are asked for."""
    endings = [key.removeprefix("counts") for key in file.files]
    endings = [
        ending
        for key, ending in zip(file.files, endings, strict=True)
        if key.startswith("counts") and (ending == "" or ending[1:].isdigit())
    ]
    if not endings:
        _key(file, "counts")
    if n_isos is None:
        return [""] if "" in endings else endings
    if f"_{n_isos}" in endings:
        return [f"_{n_isos}"]
    if "" in endings and file["counts"].shape[-1] == n_isos:
        return [""]
    there = ", ".join(f"counts{ending}" for ending in endings)
    raise ValueError(f"n_isos = {n_isos} asks for counts_{n_isos}; the file has {there}")


def _group(file: Any, ending: str, n_spots: int) -> GeneGroup:
    """Read one array of counts with its names."""
    key = f"counts{ending}"
    counts = _key(file, key)
    if counts.ndim != 3 or counts.shape[1] != n_spots or counts.shape[2] < 2:
        raise ValueError(
            f"{key} must have shape (genes, {n_spots} spots, 2 or more isoforms), "
            f"came {counts.shape}"
        )
    n_genes, _, n_isos = counts.shape
    stem = _stem(file, ending)
    genes = _names(file, f"gene_names{ending}", (n_genes,), lambda g: f"{stem}_{g[0]}")
    isos = _names(file, f"iso_names{ending}", (n_genes, n_isos), lambda i: f"iso_{i[1]}")
    return GeneGroup(counts, genes, isos)


def _stem(file: Any, ending: str) -> str:
    """Return how genes without names are called: alike in a file, whatever is read of it."""
    unnamed = [one for one in _endings(file, None) if f"gene_names{one}" not in file.files]
    return f"gene{ending}" if len(unnamed) > 1 else "gene"


def _names(
    file: Any, key: str, shape: tuple[int, ...], default: Callable[[tuple[int, ...]], str]
) -> StrArray:
    """Read names, or number them."""
    if key not in file.files:
        return np.array([default(index) for index in np.ndindex(shape)], dtype=str).reshape(shape)
    names = np.asarray(file[key]).astype(str)
    if names.shape != shape:
        raise ValueError(f"{key} must have shape {shape}, came {names.shape}")
    return names


def _of_spots(file: Any, key: str, n_spots: int) -> StrArray:
    """Read one word a spot."""
    words = _key(file, key).astype(str)
    if words.shape != (n_spots,):
        raise ValueError(f"{key} must have shape ({n_spots},), came {words.shape}")
    return words


def _covariate(file: Any, key: str, n_spots: int, reference: str | None) -> Covariate:
    """Read one covariate and encode it."""
    values = _key(file, key)
    if values.ndim not in (1, 2) or len(values) != n_spots:
        raise ValueError(f"covariate {key!r} must have {n_spots} rows, came {values.shape}")
    stem = key.removesuffix("_onehot")
    named = [name for name in (f"{key}_names", f"{stem}_names") if name in file.files]
    column_names = np.asarray(file[named[0]]).astype(str).tolist() if named else None
    return covariate(key, values, column_names, reference)
