"""Names: what the parts of a slide are called, lists of them as users give them, none at all."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.options import positive_int
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.numeric.arrays import AnyArray, Mask

NAMED = 3  # so many of what is wrong are named
# What stands in files for a name that there is not, in any case and with blanks about it; nor is
# one without a letter or digit a name.
NO_NAME = ("nan", "none", "<na>", "na", "n/a", "null", "nat")
# What only a missing value turns into when a column becomes words; 'none' may be a treatment.
NO_WORD = ("", "nan", "<na>", "nat")


@dataclass(frozen=True)
class SlideKeys:
    """By which names a slide stands in a file or an AnnData object.

    `read_slide` explains them. ``spatial_key`` None stands for what the kind of file calls them.
    """

    group_iso_by: str | None = None
    layer: str = "counts"
    spatial_key: str | None = None
    adj_key: str | None = None
    library_key: str | None = None
    reference: Mapping[str, str] | None = None
    n_isos: int | None = None
    covariates: tuple[str, ...] = ()
    reference_isoform: str | Mapping[str, str] = "last"

    def __post_init__(self) -> None:
        for name in ("group_iso_by", "layer", "spatial_key", "adj_key", "library_key"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "layer"):
                raise TypeError(f"{name} must be one name, came {value!r}")
        if self.n_isos is not None:
            positive_int("n_isos", self.n_isos)


def is_missing(values: Any, words: Sequence[str] = NO_NAME) -> Mask:
    """Return where there is no name: nothing, blanks, signs, or a word that stands for nothing.

    With ``NO_WORD`` where there is no word, which signs may be.

    Examples
    --------
    >>> is_missing(["Plp1", " ", "nan", None, "NA", "-"]).tolist()
    [False, True, True, True, True, True]
    """
    column = pd.Series(np.asarray(values, dtype=object), dtype=object)
    bare = column.astype(str).str.strip().str.lower()
    missing = column.isna() | bare.isin(words)
    if words is NO_NAME:
        missing |= ~bare.str.contains(r"\w", regex=True)
    return np.asarray(missing, dtype=bool)


def warn_of_nameless(n_isoforms: int, n_all: int, where: str) -> None:
    """Say how many isoforms belong to no gene."""
    if n_isoforms:
        warnings.warn(
            f"{n_isoforms} of {n_all} isoforms have no gene in {where} (nothing, blanks, or a word "
            "like 'nan'): they are left out",
            SplisosmWarning,
            stacklevel=2,
        )


def twice(names: Iterable[str]) -> list[str]:
    """Return the names that come more than once, each once.

    Examples
    --------
    >>> twice(["a", "b", "a", "a"])
    ['a']
    """
    return [name for name, n in Counter(names).items() if n > 1]


def listed(names: Sequence[Any] | AnyArray) -> str:
    """Return the first few names.

    Examples
    --------
    >>> listed(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(map(str, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
