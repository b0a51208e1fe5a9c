"""Covariates of the spots: words to indicators, side by side, and what is compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.genes.data.columns import as_column, as_matrix
from splisosm_pyro.maths.numeric.arrays import FloatArray


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
    """The design that is fitted, and what is compared.

    Attributes
    ----------
    standard : StandardDesign
        The user's columns, the standard ones, and the way between them.
    names : tuple of str
        Of the F columns.
    contrasts : dict of str to (ndarray, ndarray)
        Rows (F+1,) of the standard design, the intercept last, whose usages are compared: first the
        one compared with, then the other. Other covariates are at their mean over the tissue.
    """

    standard: StandardDesign
    names: tuple[str, ...]
    contrasts: dict[str, tuple[FloatArray, FloatArray]]


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
    return Design(standard, tuple(map(str, frame.columns)), _contrasts(covariates, standard))


def side_by_side(covariates: Sequence[Covariate], n_spots: int) -> pd.DataFrame:
    """Put the columns of S spots side by side; none give shape (S, 0)."""
    columns = [one.columns.reset_index(drop=True) for one in covariates]
    return pd.concat([pd.DataFrame(index=range(n_spots)), *columns], axis=1)


def _contrasts(
    covariates: Sequence[Covariate], design: StandardDesign
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Each level against the reference, and one standard deviation more of each number."""
    found: dict[str, tuple[FloatArray, FloatArray]] = {}
    mean, spread, start = np.eye(len(design.back))[-1], design.columns.std(axis=0), 0
    for one in covariates:
        own = slice(start, start + one.columns.shape[1])
        for i, name in enumerate(map(str, one.columns)):
            low, high = mean.copy(), mean.copy()
            if one.levels:
                none = -design.centre[own] / design.scale[own]  # of the indicators is 1
                low[own], high[own] = none, none
                high[start + i] += 1.0 / design.scale[start + i]
                found[name] = (low, high)
            else:
                high[start + i] += spread[start + i]
                found[f"{name}+sd"] = (low, high)
        start = own.stop
    return found
