"""The nugget profiled out: each spot at the mode of its own white noise.

At a spot, ``h(x) = max_e l(x + e) - 1/2 e' T^-1 e`` with ``l`` the multinomial log-likelihood. The
maximiser is ``e = T a`` with ``a = l'(x + T a)``; nothing divides by ``T``, so ``T = 0`` is an
ordinary point. With ``W = -l''`` at ``eta = x + T a`` and ``N = (I + T W)^-1``:

    h' = a,   A = -h'' = (I + W T)^-1 W = W N,   c = -1/2 log|I + T W|,   d eta/dx = N = I - T A.

For a weight ``M`` let ``Sigma = N M N' + N T`` (the posterior covariance of ``nu`` at the spot when
``M = D^1/2 P D^1/2``). Then ``phi = 1/2 tr(M A) - c`` has ``d phi/d eta = tau`` with

    tau_k = 1/2 tr(Sigma dW/d eta_k)
          = m/2 pi_k (Sigma_kk - sum_i Sigma_ii pi_i - 2 (Sigma pi)_k + 2 pi' Sigma pi)

and ``phi_x = N' tau``, ``phi_T_q = phi_x_q a_q + 1/2 A_qq - 1/2 (A M A)_qq``,
``h_T_q = a_q^2 / 2``, ``d a_k / d T_q = -A_kq a_q``.
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
    profile_trinomial,
)
from splisosm_pyro.maths.spot.terms import SpotDerivatives, SpotTerms


class LaplaceNugget:
    """Multinomial spots with the white noise at its mode (``nugget='laplace'``).

    Parameters
    ----------
    counts
        (n, P) counts of the occupied spots; the last isoform is the reference.
    """

    def __init__(self, counts: FloatArray) -> None:
        self._y = np.ascontiguousarray(counts[:, :-1])
        self._totals = counts.sum(axis=1)
        self._last: SpotTerms | None = None  # a good start for the next evaluation

    def evaluate(self, x: FloatArray, nugget: FloatArray) -> SpotTerms:
        """Return the spot terms at ``x`` (n, Q); one to three Newton steps a spot."""
        profile = PROFILES.get(x.shape[1], _profile_multinomial)
        start = self._predicted(x, nugget)
        score, pi, neg_hessian, value, correction = profile(x, self._y, self._totals, nugget, start)
        terms = SpotTerms(x, nugget, value, score, neg_hessian, correction, (pi,))
        self._last = terms if math.isfinite(value) else None
        return terms

    def _predicted(self, x: FloatArray, nugget: FloatArray) -> FloatArray:
        """Return the scores that the last evaluation's derivatives foresee at ``x``."""
        last = self._last
        if last is None:
            return np.zeros_like(self._y)
        moved = x - last.x + last.score * (nugget - last.nugget)
        if x.shape[1] == 1:
            return np.asarray(last.score - last.neg_hessian[:, 0] * moved)
        return last.score - (last.neg_hessian @ moved[:, :, None])[:, :, 0]

    def derivatives(self, terms: SpotTerms, weight: FloatArray) -> SpotDerivatives:
        """Return the third-order quantities; closed form, O(n Q^3)."""
        derive = _derive_binomial if terms.x.shape[1] == 1 else _derive_multinomial
        return SpotDerivatives(
            *derive(
                terms.extra[0], self._totals, terms.nugget, terms.score, terms.neg_hessian, weight
            )
        )


@compiled
def _log1p_exp(x: float) -> float:
    """log(1 + e^x) without overflow."""
    return x + math.log1p(math.exp(-x)) if x > 0.0 else math.log1p(math.exp(x))


@compiled
def _profile_binomial(
    x: FloatArray, y: FloatArray, totals: FloatArray, nugget: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, float, float]:
    """Two isoforms: scalar Newton at every spot."""
    n = x.shape[0]
    score, pi, neg_hessian = np.empty((n, 1)), np.empty((n, 1)), np.empty((n, 1, 1))
    value, correction, t = 0.0, 0.0, nugget[0]
    for s in range(n):
        a, m, k = start[s, 0], totals[s], y[s, 0]
        eta = x[s, 0] + t * a
        merit = k * eta - m * _log1p_exp(eta) - 0.5 * t * a * a
        for _ in range(MAX_NEWTON):
            p = 1.0 / (1.0 + math.exp(-eta))
            w = m * p * (1.0 - p)
            step = (k - m * p - a) / (1.0 + t * w)
            decrement = step * step * t * (1.0 + t * w)
            whole = t * abs(step) < WHOLE_STEP
            for _ in range(MAX_HALVINGS):
                eta = x[s, 0] + t * (a + step)
                trial = k * eta - m * _log1p_exp(eta) - 0.5 * t * (a + step) ** 2
                if whole or trial >= merit:
                    break
                step *= 0.5
            a, merit = a + step, trial
            if decrement < DECREMENT:
                break
        p = 1.0 / (1.0 + math.exp(-eta))
        w = m * p * (1.0 - p)
        score[s, 0], pi[s, 0], neg_hessian[s, 0, 0] = a, p, w / (1.0 + t * w)
        value += merit
        correction -= 0.5 * math.log1p(t * w)
    return score, pi, neg_hessian, value, correction


@compiled
def _derive_binomial(
    pi: FloatArray,
    totals: FloatArray,
    nugget: FloatArray,
    score: FloatArray,
    neg_hessian: FloatArray,
    weight: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Two isoforms: the formulas of the module with scalars."""
    n, t = pi.shape[0], nugget[0]
    phi_x, phi_t = np.empty((n, 1)), np.empty((n, 1))
    value_t, score_t = np.empty((n, 1)), np.empty((n, 1, 1))
    for s in range(n):
        p, a, big_a, m = pi[s, 0], score[s, 0], neg_hessian[s, 0, 0], weight[s, 0, 0]
        shrink = 1.0 - t * big_a
        sigma = shrink * shrink * m + t * shrink
        phi_x[s, 0] = shrink * 0.5 * sigma * totals[s] * p * (1.0 - p) * (1.0 - 2.0 * p)
        phi_t[s, 0] = phi_x[s, 0] * a + 0.5 * big_a - 0.5 * big_a * big_a * m
        value_t[s, 0] = 0.5 * a * a
        score_t[s, 0, 0] = -big_a * a
    return phi_x, phi_t, value_t, score_t


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
def _merit(
    x: FloatArray,
    y: FloatArray,
    m: float,
    t: FloatArray,
    a: FloatArray,
    eta: FloatArray,
    pi: FloatArray,
) -> float:
    """``l(x + T a) - 1/2 a' T a``; fills ``eta`` and ``pi``."""
    for q in range(x.size):
        eta[q] = x[q] + t[q] * a[q]
    value = -m * _softmax(eta, pi)
    for q in range(x.size):
        value += y[q] * eta[q] - 0.5 * t[q] * a[q] * a[q]
    return value


@compiled
def _root_information(m: float, pi: FloatArray, root: FloatArray) -> None:
    """Lower Cholesky factor of ``m (diag(pi) - pi pi')``, zero columns where a ratio vanishes.

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
    pi: FloatArray,
    vectors: FloatArray,
    matrices: FloatArray,
) -> float:
    """One spot: damped Newton in ``a`` from the value it holds; fills ``a`` and ``pi``."""
    eta, rest, step, trial = vectors
    root, chol = matrices[0], matrices[1]
    merit = _merit(x, y, m, t, a, eta, pi)
    for _ in range(MAX_NEWTON):
        _root_information(m, pi, root)
        _inner_cholesky(root, t, chol)
        for q in range(x.size):
            rest[q] = y[q] - m * pi[q] - a[q]
        decrement = _newton_step(rest, root, t, chol, step)
        scale, whole = 1.0, np.max(t * np.abs(step)) < WHOLE_STEP
        for _ in range(MAX_HALVINGS):
            for q in range(x.size):
                trial[q] = a[q] + scale * step[q]
            new = _merit(x, y, m, t, trial, eta, pi)
            if whole or new >= merit:
                break
            scale *= 0.5
        a[:] = trial
        merit = new
        if decrement < DECREMENT:
            break
    return merit


@compiled
def _profile_multinomial(
    x: FloatArray, y: FloatArray, totals: FloatArray, nugget: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, float, float]:
    """More than three isoforms: a small Newton problem at every spot; right for three as well."""
    n, n_logits = x.shape
    score, pi = start.copy(), np.empty((n, n_logits + 1))
    neg_hessian = np.empty((n, n_logits, n_logits))
    vectors, matrices = np.zeros((4, n_logits)), np.zeros((3, n_logits, n_logits))
    value, log_det = 0.0, 0.0
    for s in range(n):
        value += _profile_spot(x[s], y[s], totals[s], nugget, score[s], pi[s], vectors, matrices)
        _root_information(totals[s], pi[s], matrices[0])
        log_det += _inner_cholesky(matrices[0], nugget, matrices[1])
        _shrunk_information(matrices[0], matrices[1], matrices[2], neg_hessian[s])
    return score, pi, neg_hessian, value, -0.5 * log_det


# By the number of logits; all others take ``_profile_multinomial``.
PROFILES = {1: _profile_binomial, 2: profile_trinomial}


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
def _derive_multinomial(
    pi: FloatArray,
    totals: FloatArray,
    nugget: FloatArray,
    score: FloatArray,
    neg_hessian: FloatArray,
    weight: FloatArray,
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
        _trace_third(totals[s], pi[s], sigma, tau)
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
