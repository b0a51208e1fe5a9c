"""What the chains of ``marginal_nuts`` move by: an interpolated density whose gradient is cheap.

It stays between two multiples of a multivariate t: beyond its points an interpolation may fall too
fast, and a chain corrected with the density itself (``chains.py``) would stay there for long, or
rise, and the chain would try to get there for long. What is wrong with it costs draws and nothing
else.
"""

import math
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.interpolation.gaussian_process import Surrogate
from splisosm_pyro.posterior.interpolation.importance_sampling import DEGREES, StudentT
from splisosm_pyro.posterior.interpolation.interpolated_density import Interpolated
from splisosm_pyro.posterior.nuts.coordinates import Coordinates

# So many nats below and above the t, where that is as high as the density at its highest.
FLOOR, CEILING = 7.0, 2.0
# So many values and slopes are interpolated, over one of these lengths, about a Gaussian so wide.
NODES, LENGTHS, WIDTH = 2000, (2.0, 3.0, 4.0), 1.2


@dataclass(frozen=True, eq=False)
class SurrogateDensity:
    """An interpolated density as one of ``z``, with its Jacobian, interpolated again."""

    surrogate: Surrogate

    @classmethod
    def of(
        cls, between: Interpolated, coordinates: Coordinates, draws: FloatArray
    ) -> "SurrogateDensity":
        """Interpolate ``between`` at some of its draws (N, K) and at points further out."""
        size = draws.shape[1]
        half = NODES // (2 * (size + 1))
        near, unit = coordinates.from_u(draws[:half]), np.eye(size)
        wide = StudentT(np.zeros(size), unit).points(half, np.random.default_rng(0))
        nodes = np.array([z for z in np.concatenate([near, wide]) if coordinates.inside(z)])
        found = [between.with_slope(coordinates.to_u(z)) for z in nodes]
        values = np.array(
            [v + coordinates.log_det(z) for z, (v, _) in zip(nodes, found, strict=True)]
        )
        slopes = np.stack(
            [coordinates.pulled(z, s) for z, (_, s) in zip(nodes, found, strict=True)]
        )
        centre, root = np.zeros(size), WIDTH * unit
        through = Surrogate.through(nodes, values, slopes, centre, root, LENGTHS, fading=True)
        return cls(through)

    def with_slope(self, z: FloatArray) -> tuple[float, FloatArray]:
        """Return the log density in ``z`` (K,), Jacobian and all, and its gradient."""
        value, slope = self.surrogate.with_slope(z)
        square = DEGREES + float(z @ z)
        by_t = (-(DEGREES + z.size) / square) * z
        t = self.surrogate.level - 0.5 * (DEGREES + z.size) * math.log(square / DEGREES)
        if value > t + CEILING:
            return t + CEILING, by_t
        both = max(value, t - FLOOR) + math.log1p(math.exp(-abs(value - t + FLOOR)))
        share = math.exp(value - both)
        return both, share * slope + (1.0 - share) * by_t
