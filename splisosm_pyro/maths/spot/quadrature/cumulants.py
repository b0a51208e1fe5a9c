"""From weighted derivatives over nodes to the derivatives of g: joint cumulants, contracted.

Let ``phi(x)`` be the log integrand at a node, less its value, gradient and Hessian at the centre of
the nodes, ``B_ab.. = exp(-phi) d^k exp(phi) / dx_a dx_b ..`` and ``m_ab..`` the mean of ``B`` under
the spot's posterior. Then with ``a, -A0`` the centre's gradient and Hessian

    g_a = a + m_a                    g_ab = -A0 + m_ab - m_a m_b
    g_abc = m_abc - [m_ab m_c](3) + 2 m_a m_b m_c
    g_abcd = m_abcd - [m_abc m_d](4) - [m_ab m_cd](3) + 2 [m_ab m_c m_d](6) - 6 m_a m_b m_c m_d

and the heat equation gives the derivatives in the nugget variances: ``dg/dT_q = (g_qq + g_q^2)/2``,
``dg_k/dT_q = g_kqq/2 + g_q g_kq``, ``dg_ab/dT_q = g_abqq/2 + g_aq g_bq + g_q g_abq``.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled, compiled_sums


@compiled
def derive(
    weight: FloatArray,  # (Q, Q): M, symmetric
    score: FloatArray,  # (Q,): g'
    neg_hessian: FloatArray,  # (Q, Q): -g''
    sums: FloatArray,  # (2 Q + 3, Q): rows m_a, m_ab (Q), m_kqq (Q), M_ab m_abk, M_ab m_abqq
    out: FloatArray,  # (3 + Q, Q): phi_x, phi_nugget, value_nugget, score_nugget
) -> None:
    """Write the third-order quantities of one spot."""
    n_logits = score.size
    m1, m2, m3 = sums[0], sums[1 : n_logits + 1], sums[n_logits + 1 : 2 * n_logits + 1]
    m3_weight, m4_weight = sums[2 * n_logits + 1], sums[2 * n_logits + 2]
    mean = weight @ m1
    square = m1 @ mean
    trace = (weight * m2).sum()
    for q in range(n_logits):
        cross = m2[q] @ mean
        third = m3_weight[q] - trace * m1[q] - 2.0 * cross + 2.0 * square * m1[q]
        fourth = m4_weight[q] - 2.0 * m3_weight[q] * m1[q] - trace * m2[q, q]
        fourth += 2.0 * (trace * m1[q] * m1[q] + m2[q, q] * square + 4.0 * m1[q] * cross)
        fourth -= 6.0 * square * m1[q] * m1[q]
        both = 0.0
        for a in range(n_logits):
            fourth -= 2.0 * m3[a, q] * mean[a]
            for b in range(n_logits):
                fourth -= 2.0 * m2[a, q] * weight[a, b] * m2[b, q]
                both += neg_hessian[a, q] * weight[a, b] * neg_hessian[b, q]
        out[0, q] = -0.5 * third
        out[1, q] = -0.5 * (0.5 * fourth + both + score[q] * third)
        out[2, q] = 0.5 * (score[q] * score[q] - neg_hessian[q, q])
        for k in range(n_logits):
            skew = m3[k, q] - 2.0 * m2[k, q] * m1[q] - m2[q, q] * m1[k]
            skew += 2.0 * m1[k] * m1[q] * m1[q]
            out[3 + k, q] = 0.5 * skew - score[q] * neg_hessian[k, q]


@compiled
def diagonal_moments(
    w: FloatArray,  # (k,): sum 1
    parts: FloatArray,  # (Q, 5, *), the first k nodes
    weight: FloatArray,  # (Q, Q): M
    sums: FloatArray,  # (2 Q + 3, Q): zero; out, what ``derive`` reads
) -> None:
    """Average over nodes whose derivatives in x are diagonal: orders 1 to 4 of ``parts``.

    The first two are centred about their means; the values in ``parts`` are overwritten.
    """
    n_logits, n = parts.shape[0], w.size
    lean, square = parts[0, 0, :n], parts[1, 0, :n]
    square[:] = 0.0
    for q in range(n_logits):
        d, d2 = parts[q, 1, :n], parts[q, 2, :n]
        _lean(weight[q], parts, lean)
        own = weight[q, q]
        for k in range(n):
            square[k] += own * d2[k] + d[k] * lean[k]
    for q in range(n_logits):
        d, d2 = parts[q, 1, :n], parts[q, 2, :n]
        _lean(weight[q], parts, lean)
        for a in range(n_logits):
            sums[1 + a, q] = covariance(w, parts[a, 1, :n], d)
            sums[1 + n_logits + a, q] = _heat(w, parts[a, 1, :n], d, d2)
        skew, third, fourth = _high(
            w, lean, square, d, d2, parts[q, 3, :n], parts[q, 4, :n], weight[q, q]
        )
        sums[1 + n_logits + q, q] += skew
        sums[2 * n_logits + 1, q], sums[2 * n_logits + 2, q] = third, fourth


@compiled
def _lean(row: FloatArray, parts: FloatArray, out: FloatArray) -> None:
    """Fill ``out`` (k,) with ``row`` d."""
    for k in range(out.size):
        out[k] = 0.0
    for a in range(row.size):
        d, factor = parts[a, 1, : out.size], row[a]
        for k in range(out.size):
            out[k] += factor * d[k]


@compiled_sums
def mean(w: FloatArray, a: FloatArray) -> float:
    """Average a, with weights of sum 1."""
    total = 0.0
    for k in range(w.size):
        total += w[k] * a[k]
    return total


@compiled_sums
def covariance(w: FloatArray, a: FloatArray, b: FloatArray) -> float:
    """Average a b."""
    total = 0.0
    for k in range(w.size):
        total += w[k] * a[k] * b[k]
    return total


@compiled_sums
def _heat(w: FloatArray, a: FloatArray, d: FloatArray, d2: FloatArray) -> float:
    """Average a (d2 + d^2)."""
    total = 0.0
    for k in range(w.size):
        total += w[k] * a[k] * (d2[k] + d[k] * d[k])
    return total


@compiled_sums
def _high(
    w: FloatArray,
    lean: FloatArray,  # (k,): row q of M d
    square: FloatArray,  # (k,): tr(M d2) + d' M d
    d: FloatArray,
    d2: FloatArray,
    d3: FloatArray,
    d4: FloatArray,
    own: float,  # M_qq
) -> tuple[float, float, float]:
    """Average B_qqq's diagonal part, M_ab B_abq and M_ab B_abqq."""
    skews, thirds, fourths = 0.0, 0.0, 0.0
    for k in range(w.size):
        skew = d3[k] + 2.0 * d2[k] * d[k]
        skews += w[k] * skew
        thirds += w[k] * (own * d3[k] + 2.0 * d2[k] * lean[k] + square[k] * d[k])
        fourth = own * (d4[k] + 2.0 * d3[k] * d[k] + 2.0 * d2[k] * d2[k])
        fourth += 2.0 * lean[k] * skew + square[k] * (d2[k] + d[k] * d[k])
        fourths += w[k] * fourth
    return skews, thirds, fourths


@compiled
def log_norm(x: FloatArray, one: bool) -> float:
    """Give log(1 + sum exp x), or without the one."""
    top, total = 0.0 if one else -math.inf, 0.0
    for q in range(x.size):
        top = max(top, x[q])
    for q in range(x.size):
        total += math.exp(x[q] - top)
    return top + math.log((math.exp(-top) if one else 0.0) + total)


@compiled
def flat_sums(m: float, x: FloatArray, one: bool, weight: FloatArray, sums: FloatArray) -> None:
    """No nugget: put the third and fourth derivatives of l at x where ``derive`` reads them.

    They are ``-m`` times the joint cumulants of a category's indicators; ``one`` as ``log_norm``.
    """
    n_logits = x.size
    p = np.exp(x - log_norm(x, one))
    lean = weight @ p
    square = p @ lean
    trace = 0.0
    for a in range(n_logits):
        trace += weight[a, a] * p[a]
    spread = trace - square  # tr(M cov)
    for q in range(n_logits):
        here = p[q] * (weight[q, q] - 2.0 * lean[q] + square)  # E[1_q (1 - p)' M (1 - p)]
        sums[2 * n_logits + 1, q] = -m * (here - p[q] * spread)
        raw = (1.0 - 2.0 * p[q]) * here + p[q] * p[q] * spread
        cross = p[q] * (weight[q, q] * p[q] - 2.0 * lean[q] * p[q] + p[q] * square)
        sums[2 * n_logits + 2, q] = -m * (raw - spread * p[q] * (1.0 - p[q]) - 2.0 * cross)
        for k in range(n_logits):
            third = -p[k] * p[q] * (1.0 - 2.0 * p[q])
            if k == q:
                third = p[q] * (1.0 - p[q]) * (1.0 - 2.0 * p[q])
            sums[n_logits + 1 + k, q] = -m * third
