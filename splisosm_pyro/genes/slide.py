"""What a file says about one tissue: coordinates, covariates, genes by their number of isoforms."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Names = NDArray[np.str_]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class GeneGroup:
    """Genes with the same number of isoforms.

    Attributes
    ----------
    counts : ndarray, shape (G, S, P)
        In the dtype of the file.
    gene_names : ndarray of str, shape (G,)
    iso_names : ndarray of str, shape (G, P)
    """

    counts: NDArray[Any]
    gene_names: Names
    iso_names: Names


@dataclass(frozen=True, eq=False)
class Slide:
    """What a file says about one tissue.

    Attributes
    ----------
    coords : ndarray, shape (S, 2)
        In the unit of the file.
    design : DataFrame, shape (S, F)
        Named covariates, numbers only; F may be 0.
    groups : tuple of GeneGroup
        By number of isoforms, ascending.
    single : tuple of str
        Genes with one isoform only, which have no usage to model and are left out.
    """

    coords: Floats
    design: pd.DataFrame
    groups: tuple[GeneGroup, ...]
    single: tuple[str, ...] = ()

    @property
    def n_genes(self) -> int:
        """Number of genes in all groups."""
        return sum(len(group.gene_names) for group in self.groups)


def encode(name: str, values: object, column_names: Sequence[str] | None = None) -> pd.DataFrame:
    """Turn one covariate into named columns of numbers.

    Parameters
    ----------
    name : str
        Of the covariate.
    values : array_like, shape (S,) or (S, F)
        Words and categories become indicators of all levels but the first (in the order of the
        categories, else sorted), named ``name=level``; numbers stay as they are.
    column_names : sequence of str, optional
        Names of the columns of a matrix.

    Returns
    -------
    DataFrame, shape (S, F)

    Raises
    ------
    ValueError
        If a value is missing.

    Examples
    --------
    >>> encode("region", ["GL", "GCL", "GL"])
       region=GL
    0        1.0
    1        0.0
    2        1.0
    """
    array = np.asarray(values)
    if array.ndim == 2:
        names = column_names if column_names is not None else range(array.shape[1])
        frame = pd.DataFrame(np.asarray(array, dtype=np.float64))
        frame.columns = pd.Index([f"{name}={column}" for column in names])
        return _without_gaps(name, frame)
    column = pd.Series(values if isinstance(values, pd.Series) else array).reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _without_gaps(name, column.to_frame(name)).astype(np.float64)
    levels = column.astype("category").cat.remove_unused_categories()
    _without_gaps(name, levels.to_frame(name))
    return pd.DataFrame(
        {
            f"{name}={level}": (levels == level).to_numpy(dtype=np.float64)
            for level in levels.cat.categories[1:]
        },
        index=column.index,
    )


def _without_gaps(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Raise if a value is missing."""
    n_missing = int(frame.isna().any(axis=1).sum())
    if n_missing:
        raise ValueError(f"covariate {name!r} must have a value at every spot, {n_missing} lack it")
    return frame


def join_covariates(columns: list[pd.DataFrame], n_spots: int) -> pd.DataFrame:
    """Put the covariates of S spots side by side; none give shape (S, 0)."""
    return pd.concat([pd.DataFrame(index=range(n_spots)), *columns], axis=1)


def as_coords(values: NDArray[Any], name: str) -> Floats:
    """Return coordinates as (S, 2) float64, or raise with the name of their key."""
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must hold numbers of shape (S, 2), came {values.dtype} {values.shape}"
        )
    coords = np.asarray(values, dtype=np.float64)
    if not np.isfinite(coords).all():
        raise ValueError(f"{name} must be finite, came a NaN or an infinity")
    return coords


def existing(path: PathLike) -> Path:
    """Return the path of a file, or raise with its name if there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return Path(path)
