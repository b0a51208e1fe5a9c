"""The nugget of many logits integrated out: a sum over lines, linear in the number of isoforms.

For independent nuggets the Q-dimensional integral of a spot becomes one integral of a product of Q
integrals on a line, by the Poisson form of the multinomial (``log u = t``):

    Z^-m = 1/Gamma(m) int_0^inf u^(m-1) exp(-u Z) du,           Z = 1 + sum_q exp eta_q
    exp g = 1/Gamma(m) int exp(y_P t - exp t + sum_q F_q(x_q + t)) dt
    F_q(v) = log int exp(y_q eta - exp eta) N(eta; v, T_q) d eta

``F`` and its derivatives come from ``spot_line.line``. Given t the derivatives of the log integrand
in x are diagonal, and g's are their joint cumulants over t. The integrand is log-concave in t; the
trapezoidal rule on it is that of ``spot_line``. Exact for whole and fractional counts; cost
O(Q (nodes)^2) a spot at any sigma, against O(nodes^Q) for a lattice.
"""

import math

import numpy as np

from splisosm_pyro.maths.compiled import compiled
from splisosm_pyro.maths.spot_line import (
    ENDLESS,
    LINEAR,
    POISSON,
    POISSON_STIFFNESS,
    SIDE,
    STRETCHED,
    FloatArray,
    Rule,
    even_step,
    line,
    omega,
    stretch,
    unstretch,
)

WIDE = 1.5
NODES = 400


@compiled
def _rate(t: float, y: FloatArray, x: FloatArray, nugget: FloatArray) -> tuple[float, float]:
    """Give the expected total of the Poisson form at t, nuggets at their modes, and its slope."""
    total, slope = math.exp(t), math.exp(t)
    for q in range(x.size):
        if nugget[q] > 0.0:
            w = omega(x[q] + t + nugget[q] * y[q] + math.log(nugget[q]))
            total += w / nugget[q]
            slope += w / nugget[q] / (1.0 + w)
        else:
            total += math.exp(x[q] + t)
            slope += math.exp(x[q] + t)
    return total, slope


@compiled
def _centre(m: float, y: FloatArray, x: FloatArray, nugget: FloatArray) -> tuple[float, float]:
    """Give the mode in t (to a fraction of its sd) and the curvature there."""
    t = math.log(m) - math.log1p(np.exp(x - x.max()).sum()) - max(x.max(), 0.0)
    slope = 1.0
    for _ in range(200):
        total, slope = _rate(t, y, x, nugget)
        step = min(max((m - total) / slope, -3.0), 1.0)
        t += step
        if step * step * slope < 1e-6:
            break
    return t, slope


@compiled
def _wall(t: float, y: FloatArray, x: FloatArray, nugget: FloatArray) -> float:
    """Give the place right of the mode where the curvature in t reaches one."""
    for _ in range(12):
        slope = _rate(t, y, x, nugget)[1]
        t -= math.log(slope)
        if abs(math.log(slope)) < 0.05:
            break
    return t


@compiled
def _fill(
    t: float, y: FloatArray, x: FloatArray, nugget: FloatArray, rule: Rule, parts: FloatArray
) -> float:
    """Put F's derivatives of every logit at t in ``parts`` (4, Q); give the log integrand."""
    value = y[x.size] * t - math.exp(t)
    for q in range(x.size):
        f = line(POISSON, y[q], y[q], x[q] + t, nugget[q], rule)
        value += f[0]
        for k in range(4):
            parts[k, q] = f[k + 1]
    return value


@compiled
def star(
    y: FloatArray,  # (P,)
    x: FloatArray,  # (Q,)
    nugget: FloatArray,  # (Q,)
    rule: Rule,
    parts: FloatArray,  # (NODES, 4, Q): out, F's derivatives at the nodes
    weight: FloatArray,  # (NODES,): out, the posterior weights of the nodes
) -> tuple[float, int]:
    """Lay out the nodes of one spot; give g and their number (all nuggets positive or not)."""
    m = y.sum()
    centre, slope = _centre(m, y, x, nugget)
    spread = 1.0 / math.sqrt(slope)
    step = even_step(rule, spread, 0.0, POISSON_STIFFNESS)
    wide = rule[3] == 0 and rule[0] * spread > WIDE * step
    start, away = 0.0, 0.0
    if wide:
        away = centre - _wall(centre, y, x, nugget)
        start = unstretch(away, SIDE, 0.0)
        reach = LINEAR + SIDE + abs(away) + 2.0 * spread
        step = min(STRETCHED * rule[1], rule[0] * spread / reach)
    peak = _fill(centre, y, x, nugget, rule, parts[0])
    top, total, n = peak, 0.0, 0
    shift = 0.5 * step if rule[3] > 0 and rule[3] % 2 == 0 else 0.0
    for side in range(2):
        count = ENDLESS if rule[3] == 0 else (rule[3] + 1 - side) // 2
        before = -math.inf
        for k in range(count):
            v = start + shift + (k * step if side == 0 else -(k + 1) * step)
            t, jacobian = centre + v, step
            if wide:
                t = centre + stretch(v, SIDE, 0.0) - away
                jacobian = step * (LINEAR + SIDE * math.exp(-v))
            value = _fill(t, y, x, nugget, rule, parts[n])
            if value < top - rule[2] and value < before:
                break
            before, top = value, max(top, value)
            weight[n] = jacobian * math.exp(value - peak)
            total += weight[n]
            n += 1
            if n == NODES:
                break
    weight[:n] /= total
    return peak + math.log(total) - math.lgamma(m), n
