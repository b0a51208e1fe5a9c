"""Effects of a covariate over genes: a mixture of normals about 0, and a gene's effect under it.

A covariate's coefficients ``b`` (``surface.py``), in standard columns and turned coordinates, are
of a mixture of ``N(0, s_k^2 I)``, one of them 0 itself; its shares are estimated from all genes
(adaptive shrinkage, Stephens, 2017, doi:10.1093/biostatistics/kxw041). Given ``(sigma, theta)`` a
gene's likelihood of its coefficients is the Gaussian of its ``Surface``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logit, logsumexp

from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.maths.numeric.psis import systematic
from splisosm_pyro.population.grid import GRID
from splisosm_pyro.population.mixture import em_shares
from splisosm_pyro.population.moderated import Moderated
from splisosm_pyro.population.surface import ANGLES, SHARES, Surface
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import ATTENUATION

# Standard deviations of the components, and how many genes without effect are added to the data:
# an effect is believed in a little less than the likelihood alone would have it.
SCALES = np.concatenate([[0.0], 0.05 * 2.0 ** (0.5 * np.arange(14))])
NULL_GENES = 9.0


@dataclass(frozen=True, eq=False)
class GeneUnderPopulation:
    """A gene's likelihood over (sigma, theta) and its coefficients, weighted by the population."""

    surface: Surface
    moderated: Moderated

    @cached_property
    def place_weights(self) -> FloatArray:  # (R, T)
        """Posterior probabilities of the surface's places: the grid's, shared out to neighbours."""
        weights, rows = self.moderated.weights, self.surface.log_sigma
        over_sigma = _hats(GRID.log_sigmas, rows)
        over_share = _hats(GRID.angles, ANGLES)
        inside = weights[: GRID.inside].reshape(len(over_sigma), len(over_share))
        out = over_sigma.T @ inside @ over_share
        out[:, 0] += over_sigma.T @ weights[GRID.inside : -1]
        out[0, 0] += weights[-1]
        return out

    def place(self, r: int, t: int) -> tuple[float, float, FloatArray, FloatArray]:
        """Return log sigma and theta_logit of a place, B (F+1, Q) and the covariance of its K."""
        log_sigma = float(self.surface.log_sigma[r])
        B, grown = self._grown(self.surface.coefficients[r, t], np.exp(log_sigma))
        return log_sigma, float(logit(SHARES[t])), B, grown**2 * self.surface.covariance[r, t]

    def block(self, rows: slice) -> FloatArray | None:  # (J, K)
        """Return what picks a covariate's coefficients of those that move; None if one is held."""
        free = self.surface.free.astype(bool)
        if not free[rows].all():
            return None
        own = np.zeros_like(free)
        own[rows] = True
        return np.asarray(np.eye(int(free.sum()))[own[free]])

    def log_likelihood(self, rows: slice) -> FloatArray | None:  # (len(SCALES),)
        """Return the log likelihood of each component of a covariate's effects."""
        pick = self.block(rows)
        if pick is None:
            return None
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.place_weights)[..., None]
        return np.asarray(logsumexp(log_weights + self._log_likelihoods(pick), axis=(0, 1)))

    def draws(
        self, rows: slice, log_shares: FloatArray, n: int, seed: int
    ) -> tuple[FloatArray, FloatArray, Mask]:
        """Draw all coefficients (n, F+1, Q) and sigma (n,), a covariate's effects under a mixture.

        The mask (n,) says where the effect is exactly 0. The covariate's coefficients have to move.
        """
        pick = self.block(rows)
        if pick is None:
            raise ValueError("the counts do not determine this covariate's coefficients")
        generator = np.random.default_rng(seed)
        chances = self._chances(pick, log_shares)
        chosen = systematic(chances.ravel(), n, generator)
        r, t, k = np.unravel_index(chosen, chances.shape)
        means, z = self._means(), generator.standard_normal((n, pick.shape[1]))
        for one in np.unique(chosen):
            mine = chosen == one
            place = int(r[mine][0]), int(t[mine][0])
            scale = SCALES[k[mine][0]]
            mean, covariance = _under(means[place], self.surface.covariance[place], pick, scale)
            values, vectors = np.linalg.eigh(covariance)
            z[mine] = mean + (z[mine] * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        coefficients = self.surface.coefficients[r, t]  # a copy
        coefficients[:, self.surface.free.astype(bool)] = z
        sigma = np.exp(self.surface.log_sigma[r])
        return self._grown(coefficients, sigma[:, None, None])[0], sigma, SCALES[k] == 0.0

    def _grown(self, b: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ``B`` (*, F+1, Q) of ``b``, what is held as it is, and their ratio."""
        grown = np.sqrt(1.0 + ATTENUATION * sigma**2)
        return np.where(self.surface.free > 0.0, b * grown, b), grown

    def _chances(self, pick: FloatArray, log_shares: FloatArray) -> FloatArray:
        """Return the posterior probabilities (R, T, len(SCALES)) of places and components."""
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.place_weights)[..., None] + log_shares
        total = log_weights + self._log_likelihoods(pick)
        return np.asarray(np.exp(total - logsumexp(total)))

    def _log_likelihoods(self, pick: FloatArray) -> FloatArray:  # (R, T, len(SCALES))
        """Return the log density of the estimated effects under each component, at each place."""
        mean = self._means() @ pick.T
        spread = pick @ self.surface.covariance @ pick.T
        total = spread[..., None, :, :] + SCALES[:, None, None] ** 2 * np.eye(len(pick))
        root = np.linalg.cholesky(total)
        wide = np.broadcast_to(mean[..., None, :, None], (*total.shape[:-1], 1))
        z = np.linalg.solve(root, wide)[..., 0]
        log_det = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
        return np.asarray(-0.5 * (z**2).sum(axis=-1) - log_det)

    def _means(self) -> FloatArray:  # (R, T, K)
        return self.surface.coefficients[:, :, self.surface.free.astype(bool)]


def fit_effects(genes: Sequence[GeneUnderPopulation], rows: slice) -> FloatArray:
    """Return the log shares (len(SCALES),) of a covariate's effects over genes.

    A gene of which a coefficient is held counts for nothing. Without any all effects are taken as
    from the widest component.
    """
    found = [gene.log_likelihood(rows) for gene in genes]
    known = np.array([one for one in found if one is not None])
    shares = np.eye(len(SCALES))[-1]
    if len(known):
        likelihood = np.exp(known - known.max(axis=1, keepdims=True))
        shares = em_shares(likelihood, NULL_GENES * np.eye(len(SCALES))[0])
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(shares))


def _under(
    mean: FloatArray, covariance: FloatArray, pick: FloatArray, scale: float
) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance where the picked ones are also ``N(0, scale^2 I)``."""
    across = covariance @ pick.T
    gain = np.linalg.solve(pick @ across + scale**2 * np.eye(len(pick)), across.T).T
    return mean - gain @ (pick @ mean), covariance - gain @ across.T


def _hats(fine: FloatArray, places: FloatArray) -> FloatArray:  # (n, m)
    """Return how each fine place is shared out to its two neighbours among increasing places."""
    if len(places) == 1:
        return np.ones((len(fine), 1))
    return np.stack([np.interp(fine, places, row) for row in np.eye(len(places))], axis=1)
