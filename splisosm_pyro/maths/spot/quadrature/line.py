"""The nugget of one logit integrated out: trapezoidal sums on a line.

One spot, one logit: ``g(x) = log int exp(l(x + e)) N(e; 0, T) de`` with ``l`` the logarithm of a
binomial (``y eta - m log(1 + exp eta)``) or of a Poisson count (``y eta - exp eta``, the factor of
the Poisson star).

The rule. The integrand is analytic in a strip and decays like a Gaussian, so the trapezoidal rule
errs by its Fourier transform at ``2 pi / h``: ``exp(-2 pi^2 s^2 / h^2)`` for a posterior of sd s,
``exp(-2 pi d / h)`` for a wall that is analytic in a strip of half-width d (pi for one count, half
of that for many). The step obeys both. Where the posterior is much wider than its wall, the nodes
stay equidistant at the wall and thin out exponentially away from it, and they do not move with x:
30 to 60 nodes at any sigma. Nodes are marched from the mode until the integrand, log-concave, has
dropped by ``drop`` nats.

Derivatives. The nodes move with x at the rate of the mode, ``du/dx = c = 1 / (1 + T W)``. Then the
derivatives of the log integrand at a node, ``phi' = c l' + K e``, ``phi'' = c^2 l'' - K^2 T``,
``phi^(k) = c^k l^(k)``, with ``K = W c``, hardly vary over the nodes, and g's derivatives are their
joint cumulants without loss of digits for every T, T = 0 included, and every total.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled, inlined

Rule = tuple[float, float, float, int]  # step in sd, in strips, drop in nats, n (0: auto)
Line = tuple[float, float, float, float, float]  # value and four derivatives in x

BINOMIAL = 0
POISSON = 1
MOST = 1000  # nodes to a side of the centre; the rules below stay under 300
SMALLEST_NUGGET = 1e-200  # less counts as none: its reciprocal would overflow
LONGEST, NEAR = 300.0, 30.0  # exponents: the largest taken, the largest worth an expm1
HIGHEST_LOAD, HIGHEST_MEAN = 1e300, 1e60
POISSON_STIFFNESS = 6.0
AUTO: Rule = (0.86, 0.95, 34.0, 0)
WIDE = 2.5  # times the reach: where stretched nodes pay
LINEAR, SIDE, STRETCHED = 1.5, 0.5, 0.2  # the map of the stretched nodes and its step
HALVED: Rule = (0.43, 0.475, 40.0, 0)


def fixed_rule(nodes: int) -> Rule:
    """Give n nodes a dimension the step that balances aliasing and tails of a Gaussian."""
    return math.sqrt(4.0 * math.pi / nodes), 1e9, math.inf, nodes


@inlined
def stiffness(total: float) -> float:
    """Give what a wall adds to 1 / step^2: the strip of the softmax narrows as the total grows."""
    return min(1.5 + 0.7 * math.log(max(total, 1.0)), POISSON_STIFFNESS)


@inlined
def even_step(rule: Rule, spread: float, distance: float, stiff: float) -> float:
    """Give the step for a posterior of this spread whose wall is ``distance`` away.

    Fitted to the Fourier transforms of posteriors of all kinds, so that aliasing stays near 1e-10.
    """
    if rule[3] > 0:
        return rule[0] * spread
    seen = 4.5 + 1.3 * math.log(max(spread, 1.0))  # a wall is sharper for a wider posterior
    near = min(max((seen - distance / spread) / 2.5, 0.0), 1.0)
    scale = rule[1] * rule[1]
    return 1.0 / math.sqrt(1.0 / (rule[0] * rule[0] * spread * spread) + near * stiff / scale)


@inlined
def log1p_exp(u: float) -> float:
    """Give log(1 + exp u) without overflow."""
    return u + math.log1p(math.exp(-u)) if u > 0.0 else math.log1p(math.exp(u))


@inlined
def poisson_height(y: float, u: float) -> float:
    """Give y u - exp u less its maximum in u: differences over nodes keep their digits."""
    if y == 0.0:
        return -math.exp(u)
    lag = u - math.log(y)
    return y * (lag - math.expm1(lag))


@inlined
def omega(z: float) -> float:
    """Solve w + log w = z (Wright's omega function) to about 1e-9."""
    w = math.exp(z) if z < -1.0 else (z - math.log(z) if z > 2.0 else 0.6 + 0.45 * max(z, -1.0))
    if z < -30.0:
        return w
    for _ in range(3):
        lag = z - w - math.log(w)
        w *= 1.0 + lag / (1.0 + w)
        if w <= 0.0:
            w = 1e-3
    return w


@inlined
def binomial_mode(y: float, total: float, x: float, nugget: float) -> float:
    """Give the e that maximises l(x + e) - e^2 / 2T, near enough to centre the nodes on."""
    low, high = -nugget * (total - y), nugget * y
    guess = nugget * (y + 0.5) * (total - y + 0.5) / (total + 1.0)
    e = guess / (1.0 + guess) * (math.log((y + 0.5) / (total - y + 0.5)) - x)
    e = min(max(e, low), high)
    before = math.inf
    for _ in range(150):
        p = 1.0 / (1.0 + math.exp(-(x + e)))
        slope = 1.0 + nugget * total * p * (1.0 - p)
        miss = nugget * (y - total * p) - e
        if miss > 0.0:
            low = e
        else:
            high = e
        step = miss / slope
        done = step * step * slope < 1e-6 * nugget
        if not done and (abs(step) > 0.5 * before or not low < e + step < high):
            step = 0.5 * (low + high) - e  # Newton's steps could run in a circle
        before = abs(step)
        e += step
        if done:
            break
    return e


@inlined
def poisson_mode(y: float, x: float, nugget: float) -> float:
    """Give the e that maximises y (x + e) - exp(x + e) - e^2 / 2T."""
    w = omega(x + nugget * y + math.log(nugget))
    return math.log(w / nugget) - x if w > 1.0 else nugget * y - w


@inlined
def written_out_line(
    kind: int, y: float, total: float, x: float, nugget: float, rule: Rule
) -> Line:
    """Give g and its first four derivatives in x, without the coefficient; unused ones fall away.

    A Poisson line leaves out ``y log y - y`` too, see ``poisson_height``. A binomial is turned
    round where its mode has p > 1/2: only then does ``1 - p`` keep its digits at either end.
    """
    e, turn = 0.0, 1.0
    if nugget > SMALLEST_NUGGET:
        e = binomial_mode(y, total, x, nugget) if kind == BINOMIAL else poisson_mode(y, x, nugget)
    if kind == BINOMIAL and x + e > 0.0:
        y, x, e, turn = total - y, -x, -e, -1.0
    u = x + e
    p = math.exp(u)
    if kind == BINOMIAL:
        p /= 1.0 + p
        mean, info = total * p, total * p * (1.0 - p)
        peak = y * u - total * log1p_exp(u)
        stiff = stiffness(total)
        distance = max(-u - math.log(max(total, 1.0)), 0.0)
    else:
        mean, info = p, p
        peak = poisson_height(y, u)
        stiff = POISSON_STIFFNESS
        distance = max(-u, 0.0)
    slope = 1.0 / (1.0 + nugget * info)
    gain = info * slope
    score = slope * (y - mean) + gain * e
    if not nugget > SMALLEST_NUGGET:
        third = -info if kind == POISSON else -info * (1.0 - 2.0 * p)
        fourth = -info if kind == POISSON else -info * (1.0 - 6.0 * p * (1.0 - p))
        return peak, turn * score, -info, turn * third, fourth
    tilt, half = y - e / nugget, 0.5 / nugget
    spread = math.sqrt(nugget * slope)
    step = even_step(rule, spread, distance, stiff)
    if rule[3] == 0 and rule[0] * spread > WIDE * step:
        slope, gain, score = 0.0, 2.0 * half, e / nugget
        sums = _stretched(kind, total, p, u, spread, gain, tilt, rule)
    elif kind == BINOMIAL and rule[3] == 0 and total <= 8.0 and total == math.floor(total):
        sums = _even_few(total, p, step, slope, gain, tilt, half, rule)
    else:
        sums = _even(kind, total, p, step, slope, gain, tilt, half, rule)
    s0 = sums[0]
    m1, m2, m3, m4 = sums[1] / s0, sums[2] / s0, sums[3] / s0, sums[4] / s0
    value = peak - 0.5 * e * e / nugget + math.log(s0) - 0.5 * math.log(2.0 * math.pi * nugget)
    return (
        value,
        turn * (score + m1),
        -gain + m2 - m1 * m1,
        turn * (m3 - 3.0 * m1 * m2 + 2.0 * m1**3),
        m4 - 4.0 * m3 * m1 - 3.0 * m2 * m2 + 12.0 * m2 * m1 * m1 - 6.0 * m1**4,
    )


@compiled
def line(kind: int, y: float, total: float, x: float, nugget: float, rule: Rule) -> Line:
    """Give all of ``written_out_line``."""
    return written_out_line(kind, y, total, x, nugget, rule)


@inlined
def _add(w: float, d1: float, d2: float, d3: float, d4: float, sums: Line) -> Line:
    """Add one node: the derivatives of exp(phi) over exp(phi), orders 0 to 4."""
    b2 = d2 + d1 * d1
    return (
        sums[0] + w,
        sums[1] + w * d1,
        sums[2] + w * b2,
        sums[3] + w * (d3 + d1 * (3.0 * d2 + d1 * d1)),
        sums[4] + w * (d4 + 4.0 * d1 * d3 + 3.0 * b2 * b2 - 2.0 * d1**4),
    )


@inlined
def _node(
    kind: int,
    total: float,
    p: float,
    load: float,
    du: float,
    w: float,
    slope: float,
    gain: float,
    sums: Line,
) -> Line:
    """Add the node at distance du from the centre, where p exp(u) has risen by ``load``."""
    curve = slope * slope
    if kind == BINOMIAL:
        rest = 1.0 / (1.0 + load)
        here, other = (p + load) * rest, (1.0 - p) * rest
        change = total * load * other
        now = total * here * other
        info = total * p * (1.0 - p)
        d3 = -curve * slope * now * (1.0 - 2.0 * here)
        d4 = -curve * curve * now * (1.0 - 6.0 * here * other)
    else:
        change = load
        info, now = p, p + change
        d3, d4 = -curve * slope * now, -curve * curve * now
    d1 = gain * du - slope * change
    return _add(w, d1, curve * (info - now), d3, d4, sums)


@inlined
def _even(
    kind: int,
    total: float,
    p: float,
    h: float,
    slope: float,
    gain: float,
    tilt: float,
    half: float,
    rule: Rule,
) -> Line:
    """Sum over equidistant nodes; a recurrence in ``p (exp(du) - 1)`` keeps its digits."""
    shift = 0.5 * h if rule[3] > 0 and rule[3] % 2 == 0 else 0.0
    most = HIGHEST_LOAD if kind == BINOMIAL else HIGHEST_MEAN
    sums = (0.0, 0.0, 0.0, 0.0, 0.0)
    for side in range(2):
        count = MOST if rule[3] == 0 else (rule[3] + 1 - side) // 2
        step = h if side == 0 else -h
        du = shift if side == 0 else -h + shift
        load, factor = p * math.expm1(min(du, LONGEST)), math.expm1(min(step, LONGEST))
        for _ in range(count):
            loss = total * math.log1p(load) if kind == BINOMIAL else load
            psi = du * (tilt - half * du) - loss
            if psi < -rule[2]:
                break
            sums = _node(kind, total, p, load, du, h * math.exp(psi), slope, gain, sums)
            du += step
            load = min(load + factor * (p + load), most)
    return sums


@inlined
def _even_few(
    total: float,
    p: float,
    h: float,
    slope: float,
    gain: float,
    tilt: float,
    half: float,
    rule: Rule,
) -> Line:
    """Sum for a small whole total without one exp or log a node: powers and recurrences."""
    power, floor = int(total), math.exp(-rule[2])
    bend = math.exp(-2.0 * half * h * h)
    sums = (0.0, 0.0, 0.0, 0.0, 0.0)
    for side in range(2):
        step = h if side == 0 else -h
        factor = math.expm1(min(step, LONGEST))
        ratio = math.exp(step * (tilt - half * step))
        du, load, normal = 0.0, 0.0, 1.0
        if side == 1:
            du, load, normal = step, p * factor, ratio
            ratio *= bend
        for _ in range(MOST):
            rest = 1.0 / (1.0 + load)
            w = normal
            for _ in range(power):
                w *= rest
            if w < floor:
                break
            sums = _node(BINOMIAL, total, p, load, du, h * w, slope, gain, sums)
            du += step
            load = min(load + factor * (p + load), HIGHEST_LOAD)
            normal *= ratio
            ratio *= bend
    return sums


@inlined
def stretch(v: float, left: float, right: float) -> float:
    """Give the map of the stretched nodes: linear at 0, exponential to the sides."""
    return v * LINEAR - left * math.expm1(-v) + right * math.expm1(v)


@inlined
def unstretch(u: float, left: float, right: float) -> float:
    """Invert ``stretch`` roughly: only where the march starts depends on it."""
    v = math.log1p(u) if u > 0.0 else -math.log1p(-u)
    for _ in range(3):
        slope = LINEAR + left * math.exp(-v) + right * math.exp(v)
        v -= (stretch(v, left, right) - u) / slope
    return v


@inlined
def _stretched(
    kind: int,
    total: float,
    p: float,
    u: float,
    sd: float,
    gain: float,
    tilt: float,
    rule: Rule,
) -> Line:
    """Sum over nodes, fixed as x moves, that thin out away from the wall of a wide posterior."""
    wall, right = 0.0, 0.0
    if kind == BINOMIAL:
        wall = -math.log(max(total, 1.0))
        right = SIDE if total < 3.0 else 0.0
    v0 = unstretch(u - wall, SIDE, right)
    away = stretch(v0, SIDE, right)
    h = min(STRETCHED * rule[1], rule[0] * sd / (LINEAR + SIDE + abs(away) + 4.0 * sd))
    sums = (0.0, 0.0, 0.0, 0.0, 0.0)
    for side in range(2):
        v, step = (v0, h) if side == 0 else (v0 - h, -h)
        fall, climb = SIDE * math.exp(-v), right * math.exp(v)
        factor = math.exp(step)
        for _ in range(MOST):
            du = LINEAR * v + SIDE - right - fall + climb - away
            if du < NEAR:
                load = p * math.expm1(du)
            else:
                load = math.exp(min(u + du, LONGEST)) * (1.0 if kind == POISSON else 1.0 - p)
            loss = load
            if kind == BINOMIAL:
                loss = total * (math.log1p(load) if u + du < LONGEST else u + du)
            psi = du * (tilt - 0.5 * gain * du) - loss
            if psi < -rule[2]:
                break
            w = h * (LINEAR + fall + climb) * math.exp(psi)
            sums = _node(kind, total, p, load, du, w, 0.0, gain, sums)
            v += step
            fall /= factor
            climb *= factor
    return sums


@compiled
def line_pass(
    counts: FloatArray,  # (n, 2)
    x: FloatArray,  # (n, 1)
    nugget: float,
    rule: Rule,
) -> FloatArray:  # (n, 5)
    """Give g and four derivatives at every spot, two isoforms."""
    out = np.empty((counts.shape[0], 5))
    for s in range(counts.shape[0]):
        y, total = counts[s, 0], counts[s, 0] + counts[s, 1]
        out[s, 0], out[s, 1], out[s, 2], out[s, 3], out[s, 4] = line(
            BINOMIAL, y, total, x[s, 0], nugget, rule
        )
    return out
