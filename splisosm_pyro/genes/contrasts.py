"""What a run compares: levels of a category, values of a number, over all spots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splisosm_pyro.genes.data.covariates import Covariate, Design
from splisosm_pyro.genes.data.names import listed
from splisosm_pyro.maths.numeric.arrays import FloatArray

# (covariate, level or value, what it is compared with)
Asked = tuple[str, str | float, str | float]
NAMED = ("reference", "pairwise")


@dataclass(frozen=True, eq=False)
class Contrast:
    """What is compared over all spots, whatever their other covariates are.

    Attributes
    ----------
    name : str
        Of columns: ``region=B``, ``region=C-B``, ``age+sd``, ``age=60-30``.
    covariate, level, reference : str
        ``level`` is compared with ``reference``; of a number ``'+sd'`` with nothing.
    columns : slice
        The covariate's columns of the standard design.
    levels : tuple of (ndarray, ndarray), optional
        What these columns hold at the reference and at the level.
    step : float
        Of a number: what is added to what a spot has.
    against_first : bool
        False where levels are compared with another one than the covariate's reference.
    """

    name: str
    covariate: str
    level: str
    reference: str
    columns: slice
    levels: tuple[FloatArray, FloatArray] | None = None
    step: float = 0.0
    against_first: bool = True

    def at_spots(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the spots' rows (S, F+1) with the covariate as compared with, and as compared."""
        low, high = rows.copy(), rows.copy()
        if self.levels is None:
            high[:, self.columns] += self.step
        else:
            low[:, self.columns], high[:, self.columns] = self.levels
        return low, high


def checked_contrasts(asked: Any) -> str | tuple[Asked, ...]:
    """Return what is to be compared as options keep it; raise if it is nothing of the kind.

    Examples
    --------
    >>> checked_contrasts([["age", 60, 30], ("region", "B", "A")])
    (('age', 60.0, 30.0), ('region', 'B', 'A'))
    """
    if isinstance(asked, str):
        if asked in NAMED:
            return asked
    elif isinstance(asked, Sequence) and all(map(_is_pair, asked)):
        return tuple((one[0], _plain(one[1]), _plain(one[2])) for one in asked)
    raise ValueError(
        "contrasts must be 'reference', 'pairwise' or a list of (covariate, level, level to "
        f"compare with), of a number (covariate, value, value), came {asked!r}"
    )


def _is_pair(one: Any) -> bool:
    """Tell whether something names a covariate and two levels or values."""
    if isinstance(one, str) or not isinstance(one, Sequence) or len(one) != 3:
        return False
    kinds = str | int | float | np.integer | np.floating
    return isinstance(one[0], str) and all(
        isinstance(side, kinds) and not isinstance(side, bool) for side in one[1:]
    )


def _plain(side: Any) -> str | float:
    """Return a level or a value as JSON can hold it."""
    return side if isinstance(side, str) else float(side)


def contrasts_of(
    covariates: Sequence[Covariate], design: Design, asked: str | Sequence[Asked] = "reference"
) -> tuple[Contrast, ...]:
    """Return what is compared.

    Parameters
    ----------
    covariates : sequence of Covariate
    design : Design
        Of these covariates.
    asked : {'reference', 'pairwise'} or sequence of (str, str or float, str or float)
        Each level with the reference, or with every level before it, and a number with what a spot
        has less one standard deviation; or levels and values by name.

    Raises
    ------
    ValueError
        If a covariate or a level is not there, or both sides are the same.

    Examples
    --------
    >>> from splisosm_pyro.genes.data.covariates import covariate, design_of
    >>> region = covariate("region", ["A", "B", "C", "A"])
    >>> age = covariate("age", [10.0, 20.0, 30.0, 35.0])
    >>> design = design_of([region, age], 4)
    >>> [one.name for one in contrasts_of([region, age], design, "pairwise")]
    ['region=B', 'region=C', 'region=C-B', 'age+sd']
    >>> asked = [("region", "C", "A"), ("age", 30, 10)]
    >>> [one.name for one in contrasts_of([region, age], design, asked)]
    ['region=C', 'age=30-10']
    """
    if not isinstance(asked, str):
        return tuple(_asked(covariates, design, one) for one in dict.fromkeys(asked))
    found: list[Contrast] = []
    for one, (_, own) in zip(covariates, design.covariates, strict=True):
        pairs = _pairs(one, pairwise=asked == "pairwise")
        found += [_of_levels(one, own, design, *pair) for pair in pairs]
        found += [] if one.levels else _of_numbers(one, own, design)
    return tuple(found)


def _pairs(one: Covariate, *, pairwise: bool) -> Iterator[tuple[str, str]]:
    """Yield the levels against the first, then against each other."""
    for j in range(len(one.levels) if pairwise else min(1, len(one.levels))):
        for level in one.levels[j + 1 :]:
            yield level, one.levels[j]


def _of_levels(one: Covariate, own: slice, design: Design, level: str, reference: str) -> Contrast:
    """Compare a level with another one."""
    standard = design.standard
    none = -standard.centre[own] / standard.scale[own]  # of the indicators is 1
    at = dict(zip(one.levels, [none, *(none + np.diag(1.0 / standard.scale[own]))], strict=True))
    first = reference == one.levels[0]
    name = f"{one.name}={level}" + ("" if first else f"-{reference}")
    sides = at[reference], at[level]
    return Contrast(name, one.name, level, reference, own, sides, against_first=first)


def _of_numbers(one: Covariate, own: slice, design: Design) -> Iterator[Contrast]:
    """Yield a covariate's columns, each moved by its standard deviation."""
    for i, name in enumerate(map(str, one.columns), start=own.start):
        step = float(design.standard.columns[:, i].std())
        yield Contrast(f"{name}+sd", name, "+sd", "", slice(i, i + 1), step=step)


def _asked(covariates: Sequence[Covariate], design: Design, asked: Asked) -> Contrast:
    """Return one comparison that was asked for."""
    name, *sides = asked
    words = [side if isinstance(side, str) else f"{side:.12g}" for side in sides]
    if sides[0] == sides[1]:
        raise ValueError(f"contrasts of {name!r} must compare two different levels, came {sides}")
    for one, (_, own) in zip(covariates, design.covariates, strict=True):
        if one.levels and one.name == name:
            lacking = [word for word in words if word not in one.levels]
            if lacking:
                raise ValueError(
                    f"contrasts of {name!r} must name its levels {listed(one.levels)}, "
                    f"came {lacking[0]!r}"
                )
            return _of_levels(one, own, design, *words)
        if not one.levels and name in map(str, one.columns):
            place = own.start + list(map(str, one.columns)).index(name)
            return _of_values(name, place, design, sides)
    known = [str(c) for one in covariates for c in ([one.name] if one.levels else one.columns)]
    raise ValueError(f"contrasts names {name!r}, the covariates are {listed(known) or 'none'}")


def _of_values(name: str, place: int, design: Design, sides: Sequence[str | float]) -> Contrast:
    """Compare a value of a number with another one."""
    if any(isinstance(side, str) or not np.isfinite(side) for side in sides):
        raise ValueError(f"contrasts of {name!r} must name finite numbers, came {list(sides)}")
    centre, scale = design.standard.centre[place], design.standard.scale[place]
    high, low = (np.array([(float(side) - centre) / scale]) for side in sides)
    level, reference = (f"{float(side):.12g}" for side in sides)
    named = f"{name}={level}-{reference}"
    return Contrast(named, name, level, reference, slice(place, place + 1), (low, high))
