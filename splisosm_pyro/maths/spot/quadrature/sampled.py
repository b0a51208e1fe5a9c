"""One spot's integral over a Gaussian of many logits: importance sampling at a bounded cost.

    g(x) = log int exp(l(x + L z)) N(z; 0, I) dz,        C = L L'

over points of a fixed sequence, half of them as they are and half moved and narrowed to the Laplace
approximation of the spot's posterior of z, ``N(u, (I + L' W L)^-1)``. Weighed against the mixture
of the two a term is at most twice a likelihood whichever is the better proposal, so rich and poor
spots cost the same: 2 N Q^2 operations, where a lattice takes a number of nodes to the power Q. The
weighed points give the posterior moments of the usages as well.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.lattice import cholesky, log_height, mode_of, whitened


@compiled
def sampled(
    y: FloatArray,
    x: FloatArray,
    cov: FloatArray,
    points: FloatArray,
    share: FloatArray,
    spread: FloatArray,
) -> float:
    """Give g from standard normal points (N, Q); write mean (P,) and covariance (P, P) of usage."""
    total, n, n_logits = float(y.sum()), points.shape[0], x.size
    root, p = cholesky(cov), np.empty(x.size)
    u = mode_of(y, total, x, root)
    log_height(y, total, x + root @ u, p)
    half = whitened(p, total, root)[1]
    narrow = -np.log(np.diag(half)).sum()
    ratio, eta, z = np.empty(n_logits + 1), np.empty(n_logits), np.empty(n_logits)
    share[:], spread[:] = 0.0, 0.0
    sums, top = 0.0, -math.inf
    for k in range(2 * n):
        _place(points[k % n], u, half, k < n, z)
        excess = narrow + _excess(z, u, root, p, total)
        mixture = max(excess, 0.0) + math.log1p(math.exp(-abs(excess)))
        _logits(x, root, z, eta)
        term = log_height(y, total, eta, ratio[:-1]) - mixture
        ratio[-1] = 1.0 - ratio[:-1].sum()
        if term > top:
            fade = math.exp(top - term)
            sums, top = sums * fade, term
            share *= fade
            spread *= fade
        weight = math.exp(term - top)
        sums += weight
        for a in range(n_logits + 1):
            share[a] += weight * ratio[a]
            for b in range(a + 1):
                spread[a, b] += weight * ratio[a] * ratio[b]
    share /= sums
    for a in range(n_logits + 1):
        for b in range(a + 1):
            spread[a, b] = spread[a, b] / sums - share[a] * share[b]
            spread[b, a] = spread[a, b]
    return top + math.log(sums / n)


@compiled
def _place(point: FloatArray, u: FloatArray, half: FloatArray, wide: bool, z: FloatArray) -> None:
    """Write where a point lies: as it is, or moved and narrowed, ``u + half' point``."""
    for q in range(z.size):
        z[q] = point[q]
        if not wide:
            z[q] = u[q]
            for k in range(q, z.size):
                z[q] += half[k, q] * point[k]


@compiled
def _excess(z: FloatArray, u: FloatArray, root: FloatArray, p: FloatArray, total: float) -> float:
    """Give the log of the narrow density over the prior's at z, but for their constants."""
    excess, mean, square = 0.0, 0.0, 0.0
    for q in range(z.size):
        move = 0.0
        for k in range(q + 1):
            move += root[q, k] * (z[k] - u[k])
        mean += p[q] * move
        square += p[q] * move * move
        excess += 0.5 * (z[q] * z[q] - (z[q] - u[q]) * (z[q] - u[q]))
    return excess - 0.5 * total * (square - mean * mean)


@compiled
def _logits(x: FloatArray, root: FloatArray, z: FloatArray, eta: FloatArray) -> None:
    """Write ``x + L z``."""
    for q in range(x.size):
        eta[q] = x[q]
        for k in range(q + 1):
            eta[q] += root[q, k] * z[k]
