"""Two isoforms from a table: small whole counts ask for the same few functions.

Given the nugget, ``g`` is one function for every pair (count, total), needed at very many x. For
pairs that occur more than once it is kept: knots at whole multiples of a step that follows its
width hold the value and four derivatives by ``spot_line.line``, and a cell between two knots is
their Hermite polynomial of degree nine, whose error is below 1e-11; value, score and curvature are
those of one and the same polynomial. Knots and cells are filled when first asked for. As they do
not depend on who asks, the results do not depend on the order of calls.
"""

import math
from typing import NamedTuple

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import BINOMIAL, Rule, line

LARGEST = 60.0  # the largest count of two isoforms that is looked up
MOST = 240  # functions in a table
MIDDLE, WIDTH = 450, 900  # cells below 0, and in all
# Taylor coefficients 5 to 9 of a cell from what 0 to 4 leave to explain at its right knot
_UPPER = np.linalg.inv([[math.comb(k, j) for k in range(5, 10)] for j in range(5)])


class Table(NamedTuple):
    """Functions g of a gene for one nugget; ``row`` (n,), -1 where there is none."""

    row: IntArray
    step: float  # between knots
    knots: FloatArray  # (K, WIDTH + 1, 6), the last 0 until asked for
    cells: FloatArray  # (K, WIDTH, 11), likewise


def pair_rows_of(counts: FloatArray) -> IntArray:
    """Give every pair (count, total) of two isoforms worth a table its number (n,)."""
    y, total = counts[:, 0], counts.sum(axis=1)
    row = np.full(y.size, -1, dtype=np.int64)
    fit = (total <= LARGEST) & (y == np.floor(y)) & (total == np.floor(total))
    keys = y[fit] + (LARGEST + 1.0) * total[fit]
    _, inverse, often = np.unique(keys, return_inverse=True, return_counts=True)
    names, number = np.unique(inverse[often[inverse] > 1], return_inverse=True)
    if names.size <= MOST:
        row[np.flatnonzero(fit)[often[inverse] > 1]] = number
    return row


def empty_table(row: IntArray, nugget: float) -> Table:
    """Return a table without entries for this nugget."""
    n = int(row.max()) + 1
    step = 0.3 * math.sqrt(1.0 + nugget / 4.0)
    return Table(row, step, np.zeros((n, WIDTH + 1, 6)), np.zeros((n, WIDTH, 11)))


@compiled
def _taylor(c: FloatArray, z: float) -> tuple[float, float, float, float, float]:
    """Give a cell's polynomial at z and its next four Taylor coefficients by Horner's rule."""
    f0, f1, f2, f3, f4 = c[9], 0.0, 0.0, 0.0, 0.0
    for k in range(8, -1, -1):
        f4 = f4 * z + f3
        f3 = f3 * z + f2
        f2 = f2 * z + f1
        f1 = f1 * z + f0
        f0 = f0 * z + c[k]
    return f0, f1, f2, f3, f4


@compiled
def pair_pass(
    counts: FloatArray,  # (n, 2)
    x: FloatArray,  # (n, 1)
    nugget: float,
    rule: Rule,
    table: Table,
) -> FloatArray:  # (n, 5)
    """Give g and four derivatives at every spot, two isoforms, from the table where it can."""
    out = np.empty((counts.shape[0], 5))
    step, knots, cells = table.step, table.knots, table.cells
    scale, automatic = 1.0 / step, rule[3] == 0
    for s in range(counts.shape[0]):
        y, total = counts[s, 0], counts[s, 0] + counts[s, 1]
        place, key = x[s, 0] * scale + MIDDLE, table.row[s]
        if key < 0 or not automatic or not 0.0 <= place < WIDTH:
            out[s, 0], out[s, 1], out[s, 2], out[s, 3], out[s, 4] = line(
                BINOMIAL, y, total, x[s, 0], nugget, rule
            )
            continue
        cell = int(place)
        if cells[key, cell, 10] == 0.0:
            _fill_cell(knots, cells, key, cell, y, total, step, nugget, rule)
        f0, f1, f2, f3, f4 = _taylor(cells[key, cell], place - cell)
        square = scale * scale
        out[s, 0], out[s, 1], out[s, 2] = f0, f1 * scale, 2.0 * f2 * square
        out[s, 3], out[s, 4] = 6.0 * f3 * square * scale, 24.0 * f4 * square * square
    return out


@compiled
def _fill_cell(
    knots: FloatArray,
    cells: FloatArray,
    key: int,
    cell: int,
    y: float,
    total: float,
    step: float,
    nugget: float,
    rule: Rule,
) -> None:
    """Fill a cell from its two knots."""
    for i in range(cell, cell + 2):
        if knots[key, i, 5] == 0.0:
            f = line(BINOMIAL, y, total, (i - MIDDLE) * step, nugget, rule)
            factor, knots[key, i, 5] = 1.0, 1.0
            for k in range(5):
                knots[key, i, k] = f[k] * factor
                factor *= step / (k + 1.0)
    hermite(knots[key, cell], knots[key, cell + 1], cells[key, cell])
    cells[key, cell, 10] = 1.0


@compiled
def hermite(left: FloatArray, right: FloatArray, c: FloatArray) -> None:
    """Fill c (10,) with the polynomial that has these Taylor coefficients (5,) at 0 and at 1."""
    for k in range(5):
        c[k], c[5 + k] = left[k], 0.0
    for j in range(5):
        rest, choose = right[j], 1.0
        for k in range(j, 5):
            rest -= choose * left[k]
            choose = choose * (k + 1.0) / (k + 1.0 - j)
        for k in range(5):
            c[5 + k] += _UPPER[k, j] * rest
