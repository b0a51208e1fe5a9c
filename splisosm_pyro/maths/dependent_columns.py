"""Columns of a design that have no coefficient of their own beside an intercept."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr, solve_triangular

from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

# Two covariates count as dependent where what is left of one after regression on the others is
# below this share of it, below 100 units of rounding of its own dtype, or below so many times what
# rounding, in units of its size, makes of its spread.
DEPENDENCE_TOLERANCE, DEPENDENCE_ROUNDING = 1e-10, 10.0
# A column that varies by no more than so many units of rounding of its size is constant.
CONSTANT_ROUNDING = 16.0


class Dependent(NamedTuple):
    """A column and the others, by place, whose combination it is with the intercept."""

    column: int
    partners: tuple[int, ...]

    def in_words(self, names: Sequence[str]) -> str:
        """Say it by the columns' names.

        Examples
        --------
        >>> Dependent(1, (0,)).in_words("ab"), Dependent(0, ()).in_words("a")
        ("column 'b' is a linear combination of the intercept and 'a'", "column 'a' is constant")
        """
        if not self.partners:
            return f"column {names[self.column]!r} is constant"
        partners = ", ".join(repr(names[i]) for i in self.partners)
        return (
            f"column {names[self.column]!r} is a linear combination of the intercept and {partners}"
        )


def constant_columns(values: FloatArray, rounding: float) -> Mask:
    """Tell which columns (S, F) vary by no more than ``rounding`` times a few."""
    size = np.abs(values).max(axis=0, initial=0.0)
    return np.asarray(np.ptp(values, axis=0) <= CONSTANT_ROUNDING * rounding * size)


def dependent_columns(values: FloatArray, rounding: float) -> list[Dependent]:
    """Return the columns (S, F) that can be left out, constant ones first, else the last of a set.

    One pivoted QR factorisation of the centred columns for every one, and one more, O(S F^2) each.

    Examples
    --------
    >>> dependent_columns(np.column_stack([np.eye(3), np.ones(3)]), 1e-16)
    [Dependent(column=3, partners=()), Dependent(column=2, partners=(0, 1))]
    """
    constant = constant_columns(values, rounding)
    found = [Dependent(int(f), ()) for f in np.flatnonzero(constant)]
    left = np.flatnonzero(~constant)
    while left.size:
        alike = _alike(values[:, left], rounding)
        if not alike:
            break
        *partners, last = sorted(int(left[i]) for i in alike)
        found.append(Dependent(last, tuple(partners)))
        left = left[left != last]
    return found


def centred(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return columns (S, F) about their means, and the means (F,), whatever the columns' origins.

    The first mean is rounded in units of a column's size; what is left is taken off again.

    Examples
    --------
    >>> centred(np.array([[1e6 + 0.25], [1e6 - 0.25]]))[0].ravel().tolist()
    [0.25, -0.25]
    """
    first = values.mean(axis=0)
    apart = values - first
    rest = apart.mean(axis=0)
    return apart - rest, first + rest


def _alike(values: FloatArray, rounding: float) -> list[int]:
    """Return the places of one set of dependent columns, none of which is constant; or none."""
    size = np.abs(values).max(axis=0)
    columns = centred(values)[0] / size  # squares of what is tiny would be 0
    norm = np.sqrt((columns**2).sum(axis=0))
    blurred = DEPENDENCE_ROUNDING * rounding * np.sqrt(len(values)) / norm
    _, upper, pivot = qr(columns / norm, mode="economic", pivoting=True)
    diagonal = np.abs(upper.diagonal())
    least = max(DEPENDENCE_TOLERANCE, 100.0 * rounding)
    kept = diagonal > np.maximum(least, np.maximum.accumulate(blurred[pivot])[: diagonal.size])
    rank = len(kept) if kept.all() else int(np.argmin(kept))
    if rank == values.shape[1]:
        return []
    weights = solve_triangular(upper[:rank, :rank], upper[:rank, rank])
    return [int(pivot[rank]), *(int(pivot[i]) for i in range(rank) if abs(weights[i]) > 1e-6)]
