"""Quasi-random points of the unit cube."""

import math

import numpy as np
from scipy.stats.qmc import Sobol

from splisosm_pyro.maths.numeric.arrays import FloatArray


def shifted_sobol(n_points: int, size: int, generator: np.random.Generator) -> FloatArray:
    """Return (n_points, size) of a Sobol sequence in the unit cube, shifted at random modulo 1."""
    points = Sobol(size, scramble=False).random_base2(math.ceil(math.log2(max(n_points, 2))))
    shifted = (points[:n_points] + generator.uniform(size=size)) % 1.0
    return np.asarray(np.clip(shifted, 1e-12, 1.0 - 1e-12))
