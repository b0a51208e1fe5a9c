"""A flexible distribution over genes: a mixture of fixed bumps, their shares by EM.

Bumps are normal and overlap, on a lattice of ``(log sigma, theta_logit)``, so that the mixture is
smooth where the genes say little; beside them those of log sigma alone at theta = 0, and one at
sigma = 0. The shares maximise the genes' marginal likelihood under a Dirichlet prior.

Reference: Stephens (2017), doi:10.1093/biostatistics/kxw041.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.population.grid import GRID, NO_FIELD, NO_SPACE, Masses

# Between bumps, in log sigma and theta_logit; their width in that unit.
SIGMA_STEP, LOGIT_STEP, WIDTH = 0.4, 1.0, 0.8
# Least theta_logit of a bump, .05, beside a mass at theta = 0.
LEAST_LOGIT = -3.0
# Of EM: most rounds, and a gain in nats a gene that ends them.
ROUNDS, GAIN = 2000, 1e-7


@dataclass(frozen=True, eq=False)
class MixtureOverGenes:
    """The log probability (size,) of every entry of the grid, and the genes' log likelihood."""

    log_masses: FloatArray
    log_likelihood: float

    def log_mass(self, covariates: FloatArray) -> FloatArray:
        """Return it for every gene, (G, size)."""
        return np.broadcast_to(self.log_masses, (len(covariates), len(self.log_masses)))

    def named(self) -> dict[str, tuple[float, float]]:
        """Return mean and sd of the inside and the masses; errors are not known."""
        mass = np.exp(self.log_masses)
        inside = mass[: GRID.inside]
        share = inside / max(inside.sum(), 1e-300)
        found: dict[str, tuple[float, float]] = {}
        for name, at in (("log_sigma", GRID.log_sigma), ("theta_logit", GRID.theta_logit)):
            mean = float(share @ at[: GRID.inside])
            spread = float(share @ (at[: GRID.inside] - mean) ** 2)
            found |= {f"mean_{name}": (mean, np.inf), f"sd_{name}": (spread**0.5, np.inf)}
        found["share_without_space"] = float(mass[GRID.inside : -1].sum()), np.inf
        found["share_without_field"] = float(mass[-1]), np.inf
        return found


def fit_mixture(log_likelihoods: FloatArray, *, masses: Masses) -> MixtureOverGenes:
    """Return the shares at the maximum of the penalised likelihood of genes (G, size)."""
    bumps = _bumps(masses)
    top = log_likelihoods.max(axis=1, keepdims=True)
    likelihood = np.exp(log_likelihoods - top) @ bumps.T  # (G, K)
    shares = em_shares(likelihood)
    mass = shares @ bumps
    with np.errstate(divide="ignore"):
        total = float((np.log(likelihood @ shares) + top[:, 0]).sum())
        return MixtureOverGenes(np.log(mass), total)


def em_shares(likelihood: FloatArray, prior: FloatArray | None = None) -> FloatArray:
    """Return the shares (K,) of components with likelihoods (G, K), the mode under a Dirichlet.

    ``prior`` (K,) are its parameters less 1; by default all are 0.

    Examples
    --------
    >>> em_shares(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).round(3).tolist()
    [0.667, 0.333]
    """
    n_genes, size = likelihood.shape
    more = np.zeros(size) if prior is None else prior
    shares, before = np.full(size, 1.0 / size), -np.inf
    for _ in range(ROUNDS):
        weighted = likelihood * shares
        total = weighted.sum(axis=1)
        shares = (weighted / total[:, None]).sum(axis=0) + more
        shares /= shares.sum()
        value = float(np.log(total).sum())
        if value - before < GAIN * n_genes:
            break
        before = value
    return shares


def _bumps(masses: Masses) -> FloatArray:  # (K, size)
    """Return the components' probabilities over the grid.

    Beside a mass at theta = 0 there are no bumps of shares that are as good as 0.
    """
    over_sigma = _kernels(GRID.log_sigmas, SIGMA_STEP)
    over_logit = _kernels(GRID.logits, LOGIT_STEP, LEAST_LOGIT if NO_SPACE in masses else -np.inf)
    inside = np.einsum("ax,by->abxy", over_sigma, over_logit)
    inside = inside.reshape(len(over_sigma) * len(over_logit), -1)
    kinds = [inside]
    kinds += [_placed(over_sigma, GRID.inside)] * (NO_SPACE in masses)
    kinds += [_placed(np.ones((1, 1)), GRID.size - 1)] * (NO_FIELD in masses)
    return np.concatenate([_placed(kinds[0], 0), *kinds[1:]])


def _placed(bumps: FloatArray, start: int) -> FloatArray:
    """Return bumps over a part of the grid as bumps over all of it."""
    after = GRID.size - start - bumps.shape[1]
    return np.pad(bumps, ((0, 0), (start, after)))


def _kernels(places: FloatArray, step: float, least: float = -np.inf) -> FloatArray:
    """Return normal bumps ``step`` apart from ``least`` on, of probability 1 over the places."""
    centres = np.arange(places[0] + 0.5 * step, places[-1], step)
    centres = centres[centres >= least]
    z = (places - centres[:, None]) / (WIDTH * step)
    out = np.exp(-0.5 * z**2)
    return np.asarray(out / out.sum(axis=1, keepdims=True))
