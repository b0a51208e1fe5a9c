"""Weighted points of an outer density: adaptive importance sampling in a few dimensions.

Stage by stage, points are drawn from a multivariate t whose centre and scale are the mode's at
first and then the moments of the points so far. A point's weight is the density over the mixture
of all stages' proposals (Cornuet, Marin, Mira and Robert, 2012,
doi:10.1111/j.1467-9469.2011.00756.x). The points of a stage are a randomly shifted Sobol sequence
instead of independent draws, which makes the errors of the moments smaller.

The weights know the gradient, by control variates from Stein's identity. For a density
``p`` that vanishes at the ends, with ``g = grad log p`` and whitened coordinates z,

    E[g] = 0,        E[z_i g_j + z_j g_i + 2 [i = j]] = 0,

so the weighted sums of these functions should vanish. Weights changed as little as possible to make
them vanish give the exact mean and covariance where ``p`` is Gaussian, whatever the points, and
errors several times smaller where it is nearly so (Mira, Solgi and Imparato, 2013,
doi:10.1007/s11222-012-9344-6).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import gammaln, logsumexp, ndtri
from scipy.stats import chi2

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import Weights, smoothed_weights
from splisosm_pyro.maths.numeric.sobol import shifted_sobol

# Degrees of freedom of the proposals: tails heavier than those of theta_logit and log sigma.
DEGREES = 7.0
# Of a stage's weighted covariance, the share that is kept; the rest is the stage's before.
KEPT = 0.9
# The stages end early where so many points are effective, in all and for each unknown.
ENOUGH = 128
ENOUGH_EACH = 32
# Of the variances of the control functions; keeps equal functions apart.
RIDGE = 1e-6
# A set of control functions wants this many effective points for each.
POINTS_A_CONTROL = 2.0

# Takes u; returns the log density, its gradient, and anything to be kept with the point.
LogDensity = Callable[[FloatArray], tuple[float, FloatArray, Any]]


@dataclass(frozen=True, eq=False)
class StudentT:
    """A multivariate t with centre (K,) and lower root (K, K) of its scale matrix."""

    centre: FloatArray
    root: FloatArray
    degrees: float = DEGREES

    def points(self, n_points: int, generator: np.random.Generator) -> FloatArray:
        """Return (n_points, K): a randomly shifted Sobol sequence, mapped to this t."""
        cube = shifted_sobol(n_points, self.centre.size + 1, generator)
        scale = np.sqrt(self.degrees / chi2.ppf(cube[:, -1], self.degrees))
        return np.asarray(self.centre + scale[:, None] * ndtri(cube[:, :-1]) @ self.root.T)

    def log_prob(self, points: FloatArray) -> FloatArray:
        """Log density at (N, K)."""
        size, degrees = self.centre.size, self.degrees
        scaled = np.linalg.solve(self.root, (points - self.centre).T)
        constant = gammaln((degrees + size) / 2) - gammaln(degrees / 2)
        constant -= 0.5 * size * math.log(degrees * math.pi)
        constant -= float(np.log(np.abs(self.root.diagonal())).sum())
        quad = np.log1p((scaled**2).sum(axis=0) / degrees)
        return np.asarray(constant - 0.5 * (degrees + size) * quad)


@dataclass
class WeightedPoints:
    """Points (N, K), their log densities and gradients, what is kept of each, and the weights.

    ``weights`` are the importance weights, ``shares`` (N,) what a mean is taken with.
    """

    points: FloatArray
    log_density: FloatArray
    slopes: FloatArray
    states: list[Any]
    proposals: list[tuple[StudentT, int]] = field(default_factory=list)
    weights: Weights = field(default_factory=lambda: Weights(np.empty(0), np.inf))
    shares: FloatArray = field(default_factory=lambda: np.empty(0))

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Return the mean (K,) and covariance (K, K)."""
        mean = self.shares @ self.points
        apart = self.points - mean
        return mean, np.asarray((apart * self.shares[:, None]).T @ apart)


def weigh(
    log_density: LogDensity,
    centre: FloatArray,
    covariance: FloatArray,
    stages: Sequence[int],
    generator: np.random.Generator,
) -> WeightedPoints:
    """Sample ``log_density`` by adaptive importance sampling.

    Parameters
    ----------
    log_density : callable
        Takes u (K,), returns the unnormalised log density, its gradient and anything to be kept
        with the point.
    centre, covariance : ndarray, shapes (K,) and (K, K)
        Of the first proposal.
    stages : sequence of int
        How many points each stage has at most.
    generator : Generator

    Returns
    -------
    WeightedPoints
    """
    proposal = StudentT(centre, np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))
    none = np.empty((0, centre.size))
    found = WeightedPoints(none, np.empty(0), none, [])
    for n_points in stages:
        points = proposal.points(n_points, generator)
        values, slopes, states = zip(*(log_density(u) for u in points), strict=True)
        found.points = np.concatenate([found.points, points])
        found.log_density = np.append(found.log_density, values)
        found.slopes = np.concatenate([found.slopes, np.stack(slopes)])
        found.states.extend(states)
        found.proposals.append((proposal, n_points))
        found.weights = smoothed_weights(found.log_density - _log_mixture(found))
        found.shares = calibrated(found.weights.values, found.points, found.slopes)
        if found.weights.effective >= max(ENOUGH, ENOUGH_EACH * centre.size):
            break
        proposal = _adapted(proposal, found)
    return found


def _log_mixture(found: WeightedPoints) -> FloatArray:
    """Log density of the mixture of all proposals so far at all points."""
    sizes = np.array([n for _, n in found.proposals], dtype=float)
    each = np.stack([proposal.log_prob(found.points) for proposal, _ in found.proposals])
    return np.asarray(logsumexp(each, axis=0, b=(sizes / sizes.sum())[:, None]))


def _adapted(proposal: StudentT, found: WeightedPoints) -> StudentT:
    """Move the proposal to the weighted moments; cautiously, where few points carry them."""
    mean, covariance = found.moments()
    kept = KEPT * min(1.0, found.weights.effective / (5.0 * mean.size))
    old = proposal.root @ proposal.root.T
    mixed = kept * covariance + (1.0 - kept) * old
    centre = kept * mean + (1.0 - kept) * proposal.centre
    return StudentT(centre, np.asarray(np.linalg.cholesky(mixed), dtype=np.float64))


def calibrated(weights: FloatArray, points: FloatArray, slopes: FloatArray) -> FloatArray:
    """Return weights (N,) for which Stein's identities hold, as far as they stay positive.

    Parameters
    ----------
    weights : ndarray, shape (N,)
        Sum to 1.
    points, slopes : ndarray, shape (N, K)
        Points, and the gradient of the log density there; that of a point of weight 0 is not used.

    Returns
    -------
    ndarray, shape (N,)
        As given where there are too few effective points for the identities.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(0.3, 1.1, (60, 1))
    >>> weights = np.exp(-0.5 * z[:, 0] ** 2 + 0.5 * ((z[:, 0] - 0.3) / 1.1) ** 2)
    >>> better = calibrated(weights / weights.sum(), z, -z)
    >>> np.allclose([better @ z[:, 0], better @ z[:, 0] ** 2], [0, 1], atol=1e-4)
    True
    """
    effective = 1.0 / np.sum(weights**2)
    used = weights > 0
    for functions in _controls(weights[used], points[used], slopes[used]):
        if effective >= POINTS_A_CONTROL * functions.shape[1]:
            out = np.zeros_like(weights)
            out[used] = _balanced(weights[used], functions)
            return out
    return weights


def _controls(weights: FloatArray, points: FloatArray, slopes: FloatArray) -> list[FloatArray]:
    """Return the control functions at the points, of both orders and of the first alone."""
    apart = points - weights @ points
    covariance = (apart * weights[:, None]).T @ apart
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return []  # too few points to span the space
    z, first = np.linalg.solve(root, apart.T).T, slopes @ root
    i, j = np.triu_indices(points.shape[1])
    second = z[:, i] * first[:, j] + z[:, j] * first[:, i] + 2.0 * (i == j)
    return [np.column_stack([first, second]), first]


def _balanced(weights: FloatArray, functions: FloatArray) -> FloatArray:
    """Regress the functions' means away; weights that would be negative become 0."""
    mean = weights @ functions
    apart = functions - mean
    covariance = (apart * weights[:, None]).T @ apart
    covariance += RIDGE * np.diag(covariance.diagonal() + np.finfo(float).tiny)
    changed = weights * (1.0 - apart @ np.linalg.solve(covariance, mean))
    positive = np.maximum(changed, 0.0)
    return np.asarray(positive / positive.sum())
