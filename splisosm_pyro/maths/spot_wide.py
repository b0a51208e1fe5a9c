"""Gaussian noise of two logits that is wide beside the walls of the softmax: a line of lines.

Given the logit ``eta_o`` of larger variance the other one, ``eta_i``, sees a binomial,

    log f(e_o) = y_o eta_o - (m - y_i) a + L(x_i + k e_o - a),    a = log(1 + exp eta_o),

``L`` the binomial line of ``spot_line.py`` for the noise that is left of ``e_i`` given ``e_o``, of
mean ``k e_o``. Both lines take nodes that thin out away from their walls: some 50 x 50 nodes at
any variance, for totals up to a hundred or so. Walls that are not near ``eta_o = 0`` are smooth, as
``k`` is 1 at most in size. Derivatives are joint cumulants over the outer nodes, which do not move
with x; with ``p = d a / d eta_o``

    phi_o = y_o - (m - y_i + L') p,   phi_i = L',
    phi_oo = L'' p^2 - (m - y_i + L') p (1 - p),   phi_oi = -L'' p,   phi_ii = L''.
"""

import math

from splisosm_pyro.maths.compiled import compiled
from splisosm_pyro.maths.spot_line import (
    BINOMIAL,
    LINEAR,
    MOST,
    SIDE,
    FloatArray,
    Rule,
    line,
    log1p_exp,
    stretch,
    unstretch,
)

STEP = 0.22 / 1.4  # of the outer nodes, before they are stretched: times the rule's step in strips
SHARE = 0.85 / 0.98  # their step in sd of the posterior at most: times the rule's in sd
LEAST_DROP = 2.0  # nats to which an inner line is followed at least


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
    rest = max(cov[i, i] - slope * cov[0, 1], 0.0)
    v0 = unstretch(x[o] + e[o], SIDE, SIDE)
    at_most = SHARE * rule[0] * sd[o] / (LINEAR + SIDE + abs(x[o] + e[o]) + 4.0 * sd[o])
    h = min(STEP * rule[1], at_most)
    sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    top, origin = -math.inf, 0.0
    for side in range(2):
        step, before = (h, -math.inf) if side == 0 else (-h, -math.inf)
        v = v0 if side == 0 else v0 - h
        for _ in range(MOST):
            eta = stretch(v, SIDE, SIDE)
            noise, a = eta - x[o], log1p_exp(eta)
            left = rule[2] if before == -math.inf else max(rule[2] + before - top, LEAST_DROP)
            inner = rule[0], rule[1], left, rule[3]
            g = line(BINOMIAL, y[i], total, x[i] + slope * noise - a, rest, inner)
            log = y[o] * eta - (total - y[i]) * a + g[0] - 0.5 * noise * noise / var
            if top == -math.inf:
                origin = log
            log -= origin
            top = max(top, log)
            if log < top - rule[2] and log <= before:
                break
            before = log
            w = math.exp(log) * h * (LINEAR + SIDE * (math.exp(-v) + math.exp(v)))
            p = math.exp(eta - a)
            sums = _add(w, y[o], total - y[i] + g[1], g[1], g[2], p, math.exp(-a), sums)
            v += step
    mass = sums[0]
    mean_o, mean_i = sums[1] / mass, sums[2] / mass
    score[o], score[i] = mean_o, mean_i
    neg_hessian[o, o] = mean_o * mean_o - sums[3] / mass
    neg_hessian[o, i] = neg_hessian[i, o] = mean_o * mean_i - sums[4] / mass
    neg_hessian[i, i] = mean_i * mean_i - sums[5] / mass
    return origin + math.log(mass) - 0.5 * math.log(2.0 * math.pi * var)


_Sums = tuple[float, float, float, float, float, float]


@compiled
def _add(
    w: float, y: float, load: float, d1: float, d2: float, p: float, other: float, sums: _Sums
) -> _Sums:
    """Add a node: the derivatives of exp(phi) over exp(phi), 1, o, i, oo, oi, ii."""
    own = y - load * p
    return (
        sums[0] + w,
        sums[1] + w * own,
        sums[2] + w * d1,
        sums[3] + w * (d2 * p * p - load * p * other + own * own),
        sums[4] + w * (own * d1 - d2 * p),
        sums[5] + w * (d2 + d1 * d1),
    )
