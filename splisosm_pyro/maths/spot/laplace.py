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

In turned coordinates (``maths/coding.py``) the logits are ``L (x + T a)`` with an upper triangular
``L``: scores and informations of logits are pulled back, ``L' l'`` and ``L' W L``, and ``tau`` is
``L'`` times that of ``L Sigma L'``. All else is the same.
"""

import math

import numpy as np

from splisosm_pyro.maths.coding import NO_TURN
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.laplace_any_isoforms import derive_multinomial, profile_multinomial
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
    turn
        (Q, Q) ``L``, what takes ``x`` to logits; (0, 0) where they are the same.
    """

    def __init__(self, counts: FloatArray, turn: FloatArray = NO_TURN) -> None:
        self._y = np.ascontiguousarray(counts[:, :-1])
        self._turn = turn
        self._totals = counts.sum(axis=1)
        self._last: SpotTerms | None = None  # a good start for the next evaluation

    def evaluate(self, x: FloatArray, nugget: FloatArray) -> SpotTerms:
        """Return the spot terms at ``x`` (n, Q); one to three Newton steps a spot."""
        start = self._predicted(x, nugget)
        if self._turn.size == 0 and x.shape[1] in PROFILES:
            found = PROFILES[x.shape[1]](x, self._y, self._totals, nugget, start)
        else:
            found = profile_multinomial(x, self._y, self._totals, nugget, start, self._turn)
        score, pi, neg_hessian, value, correction = found
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
        own = (
            terms.extra[0], self._totals, terms.nugget, terms.score, terms.neg_hessian, weight
        )  # fmt: skip
        if terms.x.shape[1] == 1:
            return SpotDerivatives(*_derive_binomial(*own))
        return SpotDerivatives(*derive_multinomial(*own, self._turn))


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


# By the number of logits, where nothing is turned; all others take ``profile_multinomial``.
PROFILES = {1: _profile_binomial, 2: profile_trinomial}
