"""Statistics of isoform counts that a model of usage should reproduce.

Each takes replicates (N, S, P) that share their totals and returns a number for each, (N,). With
the pooled ratios ``p`` and the totals ``m`` let ``z = (y - m p) / sqrt(m)`` at the occupied spots.

``moran_i``        Moran's I of z over the graph of neighbours: spatial autocorrelation of usage
``overdispersion`` Pearson's ``sum z^2 / p`` over its degrees of freedom: 1 for a constant usage
``share_empty``    share of the isoforms, over occupied spots, without a single read
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray

Statistic = Callable[[AnyArray], FloatArray]


def _residuals(counts: AnyArray) -> tuple[FloatArray, FloatArray]:
    """Return z (N, n, P) at the occupied spots and the pooled ratios (N, 1, P)."""
    totals = counts[0].sum(axis=1)
    occupied = np.flatnonzero(totals)
    y, m = counts[:, occupied].astype(np.float64), totals[occupied].astype(np.float64)[:, None]
    pooled = y.sum(axis=1, keepdims=True) / max(float(m.sum()), 1.0)
    return (y - m * pooled) / np.sqrt(m), pooled


def moran_i(graph: csr_array) -> Statistic:
    """Return Moran's I over a symmetric graph (S, S) of weights; 0 where no neighbours have reads.

    References: Moran (1950), doi:10.1093/biomet/37.1-2.17.

    Examples
    --------
    >>> pair = csr_array([[0.0, 1.0], [1.0, 0.0]])
    >>> round(float(moran_i(pair)(np.array([[[4, 0], [0, 4]]]))[0]), 3)
    -1.0
    """

    def statistic(counts: AnyArray) -> FloatArray:
        occupied = np.flatnonzero(counts[0].sum(axis=1))
        weights = graph[occupied][:, occupied]
        total = float(weights.sum())
        z, _ = _residuals(counts)
        if total == 0.0:
            return np.zeros(len(counts))
        flat = z.transpose(1, 0, 2).reshape(occupied.size, -1)
        across = (flat * (weights @ flat)).sum(axis=0).reshape(len(counts), -1).sum(axis=1)
        own = (z**2).sum(axis=(1, 2))
        ratio = np.divide(across, own, out=np.zeros_like(own), where=own > 0)
        return np.asarray(occupied.size / total * ratio)

    return statistic


def overdispersion(counts: AnyArray) -> FloatArray:
    """Pearson's chi-square about the pooled ratios, over its degrees of freedom.

    Examples
    --------
    >>> float(overdispersion(np.array([[[4, 0], [0, 4]]]))[0])
    8.0
    """
    z, pooled = _residuals(counts)
    terms = np.divide(z**2, pooled, out=np.zeros_like(z), where=pooled > 0)
    present = (pooled > 0).sum(axis=(1, 2))
    freedom = np.maximum((z.shape[1] - 1) * (present - 1), 1)
    return np.asarray(terms.sum(axis=(1, 2)) / freedom)


def share_empty(counts: AnyArray) -> FloatArray:
    """Share of isoforms without a read, over occupied spots.

    Examples
    --------
    >>> float(share_empty(np.array([[[4, 0], [0, 4], [0, 0]]]))[0])
    0.5
    """
    occupied = np.flatnonzero(counts[0].sum(axis=1))
    if not occupied.size:
        return np.zeros(len(counts))
    return np.asarray((counts[:, occupied] == 0).mean(axis=(1, 2)))


def graph_of(kernel: Any, graph: Any, n_spots: int) -> csr_array | None:
    """Return the neighbours' graph (S, S): the one given, that of the kernel, or None."""
    if graph is not None:
        given = csr_array(graph)
        if given.shape != (n_spots, n_spots):
            raise ValueError(f"graph must have shape {(n_spots, n_spots)}, came {given.shape}")
        return given
    precision = getattr(kernel, "precision", None)
    if precision is None:
        return None
    pattern = csr_array(abs(precision) > 0).astype(np.float64)
    pattern.setdiag(0.0)
    pattern.eliminate_zeros()
    return pattern
