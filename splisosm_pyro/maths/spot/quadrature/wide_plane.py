"""Gaussian noise of two logits that is wide beside the walls of the softmax: a product of lines.

Nodes that do not move with x, equidistant at the walls and thinning out exponentially away from
them, for the logit ``eta_o`` of larger variance and for ``u = eta_i - a`` of the other one, with
``a = log(1 + exp eta_o)``: some 50 x 50 nodes at any variance, for totals up to a hundred or so. In
these the likelihood is a product,

    log f = y_o eta_o - (m - y_i) a + y_i u - m log(1 + exp u),

so that a table of ``log(1 + exp u)`` serves all spots and a node costs one exponential. Walls
that are not near ``eta_o = 0`` are smooth. Derivatives are cumulants of those of the Gaussian: with
``n = eta_o - x_o``, its slope k on the noise of eta_i, and d what that leaves, of variance rest,

    phi_i = d / rest,   phi_o = n / var - k phi_i,   -g'' = T^-1 - Cov(phi).
"""

import math
from typing import NamedTuple

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import LINEAR, SIDE, STRETCHED, Rule, unstretch

STEP = 0.22 / 1.4  # of the outer nodes, before they are stretched: times the rule's step in strips
SHARE = 0.85 / 0.98  # their step in sd of the posterior at most: times the rule's in sd
AT_WALL = LINEAR + 2.0 * SIDE  # what stretching makes of a step at zero
# All nodes are taken from one fine grid, every so many of it; logits from -8e4 to 8e4.
GRID, HALF = 0.004, 3000
_PLACES = GRID * np.arange(-HALF, HALF + 1)
NODES = LINEAR * _PLACES + 2.0 * SIDE * np.sinh(_PLACES)
SPACING = GRID * (LINEAR + 2.0 * SIDE * np.cosh(_PLACES))
SOFTPLUS = np.logaddexp(0.0, NODES)


class Row(NamedTuple):
    """One spot's inner lines."""

    y: float
    total: float
    sd: float
    half: float  # of 1 / rest
    step: float  # at most, before nodes are stretched
    share: float  # the rule's step in sd
    drop: float


@compiled
def wide(
    y: FloatArray,
    x: FloatArray,
    cov: FloatArray,
    e: tuple[float, float],
    sd: tuple[float, float],
    rule: Rule,
    score: FloatArray,
    neg_hessian: FloatArray,
) -> float:
    """Write one spot's g' and -g'', given its mode x + e and posterior sd; return g."""
    o = 0 if cov[0, 0] >= cov[1, 1] else 1
    i = 1 - o
    total, var = y[0] + y[1] + y[2], cov[o, o]
    slope = cov[0, 1] / var
    rest = cov[i, i] - slope * cov[0, 1]
    row = _inner(y[i], total, rest, rule)
    start = _place(x[o] + e[o])
    first = _place(x[i] + e[i] - SOFTPLUS[start])
    most = SHARE * rule[0] * sd[o] / (LINEAR + SIDE + abs(x[o] + e[o]) + 4.0 * sd[o])
    stride = max(int(min(STEP * _at_walls(y[o], total, rule), most) / GRID), 1)
    load, half = total - y[i], 0.5 / var
    origin = y[o] * NODES[start] - load * SOFTPLUS[start] - half * e[o] * e[o]
    origin += y[i] * NODES[first] - total * SOFTPLUS[first] - row.half * (e[i] - slope * e[o]) ** 2
    sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for side in range(2):
        j, step = (start, stride) if side == 0 else (start - stride, -stride)
        best, before = first, math.inf
        while 0 <= j < NODES.size:
            n = NODES[j] - x[o]
            base = y[o] * NODES[j] - load * SOFTPLUS[j] - half * n * n - origin
            best, top, line = _line(row, x[i] + slope * n - SOFTPLUS[j], base, best)
            sums = _add(SPACING[j], n, line, sums)
            if top < -rule[2] and top <= before:
                break
            before = top
            j += step
    return float(origin) + _summarise(o, sums, stride, var, rest, slope, score, neg_hessian)


_Line = tuple[float, float, float]  # sums of 1, d and d^2
_Sums = tuple[float, float, float, float, float, float]  # of 1, n, d, n^2, n d, d^2


@compiled
def _place(eta: float) -> int:
    """Give the grid's node nearest to a logit."""
    return int(min(max(round(unstretch(eta, SIDE, SIDE) / GRID) + HALF, 0), 2 * HALF))


@compiled
def _inner(y: float, total: float, rest: float, rule: Rule) -> Row:
    """Give what all inner lines of a spot have in common."""
    sd = math.sqrt(rest)
    step = STRETCHED * _at_walls(y, total, rule)
    return Row(y, total, sd, 0.5 / rest, step, rule[0], rule[2])


@compiled
def _at_walls(y: float, total: float, rule: Rule) -> float:
    """Give the step that counts allow, in strips: walls move out to log m, peaks are narrow."""
    strips = rule[1] * AT_WALL / (AT_WALL + math.log(max(total, 1.0)))
    if 0.0 < y < total:
        width = math.sqrt(total / (y * (total - y)))
        near = AT_WALL + abs(math.log(y / (total - y)))
        strips = min(strips, rule[0] * width / (STRETCHED * near))
    return strips


@compiled
def _line(row: Row, centre: float, base: float, start: int) -> tuple[int, float, _Line]:
    """Sum an inner line both ways from a node; give its best node, log integrand, and the sums."""
    flat = row.share * row.sd / (LINEAR + SIDE + abs(NODES[start]) + 4.0 * row.sd)
    stride = max(int(min(row.step, flat) / GRID), 1)
    best, top, before = start, -math.inf, math.inf
    s0, s1, s2 = 0.0, 0.0, 0.0
    for side in range(2):
        k, step = (start, stride) if side == 0 else (start - stride, -stride)
        while 0 <= k < NODES.size:
            d = NODES[k] - centre
            log = base + row.y * NODES[k] - row.total * SOFTPLUS[k] - row.half * d * d
            if log > top:
                best, top = k, log
            if log > -row.drop:
                w = math.exp(log) * SPACING[k]
                s0 += w
                s1 += w * d
                s2 += w * d * d
            elif log <= before and k != start:
                break
            before = log
            k += step
        before = top
    return best, top, (stride * s0, stride * s1, stride * s2)


@compiled
def _add(w: float, n: float, line: _Line, sums: _Sums) -> _Sums:
    """Add a line, of weight w in its turn."""
    return (
        sums[0] + w * line[0],
        sums[1] + w * n * line[0],
        sums[2] + w * line[1],
        sums[3] + w * n * n * line[0],
        sums[4] + w * n * line[1],
        sums[5] + w * line[2],
    )


@compiled
def _summarise(
    o: int,
    sums: _Sums,
    stride: int,
    var: float,
    rest: float,
    slope: float,
    score: FloatArray,
    neg_hessian: FloatArray,
) -> float:
    """Write g' and -g'' from the sums; give the log of the mass."""
    i, mass = 1 - o, sums[0]
    n, d = sums[1] / mass, sums[2] / mass
    # what the counts take from the precision of n, of d, and between them
    own_n = (1.0 - (sums[3] / mass - n * n) / var) / var
    own_d = (1.0 - (sums[5] / mass - d * d) / rest) / rest
    both = -(sums[4] / mass - n * d) / (var * rest)
    score[i] = d / rest
    score[o] = n / var - slope * score[i]
    neg_hessian[i, i] = own_d
    neg_hessian[o, i] = neg_hessian[i, o] = both - slope * own_d
    neg_hessian[o, o] = own_n - 2.0 * slope * both + slope * slope * own_d
    return math.log(stride * mass / (2.0 * math.pi)) - 0.5 * math.log(var * rest)
