"""Truths for the integrated nugget: sums over grids and importance sampling, sharing no code."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp, roots_hermitenorm


def log_coefficient(counts):
    """The log multinomial coefficients of counts (S, P), summed."""
    return gammaln(counts.sum(1) + 1).sum() - gammaln(counts + 1).sum()


def log_pmf(eta, y):
    """Multinomial log-likelihood without its coefficient, eta (*, Q) and y (P,) or (*, P)."""
    full = np.concatenate([eta, np.zeros((*eta.shape[:-1], 1))], axis=-1)
    return (full * y).sum(-1) - np.asarray(y).sum(-1) * logsumexp(full, axis=-1)


@dataclass(frozen=True)
class WhiteTruth:
    """A gene whose field is white noise: its log-likelihood, and nu's posterior at every spot."""

    value: float
    mean: np.ndarray  # (S, Q)
    covariance: np.ndarray  # (S, Q, Q)
    ratio: np.ndarray  # (S, P)


def white_noise(counts, offset, sigma, nodes, log_weights):
    """Sum over ``nodes`` (k, Q) of the standard normal with ``log_weights`` (k,), spot by spot."""
    value, means, covariances, ratios = log_coefficient(counts), [], [], []
    for y, x in zip(counts, offset, strict=True):
        log = log_pmf(x + sigma * nodes, y) + log_weights
        weight = np.exp(log - logsumexp(log))
        value += logsumexp(log)
        means.append(sigma * weight @ nodes)
        centred = sigma * nodes - means[-1]
        covariances.append((weight[:, None] * centred).T @ centred)
        full = np.concatenate([x + sigma * nodes, np.zeros((len(nodes), 1))], axis=1)
        ratios.append(weight @ np.exp(full - logsumexp(full, axis=1, keepdims=True)))
    return WhiteTruth(value, np.array(means), np.array(covariances), np.array(ratios))


def hermite(n):
    """Gauss-Hermite nodes (n, 1) and log weights of the standard normal."""
    z, weight = roots_hermitenorm(n)
    with np.errstate(divide="ignore"):
        return z[:, None], np.log(weight / weight.sum())


def plane(n, reach):
    """A square lattice of n x n nodes within ``reach`` sd of the standard normal in the plane."""
    line = np.linspace(-reach, reach, n)
    nodes = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    log = -0.5 * (nodes**2).sum(1)
    return nodes, log - logsumexp(log)


@dataclass(frozen=True)
class SampledTruth:
    """Importance sampling of w for two isoforms: log p(Y), its error, posterior means."""

    value: float
    standard_error: float
    nu: np.ndarray  # (S,)
    ratio: np.ndarray  # (S, P)


def sample(counts, offset, sigma, theta, V, draws=4_000, seed=0):
    """Draw w from a Student t about its mode; the nugget by Gauss-Hermite at every draw."""
    rng, (n, freedom) = np.random.default_rng(seed), (len(V), 100.0)
    z, log_weight = hermite(40)
    root = np.sqrt(theta) * sigma * np.linalg.cholesky(V)
    white = np.sqrt(1 - theta) * sigma

    def log_each(field):  # (k, S) -> (k, S, nodes)
        eta = (offset[:, 0] + field)[..., None] + white * z[:, 0]
        y, m = counts[:, 0, None], counts.sum(1)[:, None]
        return y * eta - m * np.logaddexp(0.0, eta) + log_weight, eta

    def negative(u):
        log, eta = log_each((root @ u)[None])
        slope = np.exp(log - logsumexp(log, axis=2, keepdims=True))
        score = counts[:, 0, None] - counts.sum(1)[:, None] / (1 + np.exp(-eta))
        gradient = root.T @ (slope * score).sum(2)[0] - u
        return 0.5 * u @ u - logsumexp(log, axis=2).sum(), -gradient

    mode = minimize(negative, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-7}).x
    steps = 1e-4 * np.eye(n)
    hessian = [(negative(mode + s)[1] - negative(mode - s)[1]) / 2e-4 for s in steps]
    lower = np.linalg.cholesky(0.5 * (np.array(hessian) + np.array(hessian).T))
    noise = rng.normal(size=(draws // 2, n))
    scale = np.sqrt(freedom / rng.chisquare(freedom, draws // 2))[:, None]
    half = scale * np.linalg.solve(lower.T, noise.T).T
    delta = np.concatenate([half, -half])
    log, eta = log_each((mode + delta) @ root.T)
    square = ((delta @ lower) ** 2).sum(1)
    constant = gammaln((freedom + n) / 2) - gammaln(freedom / 2) - n / 2 * np.log(freedom / 2)
    proposal = constant - (freedom + n) / 2 * np.log1p(square / freedom)
    proposal += np.log(np.diag(lower)).sum()
    u = mode + delta
    target = logsumexp(log, axis=2).sum(1) - 0.5 * (u**2).sum(1)
    weight = target - proposal
    total = logsumexp(weight) - np.log(draws)
    share = np.exp(weight - logsumexp(weight))
    pairs = draws * share.reshape(2, -1).mean(0)
    inner = np.exp(log - logsumexp(log, axis=2, keepdims=True))
    nu = share @ (inner * (eta - offset)).sum(2)
    first = share @ (inner / (1 + np.exp(-eta))).sum(2)
    return SampledTruth(
        total + log_coefficient(counts),
        pairs.std() / np.sqrt(draws // 2),
        nu,
        np.column_stack([first, 1 - first]),
    )
