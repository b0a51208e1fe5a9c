"""Whether ranks are uniform: a test of the whole empirical distribution, with simultaneous bands.

Of N ranks in 0..L the number below j is Binomial(N, j / (L + 1)) if they are uniform. The statistic
is the smallest two-sided tail probability over all j; its distribution under uniformity, and so the
p-value and the width of bands that hold for all j together, come from simulated ranks.

Reference: Sailynoja, Burkner and Vehtari (2022), Graphical test for discrete uniformity and its
applications in goodness-of-fit evaluation and multiple sample comparison,
doi:10.1007/s11222-022-10090-6.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import binom

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

SIMULATED = 10_000
# The distribution is looked at in at most so many places.
MOST_POINTS = 100


@dataclass(frozen=True)
class UniformityTest:
    """The test for N ranks in 0..L; the simulated ranks are made once and kept.

    Attributes
    ----------
    n_ranks, n_draws : int
        N and L.
    seed : int
        Of the simulated ranks.

    Examples
    --------
    >>> test = UniformityTest(200, 99)
    >>> uniform, narrow = np.arange(200) % 100, np.repeat([0, 99], 100)
    >>> test.p_value(uniform) > 0.9, test.p_value(narrow) < 0.001
    (True, True)
    """

    n_ranks: int
    n_draws: int
    seed: int = 0

    @cached_property
    def places(self) -> IndexArray:
        """Where the distribution is looked at: numbers j of ranks below, 1..L."""
        n_points = min(self.n_draws, MOST_POINTS)
        return np.unique(np.linspace(1, self.n_draws, n_points).round().astype(np.intp))

    @cached_property
    def levels(self) -> FloatArray:
        """Share of ranks below each place under uniformity."""
        return np.asarray(self.places / (self.n_draws + 1))

    @cached_property
    def _tails(self) -> FloatArray:
        """Two-sided tail probability of every count 0..N at every place, (places, N+1)."""
        counts = np.arange(self.n_ranks + 1)
        low = binom.cdf(counts, self.n_ranks, self.levels[:, None])
        high = binom.sf(counts - 1, self.n_ranks, self.levels[:, None])
        return np.asarray(np.minimum(1.0, 2.0 * np.minimum(low, high)))

    @cached_property
    def _null(self) -> FloatArray:
        """Sorted statistics of simulated uniform ranks."""
        rng = np.random.default_rng(self.seed)
        widths = np.diff(np.concatenate([[0.0], self.levels, [1.0]]))
        below = rng.multinomial(self.n_ranks, widths, size=SIMULATED)[:, :-1].cumsum(axis=1)
        return np.sort(self._tails[np.arange(self.places.size), below].min(axis=1))

    def ecdf(self, ranks: IndexArray) -> FloatArray:
        """Return the share of ranks below each place."""
        below = np.searchsorted(np.sort(ranks), self.places, side="left")
        return np.asarray(below / self.n_ranks)

    def p_value(self, ranks: IndexArray) -> float:
        """Return how often uniform ranks look no more uniform than these, at least 1e-4."""
        below = np.searchsorted(np.sort(ranks), self.places, side="left")
        statistic = self._tails[np.arange(self.places.size), below].min()
        smaller = np.searchsorted(self._null, statistic * (1.0 + 1e-12), side="right")
        return float((1 + smaller) / (1 + SIMULATED))

    def band(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Return bounds of the ecdf that uniform ranks leave anywhere with probability alpha."""
        gamma = float(np.quantile(self._null, alpha))
        low = binom.ppf(0.5 * gamma, self.n_ranks, self.levels)
        high = binom.isf(0.5 * gamma, self.n_ranks, self.levels)
        return np.asarray(low / self.n_ranks), np.asarray(high / self.n_ranks)
