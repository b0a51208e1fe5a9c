"""The loops over spots of ``nugget_quadrature``: which rule a spot takes, and its results.

Where the table of the star reaches it serves; else two logits with moderate nuggets take the plane,
and the rest a star of lines; without any nugget ``g`` is the log-likelihood itself.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.cumulants import (
    covariance,
    derive,
    diagonal_moments,
    flat_sums,
    mean,
)
from splisosm_pyro.maths.spot.quadrature.line import Rule
from splisosm_pyro.maths.spot.quadrature.plane import (
    plane,
    plane_mode,
    plane_moments,
    plane_sums,
    plane_value,
)
from splisosm_pyro.maths.spot.quadrature.poisson_star import log_norm, star
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import reaches
from splisosm_pyro.maths.spot.quadrature.shifted_table import NODES, Shifted

# In a plane of smaller cells a lattice is dearer than a star without a table (measured).
SMALLEST_CELL = 0.12


@compiled
def _flat(y: FloatArray, x: FloatArray, score: FloatArray, neg_hessian: FloatArray) -> float:
    """No nugget: the multinomial log-likelihood itself; write its score and information."""
    m, norm = y.sum(), log_norm(x)
    value = -m * norm
    for a in range(x.size):
        value += y[a] * x[a]
        p = math.exp(x[a] - norm)
        score[a] = y[a] - m * p
        for b in range(x.size):
            neg_hessian[a, b] = -m * p * math.exp(x[b] - norm)
        neg_hessian[a, a] += m * p
    return float(value)


@compiled
def _lift(matrix: FloatArray, total: float) -> None:
    """Lift the diagonal by as much as makes all pivots positive: rounding size, mostly nothing.

    ``-g''`` is a difference of two moments, each up to the spot's total.
    """
    size, lift = matrix.shape[0], 0.0
    pivots = np.empty((size, size))
    for _ in range(40):
        good = True
        for j in range(size):
            for i in range(j, size):
                rest = matrix[i, j] + (lift if i == j else 0.0)
                for k in range(j):
                    rest -= pivots[i, k] * pivots[j, k] * pivots[k, k]
                pivots[i, j] = rest if i == j else rest / pivots[j, j]
            good = pivots[j, j] > 0.0
            if not good:
                break
        if good:
            break
        lift = max(1e-15 * total, 3.0 * lift)
    for j in range(size):
        matrix[j, j] += lift


@compiled
def evaluate_spots(
    counts: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    plane_rule: Rule,
    table: Shifted,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Give g, g', -g'' of every spot, and where its plane is centred (NaN: it is not a plane)."""
    n, n_logits = x.shape
    value, score = np.empty(n), np.empty((n, n_logits))
    neg_hessian, e = np.zeros((n, n_logits, n_logits)), np.full((n, 2), np.nan)
    parts, weight = np.empty((n_logits, 3, NODES)), np.empty(NODES)
    sums = np.empty(11)
    for s in range(n):
        if nugget.max() == 0.0:
            value[s] = _flat(counts[s], x[s], score[s], neg_hessian[s])
            _lift(neg_hessian[s], counts[s].sum())
            continue
        looked_up = rule[3] == 0 and reaches(table, counts[s], x[s], nugget, s)
        if n_logits == 2 and nugget.min() > 0.0 and not looked_up:
            e0, e1 = plane_mode(counts[s], x[s], (nugget[0], 0.0, nugget[1]))
            at = plane(counts[s], x[s], (nugget[0], 0.0, nugget[1]), plane_rule, (e0, e1))
            cell = at.h0 * at.h1
            if rule[3] > 0 or cell > SMALLEST_CELL:
                e[s, 0], e[s, 1] = e0, e1
                plane_sums(at, plane_rule, sums)
                value[s] = plane_value(at, sums, score[s], neg_hessian[s])
                _lift(neg_hessian[s], counts[s].sum())
                continue
        value[s], nodes = star(counts[s], x[s], nugget, rule, table, s, parts, weight)
        _star_score(parts, weight, nodes, score[s], neg_hessian[s])
        _lift(neg_hessian[s], counts[s].sum())
    return value, score, neg_hessian, e


@compiled
def _star_score(
    parts: FloatArray, weight: FloatArray, nodes: int, score: FloatArray, neg_hessian: FloatArray
) -> None:
    """Write g' and -g'' from the nodes of a star; centre ``parts`` about its means."""
    n_logits, w = score.size, weight[:nodes]
    for a in range(n_logits):
        first, second = parts[a, 1, :nodes], parts[a, 2, :nodes]
        score[a], curve = mean(w, first), mean(w, second)
        neg_hessian[a, a] = -curve
        for i in range(nodes):
            first[i] -= score[a]
            second[i] -= curve
        for b in range(a + 1):
            both = covariance(w, first, parts[b, 1, :nodes])
            if b == a:
                neg_hessian[a, a] -= both
            else:
                neg_hessian[a, b] = neg_hessian[b, a] = -both


@compiled
def derive_spots(
    counts: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    plane_rule: Rule,
    table: Shifted,
    e: FloatArray,
    score: FloatArray,
    neg_hessian: FloatArray,
    weight: FloatArray,
) -> FloatArray:
    """Give the rows of ``spot_cumulants.derive`` for every spot: (n, 3 + Q, Q)."""
    n, n_logits = x.shape
    out = np.empty((n, 3 + n_logits, n_logits))
    parts, share = np.empty((n_logits, 5, NODES)), np.empty(NODES)
    sums, packed = np.empty(20), np.empty((2 * n_logits + 3, n_logits))
    centre, curve = np.empty(n_logits), np.empty((n_logits, n_logits))
    for s in range(n):
        packed[:] = 0.0
        if nugget.max() == 0.0:
            flat_sums(counts[s].sum(), x[s], weight[s], packed)
        elif not math.isnan(e[s, 0]):
            at = plane(counts[s], x[s], (nugget[0], 0.0, nugget[1]), plane_rule, (e[s, 0], e[s, 1]))
            plane_sums(at, plane_rule, sums)
            plane_moments(at, sums, weight[s], packed)
        else:
            nodes = star(counts[s], x[s], nugget, rule, table, s, parts, share)[1]
            _star_score(parts, share, nodes, centre, curve)
            diagonal_moments(share[:nodes], parts, weight[s], packed)
        derive(weight[s], score[s], neg_hessian[s], packed, out[s])
    return out
