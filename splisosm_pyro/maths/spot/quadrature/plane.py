"""Gaussian noise of two logits integrated out: a trapezoidal lattice in the plane.

One spot, three isoforms, noise of a regular covariance T, diagonal (the nugget) or not (with a
smooth part, ``gaussian.py``). In coordinates z, whitened at the spot's mode by a factor of ``(T^-1
+ W)^-1`` so that z_1 moves the first logit alone, the lattice obeys the steps of
``line.even_step``. Rows are marched from the mode, each from the best node of the row before,
until the log-concave integrand has dropped by ``drop`` nats, so that nothing outside its convex
support is visited. As on the line the nodes move with x at the rate of the mode, ``d eta / dx = C =
(I + T W)^-1``, with ``K = W C``:

    phi_a = sum_j C_ja l_j + (K e)_a,    phi_ab = sum C_ia C_jb l_ij - (K T K)_ab,    phi_abc = ...

and g's derivatives are joint cumulants (``cumulants.py``).
"""

import math
from typing import NamedTuple

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.line import MOST, Rule, even_step, stiffness

Cov = tuple[float, float, float]  # T_00, T_01, T_11

MANY = 12.0  # totals up to here, if whole, take powers, as long as none comes near overflow
LONGEST = 600.0  # exponents of a row
NEAR = 0.5  # logits within which exp(d) - 1 goes by a recurrence of its own, to keep its digits


class Plane(NamedTuple):
    """One spot's mode and the lattice about it (floats; names as in the module's text)."""

    m: float
    few: bool
    p0: float  # ratios at the mode
    p1: float
    c00: float  # C
    c01: float
    c10: float
    c11: float
    k00: float  # K
    k01: float
    k11: float
    b00: float  # logits per unit of z: d eta_0 = b00 z_1 + b01 z_2, d eta_1 = b11 z_2
    b01: float
    b11: float
    tilt0: float  # y - T^-1 e
    tilt1: float
    half0: float  # T^-1 / 2
    half01: float
    half1: float
    h0: float  # steps in z
    h1: float
    up: float  # exp(b00 h0) - 1, exp(-b00 h0) - 1, and the bend of the normal density over a step
    down: float
    bend: float
    score0: float  # derivatives in x of the log integrand at the mode
    score1: float
    peak: float  # log of mode value times the volume of a cell over (2 pi)


@compiled
def plane_mode(y: FloatArray, x: FloatArray, cov: Cov) -> tuple[float, float]:
    """Give the e that maximises l(x + e) - e' T^-1 e / 2 (damped Newton, concave)."""
    y0, y1, m = y[0], y[1], y[0] + y[1] + y[2]
    i00, i01, i11, det_inverse = _inverse(cov)
    g0 = cov[0] * (y0 + 0.3) * (m - y0 + 0.3) / (m + 0.6)
    g1 = cov[2] * (y1 + 0.3) * (m - y1 + 0.3) / (m + 0.6)
    e0 = g0 / (1.0 + g0) * (math.log((y0 + 0.3) / (y[2] + 0.3)) - x[0])
    e1 = g1 / (1.0 + g1) * (math.log((y1 + 0.3) / (y[2] + 0.3)) - x[1])
    quad = e0 * (i00 * e0 + 2.0 * i01 * e1) + i11 * e1 * e1
    value, p0, p1, p2 = _height(y0, y1, m, x[0] + e0, x[1] + e1)
    value -= 0.5 * quad
    for _ in range(200):
        w00, w01, w11 = m * p0 * (1.0 - p0), -m * p0 * p1, m * p1 * (1.0 - p1)
        r0, r1 = y0 - m * p0 - i00 * e0 - i01 * e1, y1 - m * p1 - i01 * e0 - i11 * e1
        h00, h01, h11 = w00 + i00, w01 + i01, w11 + i11
        det = m * m * p0 * p1 * p2 + w00 * i11 + w11 * i00 - 2.0 * w01 * i01 + det_inverse
        s0, s1 = (h11 * r0 - h01 * r1) / det, (h00 * r1 - h01 * r0) / det
        decrement = s0 * r0 + s1 * r1
        if decrement < 1e-6:
            break
        for _ in range(60):
            a0, a1 = e0 + s0, e1 + s1
            new, r0, r1, r2 = _height(y0, y1, m, x[0] + a0, x[1] + a1)
            new -= 0.5 * (a0 * (i00 * a0 + 2.0 * i01 * a1) + i11 * a1 * a1)
            if new > value:
                break
            s0, s1 = 0.5 * s0, 0.5 * s1
        if not new > value:
            break
        e0, e1, value, p0, p1, p2 = a0, a1, new, r0, r1, r2
    return e0, e1


@compiled
def _inverse(cov: Cov) -> tuple[float, float, float, float]:
    """Give T^-1 and its determinant."""
    det = cov[0] * cov[2] - cov[1] * cov[1]
    return cov[2] / det, -cov[1] / det, cov[0] / det, 1.0 / det


@compiled
def _height(
    y0: float, y1: float, m: float, u0: float, u1: float
) -> tuple[float, float, float, float]:
    """Give the log-likelihood of the spot without its coefficient, and the isoform ratios."""
    top = max(u0, u1, 0.0)
    q0, q1, q2 = math.exp(u0 - top), math.exp(u1 - top), math.exp(-top)
    norm = q0 + q1 + q2
    value = y0 * u0 + y1 * u1 - m * (top + math.log(norm))
    return value, q0 / norm, q1 / norm, q2 / norm


@compiled
def plane(y: FloatArray, x: FloatArray, cov: Cov, rule: Rule, e: tuple[float, float]) -> Plane:
    """Lay out the lattice of one spot about its mode x + e."""
    m, t00, t01, t11 = y[0] + y[1] + y[2], cov[0], cov[1], cov[2]
    peak, p0, p1, p2 = _height(y[0], y[1], m, x[0] + e[0], x[1] + e[1])
    w00, w01, w11 = m * p0 * (1.0 - p0), -m * p0 * p1, m * p1 * (1.0 - p1)
    i00, i01, i11, det_inverse = _inverse(cov)
    volume, det_cov = m * m * p0 * p1 * p2, 1.0 / det_inverse
    det = 1.0 + t00 * w00 + 2.0 * t01 * w01 + t11 * w11 + det_cov * volume
    c00, c01 = (1.0 + t01 * w01 + t11 * w11) / det, -(t00 * w01 + t01 * w11) / det
    c10, c11 = -(t01 * w00 + t11 * w01) / det, (1.0 + t00 * w00 + t01 * w01) / det
    k00, k01 = (w00 + t11 * volume) / det, (w01 - t01 * volume) / det
    k11 = (w11 + t00 * volume) / det
    b11 = math.sqrt((t11 + det_cov * w00) / det)
    b00, b01 = math.sqrt(det_cov / det) / b11, (t01 - det_cov * w01) / (det * b11)
    stiff = stiffness(m)
    h0 = even_step(rule, 1.0, 0.0, stiff * b00 * b00)
    reach = max(b01, b11, 0.0) - min(b01, b11, 0.0)
    h1 = even_step(rule, 1.0, 0.0, stiff * reach * reach)
    r0, r1 = y[0] - m * p0, y[1] - m * p1
    lean0, lean1 = i00 * e[0] + i01 * e[1], i01 * e[0] + i11 * e[1]
    peak -= 0.5 * (e[0] * lean0 + e[1] * lean1)
    peak += math.log(h0 * h1 / (2.0 * math.pi * math.sqrt(det)))
    few = m <= MANY and m == math.floor(m)
    few = few and 3.0 * m * (b00 + reach) * math.sqrt(2.0 * rule[2]) < LONGEST
    return Plane(
        m,
        few,
        p0,
        p1,
        c00,
        c01,
        c10,
        c11,
        k00,
        k01,
        k11,
        b00,
        b01,
        b11,
        y[0] - lean0,
        y[1] - lean1,
        0.5 * i00,
        0.5 * i01,
        0.5 * i11,
        h0,
        h1,
        math.expm1(b00 * h0),
        math.expm1(-b00 * h0),
        math.exp(-i00 * (b00 * h0) ** 2),
        c00 * r0 + c10 * r1 + k00 * e[0] + k01 * e[1],
        c01 * r0 + c11 * r1 + k01 * e[0] + k11 * e[1],
        peak,
    )


@compiled
def plane_sums(at: Plane, rule: Rule, sums: FloatArray) -> None:
    """Sum over the lattice into ``sums``, as ``_add2`` (11,) or ``_add4`` (20,) fill it."""
    sums[:] = 0.0
    n = rule[3]
    shift = 0.5 if n > 0 and n % 2 == 0 else 0.0
    first = 0 * sums.size  # not a literal, for which ``_row`` would be compiled once more
    for side in range(2):
        best, before = first, math.inf
        for k in range(_nodes_to(side, n)):
            z = ((k if side == 0 else -(k + 1)) + shift) * at.h1
            best, top = _row(at, z, best if n == 0 else 0, shift, rule, sums)
            if side == 0 and k == 0:
                first = best
            if top < math.exp(-rule[2]) and top <= before:
                break
            before = top


@compiled
def _nodes_to(side: int, n: int) -> int:
    """Give how many of n nodes lie to a side, or how many there may be at most."""
    return MOST if n == 0 else (n + 1 - side) // 2


@compiled
def _row(
    at: Plane, z: float, start: int, shift: float, rule: Rule, sums: FloatArray
) -> tuple[int, float]:
    """Sum the row at z_2 = z both ways from node ``start``; give its best node and integrand.

    Along the row exp eta_0 and the normal density go by recurrence, and a small whole total takes
    powers instead of a logarithm: then a node costs no transcendental function.
    """
    n, floor, plain = rule[3], math.exp(-rule[2]), sums.size == 11
    du1 = at.b11 * z
    rise1 = math.expm1(du1)
    fixed = du1 * (at.tilt1 - at.half1 * du1)
    tilt = at.tilt0 - 2.0 * at.half01 * du1
    step, factor = at.b00 * at.h0, at.up
    du0 = at.b01 * z + (start + shift) * step
    rise0, normal, ratio, power = math.expm1(du0), 1.0, 1.0, 0
    if at.few:
        power = int(at.m)
        normal = math.exp(fixed + du0 * (tilt - at.half0 * du0))
        ratio = math.exp(step * (tilt - at.half0 * (2.0 * du0 + step)))
    first = du0, rise0, normal, at.bend / ratio
    best, top, before, i = start, -1.0, -1.0, start
    for side in range(2):
        if side == 1:  # the other way, from one step off the start
            i, step, factor = start - 1, -step, at.down
            du0, rise0, ratio = first[0] + step, first[1] + factor * (1.0 + first[1]), first[3]
            normal, ratio, before = first[2] * ratio, ratio * at.bend, top
        grown, growth = 1.0 + rise0, 1.0 + factor
        for k in range(_nodes_to(side, n)):
            load = at.p0 * rise0 + at.p1 * rise1
            rest = 1.0 / (1.0 + load)
            if at.few:
                w = _few_weight(normal, rest, power)
            else:
                psi = fixed + du0 * (tilt - at.half0 * du0)
                w = math.exp(psi - at.m * math.log1p(load))
            if w > top:
                best, top = i, w
            if w >= floor:
                a0, a1 = at.p0 * (rise0 - load) * rest, at.p1 * (rise1 - load) * rest
                if plain:
                    _add2(at, w, du0, du1, a0, a1, sums)
                else:
                    _add4(at, w, du0, du1, a0, a1, sums)
            elif w <= before and (side == 1 or k > 0):
                break
            before = w
            i += 1 - 2 * side
            du0 += step
            grown *= growth
            rise0 = rise0 + factor * (1.0 + rise0) if abs(du0) < NEAR else grown - 1.0
            normal *= ratio
            ratio *= at.bend
    return best, top


@compiled
def _few_weight(normal: float, rest: float, power: int) -> float:
    """Give normal times rest^power, for few."""
    for _ in range(power):
        normal *= rest
    return normal


@compiled
def _add2(
    at: Plane, w: float, du0: float, du1: float, a0: float, a1: float, sums: FloatArray
) -> None:
    """Add a node: 1, d (2), d d' (3), the ratios' change a (2) and a a' (3)."""
    d0 = at.k00 * du0 + at.k01 * du1 - at.m * (at.c00 * a0 + at.c10 * a1)
    d1 = at.k01 * du0 + at.k11 * du1 - at.m * (at.c01 * a0 + at.c11 * a1)
    sums[0] += w
    sums[1] += w * d0
    sums[2] += w * d1
    sums[3] += w * d0 * d0
    sums[4] += w * d0 * d1
    sums[5] += w * d1 * d1
    sums[6] += w * a0
    sums[7] += w * a1
    sums[8] += w * a0 * a0
    sums[9] += w * a0 * a1
    sums[10] += w * a1 * a1


@compiled
def _turn2(at: Plane, l00: float, l01: float, l11: float) -> tuple[float, float, float]:
    """Give C' l C for a symmetric l."""
    u0, u1 = at.c00 * l00 + at.c10 * l01, at.c00 * l01 + at.c10 * l11
    v0, v1 = at.c01 * l00 + at.c11 * l01, at.c01 * l01 + at.c11 * l11
    return at.c00 * u0 + at.c10 * u1, at.c01 * u0 + at.c11 * u1, at.c01 * v0 + at.c11 * v1


@compiled
def _turn3(
    at: Plane, l000: float, l001: float, l011: float, l111: float
) -> tuple[float, float, float, float]:
    """Give a symmetric third-order l with C on every index."""
    p0, p1, p2 = _turn2(at, l000, l001, l011)
    q0, q1, q2 = _turn2(at, l001, l011, l111)
    return (
        at.c00 * p0 + at.c10 * q0,
        at.c00 * p1 + at.c10 * q1,
        at.c00 * p2 + at.c10 * q2,
        at.c01 * p2 + at.c11 * q2,
    )


@compiled
def _add4(
    at: Plane, w: float, du0: float, du1: float, a0: float, a1: float, sums: FloatArray
) -> None:
    """Add a node: B to order 4 (15 entries) less phi's fourth, and l's fourth unturned (5)."""
    m, p0, p1 = at.m, at.p0, at.p1
    d0 = at.k00 * du0 + at.k01 * du1 - m * (at.c00 * a0 + at.c10 * a1)
    d1 = at.k01 * du0 + at.k11 * du1 - m * (at.c01 * a0 + at.c11 * a1)
    # the Hessian of l less that at the mode, no digits lost where the ratios hardly change
    d00, d01, d11 = _turn2(
        at,
        -m * a0 * (1.0 - 2.0 * p0 - a0),
        m * (a0 * a1 + p0 * a1 + p1 * a0),
        -m * a1 * (1.0 - 2.0 * p1 - a1),
    )
    p0, p1 = p0 + a0, p1 + a1
    q0, q1, q01 = p0 * (1.0 - p0), p1 * (1.0 - p1), p0 * p1
    skew0, skew1 = 1.0 - 2.0 * p0, 1.0 - 2.0 * p1
    t0, t1, t2, t3 = _turn3(at, -m * q0 * skew0, m * q01 * skew0, m * q01 * skew1, -m * q1 * skew1)
    e00, e01, e11 = d0 * d0, d0 * d1, d1 * d1
    sums[0] += w
    sums[1] += w * d0
    sums[2] += w * d1
    sums[3] += w * (d00 + e00)
    sums[4] += w * (d01 + e01)
    sums[5] += w * (d11 + e11)
    sums[6] += w * (t0 + d0 * (3.0 * d00 + e00))
    sums[7] += w * (t1 + 2.0 * d01 * d0 + d1 * (d00 + e00))
    sums[8] += w * (t2 + 2.0 * d01 * d1 + d0 * (d11 + e11))
    sums[9] += w * (t3 + d1 * (3.0 * d11 + e11))
    sums[10] += w * (4.0 * t0 * d0 + 3.0 * d00 * d00 + e00 * (6.0 * d00 + e00))
    sums[11] += w * (t0 * d1 + 3.0 * (t1 * d0 + d00 * d01 + d00 * e01 + d01 * e00) + e00 * e01)
    sums[12] += w * (
        2.0 * (t1 * d1 + t2 * d0 + d01 * d01)
        + d00 * d11
        + d00 * e11
        + 4.0 * d01 * e01
        + d11 * e00
        + e00 * e11
    )
    sums[13] += w * (t3 * d0 + 3.0 * (t2 * d1 + d11 * d01 + d11 * e01 + d01 * e11) + e11 * e01)
    sums[14] += w * (4.0 * t3 * d1 + 3.0 * d11 * d11 + e11 * (6.0 * d11 + e11))
    w *= -m
    sums[15] += w * q0 * (1.0 - 6.0 * q0)
    sums[16] -= w * q01 * (1.0 - 6.0 * q0)
    sums[17] -= w * q01 * (skew0 + skew1 - 1.0 + 6.0 * q01)
    sums[18] -= w * q01 * (1.0 - 6.0 * q1)
    sums[19] += w * q1 * (1.0 - 6.0 * q1)


@compiled
def plane_value(at: Plane, sums: FloatArray, score: FloatArray, neg_hessian: FloatArray) -> float:
    """Give g from the sums of ``_add2``; write g' and -g''."""
    s = sums / sums[0]
    turned = _turn2(
        at,
        -at.m * ((1.0 - 2.0 * at.p0) * s[6] - s[8]),
        at.m * (s[9] + at.p0 * s[7] + at.p1 * s[6]),
        -at.m * ((1.0 - 2.0 * at.p1) * s[7] - s[10]),
    )
    score[0], score[1] = at.score0 + s[1], at.score1 + s[2]
    neg_hessian[0, 0] = at.k00 - turned[0] - (s[3] - s[1] * s[1])
    neg_hessian[0, 1] = at.k01 - turned[1] - (s[4] - s[1] * s[2])
    neg_hessian[1, 0] = neg_hessian[0, 1]
    neg_hessian[1, 1] = at.k11 - turned[2] - (s[5] - s[2] * s[2])
    return at.peak + math.log(sums[0])


@compiled
def plane_moments(at: Plane, sums: FloatArray, weight: FloatArray, packed: FloatArray) -> None:
    """Pack the sums of ``_add4`` as ``cumulants.derive`` reads them (7, 2)."""
    s = sums / sums[0]
    t = _turn3(at, s[15], s[16], s[17], s[18])
    u = _turn3(at, s[16], s[17], s[18], s[19])
    f0 = s[10] + at.c00 * t[0] + at.c10 * u[0]
    f1 = s[11] + at.c01 * t[0] + at.c11 * u[0]
    f2 = s[12] + at.c01 * t[1] + at.c11 * u[1]
    f3 = s[13] + at.c01 * t[2] + at.c11 * u[2]
    f4 = s[14] + at.c01 * t[3] + at.c11 * u[3]
    m00, m01, m11 = weight[0, 0], 2.0 * weight[0, 1], weight[1, 1]
    packed[0, 0], packed[0, 1] = s[1], s[2]
    packed[1, 0], packed[1, 1] = s[3], s[4]
    packed[2, 0], packed[2, 1] = s[4], s[5]
    packed[3, 0], packed[3, 1] = s[6], s[8]
    packed[4, 0], packed[4, 1] = s[7], s[9]
    packed[5, 0] = m00 * s[6] + m01 * s[7] + m11 * s[8]
    packed[5, 1] = m00 * s[7] + m01 * s[8] + m11 * s[9]
    packed[6, 0] = m00 * f0 + m01 * f1 + m11 * f2
    packed[6, 1] = m00 * f2 + m01 * f3 + m11 * f4
