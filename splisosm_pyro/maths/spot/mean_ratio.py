"""Mean isoform ratios under a Gaussian: ``E softmax([eta, 0])`` for ``eta ~ N(mean, cov)``.

A trapezoidal lattice in whitened coordinates, cut to a ball. It converges exponentially as long as
the step resolves the softmax; the number of nodes is capped, so that a huge covariance costs
accuracy and not time.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled

# By number of logits: step for a narrow Gaussian, radius of the ball, most nodes.
LATTICE = {1: (0.8, 7.0, 2000), 2: (0.85, 6.2, 20000), 3: (1.0, 5.5, 20000)}
MANY = (1.25, 4.6, 20000)
CHUNK = 128


def mean_ratio(mean: FloatArray, cov: FloatArray) -> FloatArray:
    """Return ``E softmax([eta, 0])`` for ``eta ~ N(mean, cov)`` at every spot.

    Parameters
    ----------
    mean, cov
        (S, Q) and (S, Q, Q), positive semi-definite; logits.

    Returns
    -------
    FloatArray
        (S, P), rows sum to one. Error about 1e-10 for one logit, 1e-7 for two, 1e-6 for three and
        1e-4 for more at standard deviations up to 2; cost O(S nodes Q).

    Examples
    --------
    >>> import numpy as np
    >>> ratio = mean_ratio(np.array([[1.0]]), np.array([[[4.0]]]))
    >>> print(f"{ratio[0, 0]:.6f}")
    0.647726
    """
    n_spots, n_logits = mean.shape
    root = square_root(cov)
    reach = np.maximum(root.max(axis=1), 0.0) - np.minimum(root.min(axis=1), 0.0)
    widest = reach.max(axis=1, initial=0.0)
    order = np.argsort(widest, kind="stable")
    out = np.empty((n_spots, n_logits + 1))
    for first in range(0, n_spots, CHUNK):  # spots of like width share a lattice
        rows = order[first : first + CHUNK]
        z, weight = _lattice(n_logits, float(widest[rows].max()))
        out[rows] = _average(mean[rows], root[rows], z, weight)
    return out


def _lattice(n_logits: int, reach: float) -> tuple[FloatArray, FloatArray]:
    """Give nodes (k, Q) and weights (k,) for logits that move by ``reach`` a unit of z."""
    step, radius, most = LATTICE.get(n_logits, MANY)
    step = 1.0 / math.sqrt(1.0 / (step * step) + reach * reach)
    ball = math.pi ** (n_logits / 2) / math.gamma(n_logits / 2 + 1) * radius**n_logits
    step = max(step, (ball / most) ** (1.0 / n_logits))
    line = np.arange(-math.floor(radius / step), math.floor(radius / step) + 1) * step
    z = np.stack(np.meshgrid(*[line] * n_logits, indexing="ij"), axis=-1).reshape(-1, n_logits)
    square = (z * z).sum(axis=1)
    inside = square <= radius * radius
    weight = np.exp(-0.5 * square[inside])
    return np.ascontiguousarray(z[inside]), weight / weight.sum()


@compiled
def _average(mean: FloatArray, root: FloatArray, z: FloatArray, weight: FloatArray) -> FloatArray:
    """Average the softmax over the nodes at every spot."""
    n_spots, n_logits = mean.shape
    out = np.zeros((n_spots, n_logits + 1))
    eta = np.empty(n_logits + 1)
    for s in range(n_spots):
        for i in range(weight.size):
            eta[n_logits], top = 0.0, 0.0
            for q in range(n_logits):
                eta[q] = mean[s, q]
                for k in range(n_logits):
                    eta[q] += root[s, q, k] * z[i, k]
                top = max(top, eta[q])
            norm = 0.0
            for q in range(n_logits + 1):
                eta[q] = math.exp(eta[q] - top)
                norm += eta[q]
            for q in range(n_logits + 1):
                out[s, q] += weight[i] * eta[q] / norm
    return out


def normal_nodes(n_logits: int, nodes: int) -> tuple[FloatArray, FloatArray]:
    """Give the Gauss-Hermite product rule of the standard normal: points (k, Q), weights (k,)."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / w.sum()
    grid = np.stack(np.meshgrid(*[z] * n_logits, indexing="ij"), axis=-1).reshape(-1, n_logits)
    weights = np.stack(np.meshgrid(*[w] * n_logits, indexing="ij"), axis=-1)
    return grid, weights.reshape(-1, n_logits).prod(axis=1)


def square_root(cov: FloatArray) -> FloatArray:
    """Give symmetric square roots; rounding below zero counts as zero."""
    values, vectors = np.linalg.eigh(cov)
    root = np.sqrt(np.maximum(values, 0.0))
    scaled: FloatArray = (vectors * root[:, None, :]) @ vectors.swapaxes(1, 2)
    return scaled
