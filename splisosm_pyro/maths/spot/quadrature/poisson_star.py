"""The nugget of many logits integrated out: a sum over lines, linear in the number of isoforms.

For independent nuggets the Q-dimensional integral of a spot becomes one integral of a product of Q
integrals on a line, by the Poisson form of the multinomial (``log u = t``):

    Z^-m = 1/Gamma(m) int_0^inf u^(m-1) exp(-u Z) du,           Z = 1 + sum_q exp eta_q
    exp g = 1/Gamma(m) int exp(y_P t - exp t + sum_q F_q(x_q + t)) dt
    F_q(v) = log int exp(y_q eta - exp eta) N(eta; v, T_q) d eta

``F`` and its derivatives come from a table (``spot_even.py``), or from ``spot_line.line``. Given
t the derivatives of the log integrand in x are diagonal, and g's are their joint cumulants over t.
The integrand is log-concave in t; the trapezoidal rule on it is that of ``spot_line``. Exact for
whole and fractional counts. Cost a spot, at any sigma: O(Q nodes) with a table, O(Q nodes^2)
without, against O(nodes^Q) for a lattice.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import (
    LINEAR,
    POISSON,
    POISSON_STIFFNESS,
    SIDE,
    STRETCHED,
    Rule,
    even_step,
    line,
    omega,
    poisson_height,
    stretch,
    unstretch,
)
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import lattice, reaches, shift_constant
from splisosm_pyro.maths.spot.quadrature.shifted_table import NODES, Shifted, shifted_all

WIDE = 1.5
FINER = 0.9
REACH, SHARP = 9.0, 25.0  # in sd; in units of the curvature at the mode


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
def log_norm(x: FloatArray) -> float:
    """Give log(1 + sum exp x)."""
    top, total = 0.0, 0.0
    for q in range(x.size):
        top = max(top, x[q])
    for q in range(x.size):
        total += math.exp(x[q] - top)
    return top + math.log(math.exp(-top) + total)


@compiled
def _centre(m: float, y: FloatArray, x: FloatArray, nugget: FloatArray) -> tuple[float, float]:
    """Give the mode in t (to a fraction of its sd) and the curvature there."""
    high = math.log(m)  # the rate at t is at least exp t, at most exp t times the sum in ``load``
    load = np.empty(x.size)
    for q in range(x.size):
        load[q] = x[q] + nugget[q] * y[q]
    low, t = high - log_norm(load), high - log_norm(x)
    slope, before = 1.0, math.inf
    for _ in range(200):
        total, slope = _rate(t, y, x, nugget)
        if total < m:
            low = t
        else:
            high = t
        step = (m - total) / slope
        if step * step * slope < 1e-6 or high - low < 1e-14 * abs(t):
            return t + step, slope
        if abs(total - m) > 0.5 * m:  # far off: the rate grows like a power of exp t
            step = math.log(m / total) * total / slope
        if abs(step) > 0.5 * before or not low < t + step < high:
            step = 0.5 * (low + high) - t
        before = abs(step)
        t += step
    return t, slope


@compiled
def _wall(
    t: float, spread: float, y: FloatArray, x: FloatArray, nugget: FloatArray
) -> tuple[float, float]:
    """Give the place right of a wide mode where the curvature has grown much, and its growth.

    It is sought as far as the integrand reaches; the curvature grows with t.
    """
    low, high = t, min(t + REACH * spread, 3.0)
    growth = spread * spread * _rate(high, y, x, nugget)[1]
    sharp = min(1.0, SHARP / (spread * spread))
    for _ in range(60):
        if high - low < 0.5:
            break
        middle = 0.5 * (low + high)
        if _rate(middle, y, x, nugget)[1] < sharp:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high), growth


@compiled
def _layout(
    centre: float, spread: float, y: FloatArray, x: FloatArray, nugget: FloatArray, rule: Rule
) -> tuple[bool, float, float, float]:
    """Tell whether nodes are stretched, the first one's argument and value in the map, the step."""
    step = even_step(rule, spread, 0.0, POISSON_STIFFNESS)
    if rule[3] > 0:
        return False, 0.0, 0.0, step
    step *= FINER
    if rule[0] * spread <= WIDE * step:
        return False, 0.0, 0.0, step
    wall, growth = _wall(centre, spread, y, x, nugget)
    if growth < SHARP:  # nearly a Gaussian as far as it reaches
        return False, 0.0, 0.0, FINER * rule[0] * spread / math.sqrt(max(growth, 1.0))
    start = unstretch(centre - wall, SIDE, 0.0)
    away = stretch(start, SIDE, 0.0)
    reach = LINEAR + SIDE + abs(away) + 4.0 * spread
    return True, start, away, min(STRETCHED * rule[1], rule[0] * spread / reach)


@compiled
def star(
    y: FloatArray,  # (P,)
    x: FloatArray,  # (Q,)
    nugget: FloatArray,  # (Q,)
    rule: Rule,
    table: Shifted,
    s: int,
    parts: FloatArray,  # (Q, 3 or 5, NODES): out, F and its derivatives in x at the nodes
    weight: FloatArray,  # (NODES,): out, the posterior weights of the nodes
) -> tuple[float, int]:
    """Lay out the nodes of spot s; give g and their number.

    All functions from the table where it reaches, on an even lattice unless it had too many nodes;
    else by lines, whose logarithms leave ``y log y - y`` out.
    """
    m, tabled = y.sum(), rule[3] == 0 and reaches(table, y, x, nugget, s)
    centre, slope = _centre(m, y, x, nugget)
    spread = 1.0 / math.sqrt(slope)
    if tabled:
        value, n = lattice(table, s, y, x, nugget, rule, centre, parts, weight)
        if n > 0:
            return value, n
    wide, start, away, step = _layout(centre, spread, y, x, nugget, rule)
    peak, top, total, n = 0.0, -math.inf, 0.0, 0
    shift = 0.5 * step if rule[3] > 0 and rule[3] % 2 == 0 else 0.0
    for side in range(2):
        count = NODES // 2 if rule[3] == 0 else (rule[3] + 1 - side) // 2
        before = -math.inf
        for k in range(min(count, NODES - n)):
            v = start + shift + (k * step if side == 0 else -(k + 1) * step)
            t, jacobian = centre + v, step
            if wide:
                t = centre + stretch(v, SIDE, 0.0) - away
                jacobian = step * (LINEAR + SIDE * math.exp(-v))
            if tabled:
                value = m * t - math.exp(t)
                value += _shifted_sum(table, y, x, nugget, rule, t, parts[:, :, n])
            else:
                value = poisson_height(y[x.size], t)
                value += _line_sum(y, x, nugget, rule, t, parts[:, :, n])
            if n == 0:
                peak = value
            if value < top - rule[2] and value < before:
                break
            before, top = value, max(top, value)
            weight[n] = jacobian * math.exp(value - peak)
            total += weight[n]
            n += 1
    for k in range(n):
        weight[k] /= total
    value = peak + math.log(total)
    return value + (shift_constant(y, x, nugget) if tabled else _line_constant(y)), n


@compiled
def _line_sum(
    y: FloatArray, x: FloatArray, nugget: FloatArray, rule: Rule, t: float, out: FloatArray
) -> float:
    """Put the lines of every logit at t in ``out`` (Q, 3 or 5); sum their values."""
    total = 0.0
    for q in range(x.size):
        f = line(POISSON, y[q], y[q], x[q] + t, nugget[q], rule)
        for k in range(out.shape[1]):
            out[q, k] = f[k]
        total += f[0]
    return total


@compiled
def _shifted_sum(
    table: Shifted,
    y: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    t: float,
    out: FloatArray,
) -> float:
    """Do the same from the table, in whose terms a logit's part is y v + F."""
    total = 0.0
    for q in range(x.size):
        f = shifted_all(table, q, x[q] + nugget[q] * y[q] + t, nugget[q], rule)
        for k in range(out.shape[1]):
            out[q, k] = f[k]
        out[q, 1] += y[q]
        total += f[0]
    return total


@compiled
def _line_constant(y: FloatArray) -> float:
    """Give what the lines leave out."""
    m = float(y.sum())
    total = -m - math.lgamma(m)
    for j in range(y.size):
        if y[j] > 0.0:
            total += y[j] * math.log(y[j])
    return total
