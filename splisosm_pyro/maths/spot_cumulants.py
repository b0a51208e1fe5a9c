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

import numpy as np

from splisosm_pyro.maths.compiled import compiled
from splisosm_pyro.maths.spot_line import FloatArray


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
def add_diagonal(w: float, parts: FloatArray, weight: FloatArray, sums: FloatArray) -> None:
    """Add a node whose derivatives in x are diagonal: columns 1 to 4 of ``parts`` (Q, 5).

    The first two are centred; ``sums`` is what ``derive`` reads.
    """
    n_logits = parts.shape[0]
    square, trace = 0.0, 0.0
    for a in range(n_logits):
        trace += weight[a, a] * parts[a, 2]
        for b in range(n_logits):
            square += parts[a, 1] * weight[a, b] * parts[b, 1]
    for q in range(n_logits):
        d, d2, d3, d4 = parts[q, 1], parts[q, 2], parts[q, 3], parts[q, 4]
        heat, skew, lean = d2 + d * d, d3 + 2.0 * d2 * d, 0.0
        sums[0, q] += w * d
        for k in range(n_logits):
            lean += weight[q, k] * parts[k, 1]
            sums[1 + k, q] += w * parts[k, 1] * d
            sums[1 + n_logits + k, q] += w * parts[k, 1] * heat
        sums[1 + q, q] += w * d2
        sums[1 + n_logits + q, q] += w * skew
        third = weight[q, q] * d3 + 2.0 * d2 * lean + (trace + square) * d
        sums[2 * n_logits + 1, q] += w * third
        fourth = weight[q, q] * (d4 + 2.0 * d3 * d + 2.0 * d2 * d2)
        fourth += 2.0 * lean * skew + (trace + square) * heat
        sums[2 * n_logits + 2, q] += w * fourth


@compiled
def flat_sums(m: float, x: FloatArray, weight: FloatArray, sums: FloatArray) -> None:
    """No nugget: put the third and fourth derivatives of l at x where ``derive`` reads them.

    They are ``-m`` times the joint cumulants of a category's indicators.
    """
    n_logits = x.size
    top = max(x.max(), 0.0)
    p = np.exp(x - top)
    p /= p.sum() + np.exp(-top)
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
