"""What is kept of the field at a spot where its draws are not: mean, sd and quantiles."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit, ndtri

from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray
from splisosm_pyro.maths.numeric.sobol import shifted_sobol
from splisosm_pyro.maths.numeric.symmetric_root import symmetric_root

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Two isoforms: moments by the trapezoidal rule on so many nodes between -END and END sd.
NODES, END = 97, 8.0
# More: so many points of a Sobol sequence, the same at every spot.
POINTS = 1024
# Spots are taken so many draws at a time that they stay in the processor's cache.
CACHED_ENTRIES = 100_000


@dataclass(frozen=True, eq=False)
class Summary:
    """Quantiles (L, S, D), mean and sd (S, D), of D numbers at every spot."""

    quantile: FloatArray
    mean: FloatArray
    sd: FloatArray


def ratios(eta: FloatArray) -> FloatArray:
    """Return the isoform ratios (S, P, N) of ``eta`` (S, Q, N)."""
    if eta.shape[1] == 1:
        first = expit(eta)
        return np.concatenate([first, expit(-eta)], axis=1)
    out = np.empty((len(eta), eta.shape[1] + 1, eta.shape[2]))
    for part in cached_parts(eta):
        _fill_ratios(eta[part], out[part])
    return out


def cached_parts(eta: AnyArray) -> list[slice]:
    """Return few spots of draws (S, Q, N) at a time, as many as the cache holds."""
    step = max(1, CACHED_ENTRIES // max(eta.shape[1] * eta.shape[2], 1))
    return [slice(first, first + step) for first in range(0, len(eta), step)]


def _fill_ratios(eta: FloatArray, out: FloatArray) -> None:
    """Write the ratios (S, P, N) of few spots; loops over logits are faster than short axes."""
    top = np.maximum(eta[:, 0], 0.0)
    for q in range(1, eta.shape[1]):
        np.maximum(top, eta[:, q], out=top)
    np.subtract(eta, top[:, None], out=out[:, :-1])
    np.negative(top, out=out[:, -1])
    np.exp(out, out=out)
    total = out[:, 0].copy()
    for q in range(1, out.shape[1]):
        total += out[:, q]
    out /= total[:, None]


def summary_of_draws(value: FloatArray) -> Summary:
    """Summarise draws (S, D, N); quantiles as those of ``numpy.quantile``.

    Examples
    --------
    >>> summary_of_draws(np.arange(5.0).reshape(1, 1, 5)).quantile[:, 0, 0]
    array([0.2, 1. , 2. , 3. , 3.8])
    """
    return Summary(_between(*_order_statistics(value)), *_moments(value))


def summaries_of_draws(eta: FloatArray) -> dict[str, Summary]:
    """Summarise draws of the logits (S, Q, N) and of the ratios they make."""
    parts = [_some_spots(eta[part]) for part in cached_parts(eta)]
    logits, by_ratio = (_joined(list(kind)) for kind in zip(*parts, strict=True))
    return {"eta": logits, "isoform_ratio": by_ratio}


def _some_spots(eta: FloatArray) -> tuple[Summary, Summary]:
    """Summarise logits and ratios at few spots."""
    if eta.shape[1] > 1:
        return summary_of_draws(eta), summary_of_draws(ratios(eta))
    low, high, share = _order_statistics(eta)
    logits = Summary(_between(low, high, share), *_moments(eta))
    first = Summary(_between(expit(low), expit(high), share), *_moments(expit(eta)))
    return logits, _with_complement(first)


def _joined(parts: list[Summary]) -> Summary:
    """Put the spots of several summaries together."""
    return Summary(
        np.concatenate([part.quantile for part in parts], axis=1),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.sd for part in parts]),
    )


def _order_statistics(value: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the draws (L, S, D) next to every quantile and how far it lies between them."""
    ordered = np.sort(value, axis=-1)  # vectorised, unlike a partition at many ranks
    last = value.shape[-1] - 1
    place = np.array(QUANTILES) * last
    below = np.floor(place).astype(int)
    low, high = (np.moveaxis(ordered[..., k], -1, 0) for k in (below, np.minimum(below + 1, last)))
    return low, high, (place - below)[:, None, None]


def _between(low: FloatArray, high: FloatArray, share: FloatArray) -> FloatArray:
    """Interpolate."""
    return np.asarray(low + share * (high - low))


def _moments(value: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and sd over draws."""
    mean = value.mean(axis=-1)
    apart = value - mean[..., None]
    variance = np.einsum("sdn,sdn->sd", apart, apart) / max(value.shape[-1] - 1, 1)
    return mean, np.sqrt(variance)


def _with_complement(first: Summary) -> Summary:
    """Add the second isoform's ratio, which is 1 minus the first's."""
    quantile = np.concatenate([first.quantile, 1.0 - first.quantile[::-1]], axis=-1)
    mean = np.concatenate([first.mean, 1.0 - first.mean], axis=-1)
    return Summary(quantile, mean, np.concatenate([first.sd, first.sd], axis=-1))


def summaries_of_gaussian(mean: FloatArray, cov: FloatArray) -> dict[str, Summary]:
    """Summarise Gaussian logits of mean (S, Q) and covariance (S, Q, Q), without draws.

    Logits exactly. Ratios of two isoforms by quadrature, to 1e-9; of more over a fixed sequence of
    points, with errors below those of ten thousand draws.

    Examples
    --------
    >>> both = summaries_of_gaussian(np.zeros((1, 1)), np.ones((1, 1, 1)))
    >>> both["isoform_ratio"].quantile[:, 0, 0].round(4)
    array([0.1618, 0.3375, 0.5   , 0.6625, 0.8382])
    """
    sd = np.sqrt(np.maximum(np.diagonal(cov, axis1=1, axis2=2), 0.0))
    quantile = mean + ndtri(np.array(QUANTILES))[:, None, None] * sd
    logits = Summary(quantile, mean, sd)
    by_ratio = _two_isoforms(logits) if mean.shape[1] == 1 else _more_isoforms(mean, cov)
    return {"eta": logits, "isoform_ratio": by_ratio}


def _two_isoforms(logits: Summary) -> Summary:
    """Give the ratios of Gaussian logits (S, 1)."""
    z = np.linspace(-END, END, NODES)
    weights = np.exp(-0.5 * z**2)
    weights /= weights.sum()
    value = torch.sigmoid(torch.from_numpy(logits.mean + logits.sd * z)).numpy()  # (S, NODES)
    mean = value @ weights
    variance = (value - mean[:, None]) ** 2 @ weights
    first = Summary(expit(logits.quantile), mean[:, None], np.sqrt(variance)[:, None])
    return _with_complement(first)


def _more_isoforms(mean: FloatArray, cov: FloatArray) -> Summary:
    """Give the ratios of Gaussian logits (S, Q) over points that are even in probability."""
    cube = shifted_sobol(POINTS, mean.shape[1], np.random.default_rng(0))
    z, root = ndtri(cube).T, symmetric_root(cov)
    step = max(1, CACHED_ENTRIES // (POINTS * mean.shape[1]))
    return _joined(
        [
            summary_of_draws(ratios(mean[i : i + step, :, None] + root[i : i + step] @ z))
            for i in range(0, len(mean), step)
        ]
    )
