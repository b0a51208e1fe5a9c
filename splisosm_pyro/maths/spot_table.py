"""Line integrals from a table: small whole counts ask for the same few functions.

Given the nuggets, a star (``spot_star.py``) needs ``F(v) = log int exp(y eta - exp eta)
N(eta; v, T_q) d eta`` for the few counts y that occur, at very many v. Knots lie at whole multiples
of a step that follows the width of F; each holds F and four derivatives by ``spot_line.line``, and
a cell between two knots is their Hermite polynomial of degree nine, whose error is below 1e-11.
Knots and cells are filled when first asked for. As they do not depend on who asks, the results do
not depend on the order of calls.

With two isoforms the functions are ``g`` itself, one for every pair (count, total) that occurs more
than once; then value, score and curvature are those of one and the same polynomial.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splisosm_pyro.maths.compiled import compiled
from splisosm_pyro.maths.spot_line import BINOMIAL, POISSON, FloatArray, Rule, line

IntArray = NDArray[np.int64]
LARGEST = 60.0  # the largest count that is looked up
MOST = 240  # functions in a table
BELOW, MIDDLE, WIDTH = 600, 450, 900  # cells below 0: of F, of g; and in all
# Taylor coefficients 5 to 9 of a cell from what 0 to 4 leave to explain at its right knot
_UPPER = np.linalg.inv([[math.comb(k, j) for k in range(5, 10)] for j in range(5)])


class Table(NamedTuple):
    """Functions F of a gene for one set of nuggets; ``row`` (n, Q), -1 where there is none."""

    row: IntArray
    step: FloatArray  # (Q,): between knots
    knots: FloatArray  # (K, WIDTH + 1, 6), the last 0 until asked for
    cells: FloatArray  # (K, WIDTH, 11), likewise


def rows_of(counts: FloatArray) -> IntArray:
    """Give every pair (logit, count) worth a table its number, the others -1."""
    y = counts[:, :-1]
    row = np.full(y.shape, -1, dtype=np.int64)
    keys = y + (LARGEST + 1.0) * np.arange(y.shape[1])
    fit = (y <= LARGEST) & (y == np.floor(y))
    names, inverse = np.unique(keys[fit], return_inverse=True)
    if names.size <= MOST:
        row[fit] = inverse
    return row


def pair_rows_of(counts: FloatArray) -> IntArray:
    """Give every pair (count, total) of two isoforms worth a table its number (n, 1)."""
    y, total = counts[:, 0], counts.sum(axis=1)
    row = np.full((y.size, 1), -1, dtype=np.int64)
    fit = (total <= LARGEST) & (y == np.floor(y)) & (total == np.floor(total))
    keys = y[fit] + (LARGEST + 1.0) * total[fit]
    _, inverse, often = np.unique(keys, return_inverse=True, return_counts=True)
    names, number = np.unique(inverse[often[inverse] > 1], return_inverse=True)
    if names.size <= MOST:
        row[np.flatnonzero(fit)[often[inverse] > 1], 0] = number
    return row


def empty_table(row: IntArray, nugget: FloatArray) -> Table:
    """Return a table without entries for these nuggets."""
    n = int(row.max()) + 1
    step = 0.3 * np.sqrt(1.0 + nugget / 4.0)
    return Table(row, step, np.zeros((n, WIDTH + 1, 6)), np.zeros((n, WIDTH, 11)))


@compiled
def _taylor(
    cells: FloatArray, key: int, cell: int, z: float
) -> tuple[float, float, float, float, float]:
    """Give a cell's polynomial at z and its next four Taylor coefficients by Horner's rule."""
    f0, f1, f2, f3, f4 = cells[key, cell, 9], 0.0, 0.0, 0.0, 0.0
    for k in range(8, -1, -1):
        f4 = f4 * z + f3
        f3 = f3 * z + f2
        f2 = f2 * z + f1
        f1 = f1 * z + f0
        f0 = f0 * z + cells[key, cell, k]
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
    step, knots, cells = table.step[0], table.knots, table.cells
    scale, automatic = 1.0 / step, rule[3] == 0
    for s in range(counts.shape[0]):
        y, total = counts[s, 0], counts[s, 0] + counts[s, 1]
        place, key = x[s, 0] * scale + MIDDLE, table.row[s, 0]
        if key < 0 or not automatic or not 0.0 <= place < WIDTH:
            out[s, 0], out[s, 1], out[s, 2], out[s, 3], out[s, 4] = line(
                BINOMIAL, y, total, x[s, 0], nugget, rule
            )
            continue
        cell = int(place)
        if cells[key, cell, 10] == 0.0:
            _fill_cell(BINOMIAL, knots, cells, key, cell, y, total, step, nugget, rule)
        f0, f1, f2, f3, f4 = _taylor(cells, key, cell, place - cell)
        square = scale * scale
        out[s, 0], out[s, 1], out[s, 2] = f0, f1 * scale, 2.0 * f2 * square
        out[s, 3], out[s, 4] = 6.0 * f3 * square * scale, 24.0 * f4 * square * square
    return out


@compiled
def look_up(
    row: IntArray,
    step: FloatArray,
    knots: FloatArray,
    cells: FloatArray,
    y: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    t: float,
    s: int,
    n: int,
    out: FloatArray,
) -> float:
    """Put F and four derivatives of every logit of spot s at t in ``out[n]`` (Q, 5); sum the F.

    The table comes as its arrays: in this innermost loop compiled code spends more on taking a
    tuple apart than on the polynomial.
    """
    total = 0.0
    for q in range(step.size):
        v = x[s, q] + t
        scale = 1.0 / step[q]
        place, key = v * scale + BELOW, row[s, q]
        if key < 0 or not 0.0 <= place < WIDTH:
            f = line(POISSON, y[s, q], y[s, q], v, nugget[q], rule)
            for k in range(5):
                out[n, q, k] = f[k]
            total += f[0]
            continue
        cell = int(place)
        if cells[key, cell, 10] == 0.0:
            _fill_cell(POISSON, knots, cells, key, cell, y[s, q], y[s, q], step[q], nugget[q], rule)
        f0, f1, f2, f3, f4 = _taylor(cells, key, cell, place - cell)
        square = scale * scale
        out[n, q, 0], out[n, q, 1], out[n, q, 2] = f0, f1 * scale, 2.0 * f2 * square
        out[n, q, 3], out[n, q, 4] = 6.0 * f3 * square * scale, 24.0 * f4 * square * square
        total += f0
    return total


@compiled
def _fill_cell(
    kind: int,
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
            first = BELOW if kind == POISSON else MIDDLE
            f = line(kind, y, total, (i - first) * step, nugget, rule)
            factor, knots[key, i, 5] = 1.0, 1.0
            for k in range(5):
                knots[key, i, k] = f[k] * factor
                factor *= step / (k + 1.0)
    left, right, c = knots[key, cell], knots[key, cell + 1], cells[key, cell]
    c[:5] = left[:5]
    c[10] = 1.0
    for k in range(5):
        c[5 + k] = 0.0
    for j in range(5):
        rest, choose = right[j], 1.0
        for k in range(j, 5):
            rest -= choose * left[k]
            choose = choose * (k + 1.0) / (k + 1.0 - j)
        for k in range(5):
            c[5 + k] += _UPPER[k, j] * rest
