"""Any number of isoforms with the nugget at its mode: the formulas of ``laplace.py``.

With an empty ``turn`` the coordinates are the logits themselves.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.laplace_three_isoforms import (
    DECREMENT,
    MAX_HALVINGS,
    MAX_NEWTON,
    WHOLE_STEP,
)


@compiled
def _softmax(eta: FloatArray, pi: FloatArray) -> float:
    """Fill ``pi`` (P,) with the ratios, the reference last; return log(1 + sum exp eta)."""
    top = 0.0
    for q in range(eta.size):
        top = max(top, eta[q])
    pi[eta.size] = total = math.exp(-top)
    for q in range(eta.size):
        pi[q] = math.exp(eta[q] - top)
        total += pi[q]
    for q in range(pi.size):
        pi[q] /= total
    return top + math.log(total)


@compiled
def _turn_vector(turn: FloatArray, vector: FloatArray) -> None:
    """Put ``L vector`` in its place, ``L`` upper triangular."""
    for q in range(turn.shape[0]):
        vector[q] *= turn[q, q]
        for k in range(q + 1, turn.shape[0]):
            vector[q] += turn[q, k] * vector[k]


@compiled
def _pull_vector(turn: FloatArray, vector: FloatArray) -> None:
    """Put ``L' vector`` in its place."""
    for q in range(turn.shape[0] - 1, -1, -1):
        vector[q] *= turn[q, q]
        for k in range(q):
            vector[q] += turn[k, q] * vector[k]


@compiled
def _merit(
    x: FloatArray,
    y: FloatArray,
    m: float,
    t: FloatArray,
    a: FloatArray,
    turn: FloatArray,
    eta: FloatArray,
    pi: FloatArray,
) -> float:
    """``l(L (x + T a)) - 1/2 a' T a``; fills ``eta`` and ``pi``."""
    for q in range(x.size):
        eta[q] = x[q] + t[q] * a[q]
    _turn_vector(turn, eta)
    value = -m * _softmax(eta, pi)
    for q in range(x.size):
        value += y[q] * eta[q] - 0.5 * t[q] * a[q] * a[q]
    return value


@compiled
def root_information(m: float, pi: FloatArray, turn: FloatArray, root: FloatArray) -> None:
    """Lower Cholesky factor of ``m L' (diag(pi) - pi pi') L``, zero columns where a ratio vanishes.

    The Schur complements are known in closed form: after ``q`` eliminations the remainder is again
    of this shape with the ratios divided by what is left, so no pivot is a difference.
    """
    after = pi[pi.size - 1]
    for q in range(pi.size - 2, -1, -1):
        here = after + pi[q]
        # only ratios of at most 1 are formed, so that tiny ones do not under- or overflow
        root[q, q] = math.sqrt(m * (pi[q] / here) * after) if here > 0.0 else 0.0
        for k in range(q + 1, pi.size - 1):
            root[k, q] = -(pi[k] / after) * root[q, q] if after > 0.0 else 0.0
        after = here
    for q in range(turn.shape[0]):  # L' R is lower triangular as well
        _pull_vector(turn, root[:, q])


@compiled
def _cholesky_solve(chol: FloatArray, b: FloatArray) -> None:
    """Solve ``L L' x = b`` in place for one small right-hand side."""
    n = b.size
    for i in range(n):
        for j in range(i):
            b[i] -= chol[i, j] * b[j]
        b[i] /= chol[i, i]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            b[i] -= chol[j, i] * b[j]
        b[i] /= chol[i, i]


@compiled
def _inner_cholesky(root: FloatArray, t: FloatArray, chol: FloatArray) -> float:
    """Cholesky factor of ``I + R' T R`` for ``W = R R'``; return log|I + T W|."""
    n, log_det = t.size, 0.0
    for i in range(n):
        for j in range(i + 1):
            entry = 1.0 if i == j else 0.0
            for k in range(i, n):  # R is lower triangular
                entry += root[k, i] * t[k] * root[k, j]
            for k in range(j):
                entry -= chol[i, k] * chol[j, k]
            chol[i, j] = math.sqrt(entry) if i == j else entry / chol[j, j]
        log_det += 2.0 * math.log(chol[i, i])
    return log_det


@compiled
def _newton_step(
    rest: FloatArray, root: FloatArray, t: FloatArray, chol: FloatArray, step: FloatArray
) -> float:
    """Fill ``step`` with ``(I + W T)^-1 rest = rest - R (I + R'TR)^-1 R'T rest``.

    Returns the squared decrement.
    """
    n = rest.size
    for j in range(n):
        step[j] = 0.0
        for i in range(j, n):
            step[j] += root[i, j] * t[i] * rest[i]
    _cholesky_solve(chol, step)
    decrement = 0.0
    for i in range(n - 1, -1, -1):  # R is lower triangular: entry i needs entries 0..i only
        through = 0.0
        for j in range(i + 1):
            through += root[i, j] * step[j]
        step[i] = rest[i] - through
        decrement += step[i] * t[i] * rest[i]
    return decrement


@compiled
def _shrunk_information(
    root: FloatArray, chol: FloatArray, scratch: FloatArray, out: FloatArray
) -> None:
    """Fill ``out`` with ``A = R (I + R'TR)^-1 R'`` through ``U = L^-1 R'``."""
    n = chol.shape[0]
    for c in range(n):
        for i in range(n):
            entry = root[c, i]
            for j in range(i):
                entry -= chol[i, j] * scratch[j, c]
            scratch[i, c] = entry / chol[i, i]
    for i in range(n):
        for j in range(i + 1):
            entry = 0.0
            for k in range(n):
                entry += scratch[k, i] * scratch[k, j]
            out[i, j] = entry
            out[j, i] = entry


@compiled
def _profile_spot(
    x: FloatArray,
    y: FloatArray,
    m: float,
    t: FloatArray,
    a: FloatArray,
    turn: FloatArray,
    pi: FloatArray,
    vectors: FloatArray,
    matrices: FloatArray,
) -> float:
    """One spot: damped Newton in ``a`` from the value it holds; fills ``a`` and ``pi``."""
    eta, rest, step, trial = vectors
    root, chol = matrices[0], matrices[1]
    merit = _merit(x, y, m, t, a, turn, eta, pi)
    for _ in range(MAX_NEWTON):
        root_information(m, pi, turn, root)
        _inner_cholesky(root, t, chol)
        for q in range(x.size):
            rest[q] = y[q] - m * pi[q]
        _pull_vector(turn, rest)
        for q in range(x.size):
            rest[q] -= a[q]
        decrement = _newton_step(rest, root, t, chol, step)
        scale, whole = 1.0, np.max(t * np.abs(step)) < WHOLE_STEP
        for _ in range(MAX_HALVINGS):
            for q in range(x.size):
                trial[q] = a[q] + scale * step[q]
            new = _merit(x, y, m, t, trial, turn, eta, pi)
            if whole or new >= merit:
                break
            scale *= 0.5
        a[:] = trial
        merit = new
        if decrement < DECREMENT:
            break
    return merit


@compiled
def profile_multinomial(
    x: FloatArray,
    y: FloatArray,
    totals: FloatArray,
    nugget: FloatArray,
    start: FloatArray,
    turn: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, float, float]:
    """More than three isoforms: a small Newton problem at every spot; right for three as well."""
    n, n_logits = x.shape
    score, pi = start.copy(), np.empty((n, n_logits + 1))
    neg_hessian = np.empty((n, n_logits, n_logits))
    vectors, matrices = np.zeros((4, n_logits)), np.zeros((3, n_logits, n_logits))
    value, log_det = 0.0, 0.0
    for s in range(n):
        a = score[s]
        value += _profile_spot(x[s], y[s], totals[s], nugget, a, turn, pi[s], vectors, matrices)
        root_information(totals[s], pi[s], turn, matrices[0])
        log_det += _inner_cholesky(matrices[0], nugget, matrices[1])
        _shrunk_information(matrices[0], matrices[1], matrices[2], neg_hessian[s])
    return score, pi, neg_hessian, value, -0.5 * log_det


@compiled
def _sandwich(left: FloatArray, middle: FloatArray, scratch: FloatArray, out: FloatArray) -> None:
    """Fill ``out`` with ``left middle left'``."""
    n = left.shape[0]
    for i in range(n):
        for j in range(n):
            scratch[i, j] = 0.0
            for k in range(n):
                scratch[i, j] += left[i, k] * middle[k, j]
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
            for k in range(n):
                out[i, j] += scratch[i, k] * left[j, k]


@compiled
def derive_multinomial(
    pi: FloatArray,
    totals: FloatArray,
    nugget: FloatArray,
    score: FloatArray,
    neg_hessian: FloatArray,
    weight: FloatArray,
    turn: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Three isoforms or more: the formulas of the module."""
    n, q = score.shape
    phi_x, phi_t = np.zeros((n, q)), np.empty((n, q))
    value_t, score_t = np.empty((n, q)), np.empty((n, q, q))
    shrink, sigma, weighted, scratch = np.empty((4, q, q))
    tau = np.empty(q)
    for s in range(n):
        big_a = neg_hessian[s]
        for i in range(q):
            for j in range(q):
                shrink[i, j] = (1.0 if i == j else 0.0) - nugget[i] * big_a[i, j]
        _sandwich(shrink, weight[s], scratch, sigma)
        for i in range(q):
            for j in range(q):
                sigma[i, j] += shrink[i, j] * nugget[j]
        for i in range(turn.shape[0]):  # L Sigma L', row by row and column by column
            _turn_vector(turn, sigma[i])
        for i in range(turn.shape[0]):
            _turn_vector(turn, sigma[:, i])
        _trace_third(totals[s], pi[s], sigma, tau)
        _pull_vector(turn, tau)
        _sandwich(big_a, weight[s], scratch, weighted)
        for k in range(q):
            a = score[s, k]
            for i in range(q):
                phi_x[s, k] += shrink[i, k] * tau[i]
                score_t[s, i, k] = -big_a[i, k] * a
            phi_t[s, k] = phi_x[s, k] * a + 0.5 * big_a[k, k] - 0.5 * weighted[k, k]
            value_t[s, k] = 0.5 * a * a
    return phi_x, phi_t, value_t, score_t


@compiled
def _trace_third(m: float, pi: FloatArray, sigma: FloatArray, tau: FloatArray) -> None:
    """Fill ``tau`` with ``1/2 tr(Sigma dW/d eta_k)``."""
    n, mean, quad = tau.size, 0.0, 0.0
    for k in range(n):
        tau[k] = 0.0
        for i in range(n):
            tau[k] += sigma[k, i] * pi[i]
        mean += sigma[k, k] * pi[k]
        quad += pi[k] * tau[k]
    for k in range(n):
        tau[k] = 0.5 * m * pi[k] * (sigma[k, k] - mean - 2.0 * tau[k] + 2.0 * quad)
