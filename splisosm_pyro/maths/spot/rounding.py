"""Curvatures of spots made positive where only rounding says that they are not."""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled


@compiled
def lift(matrix: FloatArray, total: float) -> None:
    """Lift diagonal entries by as little as makes all pivots positive: mostly by nothing.

    ``-g''`` (Q, Q) is a difference of two moments, each up to the spot's total: what is left of it
    where an isoform has all reads is the error of the integral.
    """
    size, least = matrix.shape[0], 1e-15 * total
    if size == 2 and matrix[0, 0] * matrix[1, 1] > matrix[0, 1] ** 2 and matrix[0, 0] > 0.0:
        return
    pivots = np.empty((size, size))
    for j in range(size):
        for i in range(j, size):
            rest = matrix[i, j]
            for k in range(j):
                rest -= pivots[i, k] * pivots[j, k] * pivots[k, k]
            if i == j:
                pivots[j, j] = rest
                if not rest > 0.0:
                    pivots[j, j] = least
                    matrix[j, j] += least - rest
            else:
                pivots[i, j] = rest / pivots[j, j]
