"""Covariates of the spots: words to indicators, side by side, and what is compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise as pairwise_of
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
class Contrast:
    """What is compared over all spots, whatever their other covariates are.

    Attributes
    ----------
    name : str
        Of columns, ``region=B`` or ``age+sd``.
    covariate, level, reference : str
        ``level`` is compared with ``reference``; of a number ``'+sd'`` with nothing.
    columns : slice
        The covariate's columns of the design.
    levels : tuple of (ndarray, ndarray), optional
        What these columns hold at the reference and at the level.
    step : float
        Of a number: what is added to what a spot has.
    """

    name: str
    covariate: str
    level: str
    reference: str
    columns: slice
    levels: tuple[FloatArray, FloatArray] | None = None
    step: float = 0.0

    @property
    def with_first(self) -> bool:
        """Whether it compares with the covariate's own reference level, or is of a number."""
        return self.levels is None or self.name == f"{self.covariate}={self.level}"

    def at_spots(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the spots' rows (S, F+1) with the covariate as compared with, and as compared."""
        low, high = rows.copy(), rows.copy()
        if self.levels is None:
            high[:, self.columns] += self.step
        else:
            low[:, self.columns], high[:, self.columns] = self.levels
        return low, high


@dataclass(frozen=True, eq=False)
class Design:
    """The design that is fitted, and what is compared.

    Attributes
    ----------
    standard : StandardDesign
        The user's columns, the standard ones, and the way between them.
    names : tuple of str
        Of the F columns.
    contrasts : tuple of Contrast
        Each level with the reference, or with every level before it; a number with one standard
        deviation less.
    covariates : tuple of (str, slice)
        The covariates by name, with their columns among the F.
    """

    standard: StandardDesign
    names: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    covariates: tuple[tuple[str, slice], ...]


def design_of(covariates: Sequence[Covariate], n_spots: int, *, pairwise: bool = False) -> Design:
    """Put covariates side by side.

    Parameters
    ----------
    covariates : sequence of Covariate
    n_spots : int
        S.
    pairwise : bool
        Compare every two levels of a category, not only those with the reference.

    Returns
    -------
    Design

    Examples
    --------
    >>> import pandas as pd
    >>> age = Covariate("age", pd.DataFrame({"age": [10.0, 20.0, 30.0]}))
    >>> design_of([age], 3).standard.back.round(3).tolist()
    [[0.122, 0.0], [-2.449, 1.0]]
    >>> region = covariate("region", ["A", "B", "C", "A"])
    >>> [one.name for one in design_of([region], 4, pairwise=True).contrasts]
    ['region=B', 'region=C', 'region=C-B']
    """
    frame = side_by_side(covariates, n_spots)
    standard = StandardDesign.of(frame.to_numpy(dtype=np.float64))
    contrasts = tuple(_contrasts(covariates, standard, pairwise))
    ends = np.cumsum([0, *(one.columns.shape[1] for one in covariates)])
    places = [slice(int(a), int(b)) for a, b in pairwise_of(ends)]
    named = tuple((one.name, place) for one, place in zip(covariates, places, strict=True))
    return Design(standard, tuple(map(str, frame.columns)), contrasts, named)


def side_by_side(covariates: Sequence[Covariate], n_spots: int) -> pd.DataFrame:
    """Put the columns of S spots side by side; none give shape (S, 0)."""
    columns = [one.columns.reset_index(drop=True) for one in covariates]
    return pd.concat([pd.DataFrame(index=range(n_spots)), *columns], axis=1)


def _contrasts(
    covariates: Sequence[Covariate], design: StandardDesign, pairwise: bool
) -> Iterator[Contrast]:
    """Yield what is compared, covariate by covariate."""
    start = 0
    for one in covariates:
        own = slice(start, start + one.columns.shape[1])
        start = own.stop
        if one.levels:
            yield from _of_levels(one, own, design, pairwise)
            continue
        for i, name in enumerate(map(str, one.columns), start=own.start):
            step = float(design.columns[:, i].std())
            yield Contrast(f"{name}+sd", name, "+sd", "", slice(i, i + 1), step=step)


def _of_levels(
    one: Covariate, own: slice, design: StandardDesign, pairwise: bool
) -> Iterator[Contrast]:
    """Yield the levels against the first, then against each other."""
    none = -design.centre[own] / design.scale[own]  # of the indicators is 1
    at = [none, *(none + np.diag(1.0 / design.scale[own]))]
    for j in range(len(one.levels) if pairwise else 1):
        for i in range(j + 1, len(one.levels)):
            name = f"{one.name}={one.levels[i]}" + (f"-{one.levels[j]}" if j else "")
            yield Contrast(name, one.name, one.levels[i], one.levels[j], own, (at[j], at[i]))
