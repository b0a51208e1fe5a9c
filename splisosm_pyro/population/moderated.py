"""A gene under the population: its posterior over the grid, in a few numbers."""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.grid import GRID

TAILS = (0.05, 0.95)


@dataclass(frozen=True, eq=False)
class Moderated:
    """Posterior probabilities (size,) of the grid's entries for one gene."""

    weights: FloatArray

    @classmethod
    def of_gene(cls, log_likelihood: FloatArray, log_mass: FloatArray) -> "Moderated":
        """Weigh the population by a gene's likelihood."""
        total = log_likelihood + log_mass
        weights = np.exp(total - total.max())
        return cls(weights / weights.sum())

    @property
    def p_spatial(self) -> float:
        """Probability of ``theta sigma^2 > 0``."""
        return float(self.weights[: GRID.inside].sum())

    def sigma(self) -> dict[str, float]:
        """Return mean, sd and 90 % interval of sigma, 0 where there is no field."""
        return _summary(np.exp(GRID.log_sigma), self.weights)

    def theta(self) -> dict[str, float]:
        """Return those of theta, 0 where there is no space, given that there is a field."""
        field = self.weights[:-1]
        return _summary(GRID.theta[:-1], field / max(field.sum(), 1e-300))


def _summary(values: FloatArray, weights: FloatArray) -> dict[str, float]:
    """Return mean, sd and quantiles; a cell's probability is spread to the middle of the next."""
    mean = float(weights @ values)
    sd = float(np.sqrt(max(float(weights @ (values - mean) ** 2), 0.0)))
    places, owner = np.unique(values, return_inverse=True)
    each = np.bincount(owner, weights=weights)
    below = np.cumsum(each) - 0.5 * each
    below[0] = each[0]  # all of a point mass lies at the lowest value
    low, high = np.interp(TAILS, below, places)
    return {"mean": mean, "sd": sd, "low": float(low), "high": float(high)}
