"""What expectation propagation asks of every spot in a sweep: cavities, and the sites that follow.

Small matrices, a few numbers a spot: compiled passes. The letters are those of
``expectation_propagation.py``.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled, inlined


@inlined
def _exchange(matrix: FloatArray, i: int, j: int) -> None:
    """Exchange two rows."""
    for k in range(matrix.shape[1]):
        matrix[i, k], matrix[j, k] = matrix[j, k], matrix[i, k]


@inlined
def _divide(matrix: FloatArray, i: int, divisor: float) -> None:
    """Divide a row."""
    for k in range(matrix.shape[1]):
        matrix[i, k] /= divisor


@inlined
def _take_off(matrix: FloatArray, i: int, j: int, share: float) -> None:
    """Take a share of row j off row i."""
    for k in range(matrix.shape[1]):
        matrix[i, k] -= share * matrix[j, k]


@compiled
def _solve(matrix: FloatArray, rhs: FloatArray) -> float:
    """Overwrite ``rhs`` (Q, k) by ``matrix^-1 rhs``; return log|matrix|, NaN if not positive.

    Gauss and Jordan's elimination with rows exchanged; ``matrix`` (Q, Q) is destroyed.
    """
    size, log_det, sign = matrix.shape[0], 0.0, 1.0
    for j in range(size):
        best = j
        for i in range(j + 1, size):
            best = i if abs(matrix[i, j]) > abs(matrix[best, j]) else best
        if best != j:
            sign = -sign
            _exchange(matrix, j, best)
            _exchange(rhs, j, best)
        pivot = matrix[j, j]
        if pivot == 0.0 or math.isnan(pivot):
            rhs[0, 0] = math.nan
            return math.nan
        sign = sign if pivot > 0.0 else -sign
        log_det += math.log(abs(pivot))
        _divide(matrix, j, pivot)
        _divide(rhs, j, pivot)
        for i in range(size):
            if i != j:
                share = matrix[i, j]
                _take_off(matrix, i, j, share)
                _take_off(rhs, i, j, share)
    return log_det if sign > 0.0 else math.nan


@inlined
def _reduced(product: FloatArray, left: FloatArray, right: FloatArray) -> None:
    """Fill in ``I - left right``."""
    size = left.shape[0]
    for a in range(size):
        for b in range(size):
            total = 1.0 if a == b else 0.0
            for k in range(size):
                total -= left[a, k] * right[k, b]
            product[a, b] = total


@inlined
def _symmetrise(matrix: FloatArray) -> None:
    """Take the rounding out of a matrix that is symmetric."""
    for a in range(matrix.shape[0]):
        for b in range(a):
            half = 0.5 * (matrix[a, b] + matrix[b, a])
            matrix[a, b], matrix[b, a] = half, half


@compiled
def cavities(
    cov: FloatArray,  # (n, Q, Q) Sigma
    tau: FloatArray,  # (n, Q, Q)
    x: FloatArray,  # (n, Q)
    r: FloatArray,  # (n, Q)
) -> tuple[FloatArray, FloatArray, float, float]:
    """Give ``v`` (n, Q, Q), ``mu`` (n, Q), and the sums of ``log|I + v tau|`` and ``r' v r``.

    Where ``I - Sigma tau`` is not positive the result holds NaN.
    """
    n, size = x.shape
    v, mu, log_det, quad = cov.copy(), x.copy(), 0.0, 0.0
    work = np.empty((size, size))
    for s in range(n):
        _reduced(work, cov[s], tau[s])
        log_det -= _solve(work, v[s])
        _symmetrise(v[s])
        for a in range(size):
            move = 0.0
            for b in range(size):
                move += v[s, a, b] * r[s, b]
            mu[s, a] -= move
            quad += r[s, a] * move
    return v, mu, log_det, quad


@compiled
def sites(
    v: FloatArray,  # (n, Q, Q)
    mu: FloatArray,  # (n, Q)
    score: FloatArray,  # (n, Q) a
    neg_hessian: FloatArray,  # (n, Q, Q) A
) -> tuple[FloatArray, FloatArray]:
    """Give the sites ``tau = (I - A v)^-1 A`` and ``b = a + tau (mu + v a)`` of the spots."""
    n, size = mu.shape
    tau, shift = neg_hessian.copy(), score.copy()
    work, centre = np.empty((size, size)), np.empty(size)
    for s in range(n):
        _reduced(work, neg_hessian[s], v[s])
        _solve(work, tau[s])
        _symmetrise(tau[s])
        for a in range(size):
            centre[a] = mu[s, a]
            for b in range(size):
                centre[a] += v[s, a, b] * score[s, b]
        for a in range(size):
            for b in range(size):
                shift[s, a] += tau[s, a, b] * centre[b]
    return tau, shift


@compiled
def mismatch(
    cov: FloatArray,  # (n, Q, Q) Sigma
    tau: FloatArray,  # (n, Q, Q), and what the spots would rather have
    rather: FloatArray,
    r: FloatArray,  # (n, Q), likewise
    score: FloatArray,
) -> float:
    """Give the largest move of a spot's posterior mean, in sd, of its covariance or of its score.

    The last two are relative. Where the field hardly varies only the score has something to say:
    the gradient is its sum. NaN if anything is.
    """
    n, size = r.shape
    worst, check = 0.0, 0.0
    for s in range(n):
        squared = 0.0
        for a in range(size):
            off = score[s, a] - r[s, a]
            worst = max(worst, abs(off) / (1.0 + abs(score[s, a])))
            for b in range(size):
                squared += off * cov[s, a, b] * (score[s, b] - r[s, b])
                moved = 0.0
                for k in range(size):
                    moved += cov[s, a, k] * (rather[s, k, b] - tau[s, k, b])
                worst = max(worst, abs(moved))
                check += moved
        check += squared
        worst = max(worst, math.sqrt(max(squared, 0.0)))
    return worst if math.isfinite(check) else math.nan
