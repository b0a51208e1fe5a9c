"""The functions of the Poisson star from one table a nugget, filled where it is asked.

``F(v) = log int exp(-exp eta) N(eta; v, T) d eta`` at knots a step apart, with four derivatives, by
``line.py``; between two knots their Hermite polynomial of degree nine, whose error is below 1e-10.
Entries do not depend on who asks for them, so results do not depend on the order of calls.
Coefficients lie by power, so that neighbouring cells are neighbours in memory.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import loggamma

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import POISSON, Rule, line

STEP = 0.34  # the least, hence the longest between nodes of small totals
SMOOTH = 0.3  # times the width of F: how far apart knots may lie
BELOW, WIDTH = 200, 3000  # cells below 0, and in all
TERMS = 10  # of a cell's polynomial
NODES = 1000  # at most, of a spot
ALIASING = 1e-9  # what the step may err, by its bound; mostly it is far less
SHORTEST = 0.028  # step that a spot may need: a larger total loses digits in the shift
ROOM = 5.0  # how far t may go beyond the log of the total, or beyond 0 where that is below
# Taylor coefficients 5 to 9 of a cell from what 0 to 4 leave to explain at its right knot
_UPPER = np.linalg.inv([[math.comb(k, j) for k in range(5, 10)] for j in range(5)])


class PoissonTable(NamedTuple):
    """The functions of one set of nuggets, and how fine every spot's lattice is."""

    row: IntArray  # (Q,): each logit's function
    step: float  # between knots
    filled: IntArray  # (K, 2): from which cell to which
    knots: FloatArray  # (K, WIDTH + 1, 5): Taylor coefficients in steps
    cells: FloatArray  # (K * TERMS * WIDTH,): by function, power, cell
    parts: IntArray  # (n,): nodes of a spot per step


def longest_steps(totals: FloatArray) -> FloatArray:
    """Give the longest steps in t that keep the bound on aliasing, for totals (n,)."""
    names, inverse = np.unique(totals, return_inverse=True)
    low, high = np.full(names.shape, -12.0), np.full(names.shape, 1.0)  # logs of steps
    size = loggamma(names) + math.log(0.5 * ALIASING)
    for _ in range(24):
        middle = 0.5 * (low + high)
        fits = loggamma(names + 2j * math.pi * np.exp(-middle)).real <= size.real
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.asarray(np.exp(low)[inverse])


def poisson_table(nugget: FloatArray, longest: FloatArray) -> PoissonTable:
    """Return a table without entries for these nuggets (Q,) and the spots' longest steps (n,)."""
    names, row = np.unique(nugget, return_inverse=True)
    width = SMOOTH * math.sqrt(1.0 + names[0] / 4.0)
    step = STEP * max(1, round(width / STEP))
    return PoissonTable(
        row.astype(np.int64),
        step,
        np.full((names.size, 2), -1, dtype=np.int64),
        np.empty((names.size, WIDTH + 1, 5)),
        np.empty(names.size * TERMS * WIDTH),
        np.ceil(step / longest - 1e-6).astype(np.int64),
    )


def without_table(table: PoissonTable) -> PoissonTable:
    """Return one that reaches no spot."""
    return table._replace(parts=np.full_like(table.parts, 2**62))


@compiled
def reaches(table: PoissonTable, y: FloatArray, x: FloatArray, nugget: FloatArray, s: int) -> bool:
    """Tell whether the table holds all that spot s may ask for."""
    if table.step < SHORTEST * table.parts[s]:
        return False
    most = (WIDTH - 2 - BELOW) * table.step - max(math.log(y.sum()), 0.0) - ROOM
    farthest = -math.inf
    for q in range(x.size):
        farthest = max(farthest, x[q] + nugget[q] * y[q])
    return farthest < most


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


@compiled
def extend(table: PoissonTable, q: int, start: int, stop: int, nugget: float, rule: Rule) -> None:
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
def tabulated(
    table: PoissonTable, q: int, v: float, nugget: float, rule: Rule
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
    table: PoissonTable,
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
