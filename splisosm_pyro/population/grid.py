"""One grid of ``(log sigma, theta_logit)`` for all genes, and their likelihoods on it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import expit

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.surface import ANGLES, LEAST, MOST, Surface

# Even steps; shares beyond this logit, .0025 and .9975, count as the ends.
SIGMAS, LOGITS, END = 38, 41, 6.0
# Point masses that a population may have, by name.
NO_SPACE, NO_FIELD = "without_space", "without_field"
Masses = tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """N = SIGMAS x LOGITS cells inside, then one without space for each sigma, one without field.

    Vectors over the grid have N + SIGMAS + 1 entries in that order.
    """

    @cached_property
    def log_sigmas(self) -> FloatArray:  # (SIGMAS,)
        """Centres of the cells in log sigma."""
        return np.linspace(LEAST, MOST, SIGMAS)

    @cached_property
    def logits(self) -> FloatArray:  # (LOGITS,)
        """Centres of the cells in theta_logit."""
        return np.linspace(-END, END, LOGITS)

    @cached_property
    def angles(self) -> FloatArray:  # (LOGITS,)
        """The same as angles of sin^2."""
        return np.asarray(2.0 / np.pi * np.arcsin(np.sqrt(expit(self.logits))))

    @cached_property
    def log_sigma(self) -> FloatArray:
        """Log sigma at every entry, minus infinity without a field."""
        inside = np.repeat(self.log_sigmas, LOGITS)
        return np.concatenate([inside, self.log_sigmas, [-np.inf]])

    @cached_property
    def theta(self) -> FloatArray:
        """Theta at every entry, 0 without space."""
        inside = np.tile(expit(self.logits), SIGMAS)
        return np.concatenate([inside, np.zeros(SIGMAS + 1)])

    @cached_property
    def theta_logit(self) -> FloatArray:
        """Theta_logit at every entry, minus infinity without space."""
        return np.concatenate([np.tile(self.logits, SIGMAS), np.full(SIGMAS + 1, -np.inf)])

    @property
    def inside(self) -> int:
        """N, how many entries have a spatial field."""
        return SIGMAS * LOGITS

    @property
    def size(self) -> int:
        """How many entries there are."""
        return SIGMAS * LOGITS + SIGMAS + 1

    def log_likelihood(self, surface: Surface | None) -> FloatArray:
        """Return a gene's log likelihood at every entry, that without a field 0.

        By splines through the rows. Below the lowest row it goes to 0 like sigma^2, above the
        highest it falls on in a straight line; without a surface it is 0 throughout.
        """
        if surface is None:
            return np.zeros(self.size)
        along = CubicSpline(ANGLES, surface.values, axis=1, bc_type="clamped")
        shares = np.column_stack([along(self.angles), surface.values[:, 0]])  # theta = 0 last
        values = self._over_sigma(surface.log_sigma, shares)
        return np.concatenate([values[:, :-1].ravel(), values[:, -1], [0.0]])

    def _over_sigma(self, rows: FloatArray, values: FloatArray) -> FloatArray:
        """Read off values (R, T) at all of the grid's sigmas."""
        x, out = self.log_sigmas, np.empty((SIGMAS, values.shape[1]))
        below, above = x < rows[0], x > rows[-1]
        inside = ~below & ~above
        spline = CubicSpline(rows, values) if len(rows) > 1 else None
        out[inside] = values[0] if spline is None else spline(x[inside])
        out[below] = np.exp(2.0 * (x[below] - rows[0]))[:, None] * values[0]
        slope = np.zeros(values.shape[1])
        if spline is not None:
            slope = np.minimum((values[-1] - values[-2]) / (rows[-1] - rows[-2]), 0.0)
        out[above] = values[-1] + (x[above] - rows[-1])[:, None] * slope
        return out


GRID = Grid()
