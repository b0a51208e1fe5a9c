"""Dumb truths: loops, dense S Q x S Q matrices and SciPy, sharing nothing with the package.

One gene at a time: counts (S, P), design (S, F), B (F+1, Q) with the intercept in the last row,
sigma and theta (C,), V (S, S). All numbers float64.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats


def softmax_ratio(eta):
    """Isoform ratios (S,P) of logits (S,Q), the last isoform being the reference."""
    n_spots, n_logits = eta.shape
    out = np.empty((n_spots, n_logits + 1))
    for s in range(n_spots):
        row = [float(x) for x in eta[s]] + [0.0]
        top = max(row)
        weights = [math.exp(x - top) for x in row]
        out[s] = [w / sum(weights) for w in weights]
    return out


def log_lik(eta, counts):
    """Multinomial log-likelihood with its coefficient, spot by spot and isoform by isoform."""
    terms = []
    for s in range(counts.shape[0]):
        logits = [float(x) for x in eta[s]] + [0.0]
        top = max(logits)
        log_norm = top + math.log(sum(math.exp(x - top) for x in logits))
        terms.append(math.lgamma(float(counts[s].sum()) + 1))
        for p, y in enumerate(counts[s]):
            terms.append(-math.lgamma(float(y) + 1))
            terms.append(float(y) * (logits[p] - log_norm))
    return math.fsum(terms)


def linear_predictor(B, design, n_spots):
    """Fixed effects (S,Q)."""
    out = np.empty((n_spots, B.shape[1]))
    for s in range(n_spots):
        for q in range(B.shape[1]):
            covariates = range(B.shape[0] - 1)
            out[s, q] = B[-1, q] + sum(design[s, f] * B[f, q] for f in covariates)
    return out


def field_covariance(V, sigma, theta, q):
    """Covariance of nu_q."""
    c = 0 if len(sigma) == 1 else q
    return sigma[c] ** 2 * (theta[c] * V + (1 - theta[c]) * np.eye(len(V)))


def mvn_log_density(x, cov):
    """Log density of N(0, cov) at x by determinant and solve."""
    sign, log_det = np.linalg.slogdet(cov)
    assert sign > 0
    return -0.5 * (len(x) * math.log(2 * math.pi) + log_det + x @ np.linalg.solve(cov, x))


def log_prior(name, sigma, alpha=None, beta=None):
    """Log prior summed over components, by SciPy's densities."""
    if name == "none":
        return 0.0
    alpha = {"gamma": 2.0, "inv_gamma": 3.0}[name] if alpha is None else alpha
    beta = {"gamma": 0.3, "inv_gamma": 0.5}[name] if beta is None else beta
    if name == "gamma":
        return math.fsum(stats.gamma(alpha, scale=1 / beta).logpdf(s) for s in sigma)
    return math.fsum(stats.invgamma(alpha, scale=beta).logpdf(s**2) for s in sigma)


def log_joint(counts, design, B, nu, sigma, theta, V, prior="none"):
    """``log p(Y | eta) + log p(nu | sigma, theta) + log p(sigma)``."""
    eta = linear_predictor(B, design, len(counts)) + nu
    field = [
        mvn_log_density(nu[:, q], field_covariance(V, sigma, theta, q)) for q in range(nu.shape[1])
    ]
    return math.fsum([log_lik(eta, counts), *field, log_prior(prior, sigma)])


def score_and_information(eta, counts):
    """Gradient (S,Q) of the log-likelihood in eta and its negative Hessian blocks (S,Q,Q)."""
    n_spots, n_logits = eta.shape
    ratio = softmax_ratio(eta)
    score = np.empty((n_spots, n_logits))
    information = np.empty((n_spots, n_logits, n_logits))
    for s in range(n_spots):
        total = counts[s].sum()
        for a in range(n_logits):
            score[s, a] = counts[s, a] - total * ratio[s, a]
            for b in range(n_logits):
                information[s, a, b] = total * ratio[s, a] * ((a == b) - ratio[s, b])
    return score, information


def spot_major(blocks):
    """Block-diagonal S Q x S Q matrix of blocks (S,Q,Q)."""
    n_spots, n_logits = blocks.shape[:2]
    out = np.zeros((n_spots * n_logits, n_spots * n_logits))
    for s in range(n_spots):
        here = slice(s * n_logits, (s + 1) * n_logits)
        out[here, here] = blocks[s]
    return out


def dense_field_covariance(V, sigma, theta, n_logits, coding="reference"):
    """Covariance of nu, spot-major, S Q x S Q: its logits independent, or its isoforms."""
    n_spots = len(V)
    if coding == "symmetric":
        isoforms = np.kron(field_covariance(V, sigma, theta, 0) / 2, np.eye(n_logits + 1))
        against_last = np.hstack([np.eye(n_logits), -np.ones((n_logits, 1))])
        to_logits = np.kron(np.eye(n_spots), against_last)
        return to_logits @ isoforms @ to_logits.T
    out = np.zeros((n_spots * n_logits, n_spots * n_logits))
    for q in range(n_logits):
        out[q::n_logits, q::n_logits] = field_covariance(V, sigma, theta, q)
    return out


@dataclass(frozen=True)
class LaplaceTruth:
    """The dense Laplace approximation at the conditional mode."""

    value: (
        float  # log p(Y, nu_mode | ...) + S Q / 2 log 2 pi - 1/2 log|-Hessian|, without the prior
    )
    nu: np.ndarray  # (S,Q) the mode
    gradient_norm: float  # of log p(Y, nu), with respect to nu scaled by the covariance
    covariance: np.ndarray  # (S Q, S Q) of nu at the mode, spot-major


def log_marginal(counts, design, B, sigma, theta, V, coding="reference"):
    """Laplace approximation of log p(Y | B, sigma, theta), dense, without the prior on sigma.

    The covariance C may be singular: nu = C a, log|-Hessian| + log|C| = log|I + C W|.
    """
    n_spots, n_logits = len(counts), counts.shape[1] - 1
    offset = linear_predictor(B, design, n_spots)
    cov = dense_field_covariance(V, sigma, theta, n_logits, coding)
    size = n_spots * n_logits

    def objective(a):
        nu = (cov @ a).reshape(n_spots, n_logits)
        return log_lik(offset + nu, counts) - 0.5 * a @ cov @ a

    a = np.zeros(size)
    for _ in range(200):
        nu = (cov @ a).reshape(n_spots, n_logits)
        score, blocks = score_and_information(offset + nu, counts)
        information = spot_major(blocks)
        residual = score.ravel() - a  # zero at the mode
        if np.abs(cov @ residual).max() < 1e-13 * max(1.0, np.abs(cov @ a).max()):
            break
        step = np.linalg.solve(np.eye(size) + information @ cov, residual)
        length, start = 1.0, objective(a)
        while objective(a + length * step) < start - 1e-9 * abs(start) and length > 1e-8:
            length *= 0.5
        a = a + length * step
    nu = (cov @ a).reshape(n_spots, n_logits)
    score, blocks = score_and_information(offset + nu, counts)
    information = spot_major(blocks)
    _, log_det = np.linalg.slogdet(np.eye(size) + cov @ information)
    return LaplaceTruth(
        value=objective(a) - 0.5 * log_det,
        nu=nu,
        gradient_norm=float(np.abs(cov @ (score.ravel() - a)).max()),
        covariance=np.linalg.solve(np.eye(size) + cov @ information, cov),
    )


def glm_negative(flat, counts, design):
    """Negative log-likelihood of the GLM and its gradient at a flattened B."""
    n_spots, n_logits = len(counts), counts.shape[1] - 1
    B = flat.reshape(-1, n_logits)
    eta = linear_predictor(B, design, n_spots)
    score, _ = score_and_information(eta, counts)
    rows = np.column_stack([design, np.ones(n_spots)])
    return -log_lik(eta, counts), -(rows.T @ score).ravel()


def glm_maximum(counts, design):
    """Maximum likelihood of the GLM by SciPy: B (F+1,Q) and the log-likelihood."""
    n_logits = counts.shape[1] - 1
    start = np.zeros((design.shape[1] + 1) * n_logits)
    fit = optimize.minimize(
        glm_negative, start, (counts, design), jac=True, method="BFGS", options={"gtol": 1e-8}
    )
    return fit.x.reshape(-1, n_logits), -fit.fun


def joint_maximum(counts, design, sigma, theta, V):
    """Maximum of log_joint over (B, nu) at given sigma and theta: B, nu and the value.

    SciPy's BFGS in (B, a) with nu = L a, L L' the covariance, so that the problem is well scaled.
    """
    n_spots, n_logits = len(counts), counts.shape[1] - 1
    n_rows = design.shape[1] + 1
    rows = np.column_stack([design, np.ones(n_spots)])
    roots = [np.linalg.cholesky(field_covariance(V, sigma, theta, q)) for q in range(n_logits)]

    def unpack(flat):
        B = flat[: n_rows * n_logits].reshape(n_rows, n_logits)
        a = flat[n_rows * n_logits :].reshape(n_spots, n_logits)
        return B, a, np.column_stack([roots[q] @ a[:, q] for q in range(n_logits)])

    def negative(flat):
        B, a, nu = unpack(flat)
        eta = linear_predictor(B, design, n_spots) + nu
        score, _ = score_and_information(eta, counts)
        slope = np.column_stack([roots[q].T @ score[:, q] for q in range(n_logits)]) - a
        gradient = np.concatenate([(rows.T @ score).ravel(), slope.ravel()])
        return -log_lik(eta, counts) + 0.5 * (a**2).sum(), -gradient

    start = np.zeros(n_rows * n_logits + n_spots * n_logits)
    fit = optimize.minimize(negative, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    B, _, nu = unpack(fit.x)
    return B, nu, log_joint(counts, design, B, nu, sigma, theta, V)
