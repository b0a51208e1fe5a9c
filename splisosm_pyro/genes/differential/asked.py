"""The door for covariates that are tested after a run: columns of numbers at the spots fitted."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.options import as_names
from splisosm_pyro.genes.data.anndata_counts import Layer
from splisosm_pyro.genes.data.covariates import Covariate, covariate
from splisosm_pyro.genes.data.names import listed, twice
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.maths.axes import SplisosmWarning, covariate_names
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

# What the fitted columns leave of one that follows from them, as a share of its spread.
FOLLOWS = 1e-7


@dataclass(frozen=True, eq=False)
class Asked:
    """One covariate that is tested, or one level or column of it by itself.

    Attributes
    ----------
    covariate, level : str
        ``level`` is empty where all columns are tested together.
    columns : ndarray, shape (S, k)
    contrast : str
        What a change of usage compares: a level with all other spots, ``'+sd'`` of a number; empty
        where there are several columns.
    """

    covariate: str
    level: str
    columns: FloatArray
    contrast: str


def asked_covariates(covariates: Any, adata: Any, layer: str, slide: Slide) -> tuple[Asked, ...]:
    """Return what is tested, each covariate as a whole and then level by level.

    Parameters
    ----------
    covariates : str or sequence of str, DataFrame, mapping, array or AnnData
        See `GeneFits.differential_usage`.
    adata : AnnData, optional
        Where names are looked up.
    layer : str
        Of the variables of an AnnData.
    slide : Slide
        The spots that were fitted, and with which covariates.

    Raises
    ------
    TypeError, ValueError
        If there is none, one is not there, has no value at a spot, is the same at all, follows from
        those that were fitted, or spots are missing; the message names it.
    """
    found = list(_named(covariates, adata, layer, slide))
    if not found:
        raise ValueError("covariates must hold at least one covariate, came none")
    same = twice([one.name for one in found])
    if same:
        raise ValueError(f"covariates must have different names, came {listed(same)} twice")
    asked = tuple(each for one in found for each in _levels(one))
    _check_against(slide, asked)
    return asked


def _named(covariates: Any, adata: Any, layer: str, slide: Slide) -> Iterator[Covariate]:
    """Yield covariates by their kind of source."""
    words = isinstance(covariates, str) or (
        isinstance(covariates, list | tuple) and all(isinstance(one, str) for one in covariates)
    )
    if words and adata is None:
        raise ValueError("adata must be given where covariates are names, came none")
    if not words and adata is not None:
        raise ValueError("adata has no meaning where covariates are no names: leave it out")
    if words:
        yield from _by_name(adata, as_names("covariates", covariates), layer, slide)
    elif _is_anndata(covariates):
        yield from _variables(covariates, layer, slide)
    elif isinstance(covariates, pd.DataFrame | pd.Series | Mapping):
        yield from _of_table(covariates, slide)
    else:
        yield from _of_array(covariates, slide)


def _is_anndata(source: Any) -> bool:
    return hasattr(source, "obs_names") and hasattr(source, "var_names")


def _by_name(adata: Any, names: Sequence[str], layer: str, slide: Slide) -> Iterator[Covariate]:
    """Yield columns of obs, matrices of obsm, variables."""
    if not _is_anndata(adata):
        raise TypeError(f"adata must be an AnnData, came {type(adata).__name__}")
    rows = slide.rows_in(adata.obs_names, "adata", "obs_names")
    for name in names:
        if name in adata.obs:
            yield covariate(name, adata.obs[name].iloc[rows])
        elif name in adata.obsm:
            values = adata.obsm[name]
            taken = values.iloc[rows] if hasattr(values, "iloc") else values[rows]
            yield covariate(name, taken)
        elif name in adata.var_names:
            matrix = Layer.of(adata, layer)
            yield covariate(name, _column(matrix, matrix.var_names.tolist().index(name), rows))
        else:
            raise ValueError(
                f"covariate {name!r} is in none of obs, obsm and var_names of adata; obs has "
                f"{listed(list(adata.obs)) or 'nothing'}"
            )


def _column(matrix: Layer, place: int, rows: IndexArray) -> FloatArray:
    """Return one variable at the spots."""
    own = matrix.matrix[:, [place]]
    dense = own.toarray() if hasattr(own, "toarray") else np.asarray(own)
    return np.asarray(dense[rows, 0], dtype=np.float64)


def _variables(adata: Any, layer: str, slide: Slide) -> Iterator[Covariate]:
    """Yield every variable of an AnnData; those that are alike at all spots are left out."""
    rows = slide.rows_in(adata.obs_names, "covariates", "obs_names")
    matrix = Layer.of(adata, layer)
    dense = matrix.matrix.toarray() if hasattr(matrix.matrix, "toarray") else matrix.matrix
    values = np.asarray(dense, dtype=np.float64)[rows]
    alike = values.min(axis=0) == values.max(axis=0)
    if alike.any():
        warnings.warn(
            f"{int(alike.sum())} of {alike.size} variables are the same at all spots "
            f"({listed(matrix.var_names[alike].tolist())}): they are not tested",
            SplisosmWarning,
            stacklevel=2,
        )
    for place, name in enumerate(map(str, matrix.var_names)):
        if not alike[place]:
            yield covariate(name, values[:, place])


def _of_table(table: Any, slide: Slide) -> Iterator[Covariate]:
    """Yield the columns of a table, by the names of the spots if it has them, or of a mapping."""
    if isinstance(table, pd.Series):
        table = table.to_frame(table.name or "x")
    for name in table:
        values = table[name]
        if hasattr(values, "iloc"):
            values = values.iloc[_rows_of(values.index, slide, f"covariate {name!r}")]
        elif len(values) != slide.n_spots:
            raise ValueError(
                f"covariate {str(name)!r} must have {slide.n_spots} spots, came {len(values)}"
            )
        yield covariate(str(name), values)


def _rows_of(index: "pd.Index[Any]", slide: Slide, what: str) -> IndexArray:
    """Return the rows of the spots: by name, or in their order where the rows are numbered."""
    numbered = isinstance(index, pd.RangeIndex) or slide.spot_names is None
    if not numbered:
        return slide.rows_in(index, what, "its index")
    if len(index) != slide.n_spots:
        raise ValueError(f"{what} must have {slide.n_spots} spots, came {len(index)}")
    return np.arange(slide.n_spots)


def _of_array(values: Any, slide: Slide) -> Iterator[Covariate]:
    """Yield the columns of an array (S, K)."""
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != slide.n_spots:
        raise ValueError(
            f"covariates must have {slide.n_spots} spots in rows, came shape {array.shape}"
        )
    for k, name in enumerate(covariate_names(array)):
        yield covariate(name, array[:, k])


def _levels(one: Covariate) -> Iterator[Asked]:
    """Yield a covariate as a whole, and its levels or columns where it has several."""
    columns = one.columns.to_numpy(dtype=np.float64)
    if columns.shape[1] == 1:
        yield Asked(one.name, "", columns, one.levels[1] if one.levels else "+sd")
        return
    yield Asked(one.name, "", columns, "")
    if one.levels:
        first = 1.0 - columns.sum(axis=1, keepdims=True)
        for k, level in enumerate(one.levels):
            yield Asked(one.name, level, np.hstack([first, columns])[:, [k]], level)
        return
    for k, name in enumerate(map(str, one.columns)):
        yield Asked(one.name, name.removeprefix(f"{one.name}="), columns[:, [k]], "+sd")


def _check_against(slide: Slide, asked: Sequence[Asked]) -> None:
    """Raise if a covariate follows from those that were fitted."""
    fitted = slide.design.to_numpy(dtype=np.float64)
    own = np.linalg.qr(np.column_stack([np.ones(slide.n_spots), _unit(fitted)]))[0]
    for one in asked:
        columns = _unit(one.columns)
        left = columns - own @ (own.T @ columns)
        if np.linalg.norm(left, axis=0).max() < FOLLOWS * np.sqrt(slide.n_spots):
            name = f"{one.covariate}={one.level}" if one.level else one.covariate
            raise ValueError(
                f"covariate {name!r} follows from the covariates that were fitted: leave it out; "
                "the table of the run has its test"
            )


def _unit(columns: FloatArray) -> FloatArray:
    """Return columns about their means in units of their spread."""
    apart = columns - columns.mean(axis=0)
    spread = apart.std(axis=0)
    return np.asarray(apart / np.where(spread > 0.0, spread, 1.0))
