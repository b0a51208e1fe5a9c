"""Counts of an AnnData object: the layer that is asked for, in memory or on disk, gene by gene."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.accelerator.memory import available_bytes
from splisosm_pyro.genes.data.slide import GeneGroup
from splisosm_pyro.maths.numeric.arrays import AnyArray, IndexArray, StrArray

RAW = "raw"
BLOCK_BYTES = 64e6  # of rows that are dense at one time
ENTRIES = 100_000  # that are looked at together


@dataclass(frozen=True, eq=False)
class Layer:
    """A matrix (S, isoforms), in memory or on disk, with the table of its isoforms."""

    matrix: Any
    var: pd.DataFrame
    var_names: "pd.Index[str]"

    @classmethod
    def of(cls, adata: Any, name: str) -> "Layer":
        """Return a layer by its name: ``'X'`` the main matrix, ``'raw'`` what `adata.raw` holds.

        Raises
        ------
        ValueError
            If there is none, with those that there are.
        """
        if name == RAW and name not in adata.layers and adata.raw is not None:
            return cls(_readable(adata.raw.X), adata.raw.var, adata.raw.var_names)
        if name != "X" and name not in adata.layers:
            raise ValueError(_no_layer(adata, name))
        matrix = adata.X if name == "X" else adata.layers[name]
        if matrix is None:
            raise ValueError(f"X is empty: set layer to the one with the counts{_held(adata)}")
        return cls(_readable(matrix), adata.var, adata.var_names)


def layers_of_counts(adata: Any) -> tuple[str, ...]:
    """Return the layers that hold whole numbers, as one would ask for them."""
    named: dict[str, Any] = {} if adata.X is None else {"layer='X'": adata.X}
    named |= {f"layer={name!r}": adata.layers[name] for name in adata.layers}
    if adata.raw is not None and RAW not in adata.layers:
        named["layer='raw' (adata.raw)"] = adata.raw.X
    return tuple(name for name, matrix in named.items() if _whole(_readable(matrix)))


def are_counts(groups: tuple[GeneGroup, ...]) -> bool:
    """Whether what was read are whole numbers, not negative and not all 0."""
    return all(_whole(group.counts, False) for group in groups) and any(
        group.counts.any() for group in groups
    )


def groups_of(
    layer: Layer, columns: Mapping[int, IndexArray], names: Mapping[int, StrArray]
) -> list[GeneGroup]:
    """Gather the counts of genes, those of the same number of isoforms together.

    Parameters
    ----------
    layer : Layer
    columns : mapping of int to ndarray, shape (G, P)
        For each number of isoforms, the columns of each gene.
    names : mapping of int to ndarray of str, shape (G,)
        And their names.
    """
    _check_room(layer.matrix, sum(own.size for own in columns.values()))
    n_spots = layer.matrix.shape[0]
    isoforms = np.asarray(layer.var_names, dtype=str)
    groups = [
        GeneGroup(
            counts=np.empty((len(own), n_spots, size), dtype=layer.matrix.dtype),
            gene_names=np.asarray(names[size], dtype=str),
            iso_names=isoforms[own],
        )
        for size, own in columns.items()
    ]
    for start, block in _blocks(layer.matrix):
        for group, own in zip(groups, columns.values(), strict=True):
            picked = block[:, own]  # (rows, G, P)
            group.counts[:, start : start + len(block)] = picked.transpose(1, 0, 2)
    return groups


def _no_layer(adata: Any, name: str) -> str:
    """Say which layers there are."""
    there = [repr(one) for one in adata.layers]
    there += ["'raw', adata.raw"] if adata.raw is not None and RAW not in adata.layers else []
    there += ["to 'X', the main matrix"] if there else ["'X', the main matrix"]
    return f"there is no layer {name!r}: set layer to {', or '.join(there)}{_held(adata)}"


def _held(adata: Any) -> str:
    """Return the end of a sentence with the layers that hold whole numbers."""
    held = layers_of_counts(adata)
    return f"; whole numbers are in {' and '.join(held)}" if held else ""


def _readable(matrix: Any) -> Any:
    """Return a sparse matrix in memory by rows, anything else as it is."""
    in_memory = matrix.to_memory() if hasattr(matrix, "to_memory") else matrix
    return in_memory.tocsr() if hasattr(in_memory, "tocsr") else in_memory


def _blocks(matrix: Any) -> Iterator[tuple[int, AnyArray]]:
    """Yield rows as dense blocks, with the number of their first."""
    n_rows, n_columns = matrix.shape
    step = max(1, int(BLOCK_BYTES / max(1, n_columns * matrix.dtype.itemsize)))
    for start in range(0, n_rows, step):
        rows = matrix[start : start + step]
        yield start, rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)


def _whole(matrix: Any, some: bool = True) -> bool:
    """Whether a matrix holds whole numbers, none negative (and some that are not 0)."""
    if matrix.dtype.kind not in "biuf":
        return False
    any_read = False
    for part in _parts(matrix):
        least, most = part.min(initial=0), part.max(initial=0)  # NaN if there is one
        if not (least >= 0 and most < np.inf and (part == np.floor(part)).all()):
            return False
        any_read = any_read or bool(most > 0)
    return any_read or not some


def _parts(matrix: Any) -> Iterator[AnyArray]:
    """Yield the entries that may differ from 0, so many at a time that they stay in the cache."""
    if hasattr(matrix, "tocsr"):
        parts: Iterator[AnyArray] = iter([matrix.data])
    elif isinstance(matrix, np.ndarray):
        parts = iter([matrix])
    else:
        parts = (block for _, block in _blocks(matrix))
    for part in parts:
        flat = part.reshape(-1)
        yield from (flat[start : start + ENTRIES] for start in range(0, flat.size, ENTRIES))


def _check_room(matrix: Any, n_entries: int) -> None:
    """Raise if so many columns of counts do not fit into memory."""
    needed, free = matrix.shape[0] * n_entries * matrix.dtype.itemsize, available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"the counts need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available: "
            "fit part of the genes at a time, or use a machine with more memory"
        )
