"""A prior of sigma stated on what people can read: how far isoform usage ranges over the tissue.

The range of an isoform's usage is its largest less its smallest value over the spots (``coverage``
below 1: the width of the middle share of the spots). Drawn are fields from the model's own prior:
``nu_q = sigma (sqrt(theta) w_q + sqrt(1 - theta) e_q)`` around equal usage, theta uniform unless
said otherwise; a spot that is alone ranges between two draws. In each draw the range of the
isoform that ranges most grows with sigma; let
``t_i`` be the sigma at which draw i passes r. With ``sigma ~ Exponential(rate)``

    P(range > r) = E[P(sigma > t)] = mean_i exp(-rate t_i),

one equation for the rate. The draws are seeded, so a kernel, P, r and a give one number; its
Monte Carlo error is about 0.5 % of the rate.
"""

import math
import weakref
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import brentq

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors.base import check_positive
from splisosm_pyro.maths.priors.sigma import ExponentialScale

# Fields that are drawn for a conversion, and the seed of the conversions.
FIELDS, SEED = 400, 20170201
# Sigma at which the range is compared first and last; halvings of the logarithm in between.
LEAST_SIGMA, MOST_SIGMA, HALVINGS = 1e-3, 1e3, 30


@dataclass(frozen=True)
class PCUsagePrior(ExponentialScale):
    """The penalised-complexity prior of sigma by ``P(usage ranges over more than r) = prob``.

    The usage meant is that of the isoform that ranges most. ``for_gene(kernel, P)`` converts it;
    before, it has no density. See the module for the conversion, ``PCPrior`` for the prior.

    Parameters
    ----------
    usage_range : float
        r in (0, 1), a difference of usage.
    prob : float
        a in (0, 1).
    coverage : float
        1: the range is the largest less the smallest usage over the spots; below 1: the width of
        the middle share of the spots.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in (0, 1).

    Examples
    --------
    >>> from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
    >>> kernel = DenseKernel(torch.eye(30, dtype=torch.float64))
    >>> prior = PCUsagePrior(usage_range=0.5, prob=0.05).for_gene(kernel, 2)
    >>> 5.0 < prior.rate < 7.0
    True
    """

    usage_range: float = 0.5
    prob: float = 0.05
    coverage: float = 1.0
    exponent: float | None = field(default=None, kw_only=True)
    kind: ClassVar[str] = "pc_usage"

    def __post_init__(self) -> None:
        check_positive(self, {"usage_range": self.usage_range, "prob": self.prob}, below=1.0)
        check_positive(self, {"coverage": self.coverage}, below=1.0 + 1e-12)

    @property
    def rate(self) -> float:
        """The rate of the exponential; a ValueError before ``for_gene``."""
        if self.exponent is None:
            raise ValueError(
                "a pc_usage prior has a density only for a kernel and a number of isoforms: "
                "call for_gene(kernel, n_isos)"
            )
        return self.exponent

    def for_gene(self, kernel: Kernel, n_isos: int) -> "PCUsagePrior":
        """Convert to a rate for P isoforms on the kernel's tissue; kept, so that it costs once.

        Raises
        ------
        ValueError
            If whatever sigma the usage ranges over more than r less often than ``prob`` asks.
        """
        if self.exponent is not None:
            return self
        known = _RATES.setdefault(kernel, {})
        key = (n_isos, self.usage_range, self.prob, self.coverage)
        if key not in known:
            known[key] = self._convert(kernel, n_isos)
        return replace(self, exponent=known[key])

    def _convert(self, kernel: Kernel, n_isos: int) -> float:
        fields = unit_fields(kernel, n_isos - 1, FIELDS, SEED)
        if kernel.n_spots == 1:
            fields = np.concatenate([fields, np.roll(fields, 1, axis=0)], axis=-1)
        passing = passing_sigma(fields, self.usage_range, self.coverage)
        passed = float(np.isfinite(passing).mean())
        if passed <= self.prob:
            raise ValueError(
                f"prob must be below the share of draws whose usage can range over more than "
                f"{self.usage_range:g}: passed in {100.0 * passed:.0f} % of the draws on "
                f"{kernel.n_spots} spots, came {self.prob:g}"
            )

        def excess(log_rate: float) -> float:
            return float(np.exp(-math.exp(log_rate) * passing).mean()) - self.prob

        middle = math.log(-math.log(self.prob) / float(np.median(passing[np.isfinite(passing)])))
        return math.exp(float(brentq(excess, middle - 12.0, middle + 12.0, xtol=1e-12)))


_RATES: "weakref.WeakKeyDictionary[Kernel, dict[Any, float]]" = weakref.WeakKeyDictionary()


def unit_fields(
    kernel: Kernel, n_logits: int, n_draws: int, seed: int, theta: FloatArray | None = None
) -> FloatArray:
    """Draw fields (N, Q, S) of total variance 1; ``theta`` (N, C), or one uniform draw each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand((n_draws, 1), generator=generator, dtype=torch.float64).numpy()
    share = np.broadcast_to(drawn if theta is None else theta, (n_draws, n_logits))[:, :, None]
    smooth = kernel.sample((n_draws, n_logits), generator).numpy()
    white = torch.randn(smooth.shape, generator=generator, dtype=torch.float64).numpy()
    return np.asarray(np.sqrt(share) * smooth + np.sqrt(1.0 - share) * white)


def usage_ranges(eta: FloatArray, coverage: float = 1.0) -> FloatArray:
    """Return how far the usage of every isoform ranges, (N, P), for logits (N, Q, S).

    Examples
    --------
    >>> usage_ranges(np.array([[[0.0, np.log(3.0)]]])).round(6)  # one half to three quarters
    array([[0.25, 0.25]])
    """
    top = np.maximum(eta.max(axis=1, keepdims=True), 0.0)
    weights = np.concatenate([np.exp(eta - top), np.exp(-top)], axis=1)
    usage = weights / weights.sum(axis=1, keepdims=True)
    if coverage >= 1.0:
        return np.asarray(usage.max(axis=-1) - usage.min(axis=-1))
    ends = np.quantile(usage, [0.5 * (1.0 - coverage), 0.5 * (1.0 + coverage)], axis=-1)
    return np.asarray(ends[1] - ends[0])


def passing_sigma(fields: FloatArray, usage_range: float, coverage: float = 1.0) -> FloatArray:
    """Return the sigma (N,) at which the widest range of usage passes ``usage_range``.

    By halving the interval of log sigma; infinite where it is never passed.
    """
    low = np.full(len(fields), math.log(LEAST_SIGMA))
    high = np.full(len(fields), math.log(MOST_SIGMA))
    never = _widest(fields, high, coverage) <= usage_range
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        above = _widest(fields, middle, coverage) > usage_range
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(never, np.inf, np.exp(high))


def _widest(fields: FloatArray, log_sigma: FloatArray, coverage: float) -> FloatArray:
    """Return the largest range over the isoforms, (N,)."""
    return np.asarray(usage_ranges(np.exp(log_sigma)[:, None, None] * fields, coverage).max(axis=1))
