"""A gene under the population: its posterior over the grid, in a few numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import expit

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.grid import GRID

TAILS = (0.05, 0.95)
# Steps within a cell at which its distribution function is read off.
FINE = 32
# A cell of less probability has none.
NOTHING = 1e-15


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

    @property
    def _inside(self) -> FloatArray:
        """The weights with a field in space, a row a sigma."""
        return self.weights[: GRID.inside].reshape(GRID.log_sigmas.size, GRID.logits.size)

    def sigma(self) -> dict[str, float]:
        """Return mean, sd and 90 % interval of sigma, 0 where there is no field."""
        each = self._inside.sum(axis=1) + self.weights[GRID.inside : -1]
        return _summary(each, float(self.weights[-1]), GRID.log_sigmas, np.exp)

    def theta(self) -> dict[str, float]:
        """Return those of theta, 0 where there is no space, given that there is a field."""
        field = max(1.0 - float(self.weights[-1]), 1e-300)
        nothing = float(self.weights[GRID.inside : -1].sum()) / field
        return _summary(self._inside.sum(axis=0) / field, nothing, GRID.logits, expit)


def _summary(
    each: FloatArray, nothing: float, places: FloatArray, scale: Callable[[FloatArray], FloatArray]
) -> dict[str, float]:
    """Return mean, sd and quantiles of cells about even places, on a scale, and a mass at 0."""
    values = scale(places)
    mean = float(each @ values)
    sd = float(np.sqrt(max(float(each @ values**2) - mean**2, 0.0)))
    each = np.where(each < NOTHING, 0.0, each)
    edges = np.arange(len(places) + 1) - 0.5
    below = PchipInterpolator(edges, nothing + np.concatenate([[0.0], np.cumsum(each)]))
    fine = np.linspace(edges[0], edges[-1], FINE * len(places) + 1)
    at = np.interp(TAILS, below(fine), fine)
    ends = scale(places[0] + at * (places[1] - places[0]))
    low, high = (
        0.0 if tail <= nothing else float(end) for tail, end in zip(TAILS, ends, strict=True)
    )
    return {"mean": mean, "sd": sd, "low": low, "high": high}
