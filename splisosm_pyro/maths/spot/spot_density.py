"""The density of a spot's counts where its logits are Gaussian, the multinomial integrated.

    log p(y; m, C) = log int Multinomial(y | softmax([eta, 0])) N(eta; m, C) d eta

Two isoforms: the trapezoidal line of ``quadrature/line.py``, right to about 1e-9 nats for every
total and variance. More: importance sampling over a fixed Sobol sequence, half of it from the
Gaussian itself and half from its Laplace approximation given the counts. A weight is at most twice
a likelihood whichever of the two is the better proposal, so that rich and poor spots cost the same.
"""

from functools import cache

import numpy as np
from scipy.special import gammaln, logsumexp, ndtri

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.numeric.sobol import shifted_sobol
from splisosm_pyro.maths.spot.mean_ratio import square_root
from splisosm_pyro.maths.spot.quadrature.line import AUTO, BINOMIAL, line

# Points of each half of the sequence; spots are taken a chunk at a time (16 MB of logits).
POINTS = 1024
CHUNK_ENTRIES = 2_000_000
NEWTON_STEPS, HALVINGS = 60, 30
NEWTON_DONE = 1e-10


def log_counts_density(counts: FloatArray, mean: FloatArray, cov: FloatArray) -> FloatArray:
    """Log probability of the counts of every spot, its logits integrated over a Gaussian.

    Parameters
    ----------
    counts
        (n, P), whole or fractional; the last isoform is the reference.
    mean, cov
        (n, Q) and (n, Q, Q), positive semi-definite; logits.

    Returns
    -------
    FloatArray
        (n,) in nats, with the multinomial coefficient. Error 1e-9 for two isoforms; for more about
        1e-3 a spot, less the nearer the counts are to deciding the logits or to saying nothing.

    Examples
    --------
    >>> value = log_counts_density(np.array([[1.0, 0.0]]), np.zeros((1, 1)), np.ones((1, 1, 1)))
    >>> print(f"{value[0]:.6f}")
    -0.693147
    """
    return log_coefficient(counts) + log_kernel_density(counts, mean, cov)


def log_coefficient(counts: FloatArray) -> FloatArray:
    """Log multinomial coefficient of every spot, (n,), of counts (n, P)."""
    return np.asarray(gammaln(counts.sum(axis=1) + 1.0) - gammaln(counts + 1.0).sum(axis=1))


def log_kernel_density(counts: FloatArray, mean: FloatArray, cov: FloatArray) -> FloatArray:
    """Return ``log_counts_density`` without the multinomial coefficient."""
    if mean.shape[1] == 1:
        variance = np.maximum(cov[:, 0, 0], 0.0)
        arrays = (np.ascontiguousarray(a, dtype=np.float64) for a in (counts, mean, variance))
        return np.asarray(_lines(*arrays))
    step = max(1, CHUNK_ENTRIES // (2 * POINTS * counts.shape[1]))
    parts = [
        _sampled(counts[i : i + step], mean[i : i + step], cov[i : i + step])
        for i in range(0, len(counts), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


@compiled
def _lines(counts: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Two isoforms: one line a spot, each with its own variance."""
    out = np.empty(counts.shape[0])
    for s in range(counts.shape[0]):
        total = counts[s, 0] + counts[s, 1]
        out[s] = line(BINOMIAL, counts[s, 0], total, mean[s, 0], variance[s], AUTO)[0]
    return out


@cache
def _points(n_logits: int) -> FloatArray:
    """Return standard normal points (Q, POINTS), the same for every spot, gene and model."""
    cube = shifted_sobol(POINTS, n_logits, np.random.default_rng(0))
    return np.ascontiguousarray(ndtri(cube).T)


def _sampled(counts: FloatArray, mean: FloatArray, cov: FloatArray) -> FloatArray:
    """More isoforms: in coordinates z with eta = mean + root z, z standard normal a priori."""
    root = square_root(cov)
    mode = _mode(counts, mean, root)
    precision = np.eye(mean.shape[1]) + _information(counts, mean, root, mode)
    half = np.linalg.inv(np.linalg.cholesky(precision))  # L^-1, cov of z given y is L^-T L^-1
    points = _points(mean.shape[1])
    near = mode[:, :, None] + half.transpose(0, 2, 1) @ points
    far = np.broadcast_to(points, near.shape)
    z = np.concatenate([near, far], axis=2)
    scaled = np.linalg.cholesky(precision).transpose(0, 2, 1) @ (z - mode[:, :, None])
    log_det = 0.5 * np.linalg.slogdet(precision)[1]
    excess = log_det[:, None] + 0.5 * ((z**2).sum(axis=1) - (scaled**2).sum(axis=1))
    log_mixture = np.logaddexp(0.0, excess) - np.log(2.0)  # over the prior density of z
    terms = _log_lik(counts, mean[:, :, None] + root @ z) - log_mixture
    return np.asarray(logsumexp(terms, axis=1) - np.log(terms.shape[1]))


def _log_lik(counts: FloatArray, eta: FloatArray) -> FloatArray:
    """Log multinomial (n, N) at logits (n, Q, N), without its coefficient."""
    top = np.maximum(eta.max(axis=1), 0.0)
    norm = top + np.log(np.exp(-top) + np.exp(eta - top[:, None]).sum(axis=1))
    linear = np.einsum("sq,sqn->sn", counts[:, :-1], eta)
    return np.asarray(linear - counts.sum(axis=1)[:, None] * norm)


def _ratio(eta: FloatArray) -> FloatArray:
    """Ratios (n, Q) of all but the reference."""
    top = np.maximum(eta.max(axis=1, keepdims=True), 0.0)
    weight = np.exp(eta - top)
    return np.asarray(weight / (np.exp(-top) + weight.sum(axis=1, keepdims=True)))


def _information(
    counts: FloatArray, mean: FloatArray, root: FloatArray, z: FloatArray
) -> FloatArray:
    """Return ``root' W root`` (n, Q, Q) at ``mean + root z``."""
    ratio = _ratio(mean + np.einsum("sab,sb->sa", root, z))
    blocks = ratio[:, :, None] * (np.eye(mean.shape[1]) - ratio[:, None, :])
    return np.asarray(root @ (counts.sum(axis=1)[:, None, None] * blocks) @ root)


def _mode(counts: FloatArray, mean: FloatArray, root: FloatArray) -> FloatArray:
    """Return the modes (n, Q) of ``log_lik(mean + root z) - z'z / 2``, by damped Newton steps."""

    def psi(z: FloatArray) -> FloatArray:
        eta = mean + np.einsum("sab,sb->sa", root, z)
        return np.asarray(_log_lik(counts, eta[:, :, None])[:, 0] - 0.5 * (z**2).sum(axis=1))

    z = np.zeros_like(mean)
    here, totals = psi(z), counts.sum(axis=1, keepdims=True)
    for _ in range(NEWTON_STEPS):
        ratio = _ratio(mean + np.einsum("sab,sb->sa", root, z))
        score = np.einsum("sab,sb->sa", root, counts[:, :-1] - totals * ratio) - z
        precision = np.eye(mean.shape[1]) + _information(counts, mean, root, z)
        step = np.linalg.solve(precision, score[:, :, None])[:, :, 0]
        if (score * step).sum() <= NEWTON_DONE:
            break
        scale = np.ones(len(z))
        for _ in range(HALVINGS):
            there = psi(z + scale[:, None] * step)
            short = there < here
            if not short.any():
                break
            scale[short] *= 0.5
        z = z + np.where(short, 0.0, scale)[:, None] * step
        here = psi(z)
    return z
