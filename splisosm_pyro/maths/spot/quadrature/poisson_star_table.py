"""The nugget of many logits integrated out: an even lattice in t, its functions from one table.

The star of ``spot_star.py`` once more. Tilting a normal by ``exp(y eta)`` shifts its mean by
``T y``, so the counts of a spot enter by a shift and by their total only:

    exp g = exp(y'x + y'T y / 2) / Gamma(m) int exp(m t - E(t)) dt
    E(t) = exp t - sum_q F_q(x_q + T_q y_q + t)
    F_q(v) = log int exp(-exp eta) N(eta; v, T_q) d eta

and one function a nugget serves all counts, whole or not. The knots of its table
(``shifted_table.py``) lie at multiples of a step, the nodes in t at multiples of a whole part of
it, so that a spot meets every cell at the same few places: neighbouring nodes take neighbouring
cells with the same powers, and all work on nodes is vector instructions.

Aliasing. ``int exp((m + i k) t - Z exp t) dt = Gamma(m + i k) Z^-(m + i k)``, so the trapezoidal
sum with step h errs, relatively, by at most ``2 |Gamma(m + 2 pi i / h)| / Gamma(m)``, whatever x
and T. Tails. ``E`` is convex and positive, and ``E' <= exp(t) (1 + sum_q exp(x_q + T_q y_q + T_q
/ 2))``: to the left the integrand grows like ``exp(m t)`` and the tail beyond a node where E' is
small is a geometric series; to the right it falls at least like a normal density, and as fast as
``exp(-exp t)``.
"""

import math

import numpy as np
from scipy.special import loggamma

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled, compiled_sums
from splisosm_pyro.maths.numeric.vectorised_exp_log import exp_in_place
from splisosm_pyro.maths.spot.quadrature.line import Rule
from splisosm_pyro.maths.spot.quadrature.shifted_table import (
    BELOW,
    NODES,
    TERMS,
    WIDTH,
    Shifted,
    extend,
    fill_nodes,
    powers_of,
    shifted_value,
)

ALIASING = 1e-9  # what the step may err, by its bound; mostly it is far less
TAIL = 1e-11  # what a tail may err, relatively
DROP = 25.0  # nats that the right tail has fallen by
SHORTEST = 0.028  # step that a spot may need: a larger total loses digits in the shift
ROOM = 3.0  # how far t may go beyond the log of the total


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


def without_table(table: Shifted) -> Shifted:
    """Return one that reaches no spot."""
    return table._replace(parts=np.full_like(table.parts, 2**62))


@compiled
def reaches(table: Shifted, y: FloatArray, x: FloatArray, nugget: FloatArray, s: int) -> bool:
    """Tell whether the table holds all that spot s may ask for."""
    if table.step < SHORTEST * table.parts[s]:
        return False
    most = (WIDTH - 2 - BELOW) * table.step - math.log(y.sum()) - ROOM
    farthest = -math.inf
    for q in range(x.size):
        farthest = max(farthest, x[q] + nugget[q] * y[q])
    return farthest < most


@compiled
def shift_constant(y: FloatArray, x: FloatArray, nugget: FloatArray) -> float:
    """Give the logarithm of what stands before the integral."""
    total = -math.lgamma(y.sum())
    for q in range(x.size):
        total += y[q] * (x[q] + 0.5 * nugget[q] * y[q])
    return total


@compiled
def lattice_ends(
    table: Shifted,
    y: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    centre: float,
    h: float,
) -> tuple[float, float, float]:
    """Give the first and the last t that count, by the bounds of the header, and m t - E at centre.

    ``centre`` is near the mode; what it lacks is made up for.
    """
    m, load = y.sum(), 0.0  # the log of what bounds E' exp(-t)
    total, slope, bend = math.exp(centre), math.exp(centre), math.exp(centre)
    for q in range(x.size):
        v = x[q] + nugget[q] * y[q]
        far = v + 0.5 * nugget[q]
        load = max(load, far) + math.log1p(math.exp(-abs(far - load)))
        f0, f1, f2 = shifted_value(table, q, v + centre, nugget[q], rule)
        total, slope, bend = total - f0, slope - f1, bend - f2
    height = m * centre - total
    # w E' / (m^2 h) at the left end, where w <= exp(m t - height)
    low = (math.log(TAIL * m * m * h) - load + height) / (m + 1.0)
    low = min(low, math.log(0.5 * m) - load)
    rise = max(m - slope, 0.0) / bend  # to the mode, at most
    normal = rise + math.sqrt(rise * rise + 2.0 * DROP / bend)
    lift = (DROP + max(m - slope, 0.0) * normal) * math.exp(-centre)
    wall = math.log(lift + 2.0 + math.log1p(lift))
    return low, centre + min(normal, wall), height


@compiled
def lattice(
    table: Shifted,
    s: int,
    y: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    centre: float,
    parts: FloatArray,  # (Q, 3 or 5, NODES): out, F and its derivatives in x at the nodes
    weight: FloatArray,  # (NODES,): out, the posterior weights of the nodes
) -> tuple[float, int]:
    """Lay out the nodes of spot s; give g and their number, which is 0 if they were too many.

    The nodes come in as many groups as there are to a step of the table, each of equal length.
    """
    r, m, scale = table.parts[s], y.sum(), 1.0 / table.step
    h = table.step / r
    low, high, height = lattice_ends(table, y, x, nugget, rule, centre, h)
    first = math.floor(low * scale)
    size = int(math.floor(high * scale) - first) + 1
    if size > NODES // r:
        return 0.0, 0
    w = weight[: r * size]
    _start(first * table.step, h, r, m, height, parts[0, 0, : w.size], w)
    powers = np.empty((5, TERMS))
    for q in range(x.size):
        for i in range(r):
            place = (x[q] + nugget[q] * y[q]) * scale + BELOW + first + i / r
            cell = math.floor(place)
            powers_of(place - cell, scale, powers)
            lead = min(max(-cell, 0), size)  # where F is as good as zero
            extend(table, q, cell + lead, cell + size, nugget[q], rule)
            fill_nodes(table, q, cell, lead, size - lead, powers, parts[q], i * size)
        first_order, f = parts[q, 1, : w.size], parts[q, 0, : w.size]
        for k in range(w.size):
            first_order[k] += y[q]
        for k in range(w.size):
            w[k] += f[k]
    exp_in_place(w)
    w[0] /= -math.expm1(-m * h)  # to the left the tail is a geometric series
    total = _sum(w)
    share = 1.0 / total
    for k in range(w.size):
        w[k] *= share
    return shift_constant(y, x, nugget) + height + math.log(total * h), w.size


@compiled
def _start(
    low: float, h: float, r: int, m: float, height: float, work: FloatArray, w: FloatArray
) -> None:
    """Fill ``w`` with m t - exp t - height, the groups of nodes one after the other."""
    size = w.size // r
    for i in range(r):
        group, at = w[i * size : (i + 1) * size], low + i * h
        for k in range(size):
            group[k] = at + k * (r * h)
    work[:] = w
    exp_in_place(work)
    for k in range(w.size):
        w[k] = m * w[k] - work[k] - height


@compiled_sums
def _sum(a: FloatArray) -> float:
    """Sum."""
    total = 0.0
    for k in range(a.size):
        total += a[k]
    return total
