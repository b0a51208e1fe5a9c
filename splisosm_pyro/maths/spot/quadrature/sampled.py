"""One spot's integral over a Gaussian of many logits: importance sampling at a bounded cost.

    g(x) = log int exp(l(x + L z)) N(z; 0, I) dz,        C = L L'

over points of a fixed sequence, half of them as they are and half moved and narrowed to the Laplace
approximation of the spot's posterior of z, ``N(u, (I + L' W L)^-1)``. Weighed against the mixture
of the two a term is at most twice a likelihood whichever is the better proposal, so rich and poor
spots cost the same: 2 N Q^2 operations, where a lattice takes a number of nodes to the power Q.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.quadrature.lattice import cholesky, log_height, mode_of, whitened


@compiled
def sampled(y: FloatArray, x: FloatArray, cov: FloatArray, points: FloatArray) -> float:
    """Give g from standard normal points (N, Q)."""
    total, n = float(y.sum()), points.shape[0]
    root, p = cholesky(cov), np.empty(x.size)
    u = mode_of(y, total, x, root)
    log_height(y, total, x + root @ u, p)
    half = whitened(p, total, root)[1]
    ratio, sums, top = np.empty(x.size), 0.0, -math.inf
    for k in range(2 * n):
        point = points[k % n]
        z = point if k < n else u + half.T @ point
        move = root @ (z - u)
        # log of the narrow density over the prior's: at z their exponents differ by this
        excess = 0.5 * float(z @ z) - 0.5 * float((z - u) @ (z - u))
        excess -= 0.5 * total * float(p @ (move * move) - (p @ move) ** 2)
        for q in range(x.size):
            excess -= math.log(half[q, q])
        mixture = max(excess, 0.0) + math.log1p(math.exp(-abs(excess)))
        term = log_height(y, total, x + root @ z, ratio) - mixture
        if term > top:
            sums, top = sums * math.exp(top - term), term
        sums += math.exp(term - top)
    return top + math.log(sums / n)
