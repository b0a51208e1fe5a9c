"""Three isoforms with the nugget at its mode: the formulas of ``laplace.py`` in scalars.

With ``W`` the information of two logits and ``T`` diagonal, ``V = |W| = m^2 p_1 p_2 p_3`` and
``d = |I + W T| = 1 + W_11 T_1 + W_22 T_2 + T_1 T_2 V``, a sum of positive terms,

    (I + W T)^-1 = [[1 + W_22 T_2, -W_12 T_2], [-W_12 T_1, 1 + W_11 T_1]] / d
    A = (I + W T)^-1 W = [[W_11 + T_2 V, W_12], [W_12, W_22 + T_1 V]] / d
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled

# A Newton step this small (its squared decrement) leaves an error of its square: rounding.
DECREMENT = 1e-14
# A step that moves no logit by more than this is taken whole, since W changes by a factor of
# exp(2 * 0.1) at most along it; the merit cannot tell where a step gains less than its rounding.
WHOLE_STEP = 0.1
MAX_NEWTON = 200
MAX_HALVINGS = 60


@compiled
def _odds(u: float, v: float) -> tuple[float, float, float, float]:
    """Give exp of u, v and 0 less the largest, and the largest."""
    if u <= 0.0 and v <= 0.0:
        return math.exp(u), math.exp(v), 1.0, 0.0
    if u >= v:
        return 1.0, math.exp(v - u), math.exp(-u), u
    return math.exp(u - v), 1.0, math.exp(-v), v


@compiled
def _height(y0: float, y1: float, m: float, u: float, v: float) -> float:
    """Give the log-likelihood without its coefficient."""
    q0, q1, q2, top = _odds(u, v)
    return y0 * u + y1 * v - m * (top + math.log(q0 + q1 + q2))


@compiled
def profile_trinomial(
    x: FloatArray, y: FloatArray, totals: FloatArray, nugget: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, float, float]:
    """Damped Newton in the two scores of every spot, from ``start`` (n, 2)."""
    n, t0, t1 = x.shape[0], nugget[0], nugget[1]
    score, pi, neg_hessian = np.empty((n, 2)), np.empty((n, 3)), np.empty((n, 2, 2))
    value, log_det = 0.0, 0.0
    for s in range(n):
        x0, x1, y0, y1, m = x[s, 0], x[s, 1], y[s, 0], y[s, 1], totals[s]
        a0, a1, last = start[s, 0], start[s, 1], False
        for _ in range(MAX_NEWTON):
            q0, q1, q2, top = _odds(x0 + t0 * a0, x1 + t1 * a1)
            norm = q0 + q1 + q2
            p0, p1, p2 = q0 / norm, q1 / norm, q2 / norm
            w00, w01, w11 = m * p0 * (p1 + p2), -m * p0 * p1, m * p1 * (p0 + p2)
            volume = (m * p0) * (m * p1) * p2
            det = 1.0 + w00 * t0 + w11 * t1 + (t0 * t1) * volume
            if last:
                break
            r0, r1 = y0 - m * p0 - a0, y1 - m * p1 - a1
            s0 = ((1.0 + w11 * t1) * r0 - w01 * t1 * r1) / det
            s1 = ((1.0 + w00 * t0) * r1 - w01 * t0 * r0) / det
            if max(t0 * abs(s0), t1 * abs(s1)) >= WHOLE_STEP:
                scale = _scale(x0, x1, y0, y1, m, t0, t1, a0, a1, s0, s1)
                a0, a1 = a0 + scale * s0, a1 + scale * s1
            else:
                a0, a1 = a0 + s0, a1 + s1
            last = s0 * t0 * r0 + s1 * t1 * r1 < DECREMENT
        score[s, 0], score[s, 1] = a0, a1
        pi[s, 0], pi[s, 1], pi[s, 2] = p0, p1, p2
        neg_hessian[s, 0, 0], neg_hessian[s, 1, 1] = (
            (w00 + t1 * volume) / det,
            (w11 + t0 * volume) / det,
        )
        neg_hessian[s, 0, 1] = neg_hessian[s, 1, 0] = w01 / det
        value += y0 * (x0 + t0 * a0) + y1 * (x1 + t1 * a1) - m * (top + math.log(norm))
        value -= 0.5 * (t0 * a0 * a0 + t1 * a1 * a1)
        log_det += math.log(det)
    return score, pi, neg_hessian, value, -0.5 * log_det


@compiled
def _scale(
    x0: float,
    x1: float,
    y0: float,
    y1: float,
    m: float,
    t0: float,
    t1: float,
    a0: float,
    a1: float,
    s0: float,
    s1: float,
) -> float:
    """Halve the step until what the mode maximises does not fall."""
    before = _height(y0, y1, m, x0 + t0 * a0, x1 + t1 * a1) - 0.5 * (t0 * a0 * a0 + t1 * a1 * a1)
    scale = 1.0
    for _ in range(MAX_HALVINGS):
        b0, b1 = a0 + scale * s0, a1 + scale * s1
        after = _height(y0, y1, m, x0 + t0 * b0, x1 + t1 * b1)
        if after - 0.5 * (t0 * b0 * b0 + t1 * b1 * b1) >= before:
            break
        scale *= 0.5
    return scale
