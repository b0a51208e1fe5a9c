"""The null of the spatial test: covariates and white noise, no field; by maximum likelihood.

At a given variance the log-likelihood is concave in the coefficients: Newton's method. The variance
is where the derivative of the profile is 0, found by bracketing; 0 where it falls from there on.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.marginal.latent_problem import GeneData
from splisosm_pyro.hypotheses.exchangeable_noise import (
    ExchangeableSpots,
    contrasts,
    expected_information,
)
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray, Mask

# Squared Newton decrement at which the coefficients stand, and the most steps to there.
DECREMENT, MOST_STEPS = 1e-20, 100
# Of log-likelihood: no step is refused for less.
ROUNDING = 1e-12
# Standard deviations that are tried, and how nearly the best one is found.
SIGMA_RANGE, SIGMA_TOLERANCE = (1e-3, 30.0), 1e-9
# A rise of the profile from sigma = 0 by less than this share of the information is rounding.
FLAT = 1e-7


@dataclass(frozen=True, eq=False)
class WhiteNull:
    """What the null says of the n occupied spots; isoforms in orthonormal contrasts, Q of them.

    Attributes
    ----------
    occupied
        (n,) places of the spots among all S.
    score, information
        (n, Q) ``r`` and (n, Q, Q) ``J``, its variance given the spot's total.
    design
        (n, Q, K) how the contrasts move with the coefficients that were fitted.
    sigma
        The noise's standard deviation on a log ratio of two isoforms.
    """

    occupied: IndexArray
    score: FloatArray
    information: FloatArray
    design: FloatArray
    sigma: float


@dataclass(frozen=True, eq=False)
class _Point:
    """Coefficients (F+1, Q), and the u distinct spots there."""

    B: FloatArray
    value: float
    score: FloatArray  # (u, P)
    info: FloatArray  # (u, P, P)


class _Fit:
    """One gene's likelihood in coefficients and variance; spots that are alike are one."""

    def __init__(self, counts: FloatArray, design: FloatArray, free: Mask) -> None:
        alike = np.unique(
            np.column_stack([counts, design]), axis=0, return_inverse=True, return_counts=True
        )
        n_isos = counts.shape[1]
        self.place, self.number = alike[1].reshape(-1), alike[2].astype(np.float64)
        self.spots = ExchangeableSpots(np.ascontiguousarray(alike[0][:, :n_isos]))
        self.design, self.free = np.ascontiguousarray(alike[0][:, n_isos:]), free
        self.weighted = self.design * self.number[:, None]
        self.point: _Point

    def start(self, B: FloatArray) -> None:
        """Start at coefficients."""
        self.point = self._at(B, 0.0)

    def _at(self, B: FloatArray, variance: float) -> _Point:
        value, score, info = self.spots.each(self.design @ B, variance)
        return _Point(B, float(self.number @ value), score, info)

    def settle(self, variance: float) -> _Point:
        """Return the best coefficients at this variance."""
        point = self._at(self.point.B, variance)
        for _ in range(MOST_STEPS):
            step, decrement = self._newton(point)
            if decrement <= DECREMENT:
                break
            better = self._climb(point, step, variance)
            if better is None:
                break
            point = better
        self.point = point
        return point

    def _newton(self, point: _Point) -> tuple[FloatArray, float]:
        """Return the step (F+1, Q) and its squared decrement."""
        n_logits, step = point.B.shape[1], np.zeros_like(point.B)
        gradient = (self.weighted.T @ point.score[:, :n_logits])[self.free]
        if not gradient.size:
            return step, 0.0
        info = point.info[:, :n_logits, :n_logits]
        across = self.weighted[:, :, None, None] * info[:, None]
        hessian = np.tensordot(self.design, across, axes=(0, 0)).transpose(0, 2, 1, 3)
        own = self.free.ravel()
        hessian = hessian.reshape(own.size, own.size)[np.ix_(own, own)]
        move = np.linalg.lstsq(hessian, gradient, rcond=1e-12)[0]
        step[self.free] = move
        return step, float(gradient @ move)

    def _climb(self, point: _Point, step: FloatArray, variance: float) -> _Point | None:
        """Return the first of ever shorter steps that does not lose; None if there is none."""
        scale, slack = 1.0, ROUNDING * (1.0 + abs(point.value))
        for _ in range(30):
            there = self._at(point.B + scale * step, variance)
            if there.value >= point.value - slack:
                return there
            scale *= 0.5
        return None

    def slope(self, sigma: float) -> float:
        """Return the profile's derivative in the variance, as a share of the information."""
        point = self.settle(sigma**2)
        trace = float(self.number @ np.einsum("spp->s", point.info))
        return (float(self.number @ (point.score**2).sum(axis=1)) - trace) / max(trace, 1e-300)

    def best_sigma(self) -> float:
        """Return where the profile is highest: 0, a root of its slope, or the last one tried."""
        if self.slope(0.0) <= FLAT:
            return 0.0
        low, high = SIGMA_RANGE[0], 0.5
        while self.slope(high) > 0.0:
            low, high = high, 2.0 * high
            if low >= SIGMA_RANGE[1]:
                return low
        if self.slope(low) <= 0.0:
            return low
        return float(brentq(self.slope, low, high, xtol=1e-12, rtol=SIGMA_TOLERANCE))


def fit_white_null(
    counts: FloatArray,  # (S, P), every isoform with reads
    design: StandardDesign,
) -> WhiteNull:
    """Fit the null of one gene.

    Parameters
    ----------
    counts
        Whole or fractional; every isoform has reads, and there are two or more.
    design
        Covariates that the null knows of.
    """
    # in one order, so that a table of other columns gives the very same numbers
    counts = counts[:, np.argsort(-counts.sum(axis=0), kind="stable")]
    gene = GeneData.from_arrays(counts, design.columns)
    glm = fit_glm(counts, design.rows)
    free, X = ~glm.held, gene.design
    fit = _Fit(gene.counts, X, free)
    fit.start(glm.B)
    sigma = fit.best_sigma()
    point = fit.settle(sigma**2)
    x = fit.design @ point.B
    info = expected_information(fit.spots.counts, x, sigma**2, point.info)
    H = contrasts(counts.shape[1])
    moves = np.einsum("sf,qa->safq", X, H[:-1]).reshape(*X.shape[:1], H.shape[1], -1)
    return WhiteNull(
        occupied=gene.occupied,
        score=(point.score @ H)[fit.place],
        information=(H.T @ info @ H)[fit.place],
        design=moves[:, :, free.ravel()],
        sigma=sigma,
    )
