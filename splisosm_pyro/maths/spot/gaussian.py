"""The nugget integrated out together with a Gaussian of any covariance, one per spot.

A spot whose ``x`` is itself Gaussian, ``x ~ N(mu_s, v_s)``, needs no second integral: ``v_s`` joins
the nugget,

    log int exp(g_s(x)) N(x; mu, v) dx = log int exp(l(mu + e)) N(e; 0, T + v) de.

That is all that expectation propagation asks of a spot (``expectation_propagation.py``). The
covariance ``T + v_s`` differs from spot to spot and couples the logits, so no table serves and no
product of lines. ``quadrature/`` says which rule is taken. Leave-one-out and held-out densities ask
for the value alone (``log_counts_density``).
"""

import math
from functools import cache

import numpy as np
from scipy.special import gammaln, ndtri

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.numeric.sobol import shifted_sobol
from splisosm_pyro.maths.spot.quadrature.lattice import integrate
from splisosm_pyro.maths.spot.quadrature.line import AUTO, BINOMIAL, Rule, written_out_line
from splisosm_pyro.maths.spot.quadrature.plane import plane, plane_mode, plane_sums, plane_value
from splisosm_pyro.maths.spot.quadrature.sampled import sampled
from splisosm_pyro.maths.spot.quadrature.wide_plane import wide
from splisosm_pyro.maths.spot.rounding import lift

# By number of logits: step in sd, in strips, drop in nats; most nodes from end to end.
LATTICE: dict[int, tuple[Rule, int]] = {
    2: ((0.98, 1.4, 23.0, 0), 320),
    3: ((1.05, 1.5, 20.0, 0), 40),
}
COARSE: tuple[Rule, int] = ((1.15, 1.7, 15.0, 0), 14)
# Squared correlations up to REGULAR are inverted. Where a cell of the plane is smaller than this,
# in sd, a product of lines is cheaper; it serves up to so many reads, and where the noise of one
# logit given the other has more than this share of the other's variance.
REGULAR, SMALLEST_PRODUCT = 1.0 - 1e-6, 1e-40
SMALLEST_CELL, MOST_READS, LEAST_REST = 0.12, 100.0, 4e-4
# A rule for an error: its step in strips per step in sd, and the nats of its drop beyond the error.
STRIPS, BEYOND = 1.45, 2.0
# What a density may err in nats a spot, by number of logits; beyond, that many points are sampled.
DENSITY_ERROR = {1: 0.0, 2: 1e-7, 3: 1e-5, 4: 1e-4}
POINTS = 1024


def log_counts_density(counts: FloatArray, mean: FloatArray, cov: FloatArray) -> FloatArray:
    """Log probability of the counts of every spot, its logits integrated over a Gaussian.

        log p(y; m, C) = log int Multinomial(y | softmax([eta, 0])) N(eta; m, C) d eta

    Parameters
    ----------
    counts
        (n, P), whole or fractional; the last isoform is the reference.
    mean, cov
        (n, Q) and (n, Q, Q), positive semi-definite; logits.

    Returns
    -------
    FloatArray
        (n,) in nats, with the multinomial coefficient. Errors a spot up to 1e-9 for two isoforms,
        1e-7 for three, 1e-5 for four, 2e-4 for five; for more about 1e-2, for an sd up to 2.

    Notes
    -----
    Costs 0.3 us a spot for two isoforms, 5 to 20 for three, 0.1 to 0.3 ms for four, 0.5 to 1.5 for
    five (a few for an sd of 5 or more), 2 beyond.

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
    counts, mean, cov = (np.ascontiguousarray(a, dtype=np.float64) for a in (counts, mean, cov))
    n_logits = mean.shape[1]
    if n_logits in DENSITY_ERROR:
        return blur_spots(counts, mean, cov, AUTO, DENSITY_ERROR[n_logits])[0]
    return sampled_spots(counts, mean, cov, standard_points(n_logits, POINTS))[0]


@cache
def standard_points(n_logits: int, n: int) -> FloatArray:
    """Return standard normal points (n, Q), the same for every spot, gene and model."""
    return np.ascontiguousarray(ndtri(shifted_sobol(n, n_logits, np.random.default_rng(0))))


@compiled
def sampled_spots(
    counts: FloatArray,  # (n, P)
    mean: FloatArray,  # (n, Q)
    cov: FloatArray,  # (n, Q, Q)
    points: FloatArray,  # (N, Q)
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give g (n,), mean (n, P) and covariance (n, P, P) of the usages by importance sampling."""
    n, n_isos = counts.shape
    value, share, spread = np.empty(n), np.empty((n, n_isos)), np.empty((n, n_isos, n_isos))
    for s in range(n):
        value[s] = sampled(counts[s], mean[s], cov[s], points, share[s], spread[s])
    return value, share, spread


def blur_spots(
    counts: FloatArray,  # (n, P)
    x: FloatArray,  # (n, Q)
    cov: FloatArray,  # (n, Q, Q)
    rule: Rule,
    error: float = 0.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give ``g``, ``g'`` and ``-g''`` of every spot, (n,), (n, Q), (n, Q, Q), with its own noise.

    Parameters
    ----------
    counts
        Counts of the occupied spots, whole or fractional; the last isoform is the reference.
    x, cov
        Mean logits and the covariance of the noise about them, symmetric positive semi-definite.
    rule
        The line's rule, for two isoforms.
    error
        Nats a spot that the value may be off, if that is more than the errors below: fewer nodes.

    Returns
    -------
    tuple of FloatArray
        Without the multinomial coefficient. Errors up to 1e-9 a spot for two isoforms, 1e-8 for
        three, 1e-7 for four and 1e-5 beyond, these last two for an sd of the noise up to 2.

    Notes
    -----
    Costs about 0.3 us a spot for two isoforms, 2 to 8 for three (10 to 20 for an sd of 15), 200 for
    four and 1,000 for five, these last two more for noise of a large variance. With an error of
    1e-5 three isoforms take half of that.

    Examples
    --------
    >>> value, score, _ = blur_spots(
    ...     np.array([[2.0, 1.0]]), np.zeros((1, 1)), np.full((1, 1, 1), 4.0), (0.86, 0.95, 34.0, 0)
    ... )
    >>> print(f"{value[0]:.6f} {score[0, 0]:.6f}")
    -2.580803 0.150071
    """
    n_logits = x.shape[1]
    if n_logits == 1:
        return _blur_lines(counts, x[:, 0], cov[:, 0, 0], coarser(rule, error))
    lattice, most = LATTICE.get(n_logits, COARSE)
    return _blur_lattices(counts, x, np.ascontiguousarray(cov), coarser(lattice, error), most)


def coarser(rule: Rule, error: float) -> Rule:
    """Return the rule whose Gaussian sums are off by ``error``, or ``rule`` if that is coarser.

    A step of h sd is off by ``2 exp(-2 pi^2 / h^2)``. A number of nodes that is fixed stays.

    Examples
    --------
    >>> [round(part, 2) for part in coarser((0.98, 1.4, 23.0, 0), 1e-5)]
    [1.27, 1.84, 14.21, 0]
    """
    if error <= 0.0 or rule[3] > 0:
        return rule
    digits = math.log(2.0 / error)
    step = math.pi * math.sqrt(2.0 / digits)
    return max(rule[0], step), max(rule[1], STRIPS * step), min(rule[2], digits + BEYOND), 0


@compiled
def _blur_lines(
    counts: FloatArray, x: FloatArray, variance: FloatArray, rule: Rule
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Two isoforms: a line with a nugget of its own at every spot."""
    n = x.size
    value, score, neg_hessian = np.empty(n), np.empty((n, 1)), np.empty((n, 1, 1))
    for s in range(n):
        y, total = counts[s, 0], counts[s, 0] + counts[s, 1]
        g = written_out_line(BINOMIAL, y, total, x[s], max(variance[s], 0.0), rule)
        value[s], score[s, 0], neg_hessian[s, 0, 0] = g[0], g[1], max(-g[2], 0.0)
    return value, score, neg_hessian


@compiled
def _blur_lattices(
    counts: FloatArray, x: FloatArray, cov: FloatArray, rule: Rule, most: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """More isoforms: a lattice at every spot, for three in the plane where it is regular."""
    n, n_logits = x.shape
    value, score, neg_hessian = np.empty(n), np.empty((n, n_logits)), np.empty_like(cov)
    sums = np.empty(11)
    for s in range(n):
        if n_logits == 2 and _regular(cov[s]):
            noise = cov[s, 0, 0], cov[s, 0, 1], cov[s, 1, 1]
            mode = plane_mode(counts[s], x[s], noise)
            at = plane(counts[s], x[s], noise, rule, mode)
            if at.h0 * at.h1 > SMALLEST_CELL or at.m > MOST_READS or _thin(cov[s]):
                plane_sums(at, rule, sums)
                value[s] = plane_value(at, sums, score[s], neg_hessian[s])
            else:
                sd = math.sqrt(at.b00 * at.b00 + at.b01 * at.b01), at.b11
                value[s] = wide(counts[s], x[s], cov[s], mode, sd, rule, score[s], neg_hessian[s])
        else:
            value[s] = integrate(counts[s], x[s], cov[s], rule, most, score[s], neg_hessian[s])
        lift(neg_hessian[s], counts[s].sum())
    return value, score, neg_hessian


@compiled
def _regular(cov: FloatArray) -> bool:
    """Whether a covariance (2, 2) may be inverted without a loss that matters."""
    product = cov[0, 0] * cov[1, 1]
    return bool(product > SMALLEST_PRODUCT and cov[0, 1] * cov[0, 1] < REGULAR * product)


@compiled
def _thin(cov: FloatArray) -> bool:
    """Whether what is left of one logit's noise given the other's is too little for its line."""
    det = cov[0, 0] * cov[1, 1] - cov[0, 1] * cov[0, 1]
    return bool(det < LEAST_REST * max(cov[0, 0], cov[1, 1]) ** 2)
