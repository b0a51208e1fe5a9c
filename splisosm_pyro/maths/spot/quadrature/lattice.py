"""One spot's integral over a Gaussian of any covariance: a lattice about the mode.

    g(x) = log int exp(l(x + e)) N(e; 0, C) de

with ``l`` the multinomial log-likelihood. The lattice lies in coordinates z that are whitened at
the mode, ``eta = eta_hat + B z``, and is marched outwards dimension by dimension until the
log-concave integrand has dropped by ``drop`` nats; its steps are those of ``line.even_step``.
As on the line the nodes move with x at the rate of the mode, ``d eta / dx = c = (I + C W)^-1``;
with ``W`` the multinomial information at the mode and ``K = W c``

    phi_a = (c' l')_a + (K e)_a,     g_a = E~[phi_a],
    -g_ab = K_ab + (c' (E~[W] - W) c)_ab - Cov~(phi_a, phi_b),

which keeps its digits for every C, singular ones included, and every total.
"""

import math
from typing import NamedTuple

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import Rule, even_step, stiffness

NEWTON_STEPS, HALVINGS = 100, 40
LONGEST, HIGHEST = 600.0, 1e280  # exponents that are taken, their exponentials
NEAR = 0.5  # logits within which exp(d) - 1 goes by a recurrence of its own, to keep its digits
MANY = 12.0  # whole totals up to here take powers, as long as no exponent comes near overflow


class Lattice(NamedTuple):
    """One spot's mode and the lattice about it; names as in the module's text."""

    p: FloatArray  # (Q,) ratios at the mode
    total: float
    few: bool
    move: FloatArray  # (Q, Q) B
    tilt: FloatArray  # (Q,) slope of the log integrand's Gaussian part in z
    square: FloatArray  # (Q, Q) its curvature
    step: FloatArray  # (Q,) in z
    rate: FloatArray  # (Q, Q) m c'
    gain: FloatArray  # (Q, Q) K
    drop: float


@compiled
def cholesky(matrix: FloatArray) -> FloatArray:
    """Lower Cholesky factor of a positive semi-definite matrix; a column without rest is zero."""
    n = matrix.shape[0]
    root = np.zeros((n, n))
    for j in range(n):
        rest = matrix[j, j]
        for k in range(j):
            rest -= root[j, k] * root[j, k]
        if rest > 1e-14 * matrix[j, j]:
            root[j, j] = math.sqrt(rest)
            for i in range(j + 1, n):
                rest = matrix[i, j]
                for k in range(j):
                    rest -= root[i, k] * root[j, k]
                root[i, j] = rest / root[j, j]
    return root


@compiled
def _product(a: FloatArray, b: FloatArray) -> FloatArray:
    """Multiply matrices that are too small for a library call."""
    n = a.shape[0]
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            for k in range(n):
                out[i, j] += a[i, k] * b[k, j]
    return out


@compiled
def _inverse_lower(lower: FloatArray) -> FloatArray:
    """Inverse of a lower triangle without a zero on its diagonal."""
    n = lower.shape[0]
    out = np.zeros((n, n))
    for j in range(n):
        out[j, j] = 1.0 / lower[j, j]
        for i in range(j + 1, n):
            for k in range(j, i):
                out[i, j] -= lower[i, k] * out[k, j]
            out[i, j] /= lower[i, i]
    return out


@compiled
def log_height(y: FloatArray, total: float, eta: FloatArray, p: FloatArray) -> float:
    """Give the log-likelihood of the spot without its coefficient; write its ratios (Q,)."""
    top = max(eta.max(), 0.0)
    norm, value = math.exp(-top), 0.0
    for a in range(eta.size):
        p[a] = math.exp(eta[a] - top)
        norm += p[a]
        value += y[a] * eta[a]
    for a in range(eta.size):
        p[a] /= norm
    return float(value - total * (top + math.log(norm)))


@compiled
def whitened(p: FloatArray, total: float, root: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give ``W`` and the inverse of the Cholesky factor of ``I + L' W L``."""
    n = p.size
    info = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            info[a, b] = -total * p[a] * p[b]
        info[a, a] = total * p[a] * (1.0 - p[a])
    inner = _product(root.T, _product(info, root))
    for a in range(n):
        inner[a, a] += 1.0
    return info, _inverse_lower(cholesky(inner))


@compiled
def mode_of(y: FloatArray, total: float, x: FloatArray, root: FloatArray) -> FloatArray:
    """Give the u that maximises ``l(x + L u) - |u|^2 / 2`` (damped Newton, concave)."""
    u, p = np.zeros(x.size), np.empty(x.size)
    value = log_height(y, total, x, p)
    for _ in range(NEWTON_STEPS):
        half = whitened(p, total, root)[1]
        slope = root.T @ (y[:-1] - total * p) - u
        white = half @ slope
        if white @ white < 1e-10:
            break
        move, rises = half.T @ white, False
        for _ in range(HALVINGS):
            new = log_height(y, total, x + root @ (u + move), p) - 0.5 * float(
                (u + move) @ (u + move)
            )
            rises = new > value
            if rises:
                break
            move = 0.5 * move
        if not rises:
            break
        u, value = u + move, new
    return u


@compiled
def integrate(
    y: FloatArray,
    x: FloatArray,
    cov: FloatArray,
    rule: Rule,
    most: int,
    score: FloatArray,
    neg_hessian: FloatArray,
) -> float:
    """Write one spot's g' and -g''; return g."""
    n, total = x.size, float(y.sum())
    root, p = cholesky(cov), np.empty(x.size)
    u = mode_of(y, total, x, root)
    e = root @ u
    peak = log_height(y, total, x + e, p) - 0.5 * float(u @ u)
    info, half = whitened(p, total, root)
    move = _product(root, half.T)  # d eta / dz
    through = _product(info, move)
    gain = info - _product(through, through.T)
    rate = np.eye(n) - _product(move, through.T)
    square = _product(half, half.T)
    step, widest = np.empty(n), 0.0
    stiff, reach = stiffness(total), math.sqrt(2.0 * rule[2])
    for q in range(n):
        width = max(move[:, q].max(), 0.0) - min(move[:, q].min(), 0.0)
        widest += width
        step[q] = max(even_step(rule, 1.0, 0.0, stiff * width * width), 2.0 * reach / most)
        peak += math.log(step[q] * half[q, q] / math.sqrt(2.0 * math.pi))
    few = total <= MANY and total == math.floor(total) and 3.0 * total * widest * reach < LONGEST
    tilt = move.T @ y[:-1] - half @ u
    spot = Lattice(p, total, few, move, tilt, square, step, total * rate.T, gain, rule[2])
    sums = np.zeros((3 + 2 * n, n))
    _march(n - 1, np.zeros(n), np.zeros(n), spot, sums)
    mass = sums[0, 0]
    mean, lean = sums[1] / mass, sums[2] / mass
    excess = np.empty((n, n))  # E~[W] - W
    for a in range(n):
        for b in range(a + 1):
            excess[a, b] = -total * sums[3 + n + a, b] / mass
            excess[b, a] = excess[a, b]
        excess[a, a] += total * lean[a]
    excess = _product(rate.T, _product(excess, rate))
    score[:] = rate.T @ (y[:-1] - total * p) + gain @ e + mean
    for a in range(n):
        for b in range(a + 1):
            noise = sums[3 + a, b] / mass - mean[a] * mean[b]
            curve = 0.5 * (gain[a, b] + gain[b, a] + excess[a, b] + excess[b, a]) - noise
            neg_hessian[a, b], neg_hessian[b, a] = curve, curve
    return peak + math.log(mass)


@compiled
def _march(level: int, z: FloatArray, start: FloatArray, spot: Lattice, sums: FloatArray) -> float:
    """Sum the slices of a dimension both ways from the best one of before; give their maximum.

    ``z`` (Q,) holds the place in the outer dimensions, ``start`` (Q,) the best node of each.
    """
    if level == 0:
        return _row(z, start, spot, sums)
    origin, top = start[level], -math.inf
    for side in range(2):
        before, i = -math.inf, origin - side
        while True:
            z[level] = i * spot.step[level]
            here = _march(level - 1, z, start, spot, sums)
            if here > top:
                top, start[level] = here, i
            if here < -spot.drop and here <= before:
                break
            before = here
            i += 1.0 - 2.0 * side
    return top


@compiled
def _row(z: FloatArray, start: FloatArray, spot: Lattice, sums: FloatArray) -> float:
    """Sum along the first dimension; exponentials go by recurrence where none can overflow."""
    n, floor = spot.p.size, math.exp(-spot.drop)
    d, rise, factor = np.empty(n), np.empty(n), np.empty((2, n))
    work, power = np.empty((2, n)), int(spot.total) if spot.few else 0
    origin, top = start[0], -1.0
    for side in range(2):
        sign = 1.0 - 2.0 * side
        i, size = origin - side, sign * spot.step[0]
        log, slope = _begin(i, size, z, spot, d, rise, factor)
        bend = spot.square[0, 0] * size * size
        normal, ratio = math.exp(min(log, LONGEST)), math.exp(min(slope, LONGEST))
        fade, before = math.exp(-bend), -1.0
        while True:
            load = 0.0
            for a in range(n):
                load += spot.p[a] * rise[a]
            w = _weight(normal, log, load, power, spot)
            if w > top:
                top, start[0] = w, i
            if w > floor:
                _add(w, d, rise, load, spot, work, sums)
            elif w <= before:
                break
            before = w
            i += sign
            normal, ratio = normal * ratio, ratio * fade
            log, slope = log + slope, slope - bend
            _advance(size, spot, d, rise, factor)
    return math.log(max(top, 1e-300))


@compiled
def _weight(normal: float, log: float, load: float, power: int, spot: Lattice) -> float:
    """Give a node's integrand, that of the mode being one; ``power`` is the total, or 0 for any."""
    if power == 0:
        return math.exp(log - spot.total * math.log1p(load))
    rest = 1.0 / (1.0 + load)
    for _ in range(power):
        normal *= rest
    return normal


@compiled
def _advance(
    size: float, spot: Lattice, d: FloatArray, rise: FloatArray, factor: FloatArray
) -> None:
    """Move a node on along its row: d, exp(d) - 1 and, in ``factor[1]``, exp(d)."""
    for a in range(d.size):
        d[a] += size * spot.move[a, 0]
        factor[1, a] = min(factor[1, a] * (1.0 + factor[0, a]), HIGHEST)
        if abs(d[a]) < NEAR:
            rise[a] += factor[0, a] * (1.0 + rise[a])
        else:
            rise[a] = factor[1, a] - 1.0


@compiled
def _begin(
    i: float,
    size: float,
    z: FloatArray,
    spot: Lattice,
    d: FloatArray,
    rise: FloatArray,
    factor: FloatArray,
) -> tuple[float, float]:
    """Set a row up at node i; give its Gaussian part there and its first difference along it."""
    n = spot.p.size
    z[0] = i * spot.step[0]
    log, lean = 0.0, spot.tilt[0]
    for a in range(n):
        lean -= spot.square[a, 0] * z[a]
        log += spot.tilt[a] * z[a] - 0.5 * spot.square[a, a] * z[a] * z[a]
        for q in range(a):
            log -= spot.square[a, q] * z[a] * z[q]
        d[a] = 0.0
        for q in range(n):
            d[a] += spot.move[a, q] * z[q]
        rise[a] = math.expm1(min(d[a], LONGEST))
        factor[0, a] = math.expm1(size * spot.move[a, 0])
        factor[1, a] = math.exp(min(d[a], LONGEST))
    return log, size * lean - 0.5 * spot.square[0, 0] * size * size


@compiled
def _add(
    w: float,
    d: FloatArray,
    rise: FloatArray,
    load: float,
    spot: Lattice,
    work: FloatArray,
    sums: FloatArray,
) -> None:
    """Add a node to the mass and to the sums of phi, pi, phi phi', pi pi', less their modes'."""
    n, rest = spot.p.size, 1.0 / (1.0 + load)
    phi, pi = work[0], work[1]
    for a in range(n):
        pi[a] = spot.p[a] * (rise[a] - load) * rest
    sums[0, 0] += w
    for a in range(n):
        value = 0.0
        for q in range(n):
            value += spot.gain[a, q] * d[q] - spot.rate[a, q] * pi[q]
        phi[a] = value
        sums[1, a] += w * value
        sums[2, a] += w * pi[a]
    for a in range(n):
        left, right = w * phi[a], w * (spot.p[a] + pi[a])
        for b in range(a + 1):
            sums[3 + a, b] += left * phi[b]
            sums[3 + n + a, b] += right * pi[b] + w * pi[a] * spot.p[b]
