"""Importance weights with a Pareto-smoothed tail, and what they say of a proposal.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72);
the tail's fit is that of Zhang and Stephens (2009), doi:10.1198/tech.2009.08017.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

# A tail of fewer weights than this cannot be fitted.
SMALLEST_TAIL = 5
# Weak prior on the shape: as many weights' worth of k = 0.5.
PRIOR_WEIGHTS = 10
# The proposal is trusted below this k-hat.
KHAT_TRUSTED = 0.7
# Weights are nearly equal where this share of them is effective: one that a mean off by a tenth of
# an sd in two directions leaves.
EQUAL_SHARE = 0.98
# Where this share is effective the largest weights are a few times the mean, whatever k-hat says.
BOUNDED_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class Weights:
    """Normalised weights (N,) that sum to 1, and the shape ``khat`` of their tail."""

    values: FloatArray
    khat: float

    @property
    def effective(self) -> float:
        """Kish's effective number of draws."""
        return float(1.0 / np.sum(self.values**2))

    @property
    def share(self) -> float:
        """The share of the draws that is effective."""
        return self.effective / self.values.size

    @property
    def trusted(self) -> bool:
        """Whether the draws can be used: a light tail, or weights that are nearly equal.

        Of nearly equal weights the tail is a matter of ripples, and its shape says nothing.
        """
        return self.khat < KHAT_TRUSTED or self.share >= BOUNDED_SHARE

    def words(self) -> str:
        """Say what is wrong, nothing where all is well."""
        return "" if self.trusted else f"k-hat {self.khat:.2f} is above {KHAT_TRUSTED}"

    @property
    def equal(self) -> bool:
        """Whether the weights are nearly equal."""
        return self.share >= EQUAL_SHARE


def smoothed_weights(log_ratios: FloatArray) -> Weights:
    """Return self-normalised weights whose largest are replaced by Pareto quantiles.

    Parameters
    ----------
    log_ratios : ndarray, shape (N,)
        Log target minus log proposal; minus infinity has weight 0.

    Returns
    -------
    Weights
        ``khat`` is infinite where nothing can be said: no finite ratio, or a tail of fewer than 5.

    Examples
    --------
    >>> weights = smoothed_weights(np.linspace(-1.0, 0.0, 100))
    >>> round(weights.khat, 2), round(weights.effective)
    (-0.36, 92)
    """
    finite = log_ratios[np.isfinite(log_ratios)]
    if finite.size == 0:
        return Weights(np.full(log_ratios.size, 1.0 / max(log_ratios.size, 1)), np.inf)
    logs = log_ratios - finite.max()
    n_tail = int(np.ceil(min(0.2 * logs.size, 3.0 * np.sqrt(logs.size))))
    if n_tail < SMALLEST_TAIL or finite.size <= n_tail:
        return Weights(np.exp(logs - logsumexp(logs)), np.inf)
    order = np.argsort(logs, kind="stable")
    tail, cutoff = order[-n_tail:], float(np.exp(logs[order[-n_tail - 1]]))
    excess = np.exp(logs[tail]) - cutoff
    tail, excess = tail[excess > 0.0], excess[excess > 0.0]  # a draw may be there several times
    n_tail = tail.size
    if n_tail < SMALLEST_TAIL or excess[-1] - excess[0] <= 1e-12 * max(excess[-1], 1e-300):
        # ties: all weights of the tail are one, there is no tail
        return Weights(np.exp(logs - logsumexp(logs)), -np.inf)
    shape, scale = pareto_tail(excess)
    share = (np.arange(n_tail) + 0.5) / n_tail
    quantiles = cutoff + pareto_quantiles(share, shape, scale)
    logs[tail] = np.minimum(np.log(quantiles), 0.0)
    return Weights(np.exp(logs - logsumexp(logs)), shape)


def pareto_tail(excess: FloatArray) -> tuple[float, float]:
    """Return shape and scale of the generalised Pareto distribution of sorted positive values."""
    n = excess.size
    n_grid = 30 + int(np.sqrt(n))
    quarter = excess[int(n / 4 + 0.5) - 1]
    grid = (1.0 - np.sqrt(n_grid / (np.arange(n_grid) + 0.5))) / (3.0 * quarter) + 1.0 / excess[-1]
    shapes = np.log1p(-grid[:, None] * excess).mean(axis=1)
    profile = n * (np.log(-grid / shapes) - shapes - 1.0)
    posterior = np.exp(profile - logsumexp(profile))
    rate = float(grid @ posterior)
    shape = float(np.log1p(-rate * excess).mean())
    scale = -shape / rate
    return (n * shape + 0.5 * PRIOR_WEIGHTS) / (n + PRIOR_WEIGHTS), scale


def pareto_quantiles(share: FloatArray, shape: float, scale: float) -> FloatArray:
    """Quantiles of the generalised Pareto distribution."""
    if abs(shape) < 1e-12:
        return np.asarray(-scale * np.log1p(-share))
    return np.asarray(scale * np.expm1(-shape * np.log1p(-share)) / shape)


def systematic(weights: FloatArray, n_draws: int, generator: np.random.Generator) -> IndexArray:
    """Return ``n_draws`` sorted indices, each as often as its weight says, to the next integer."""
    places = (np.arange(n_draws) + generator.uniform()) / n_draws
    found = np.searchsorted(np.cumsum(weights), places)
    return np.minimum(found, weights.size - 1)
