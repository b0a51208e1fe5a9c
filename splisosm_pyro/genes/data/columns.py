"""A covariate as it stands in a table: numbers, dates, words, or a matrix of numbers."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.genes.data.names import NO_WORD, is_missing
from splisosm_pyro.maths.axes import SplisosmWarning

NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")
DATES = ("datetime64", "datetime", "date", "period")


def as_column(name: str, values: Any) -> "pd.Series[Any]":
    """Return a covariate (S,) as numbers, or as words; dates become days since the first.

    Raises
    ------
    ValueError
        If values are missing, not finite, or all alike; the message names the covariate.

    Examples
    --------
    >>> as_column("age", pd.Series([3, 4.5], dtype=object)).tolist()
    [3.0, 4.5]
    """
    column = pd.Series(values if hasattr(values, "dtype") else np.asarray(values))
    column = column.reset_index(drop=True)
    if getattr(column.dtype, "kind", "O") == "S":
        column = column.str.decode("utf-8")
    _without_gaps(name, column)
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in DATES:
        column = _days(name, column)
    elif kind in ("timedelta64", "timedelta"):
        column = pd.to_timedelta(column) / pd.Timedelta(days=1)
    elif kind == "complex":
        raise ValueError(f"covariate {name!r} must hold real numbers, came complex ones")
    elif kind not in NUMBERS:
        return _as_words(name, column)
    return _varying(name, column.astype(np.float64), "")


def as_matrix(name: str, values: Any, column_names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a covariate (S, F), dense or sparse or a table, as columns ``name=column``.

    Raises
    ------
    ValueError
        If a column holds other things than finite numbers, or the same one at all spots; the
        message names it.

    Examples
    --------
    >>> list(as_matrix("mix", np.eye(3)[:, :2], ["p", "q"]))
    ['mix=p', 'mix=q']
    """
    frame = pd.DataFrame(values.toarray() if hasattr(values, "toarray") else values)
    if frame.shape[1] == 0:
        raise ValueError(f"covariate {name!r} must have a column, came none")
    if column_names is not None:
        frame.columns = pd.Index(list(column_names))
    columns = {}
    for place, column_name in enumerate(map(str, frame.columns)):
        column = frame.iloc[:, place].reset_index(drop=True)
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind not in (*NUMBERS, "empty"):
            raise ValueError(
                f"covariate {name!r} must hold numbers in every column, came "
                f"{'words' if kind in ('string', 'categorical') else kind} in {column_name!r}: put "
                "that column into obs by itself"
            )
        _without_gaps(name, column)
        column = column.astype(np.float64)
        columns[f"{name}={column_name}"] = _varying(name, column, f" in column {column_name!r}")
    if len(columns) < frame.shape[1]:
        raise ValueError(f"covariate {name!r} must have columns of different names")
    return pd.DataFrame(columns, index=range(len(frame)))


def _without_gaps(name: str, column: "pd.Series[Any]") -> None:
    """Raise if a value is missing."""
    numeric = pd.api.types.is_numeric_dtype(column.dtype)
    missing = column.isna().to_numpy() if numeric else is_missing(column, NO_WORD)
    if missing.all() and len(missing):
        raise ValueError(
            f"covariate {name!r} must have a value at every spot, {len(missing)} of {len(missing)} "
            "lack it: leave it out"
        )
    if missing.any():
        raise ValueError(
            f"covariate {name!r} must have a value at every spot, {int(missing.sum())} of "
            f"{len(column)} lack it: remove these spots, or fill the values in"
        )


def _varying(name: str, column: "pd.Series[float]", where: str) -> "pd.Series[float]":
    """Return numbers, or raise if they are not finite or all alike."""
    values = column.to_numpy()
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"covariate {name!r} must be finite, came {values[wrong][0]}{where} at {wrong.sum()} "
            f"of {len(values)} spots"
        )
    if len(values) > 1 and values.min() == values.max():
        raise ValueError(
            f"covariate {name!r} must differ between spots, came {values[0]:g} at all{where}: "
            "leave it out"
        )
    return column


def _days(name: str, column: "pd.Series[Any]") -> "pd.Series[float]":
    """Return days since the first date, and say so."""
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    dates = pd.to_datetime(column)
    first = dates.min()
    warnings.warn(
        f"covariate {name!r} holds dates: it is taken in days since the first, {first:%Y-%m-%d}; "
        "make words of them to compare day with day",
        SplisosmWarning,
        stacklevel=2,
    )
    days: pd.Series[float] = (dates - first) / pd.Timedelta(days=1)
    return days


def _as_words(name: str, column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return words as a category of the levels that are there."""
    for value in column:
        if not pd.api.types.is_scalar(value):
            raise ValueError(
                f"covariate {name!r} must hold a word or a number at every spot, came "
                f"{type(value).__name__}"
            )
    return column.astype("category").cat.remove_unused_categories()
