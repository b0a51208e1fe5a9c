"""The functions of the star from one table a nugget, filled where it is asked.

``F(v) = log int exp(-exp eta) N(eta; v, T) d eta`` at knots a step apart, with four derivatives, by
``spot_line.line``; between two knots their Hermite polynomial of degree nine, whose error is below
1e-10. Entries do not depend on who asks for them, so results do not depend on the order of calls.
Coefficients lie by power, so that neighbouring cells are neighbours in memory.
"""

import math
from typing import NamedTuple

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import POISSON, Rule, line
from splisosm_pyro.maths.spot.quadrature.spot_table import hermite

STEP = 0.34  # the least, hence the longest between nodes of small totals
SMOOTH = 0.3  # times the width of F: how far apart knots may lie
BELOW, WIDTH = 200, 3000  # cells below 0, and in all
TERMS = 10  # of a cell's polynomial
NODES = 1000  # at most, of a spot


class Shifted(NamedTuple):
    """The functions of one set of nuggets, and how fine every spot's lattice is."""

    row: IntArray  # (Q,): each logit's function
    step: float  # between knots
    filled: IntArray  # (K, 2): from which cell to which
    knots: FloatArray  # (K, WIDTH + 1, 5): Taylor coefficients in steps
    cells: FloatArray  # (K * TERMS * WIDTH,): by function, power, cell
    parts: IntArray  # (n,): nodes of a spot per step


def shifted_table(nugget: FloatArray, longest: FloatArray) -> Shifted:
    """Return a table without entries for these nuggets (Q,) and the spots' longest steps (n,)."""
    names, row = np.unique(nugget, return_inverse=True)
    width = SMOOTH * math.sqrt(1.0 + names[0] / 4.0)
    step = STEP * max(1, round(width / STEP))
    return Shifted(
        row.astype(np.int64),
        step,
        np.full((names.size, 2), -1, dtype=np.int64),
        np.empty((names.size, WIDTH + 1, 5)),
        np.empty(names.size * TERMS * WIDTH),
        np.ceil(step / longest - 1e-6).astype(np.int64),
    )


@compiled
def extend(table: Shifted, q: int, start: int, stop: int, nugget: float, rule: Rule) -> None:
    """See to it that cells from ``start`` to ``stop`` are filled, and all between them and others.

    Knot k + 1 is that of the right end of cell k.
    """
    row, step = table.row[q], table.step
    filled, knots = table.filled[row], table.knots[row]
    cells = table.cells[row * TERMS * WIDTH : (row + 1) * TERMS * WIDTH].reshape((TERMS, WIDTH))
    if start >= stop or (filled[0] <= start and stop <= filled[1] and filled[0] >= 0):
        return
    if filled[0] < 0:
        _knot(knots, start, step, nugget, rule)
        filled[0] = filled[1] = start
    while filled[1] < stop:
        cell = filled[1]
        _knot(knots, cell + 1, step, nugget, rule)
        hermite(knots[cell], knots[cell + 1], cells[:, cell])
        filled[1] += 1
    while filled[0] > start:
        filled[0] -= 1
        cell = filled[0]
        _knot(knots, cell, step, nugget, rule)
        hermite(knots[cell], knots[cell + 1], cells[:, cell])


@compiled
def _knot(knots: FloatArray, i: int, step: float, nugget: float, rule: Rule) -> None:
    """Fill a knot."""
    f = line(POISSON, 0.0, 0.0, (i - BELOW) * step, nugget, rule)
    factor = 1.0
    for k in range(5):
        knots[i, k] = f[k] * factor
        factor *= step / (k + 1.0)


@compiled
def powers_of(z: float, scale: float, out: FloatArray) -> None:
    """Fill rows k of ``out`` (k, TERMS) with the k-th derivatives of the powers of z, scaled."""
    power = 1.0
    for j in range(TERMS):
        out[0, j] = power
        power *= z
    for k in range(1, out.shape[0]):
        for j in range(k, TERMS):
            out[k, j] = j * scale * out[k - 1, j - 1] if j > k else scale * k * out[k - 1, j - 1]


@compiled
def shifted_value(
    table: Shifted, q: int, v: float, nugget: float, rule: Rule
) -> tuple[float, float, float]:
    """Give F and two derivatives of logit q at v."""
    f = shifted_all(table, q, v, nugget, rule)
    return f[0], f[1], f[2]


@compiled
def shifted_all(
    table: Shifted, q: int, v: float, nugget: float, rule: Rule
) -> tuple[float, float, float, float, float]:
    """Give F and four derivatives of logit q at v, by Horner's rule."""
    scale = 1.0 / table.step
    place = v * scale + BELOW
    if place < 0.0:  # as good as zero
        return 0.0, 0.0, 0.0, 0.0, 0.0
    cell = int(place)
    extend(table, q, cell, cell + 1, nugget, rule)
    c, z = table.cells[table.row[q] * TERMS * WIDTH + cell :], place - cell
    f0, f1, f2, f3, f4 = c[(TERMS - 1) * WIDTH], 0.0, 0.0, 0.0, 0.0
    for k in range(TERMS - 2, -1, -1):
        f4 = f4 * z + f3
        f3 = f3 * z + f2
        f2 = f2 * z + f1
        f1 = f1 * z + f0
        f0 = f0 * z + c[k * WIDTH]
    square = scale * scale
    return f0, f1 * scale, 2.0 * f2 * square, 6.0 * f3 * square * scale, 24.0 * f4 * square * square


@compiled
def fill_nodes(
    table: Shifted,
    q: int,
    cell: int,
    lead: int,
    size: int,
    powers: FloatArray,  # (5, TERMS)
    parts: FloatArray,  # (3 or 5, NODES)
    at: int,
) -> None:
    """Fill nodes from ``at`` on from neighbouring cells at one place; ``lead`` of them are zero."""
    for order in range(parts.shape[0]):
        parts[order, at : at + lead] = 0.0
    c = table.cells[table.row[q] * TERMS * WIDTH + cell + lead :]
    out = parts.reshape(-1)[at + lead :]
    _low_orders(c, powers, size, out)
    if parts.shape[0] == 5:
        _high_orders(c, powers, size, out[3 * NODES :])


@compiled
def _low_orders(c: FloatArray, powers: FloatArray, size: int, out: FloatArray) -> None:
    """Fill in F and two derivatives; written out, or a node would cost many instructions."""
    p, d, e = powers[0], powers[1], powers[2]
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]
    d1, d2, d3, d4, d5, d6, d7, d8, d9 = d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9]
    e2, e3, e4, e5, e6, e7, e8, e9 = e[2], e[3], e[4], e[5], e[6], e[7], e[8], e[9]
    for k in range(size):
        c1, c2, c3 = c[k + WIDTH], c[k + 2 * WIDTH], c[k + 3 * WIDTH]
        c4, c5, c6 = c[k + 4 * WIDTH], c[k + 5 * WIDTH], c[k + 6 * WIDTH]
        c7, c8, c9 = c[k + 7 * WIDTH], c[k + 8 * WIDTH], c[k + 9 * WIDTH]
        low = c[k] + c1 * p1 + c2 * p2 + c3 * p3 + c4 * p4
        out[k] = low + c5 * p5 + c6 * p6 + c7 * p7 + c8 * p8 + c9 * p9
        low = c1 * d1 + c2 * d2 + c3 * d3 + c4 * d4
        out[k + NODES] = low + c5 * d5 + c6 * d6 + c7 * d7 + c8 * d8 + c9 * d9
        low = c2 * e2 + c3 * e3 + c4 * e4 + c5 * e5
        out[k + 2 * NODES] = low + c6 * e6 + c7 * e7 + c8 * e8 + c9 * e9


@compiled
def _high_orders(c: FloatArray, powers: FloatArray, size: int, out: FloatArray) -> None:
    """Fill in the third and fourth derivative, likewise."""
    d, e = powers[3], powers[4]
    d3, d4, d5, d6, d7, d8, d9 = d[3], d[4], d[5], d[6], d[7], d[8], d[9]
    e4, e5, e6, e7, e8, e9 = e[4], e[5], e[6], e[7], e[8], e[9]
    for k in range(size):
        c3, c4, c5, c6 = c[k + 3 * WIDTH], c[k + 4 * WIDTH], c[k + 5 * WIDTH], c[k + 6 * WIDTH]
        c7, c8, c9 = c[k + 7 * WIDTH], c[k + 8 * WIDTH], c[k + 9 * WIDTH]
        low = c3 * d3 + c4 * d4 + c5 * d5 + c6 * d6
        out[k] = low + c7 * d7 + c8 * d8 + c9 * d9
        low = c4 * e4 + c5 * e5 + c6 * e6
        out[k + NODES] = low + c7 * e7 + c8 * e8 + c9 * e9
