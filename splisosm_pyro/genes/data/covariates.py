"""Covariates of the spots: words to indicators, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise as pairwise_of
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.genes.data.columns import as_column, as_matrix


@dataclass(frozen=True, eq=False)
class Covariate:
    """One covariate as columns of numbers.

    Attributes
    ----------
    name : str
    columns : DataFrame, shape (S, F)
        Indicators named ``name=level``, or numbers.
    levels : tuple of str
        Of a category, the reference first; empty for numbers.
    """

    name: str
    columns: pd.DataFrame
    levels: tuple[str, ...] = ()


def covariate(
    name: str,
    values: Any,
    column_names: Sequence[str] | None = None,
    reference: str | None = None,
) -> Covariate:
    """Turn one covariate into named columns of numbers.

    Parameters
    ----------
    name : str
        Of the covariate.
    values : array_like, sparse or DataFrame, shape (S,) or (S, F)
        Words and categories become indicators of all levels but the reference, named
        ``name=level``; numbers stay as they are, dates become days since the first.
    column_names : sequence of str, optional
        Names of the columns of a matrix.
    reference : str, optional
        The level that the others are compared with. Default: the first, in the order of the
        categories, else sorted.

    Returns
    -------
    Covariate

    Raises
    ------
    ValueError
        If a value is missing or not finite, all are alike, or the reference is no level.

    Examples
    --------
    >>> covariate("region", ["GL", "GCL", "GL"], reference="GL").columns
       region=GCL
    0         0.0
    1         1.0
    2         0.0
    """
    dims = values.ndim if hasattr(values, "ndim") else np.ndim(values)
    if dims not in (1, 2):
        raise ValueError(f"covariate {name!r} must have one or two axes, came {dims}")
    if dims == 2:
        _no_reference(name, reference)
        return Covariate(name, as_matrix(name, values, column_names))
    column = as_column(name, values)
    if pd.api.types.is_numeric_dtype(column.dtype):
        _no_reference(name, reference)
        return Covariate(name, column.to_frame(name))
    return _category(name, column, reference)


def _category(name: str, column: "pd.Series[str]", reference: str | None) -> Covariate:
    """Make indicators of all levels but the reference."""
    levels = [str(level) for level in column.cat.categories]
    if len(levels) < 2:
        raise ValueError(
            f"covariate {name!r} must have two levels or more, came {levels[0]!r} alone: leave it "
            "out"
        )
    if len(levels) == len(column):
        raise ValueError(
            f"covariate {name!r} must have fewer levels than there are spots, came one a spot: "
            "leave it out"
        )
    reference = None if reference is None else str(reference)
    if reference is not None and reference not in levels:
        raise ValueError(
            f"the reference of {name!r} must be one of {', '.join(levels)}, came {reference!r}"
        )
    first = levels[0] if reference is None else reference
    others = [level for level in levels if level != first]
    words = column.astype(str)
    columns = {f"{name}={level}": (words == level).to_numpy(dtype=np.float64) for level in others}
    return Covariate(name, pd.DataFrame(columns, index=column.index), (first, *others))


def as_given(one: Covariate) -> pd.DataFrame:
    """Return a covariate as the user had it: a category as one column of words.

    Examples
    --------
    >>> as_given(covariate("region", ["GL", "GCL", "GL"], reference="GL"))["region"].tolist()
    ['GL', 'GCL', 'GL']
    """
    if not one.levels:
        return one.columns
    indicators = one.columns.to_numpy()
    codes = np.where(indicators.any(axis=1), 1 + indicators.argmax(axis=1), 0)
    words = np.array(one.levels)[codes]
    return pd.DataFrame({one.name: pd.Categorical(words, categories=list(one.levels))})


def _no_reference(name: str, reference: str | None) -> None:
    """Raise if numbers were given a reference level."""
    if reference is not None:
        raise ValueError(f"covariate {name!r} holds numbers, which have no level {reference!r}")


def check_references(names: Sequence[str], reference: Mapping[str, str] | None) -> dict[str, str]:
    """Return the reference levels; raise if one has no covariate or a covariate comes twice."""
    if reference is not None and not isinstance(reference, Mapping):
        raise TypeError(
            "reference must map covariates to levels, {'region': 'GCL'} for example, came "
            f"{reference!r}"
        )
    chosen = dict(reference or {})
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"covariates must name each covariate once, came {twice[0]!r} twice")
    for name in chosen:
        if name not in names:
            listed = ", ".join(map(repr, names)) or "none"
            raise ValueError(f"reference names {name!r}, the covariates are {listed}")
    return chosen


@dataclass(frozen=True, eq=False)
class Design:
    """The design that is fitted.

    Attributes
    ----------
    standard : StandardDesign
        The user's columns, the standard ones, and the way between them.
    names : tuple of str
        Of the F columns.
    covariates : tuple of (str, slice)
        The covariates by name, with their columns among the F.
    """

    standard: StandardDesign
    names: tuple[str, ...]
    covariates: tuple[tuple[str, slice], ...]


def design_of(covariates: Sequence[Covariate], n_spots: int) -> Design:
    """Put covariates side by side.

    Parameters
    ----------
    covariates : sequence of Covariate
    n_spots : int
        S.

    Returns
    -------
    Design

    Examples
    --------
    >>> import pandas as pd
    >>> age = Covariate("age", pd.DataFrame({"age": [10.0, 20.0, 30.0]}))
    >>> design_of([age], 3).standard.back.round(3).tolist()
    [[0.122, 0.0], [-2.449, 1.0]]
    """
    frame = side_by_side(covariates, n_spots)
    standard = StandardDesign.of(frame.to_numpy(dtype=np.float64))
    ends = np.cumsum([0, *(one.columns.shape[1] for one in covariates)])
    places = [slice(int(a), int(b)) for a, b in pairwise_of(ends)]
    named = tuple((one.name, place) for one, place in zip(covariates, places, strict=True))
    return Design(standard, tuple(map(str, frame.columns)), named)


def side_by_side(covariates: Sequence[Covariate], n_spots: int) -> pd.DataFrame:
    """Put the columns of S spots side by side; none give shape (S, 0)."""
    columns = [one.columns.reset_index(drop=True) for one in covariates]
    return pd.concat([pd.DataFrame(index=range(n_spots)), *columns], axis=1)
