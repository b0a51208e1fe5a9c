"""The nugget of many logits integrated out: a sum over lines, linear in the number of isoforms.

For independent nuggets the Q-dimensional integral of a spot becomes one integral of a product of Q
integrals on a line, by the Poisson form of the multinomial (``log u = t``):

    Z^-m = 1/Gamma(m) int_0^inf u^(m-1) exp(-u Z) du,           Z = 1 + sum_q exp eta_q
    exp g = 1/Gamma(m) int exp(y_P t - exp t + sum_q F_q(x_q + t)) dt
    F_q(v) = log int exp(y_q eta - exp eta) N(eta; v, T_q) d eta

Where there are as many ``x`` as counts every isoform has a noise of its own: the one in Z and the
first two terms of the exponent drop out.

Given t the derivatives of the log integrand in x are diagonal, and g's are their joint cumulants
over t. The integrand is log-concave in t. Exact for whole and fractional counts, at any sigma.

**By lines** (very large counts): every ``F_q`` by ``line.py``, O(Q nodes^2) a spot.

**By the table** (all others), O(Q nodes). Tilting a normal by ``exp(y eta)`` shifts its mean by ``T
y``, so the counts of a spot enter by a shift and by their total only:

    exp g = exp(y'x + y'T y / 2) / Gamma(m) int exp(m t - E(t)) dt
    E(t) = exp t - sum_q F_q(x_q + T_q y_q + t),        F_q now that of y_q = 0

and one function a nugget serves all counts. The knots of its table (``poisson_star_table.py``) lie
at multiples of a step, the nodes in t at multiples of a whole part of it, so that a spot meets
every cell at the same few places: neighbouring nodes take neighbouring cells with the same powers,
and all work on nodes is vector instructions.

Aliasing. ``int exp((m + i k) t - Z exp t) dt = Gamma(m + i k) Z^-(m + i k)``, so the trapezoidal
sum with step h errs, relatively, by at most ``2 |Gamma(m + 2 pi i / h)| / Gamma(m)``, whatever x
and T. Tails. ``E`` is convex and positive, and ``E' <= exp(t) (1 + sum_q exp(x_q + T_q y_q + T_q
/ 2))``: to the left the integrand grows like ``exp(m t)`` and the tail beyond a node where E' is
small is a geometric series; to the right it falls at least like a normal density, and as fast as
``exp(-exp t)``.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled, compiled_sums
from splisosm_pyro.maths.numeric.vectorised_exp_log import exp_in_place
from splisosm_pyro.maths.spot.quadrature.cumulants import log_norm
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
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import (
    BELOW,
    NODES,
    TERMS,
    PoissonTable,
    extend,
    fill_nodes,
    powers_of,
    reaches,
    tabulated,
)

WIDE = 1.5
FINER = 0.9
REACH, SHARP = 9.0, 25.0  # in sd; in units of the curvature at the mode
TAIL = 1e-11  # what a tail may err, relatively
DROP = 25.0  # nats that the right tail has fallen by


@compiled
def _rate(t: float, y: FloatArray, x: FloatArray, nugget: FloatArray) -> tuple[float, float]:
    """Give the expected total of the Poisson form at t, nuggets at their modes, and its slope."""
    total = math.exp(t) if y.size > x.size else 0.0
    slope = total
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
    high = math.log(m)  # the rate at t is at least exp t, at most exp t times the sum in ``load``
    load = np.empty(x.size)
    for q in range(x.size):
        load[q] = x[q] + nugget[q] * y[q]
    one = y.size > x.size
    low, t = high - log_norm(load, one), high - log_norm(x, one)
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
    low, high = t, t + REACH * spread
    if y.size > x.size:
        high = min(high, 3.0)
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
    table: PoissonTable,
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
        value, n = _tabled_star(table, s, y, x, nugget, rule, centre, parts, weight)
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
                value = m * t - (math.exp(t) if y.size > x.size else 0.0)
                value += _table_sum(table, y, x, nugget, rule, t, parts[:, :, n])
            else:
                value = poisson_height(y[x.size], t) if y.size > x.size else 0.0
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
    return value + (_table_constant(y, x, nugget) if tabled else _line_constant(y)), n


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
def _table_sum(
    table: PoissonTable,
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
        f = tabulated(table, q, x[q] + nugget[q] * y[q] + t, nugget[q], rule)
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


@compiled
def _table_constant(y: FloatArray, x: FloatArray, nugget: FloatArray) -> float:
    """Give the logarithm of what stands before the integral."""
    total = -math.lgamma(y.sum())
    for q in range(x.size):
        total += y[q] * (x[q] + 0.5 * nugget[q] * y[q])
    return total


@compiled
def _ends(
    table: PoissonTable,
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
    m, one = y.sum(), y.size > x.size
    load = 0.0 if one else -math.inf  # the log of what bounds E' exp(-t)
    total = math.exp(centre) if one else 0.0
    slope, bend = total, total
    for q in range(x.size):
        v = x[q] + nugget[q] * y[q]
        far = v + 0.5 * nugget[q]
        load = max(load, far) + math.log1p(math.exp(-abs(far - load)))
        f = tabulated(table, q, v + centre, nugget[q], rule)
        total, slope, bend = total - f[0], slope - f[1], bend - f[2]
    height = m * centre - total
    # w E' / (m^2 h) at the left end, where w <= exp(m t - height)
    low = (math.log(TAIL * m * m * h) - load + height) / (m + 1.0)
    low = min(low, math.log(0.5 * m) - load)
    rise = max(m - slope, 0.0) / bend  # to the mode, at most
    normal = rise + math.sqrt(rise * rise + 2.0 * DROP / bend)
    if not one:
        return low, centre + normal, height
    lift = (DROP + max(m - slope, 0.0) * normal) * math.exp(-centre)
    wall = math.log(lift + 2.0 + math.log1p(lift))
    return low, centre + min(normal, wall), height


@compiled
def _tabled_star(
    table: PoissonTable,
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
    low, high, height = _ends(table, y, x, nugget, rule, centre, h)
    first = math.floor(low * scale)
    size = int(math.floor(high * scale) - first) + 1
    if size > NODES // r:
        return 0.0, 0
    w = weight[: r * size]
    one = y.size > x.size
    _start(first * table.step, h, r, m, height, one, parts[0, 0, : w.size], w)
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
    return _table_constant(y, x, nugget) + height + math.log(total * h), w.size


@compiled
def _start(
    low: float,
    h: float,
    r: int,
    m: float,
    height: float,
    one: bool,
    work: FloatArray,
    w: FloatArray,
) -> None:
    """Fill ``w`` with m t - exp t - height, the groups of nodes one after the other.

    Without a reference (``one``) there is no exp t.
    """
    size = w.size // r
    for i in range(r):
        group, at = w[i * size : (i + 1) * size], low + i * h
        for k in range(size):
            group[k] = at + k * (r * h)
    if one:
        work[:] = w
        exp_in_place(work)
    else:
        work[:] = 0.0
    for k in range(w.size):
        w[k] = m * w[k] - work[k] - height


@compiled_sums
def _sum(a: FloatArray) -> float:
    """Sum."""
    total = 0.0
    for k in range(a.size):
        total += a[k]
    return total
