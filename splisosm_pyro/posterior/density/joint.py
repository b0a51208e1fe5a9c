"""The whole program's density, non-centred in the eigenbasis of V: what ``nuts`` samples.

With ``V = U diag(lam) U'`` and standard normal ``z`` (S, Q) in eigen coordinates,

    nu_q = U (D_q lam + T_q)^1/2 z_q,
    log p(u, z | Y) + const = log p(Y | X B + nu) - 1/2 |z|^2 + log p(u),

``u`` and ``log p(u)`` as in ``outer.py``. No Laplace step: the density is that of the Pyro
program, and its slope is written out by hand because a chain asks for it a hundred thousand times.
"""

import math
from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.marginal.latent_problem import GeneData
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.space import PosteriorSpace


@dataclass(frozen=True, eq=False)
class JointDensity:
    """The log density of positions ``[u (K), z (S Q)]``, ``z`` row by row.

    Attributes
    ----------
    gene : GeneData
        Counts and design of the occupied spots.
    space : PosteriorSpace
        What ``u`` means.
    eigvals, eigvecs : ndarray, shapes (S,) and (S, S)
        Of V.
    """

    gene: GeneData
    space: PosteriorSpace
    eigvals: FloatArray
    eigvecs: FloatArray

    @classmethod
    def of_gene(
        cls,
        counts: FloatArray,  # (S, P)
        design: FloatArray,  # (S, F)
        kernel: Kernel,
        space: PosteriorSpace,
    ) -> "JointDensity":
        """Decompose V, O(S^3); counts in the order of the turn of ``space``."""
        eigvals, eigvecs = np.linalg.eigh(kernel.dense().numpy())
        gene = GeneData.from_arrays(counts, design)
        return cls(gene, space, np.maximum(eigvals, 0.0), eigvecs)

    @property
    def size(self) -> int:
        """How many unknowns there are, K + S Q."""
        return self.space.size + self.eigvals.size * self.gene.n_logits

    def with_slope(self, position: FloatArray) -> tuple[float, FloatArray]:
        """Return the log density and its gradient; minus infinity and 0 outside the box of u."""
        u, z = self.split(position)
        box = self.space.box()
        if not np.isfinite(position).all() or (u < box.lower).any() or (u > box.upper).any():
            return -np.inf, np.zeros(position.size)
        coefficients, variances = self.space.unpack(u)
        scale = self.scales(variances)
        rows = self.eigvecs[self.gene.occupied]
        eta = self.gene.design @ coefficients + rows @ (scale * z)
        root = self.space.turn.root
        if self.space.turn.plain:
            log_lik, score = log_lik_and_score(self.gene, eta)
        else:
            log_lik, score = log_lik_and_score(self.gene, eta @ root.T)
            score = score @ root
        pulled = rows.T @ score  # (S, Q)
        value = log_lik - 0.5 * float((z**2).sum())
        value += self.space.log_prior(variances, coefficients)
        slope = np.concatenate(
            [
                self._outer_slope(score, pulled * z / scale, coefficients, variances),
                (scale * pulled - z).ravel(),
            ]
        )
        if not (math.isfinite(value) and np.isfinite(slope).all()):
            return -np.inf, np.zeros(position.size)
        return value, slope

    def _outer_slope(
        self,
        score: FloatArray,  # (n, Q)
        by_variance: FloatArray,  # (S, Q), twice the derivative in the eigenvalue's variance
        coefficients: FloatArray,
        variances: Variances,
    ) -> FloatArray:
        """Return the gradient in ``u``."""
        by_spatial = 0.5 * variances.spatial * (self.eigvals @ by_variance)
        by_sigma, by_theta = variances.pull_back(by_spatial, 0.5 * by_variance.sum(axis=0))
        slope = self.space.pack(by_sigma, by_theta, self.gene.design.T @ score)
        return slope + self.space.prior_gradient(variances, coefficients)

    def split(self, position: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ``u`` (K,) and ``z`` (S, Q)."""
        size = self.space.size
        return position[:size], position[size:].reshape(self.eigvals.size, -1)

    def scales(self, variances: Variances) -> FloatArray:
        """Return the standard deviations of the eigen coordinates of nu, (S, Q)."""
        spread = np.multiply.outer(self.eigvals, variances.spatial) + variances.nugget
        return np.asarray(np.sqrt(np.maximum(spread, np.finfo(float).tiny)))

    def eta(self, positions: FloatArray, design: FloatArray) -> FloatArray:
        """Return ``eta`` (S, Q, N), turned as the field is, at positions (N, K + S Q)."""
        out = np.empty((self.eigvals.size, self.gene.n_logits, len(positions)))
        for n, position in enumerate(positions):
            u, z = self.split(position)
            coefficients, variances = self.space.unpack(u)
            out[:, :, n] = design @ coefficients + self.eigvecs @ (self.scales(variances) * z)
        return out


def log_lik_and_score(gene: GeneData, eta: FloatArray) -> tuple[float, FloatArray]:
    """Return the log-likelihood at ``eta`` (n, Q) and its gradient (n, Q)."""
    top = np.maximum(eta.max(axis=1, initial=0.0), 0.0)[:, None]
    weights = np.exp(eta - top)
    total = np.exp(-top) + weights.sum(axis=1, keepdims=True)
    n_reads = gene.counts.sum(axis=1, keepdims=True)
    log_norm = top + np.log(total)
    value = float((gene.counts[:, :-1] * eta).sum() - (n_reads * log_norm).sum())
    return value + gene.log_coefficient, gene.counts[:, :-1] - n_reads * weights / total
