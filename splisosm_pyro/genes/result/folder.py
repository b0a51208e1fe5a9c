"""A result on disk: CSV, NPZ and JSON, each with its checksum; nothing that runs when read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from splisosm_pyro.genes.data.covariates import Covariate
from splisosm_pyro.genes.data.slide import GeneGroup, Slide
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.result.table import WORDS
from splisosm_pyro.maths.numeric.arrays import AnyArray
from splisosm_pyro.population.surface import Surface

META = "result.json"
TABLES = ("table", "isoforms", "effects", "removed")
FORMAT = 2
# Numbers are read to the last digit: from pandas 3.1 on without being asked to.
_BEFORE = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
PRECISE: dict[str, Any] = {"float_precision": "round_trip"} if _BEFORE else {}
Params = dict[str, Any]


def save(parts: Mapping[str, Any], folder: Path) -> None:
    """Write the parts of a `GeneFits` into a folder; the file of checksums comes last."""
    slide = parts["slide"]
    (folder / META).unlink(missing_ok=True)
    for name in TABLES:
        parts[name].to_csv(folder / f"{name}.csv", index=False)
    fits = _params_arrays(slide, parts["params"]) | _kept_arrays(slide, parts["kept"])
    fits |= _surface_arrays(parts["surfaces"])
    np.savez_compressed(folder / "fits.npz", **fits)
    np.savez_compressed(folder / "data.npz", **_data_arrays(slide))
    files = [*(f"{name}.csv" for name in TABLES), "fits.npz", "data.npz"]
    content = {
        "format": FORMAT,
        "options": parts["options"].as_dict(),
        "complete": parts["complete"],
        "single": list(slide.single),
        "library_name": slide.library_name,
        "covariates": [
            {"name": one.name, "columns": list(map(str, one.columns)), "levels": list(one.levels)}
            for one in slide.covariates
        ],
        "sha256": {name: _checksum((folder / name).read_bytes()) for name in files},
    }
    whole = {"content": content, "sha256": _checksum(_canonical(content))}
    (folder / META).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, Any]:
    """Read the parts of a `GeneFits` after their checksums were found to agree."""
    content = _checked_meta(folder)
    slide = _slide(folder, content)
    n_genes = [len(group.gene_names) for group in slide.groups]
    with np.load(folder / "fits.npz", allow_pickle=False) as file:
        params = [one for k, n in enumerate(n_genes) for one in _params(file, k, n)]
        kept = _kept(file, len(n_genes))
        surfaces = _surfaces(file)
    tables = {name: _table(folder / f"{name}.csv") for name in TABLES}
    return {
        **tables,
        "slide": slide,
        "options": RunOptions(**({"coding": "reference"} | content["options"])),
        "params": tuple(params),
        "kept": kept,
        "surfaces": surfaces,
        "complete": bool(content["complete"]),
    }


def _checked_meta(folder: Path) -> dict[str, Any]:
    """Return the description of a result whose files are as they were written."""
    if not (folder / META).is_file():
        raise FileNotFoundError(f"{folder} holds no result: there is no {META}")
    try:
        whole = json.loads((folder / META).read_text(encoding="utf-8"))
        content: dict[str, Any] = dict(whole["content"])
        agrees = whole["sha256"] == _checksum(_canonical(content))
    except (ValueError, KeyError, TypeError):
        agrees = False
    if not agrees:
        raise ValueError(f"{folder / META} was changed after it was saved: run again")
    if content["format"] != FORMAT:
        raise ValueError(f"{folder / META} has format {content['format']}, expected {FORMAT}")
    for name, expected in content["sha256"].items():
        if _checksum((folder / name).read_bytes()) != expected:
            raise ValueError(
                f"{folder / name} was changed after it was saved: it is not read; run again"
            )
    return content


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _table(path: Path) -> pd.DataFrame:
    """Read a table to the last digit; words stay words, also 'NA' and '007'."""
    header = pd.read_csv(path, nrows=0).columns
    words = [name for name in header if name in WORDS]
    table: pd.DataFrame = pd.read_csv(
        path,
        dtype={name: str for name in words},
        keep_default_na=False,
        na_values=[""],
        **PRECISE,
    )
    table[words] = table[words].fillna("")
    return table


def _params_arrays(slide: Slide, params: Sequence[Params | None]) -> dict[str, Any]:
    """Stack the parameters of the genes of each group; NaN where there are none."""
    arrays: dict[str, Any] = {}
    place = 0
    for k, group in enumerate(slide.groups):
        own = params[place : place + len(group.gene_names)]
        place += len(group.gene_names)
        known = [one for one in own if one is not None]
        arrays[f"fitted_{k}"] = np.array([one is not None for one in own])
        for name in known[0] if known else ():
            empty = np.full_like(np.array(known[0][name]), np.nan)
            values = [empty if one is None else np.array(one[name]) for one in own]
            arrays[f"{name}_{k}"] = np.stack(values)
    return arrays


def _params(file: Any, k: int, n_genes: int) -> list[Params | None]:
    """Unstack the parameters of one group."""
    names = ("coefficients", "sigma", "theta_logit")
    there = {name: file[f"{name}_{k}"] for name in names if f"{name}_{k}" in file.files}
    fitted = file[f"fitted_{k}"]
    return [
        {name: values[g].tolist() for name, values in there.items()} if fitted[g] else None
        for g in range(n_genes)
    ]


def _kept_arrays(slide: Slide, kept: Sequence[AnyArray | None]) -> dict[str, AnyArray]:
    """Stack the usage and error (G, 2, S, P) of the genes of each group, if they were kept."""
    arrays: dict[str, AnyArray] = {}
    place = 0
    for k, group in enumerate(slide.groups if kept else ()):
        n_genes, n_spots, n_isos = group.counts.shape
        values = np.full((n_genes, 2, n_spots, n_isos), np.nan, dtype=np.float32)
        for g, own in enumerate(kept[place : place + n_genes]):
            values[g] = np.nan if own is None else own
        arrays[f"usage_{k}"] = values
        place += n_genes
    return arrays


def _kept(file: Any, n_groups: int) -> tuple[AnyArray | None, ...]:
    """Unstack the usage that was kept; a gene without has none of it."""
    names = [f"usage_{k}" for k in range(n_groups) if f"usage_{k}" in file.files]
    genes = [own for name in names for own in file[name]]
    return tuple(None if np.isnan(own[0]).all() else own for own in genes)


def _surface_arrays(surfaces: Sequence[Surface | None]) -> dict[str, AnyArray]:
    """Lay out the genes' likelihoods over sigma and theta one after the other, and their shapes."""
    arrays: dict[str, AnyArray] = {}
    for part in fields(Surface) if surfaces else ():
        own = [getattr(one, part.name) for one in surfaces if one is not None]
        arrays[f"surface_{part.name}"] = np.concatenate([np.empty(0), *(a.ravel() for a in own)])
        arrays[f"surface_{part.name}_shape"] = np.array([a.shape for a in own], dtype=np.int64)
    if surfaces:
        arrays["surface_known"] = np.array([one is not None for one in surfaces])
    return arrays


def _surfaces(file: Any) -> tuple[Surface | None, ...]:
    """Read them back."""
    if "surface_known" not in file.files:
        return ()
    parts = {}
    for part in fields(Surface):
        shapes = file[f"surface_{part.name}_shape"]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        pieces = np.split(file[f"surface_{part.name}"], ends)
        parts[part.name] = [a.reshape(s) for a, s in zip(pieces, shapes, strict=False)]
    known = iter(zip(*parts.values(), strict=True))
    return tuple(Surface(*next(known)) if there else None for there in file["surface_known"])


def _data_arrays(slide: Slide) -> dict[str, Any]:
    """Lay out a slide as arrays of numbers and words."""
    arrays: dict[str, Any] = {
        "coords": slide.coords,
        "design": slide.design.to_numpy(dtype=np.float64),
    }
    for k, group in enumerate(slide.groups):
        arrays |= {
            f"counts_{k}": group.counts,
            f"gene_names_{k}": group.gene_names,
            f"iso_names_{k}": group.iso_names,
        }
    for name in ("library", "spot_names"):
        if getattr(slide, name) is not None:
            arrays[name] = np.asarray(getattr(slide, name), dtype=str)
    if slide.adjacency is not None:
        graph = csc_array(slide.adjacency)
        arrays |= {f"graph_{name}": getattr(graph, name) for name in ("data", "indices", "indptr")}
    return arrays


def _slide(folder: Path, content: dict[str, Any]) -> Slide:
    """Read the data back."""
    with np.load(folder / "data.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    n_groups = sum(name.startswith("counts_") for name in arrays)
    groups = [
        GeneGroup(arrays[f"counts_{k}"], arrays[f"gene_names_{k}"], arrays[f"iso_names_{k}"])
        for k in range(n_groups)
    ]
    graph = None
    if "graph_data" in arrays:
        n_spots = len(arrays["coords"])
        parts = (arrays["graph_data"], arrays["graph_indices"], arrays["graph_indptr"])
        graph = csc_array(parts, shape=(n_spots, n_spots))
    covariates, start = [], 0
    for one in content["covariates"]:
        stop = start + len(one["columns"])
        frame = pd.DataFrame(arrays["design"][:, start:stop], columns=one["columns"])
        covariates.append(Covariate(one["name"], frame, tuple(one["levels"])))
        start = stop
    return Slide(
        coords=arrays["coords"],
        covariates=tuple(covariates),
        groups=tuple(groups),
        single=tuple(content["single"]),
        adjacency=graph,
        library=arrays.get("library"),
        library_name=content.get("library_name", Slide.library_name),
        spot_names=arrays.get("spot_names"),
    )
