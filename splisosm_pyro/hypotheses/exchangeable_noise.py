"""Spots whose white noise treats all isoforms alike, so that no isoform need be the reference.

Each of the P logits of a spot has a noise of its own, ``N(0, variance / 2)``; two isoforms' log
ratio then has ``variance``. For two isoforms that is the model's own noise. For more the model's
noise, which has none on its reference, is another one for every choice of the reference.

The integral over P noises is that of a spot with one isoform more, which has no noise, no reads and
next to no usage (``FAR``): the star of ``maths/spot/quadrature`` does it at any P in 5 us.
"""

from functools import cache, cached_property
from itertools import combinations

import numpy as np
from scipy.linalg import helmert

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.gaussian import log_coefficient
from splisosm_pyro.maths.spot.integrated import QuadratureNugget

# Logits by which the isoforms lie above the one that is not there.
FAR = 35.0
# Spots of up to MOST_READS have their information by enumeration, if that takes no more than
# MOST_OUTCOMES a spot and, fewest reads first, MOST_EVALUATIONS a gene.
MOST_READS, MOST_OUTCOMES, MOST_EVALUATIONS = 12, 91, 10_000


class ExchangeableSpots:
    """The occupied spots of a gene, ``counts`` (n, P), every isoform with reads somewhere."""

    def __init__(self, counts: FloatArray) -> None:
        self.counts = counts

    @cached_property
    def _nugget(self) -> QuadratureNugget:
        if self.counts.shape[1] == 2:
            return QuadratureNugget(self.counts)
        return QuadratureNugget(np.column_stack([self.counts, np.zeros(len(self.counts))]))

    def each(
        self,
        x: FloatArray,  # (n, Q)
        variance: float,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log density (n,), the P isoforms' scores (n, P), their information (n, P, P)."""
        n_isos = self.counts.shape[1]
        if n_isos == 2:
            value, score, info = self._nugget.each(x, np.array([variance]))
            signs = np.array([1.0, -1.0])
            return value, score * signs, info * np.outer(signs, signs)
        logits = np.column_stack([x, np.zeros(len(x))])
        logits += FAR - logits.mean(axis=1, keepdims=True)
        value, score, info = self._nugget.each(logits, np.full(n_isos, 0.5 * variance))
        return value, score, info


def contrasts(n_isos: int) -> FloatArray:
    """Return an orthonormal basis (P, Q) of what sums to 0 over isoforms.

    Examples
    --------
    >>> contrasts(2).round(3).tolist()
    [[0.707], [-0.707]]
    """
    return np.ascontiguousarray(helmert(n_isos).T)


@cache
def outcomes(total: int, n_isos: int) -> FloatArray:
    """Return all ways (N, P) in which ``total`` reads may fall on P isoforms.

    Examples
    --------
    >>> outcomes(1, 3).tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    places = total + n_isos - 1
    bars = np.array(list(combinations(range(places), n_isos - 1)), dtype=np.float64)
    edges = np.column_stack([np.full(len(bars), -1.0), bars, np.full(len(bars), float(places))])
    return np.ascontiguousarray(np.diff(edges, axis=1) - 1.0)


def expected_information(
    counts: FloatArray,  # (n, P)
    x: FloatArray,  # (n, Q)
    variance: float,
    observed: FloatArray,  # (n, P, P)
) -> FloatArray:  # (n, P, P)
    """Return ``E[r r']`` of every spot given its total, ``observed`` where there are many reads."""
    info, left = observed.copy(), MOST_EVALUATIONS
    totals, n_isos = counts.sum(axis=1), counts.shape[1]
    for total in range(1, MOST_READS + 1):
        spots = np.flatnonzero(totals == total)
        if not spots.size:
            continue
        rows, place = np.unique(x[spots], axis=0, return_inverse=True)
        ways = outcomes(total, n_isos)
        left -= len(ways) * len(rows)
        if len(ways) > MOST_OUTCOMES or left < 0:
            break
        info[spots] = _enumerated(ways, rows, variance)[place.reshape(-1)]
    return info


def _enumerated(ways: FloatArray, rows: FloatArray, variance: float) -> FloatArray:
    """Return ``E[r r']`` (u, P, P) over the outcomes (N, P) at the logits (u, Q)."""
    n_ways, n_rows = len(ways), len(rows)
    spots = ExchangeableSpots(np.tile(ways, (n_rows, 1)))
    value, score, _ = spots.each(np.repeat(rows, n_ways, axis=0), variance)
    log_share = value.reshape(n_rows, n_ways) + log_coefficient(ways)
    share = np.exp(log_share)
    share /= share.sum(axis=1, keepdims=True)
    scores = score.reshape(n_rows, n_ways, -1)
    return np.asarray((scores * share[:, :, None]).transpose(0, 2, 1) @ scores)
