"""Isoform usage given a spot's counts: mean and covariance of ``softmax([eta, 0])``.

With ``eta ~ N(x, C)`` before the counts ``y`` of total m are seen and ``exp g`` their density
(``gaussian.py``), the posterior mean of the usages ``pi`` and of their products stands in the
derivatives of g: the slope of ``l`` in ``eta_q`` is ``y_q - m pi_q``, so that

    E[pi] = (y - g') / m,        Cov(pi) = (m (diag E[pi] - E[pi] E[pi]') + g'') / (m (m + 1)).

Where there are no reads, or nearly none, these divide by nothing. There the share of isoform p is
the chance that one more read is of p, ``E[pi_p] = exp(g(y + 1_p) - g(y))``, and given that read
the mean of ``pi_q`` is the first formula's. Four isoforms and more go by importance sampling, one
pass for all moments (``quadrature/sampled.py``).
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.gaussian import blur_spots, sampled_spots, standard_points
from splisosm_pyro.maths.spot.quadrature.line import AUTO

# A spot of fewer reads is given one more of each isoform in turn.
FEW = 0.5
# Points of the sequence for four isoforms and more.
POINTS = 128


@dataclass(frozen=True, eq=False)
class Usage:
    """Mean (n, P) and covariance (n, P, P) of the isoforms' shares at n spots."""

    mean: FloatArray
    covariance: FloatArray

    def standard_errors(self, moved: FloatArray) -> FloatArray:
        """Return standard errors (n, P) where the logits' mean has a covariance (n, Q, Q) itself.

        To first order, by the mean derivative ``E[diag pi - pi pi']`` of the shares in the logits.
        """
        eye = np.eye(self.mean.shape[1])
        products = self.covariance + self.mean[:, :, None] * self.mean[:, None, :]
        slope = (eye * self.mean[:, None, :] - products)[:, :, :-1]
        variance = np.einsum("spa,sab,spb->sp", slope, moved, slope)
        variance += np.diagonal(self.covariance, axis1=1, axis2=2)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    @classmethod
    def known(cls, share: FloatArray) -> "Usage":
        """Return shares (n, P) that are certain, their logits given."""
        return cls(share, np.zeros((*share.shape, share.shape[1])))


def usage_given_counts(counts: FloatArray, mean: FloatArray, cov: FloatArray) -> Usage:
    """Return the usage at every spot given its counts, its logits Gaussian before them.

    Parameters
    ----------
    counts
        (n, P), whole or fractional, none at an empty spot; the last isoform is the reference.
    mean, cov
        (n, Q) and (n, Q, Q), positive semi-definite; logits before the counts.

    Returns
    -------
    Usage
        Rows of the mean sum to one. Errors of about 1e-9 for two isoforms, 1e-8 for three; for
        four and more 1e-3 at an sd of the logits up to 0.5, 1e-2 up to 3.

    Notes
    -----
    Costs that of ``blur_spots`` once at a spot with counts and P times at one without, up to three
    isoforms; 0.1 to 0.3 ms a spot for more.

    Examples
    --------
    >>> counts = np.array([[0.0, 0.0], [3.0, 1.0]])
    >>> usage = usage_given_counts(counts, np.zeros((2, 1)), np.ones((2, 1, 1)))
    >>> usage.mean.round(3).tolist()
    [[0.5, 0.5], [0.617, 0.383]]
    >>> np.sqrt(usage.covariance[:, 0, 0]).round(3).tolist()
    [0.208, 0.156]
    """
    counts, mean, cov = (np.ascontiguousarray(a, dtype=np.float64) for a in (counts, mean, cov))
    if counts.shape[1] > 3:
        points = standard_points(mean.shape[1], POINTS)
        return Usage(*sampled_spots(counts, mean, cov, points)[1:])
    n, n_isos = counts.shape
    share, spread = np.empty((n, n_isos)), np.empty((n, n_isos, n_isos))
    few = counts.sum(axis=1) < FEW
    for where, moments in ((few, _by_one_more_read), (~few, _by_derivatives)):
        if where.any():
            share[where], spread[where] = moments(counts[where], mean[where], cov[where])
    return Usage(share, spread)


def _by_derivatives(
    counts: FloatArray, mean: FloatArray, cov: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance from the slope and the curvature of g."""
    _, score, neg_hessian = blur_spots(counts, mean, cov, AUTO)
    total = counts.sum(axis=1)
    share = (counts[:, :-1] - score) / total[:, None]
    binomial = share[:, :, None] * (np.eye(share.shape[1]) - share[:, None, :])
    total = total[:, None, None]
    spread = (total * binomial - neg_hessian) / (total * (total + 1.0))
    return _with_last(share, spread)


def _with_last(share: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Add the last isoform, whose share is 1 minus the others'."""
    n_logits = share.shape[1]
    whole = np.vstack([np.eye(n_logits), -np.ones((1, n_logits))])
    full = np.concatenate([share, 1.0 - share.sum(axis=1, keepdims=True)], axis=1)
    return full, np.asarray(whole @ spread @ whole.T)


def _by_one_more_read(
    counts: FloatArray, mean: FloatArray, cov: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance from the densities with one more read of each isoform."""
    share, given = np.empty_like(counts), np.empty((*counts.shape, counts.shape[1]))
    for p, one in enumerate(np.eye(counts.shape[1])):
        value, score, _ = blur_spots(counts + one, mean, cov, AUTO)
        more = counts + one
        share[:, p] = value
        given[:, p, :-1] = (more[:, :-1] - score) / more.sum(axis=1, keepdims=True)
    share = np.exp(share - np.logaddexp.reduce(share, axis=1, keepdims=True))
    given[:, :, -1] = 1.0 - given[:, :, :-1].sum(axis=2)
    spread = share[:, :, None] * (given - share[:, None, :])
    centred = np.eye(counts.shape[1]) - 1.0 / counts.shape[1]  # all shares together do not move
    return share, np.asarray(centred @ (0.5 * (spread + spread.transpose(0, 2, 1))) @ centred)
