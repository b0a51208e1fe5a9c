"""Square roots of many small symmetric matrices at once."""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray

# Below it a block counts as zero.
SMALLEST = 1e-300


def symmetric_root(blocks: FloatArray) -> FloatArray:
    """Return the symmetric square roots of positive semi-definite blocks (n, Q, Q)."""
    if blocks.shape[1] == 1:
        return np.asarray(np.sqrt(np.maximum(blocks, 0.0)))
    if blocks.shape[1] == 2:  # Cayley and Hamilton: (A + sqrt|A| I) / sqrt(tr A + 2 sqrt|A|)
        det = blocks[:, 0, 0] * blocks[:, 1, 1] - blocks[:, 0, 1] * blocks[:, 1, 0]
        det_root = np.sqrt(np.maximum(det, 0.0))
        square = blocks[:, 0, 0] + blocks[:, 1, 1] + 2.0 * det_root
        share = np.where(square > 0.0, 1.0 / np.sqrt(np.maximum(square, SMALLEST)), 0.0)
        return np.asarray((blocks + det_root[:, None, None] * np.eye(2)) * share[:, None, None])
    values, vectors = np.linalg.eigh(0.5 * (blocks + blocks.transpose(0, 2, 1)))
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.asarray(scaled @ vectors.transpose(0, 2, 1))
