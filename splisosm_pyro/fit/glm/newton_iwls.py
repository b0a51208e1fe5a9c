"""Compiled Newton ascent of the multinomial log-likelihood, written once for its two readings.

For rows z_s (K,), counts y_s with total m_s, coefficients C (K, Q), eta_s = C' z_s and
pi_s = softmax([eta_s, 0]) without the reference,

    r_s = y_s - m_s pi_s                        score of eta_s
    W_s = m_s (diag(pi_s) - pi_s pi_s')         information of eta_s
    g   = sum_s z_s x r_s                       score of C, (K, Q)
    I   = sum_s (z_s z_s') x W_s                information of C, index k Q + q

Newton's step is I^-1 g. Iteratively reweighted least squares regresses the working response
eta_s + W_s^-1 r_s on z_s with weights W_s: its normal equations are I C_new = I C + g, since
W_s (eta_s + W_s^-1 r_s) = W_s eta_s + r_s, so that no W_s is ever inverted. The logit is the
canonical link, observed and expected information agree, and the log-likelihood is concave: both
reach the maximum from anywhere once the step is halved where it overshoots.

One pass over the rows gives value, g and I together, O(n (P + K^2 Q^2)).

References: Green (1984), J. R. Stat. Soc. B 46, 149, doi:10.1111/j.2517-6161.1984.tb01288.x.
"""

import math
from typing import NamedTuple

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled, compiled_sums, inlined
from splisosm_pyro.maths.numeric.vectorised_exp_log import exp_in_place, log_in_place

# A pivot below this share of its diagonal entry makes the information numerically singular.
PIVOT_FLOOR = 1e-13
# No step moves a coefficient (rows are orthonormal, so about a logit) further than this, or than
# doubles the largest.
LONGEST_STEP = 20.0
MOST_HALVINGS = 40
# The log-likelihood is known to about this share of its absolute value, a promised gain (by the
# score, whose sums are smaller) to a smaller one.
ROUNDING = 1e-13
GAIN_ROUNDING = 1e-15
# exp of a logit below this, and the products of a few of them, do not overflow.
HIGHEST = 300.0
LOG_FACTORIALS = np.append(0.0, np.cumsum(np.log(np.arange(1.0, 256.0))))


class ReadTable(NamedTuple):
    """The rows of a GLM, one column each, and what every pass needs of them."""

    rows: FloatArray  # (K,n), C-contiguous
    products: FloatArray  # (K(K+1)/2,n), z_k z_j for j <= k
    counts: FloatArray  # (P,n), C-contiguous, the reference last
    totals: FloatArray  # (n,)


@inlined
def tabulate(rows: FloatArray, counts: FloatArray) -> ReadTable:
    """Form the products of the rows and the totals, O(n K^2)."""
    n_rows, n = rows.shape
    products = np.empty((n_rows * (n_rows + 1) // 2, n))
    totals = np.zeros(n)
    pair = 0
    for k in range(n_rows):
        for j in range(k + 1):
            for s in range(n):
                products[pair, s] = rows[k, s] * rows[j, s]
            pair += 1
    for p in range(counts.shape[0]):
        for s in range(n):
            totals[s] += counts[p, s]
    return ReadTable(rows, products, counts, totals)


@compiled_sums
def fused_pass(
    table: ReadTable,
    coef: FloatArray,  # (K,Q)
    score: FloatArray,  # (K,Q), overwritten
    information: FloatArray,  # (KQ,KQ), overwritten
) -> float:
    """Log-likelihood without coefficient, its score and its information, in one pass."""
    n, n_logits = table.totals.size, coef.shape[1]
    eta = _logits(coef, table.rows)
    value = 0.0
    for q in range(n_logits):
        value += row_dot(table.counts, q, eta, q)
    shift = _shifts(eta)
    for q in range(n_logits):
        for s in range(n):
            eta[q, s] -= shift[0, s]
    exp_in_place(eta.reshape(eta.size))
    totals = table.totals.reshape((1, n))
    value -= row_dot(totals, 0, shift, 0)
    norm = np.empty((1, n))
    for s in range(n):
        shift[0, s] = -shift[0, s]
    reference = shift.reshape(n)
    exp_in_place(reference)
    for s in range(n):
        norm[0, s] = reference[s]
    for q in range(n_logits):
        for s in range(n):
            norm[0, s] += eta[q, s]
    residuals, weights = _working_table(table, eta, reference, norm.reshape(n))
    _put(_row_products(table.rows, residuals), score)
    _unpack(_row_products(weights, table.products), information)
    log_in_place(norm.reshape(n))
    return value - row_dot(totals, 0, norm, 0)


@inlined
def row_dot(left: FloatArray, i: int, right: FloatArray, j: int) -> float:
    """Inner product of a row of each of two tables."""
    total = 0.0
    for s in range(left.shape[1]):
        total += left[i, s] * right[j, s]
    return total


@inlined
def _row_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Inner products of all rows of two tables."""
    products = np.empty((left.shape[0], right.shape[0]))
    for i in range(products.shape[0]):
        for j in range(products.shape[1]):
            products[i, j] = row_dot(left, i, right, j)
    return products


@inlined
def _logits(coef: FloatArray, rows: FloatArray) -> FloatArray:
    """Logits (Q,n) of coefficients (K,Q) and rows (K,n)."""
    eta = np.zeros((coef.shape[1], rows.shape[1]))
    for q in range(eta.shape[0]):
        for k in range(rows.shape[0]):
            slope = coef[k, q]
            for s in range(rows.shape[1]):
                eta[q, s] += slope * rows[k, s]
    return eta


@inlined
def _shifts(eta: FloatArray) -> FloatArray:
    """Give what keeps the exponentials of logits (Q,n) from overflowing, mostly 0."""
    shift = np.zeros((1, eta.shape[1]))
    for q in range(eta.shape[0]):
        for s in range(shift.size):
            shift[0, s] = max(shift[0, s], eta[q, s] - HIGHEST)
    return shift


@inlined
def _working_table(
    table: ReadTable,
    odds: FloatArray,  # (Q,n)
    reference: FloatArray,  # (n,)
    norm: FloatArray,  # (n,) sum of both
) -> tuple[FloatArray, FloatArray]:
    """Residuals r (Q,n) and the lower triangle of W, (Q(Q+1)/2,n)."""
    n_logits, n = odds.shape
    weights = np.empty((n_logits * (n_logits + 1) // 2, n))
    residuals = np.empty((n_logits, n))
    scale, others = np.empty(n), np.empty(n)
    pair = 0
    for q in range(n_logits):
        for s in range(n):
            mean = table.totals[s] * odds[q, s] / norm[s]
            residuals[q, s] = table.counts[q, s] - mean
            scale[s] = mean / norm[s]
            others[s] = reference[s]  # 1 - odds / norm would lose its digits near 0
        for j in range(n_logits):
            if j != q:
                for s in range(n):
                    others[s] += odds[j, s]
        for j in range(q):
            for s in range(n):
                weights[pair + j, s] = -scale[s] * odds[j, s]
        for s in range(n):
            weights[pair + q, s] = scale[s] * others[s]
        pair += q + 1
    return residuals, weights


@inlined
def _unpack(packed: FloatArray, information: FloatArray) -> None:
    """Spread the lower triangles over q and k to the full symmetric matrix."""
    n_logits = int(math.sqrt(2 * packed.shape[0]))
    n_rows = int(math.sqrt(2 * packed.shape[1]))
    pair = 0
    for q in range(n_logits):
        for p in range(q + 1):
            place = 0
            for k in range(n_rows):
                for j in range(k + 1):
                    entry = packed[pair, place]
                    information[k * n_logits + q, j * n_logits + p] = entry
                    information[k * n_logits + p, j * n_logits + q] = entry
                    information[j * n_logits + q, k * n_logits + p] = entry
                    information[j * n_logits + p, k * n_logits + q] = entry
                    place += 1
            pair += 1


@inlined
def solve_posdef(matrix: FloatArray, rhs: FloatArray, solution: FloatArray) -> bool:
    """Cholesky solve; False, with an unusable solution, if the matrix is numerically singular."""
    size = rhs.size
    factor = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            entry = matrix[i, j]
            for k in range(j):
                entry -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = entry / factor[j, j]
            else:
                if not entry > PIVOT_FLOOR * matrix[i, i]:
                    return False
                factor[i, i] = math.sqrt(entry)
    for i in range(size):
        entry = rhs[i]
        for k in range(i):
            entry -= factor[i, k] * solution[k]
        solution[i] = entry / factor[i, i]
    for i in range(size - 1, -1, -1):
        entry = solution[i]
        for k in range(i + 1, size):
            entry -= factor[k, i] * solution[k]
        solution[i] = entry / factor[i, i]
    return True


@inlined
def _walk(origin: FloatArray, length: float, step: FloatArray, place: FloatArray) -> None:
    """Put ``origin`` (K,Q) plus a multiple of ``step`` (KQ,) in ``place`` (K,Q)."""
    n_logits = origin.shape[1]
    for k in range(origin.shape[0]):
        for q in range(n_logits):
            place[k, q] = origin[k, q] + length * step[k * n_logits + q]


@inlined
def _put(source: FloatArray, place: FloatArray) -> None:
    """Copy a matrix; an assignment of slices would compile the texts of numpy's errors, too."""
    for k in range(source.shape[0]):
        for q in range(source.shape[1]):
            place[k, q] = source[k, q]


@inlined
def _proposal(
    information: FloatArray,
    score: FloatArray,
    coef: FloatArray,
    least_squares: bool,
    step: FloatArray,
) -> float:
    """Fill ``step`` (KQ,) with the full step; return the gain that it promises, g' I^-1 g / 2."""
    size = step.size
    ridge = 0.0
    scale = 0.0
    flat, at = score.reshape(size), coef.reshape(size)
    target, damped = np.empty(size), np.empty((size, size))
    _put(information, damped)
    for i in range(size):
        scale = max(scale, information[i, i])
        target[i] = flat[i]
        rest = 0.0
        for j in range(size if least_squares else 0):
            rest += information[i, j] * at[j]
        target[i] = flat[i] + rest
    while not solve_posdef(damped, target, step):
        # flat directions: a small ridge keeps the step finite and uphill
        ridge = 100.0 * ridge if ridge > 0.0 else max(1e-12 * scale, 1e-12)
        least_squares = False
        for i in range(size):
            target[i] = flat[i]
            damped[i, i] = information[i, i] + ridge
    if least_squares:
        for i in range(size):
            step[i] -= at[i]
    longest = 0.0
    limit = LONGEST_STEP
    gain = 0.0
    for i in range(size):
        gain += 0.5 * step[i] * flat[i]
        longest = max(longest, abs(step[i]))
        limit = max(limit, abs(at[i]))
    if longest > limit:
        for i in range(size):
            step[i] *= limit / longest
    return gain


@compiled
def newton_ascent(
    table: ReadTable,
    start: FloatArray,  # (K,Q)
    least_squares: bool,
    lr: float,
    tol: float,
    tol_relative: bool,
    max_epochs: int,
    patience: int,
) -> tuple[bool, float, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Ascend from ``start`` until the promised gain stays below ``tol`` for ``patience`` epochs.

    Returns (stopped by tolerance, value, values (epochs,), path (epochs,K,Q), coefficients (K,Q),
    score (K,Q), information (KQ,KQ)). An epoch's step is taken also where its promised gain is
    below the tolerance: it squares the error and has been paid for.
    """
    n_rows, n_logits = start.shape
    size = n_rows * n_logits
    coef, trial = np.empty((n_rows, n_logits)), np.empty((n_rows, n_logits))
    step = np.empty(size)
    score = np.empty((n_rows, n_logits))
    information = np.empty((size, size))
    values = np.empty(max_epochs)
    path = np.empty((max_epochs, n_rows, n_logits))
    _put(start, coef)
    value = fused_pass(table, coef, score, information)
    idle = 0
    epoch = 0
    while epoch < max_epochs and idle < patience:
        gain = _proposal(information, score, coef, least_squares, step)
        unit = abs(value) if tol_relative else 1.0
        idle = idle + 1 if gain <= tol * unit + GAIN_ROUNDING * abs(value) else 0
        length = lr
        for halvings in range(MOST_HALVINGS + 1):
            if halvings == MOST_HALVINGS:  # not even a tiny step rises: rounding, stay
                length = 0.0
                idle = patience
            _walk(coef, length, step, trial)
            new_value = fused_pass(table, trial, score, information)
            if new_value >= value - ROUNDING * abs(value):
                break
            length *= 0.5
        _put(trial, coef)
        _put(trial, path[epoch])
        value = new_value
        values[epoch] = value
        epoch += 1
    walked = values[:epoch].copy(), path[:epoch].copy()
    return idle >= patience, value, *walked, coef, score, information


@compiled
def log_coefficient(counts: FloatArray) -> float:
    """Sum over spots of log(total! / prod_p count_p!), by a table for small whole counts."""
    table, size = LOG_FACTORIALS, LOG_FACTORIALS.size
    result = 0.0
    for s in range(counts.shape[0]):
        total = 0.0
        for p in range(counts.shape[1]):
            y = counts[s, p]
            total += y
            if y == 0.0 or y == 1.0:
                continue
            result -= table[int(y)] if y < size and y == int(y) else math.lgamma(y + 1.0)
        if total != 0.0 and total != 1.0:
            whole = total < size and total == int(total)
            result += table[int(total)] if whole else math.lgamma(total + 1.0)
    return result
