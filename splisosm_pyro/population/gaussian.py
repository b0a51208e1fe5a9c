"""A normal distribution over genes of ``(log sigma, theta_logit)``, with point masses.

    (log sigma_g, theta_logit_g) ~ N(m + C z_g, S)  with probability  1 - a - b,
    theta_g = 0, log sigma_g of the same marginal,                    a,
    sigma_g = 0,                                                      b,

``z_g`` covariates of the gene, such as its depth; a and b are 0 unless asked for. The
hyperparameters are at the maximum of the genes' marginal likelihood, a sum over the grid for each,
with a weak prior that keeps them finite; their errors are from its curvature.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import ndtri
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.sobol import shifted_sobol
from splisosm_pyro.population.grid import GRID, NO_FIELD, NO_SPACE, Masses

# Weak priors: means of (log sigma, theta_logit), log standard deviations, slopes; a Dirichlet's
# parameter for the masses.
CENTRES, WIDE, LOG_SD, SLOPE, MASS = (-0.3, 0.0), (1.5, 2.0), (0.0, 1.0), 1.0, 2.0
FAR = 8.0
# The log probability of what is not there; finite, so that it can be differentiated.
NONE = -1e3
# Of the hyperparameters, over which a gene's prior is averaged.
DRAWS = 64


@dataclass(frozen=True, eq=False)
class GaussianOverGenes:
    """Hyperparameters as a vector, their covariance, and what they mean.

    Attributes
    ----------
    vector : ndarray, shape (H,)
        Means and slopes (2, 1 + Z), two log sds, the inverse hyperbolic tangent of the correlation,
        the masses' logits against what is inside.
    covariance : ndarray, shape (H, H)
    n_covariates : int
    masses : Masses
    log_likelihood : float
        Of all genes, in nats.
    """

    vector: FloatArray
    covariance: FloatArray
    n_covariates: int
    masses: Masses
    log_likelihood: float

    def log_mass(self, covariates: FloatArray) -> FloatArray:
        """Return the log probability of every entry of the grid for genes (G, Z), (G, size).

        Averaged over what the genes leave open of the hyperparameters, a Gaussian by its curvature.
        """
        kinds, which = np.unique(covariates, axis=0, return_inverse=True)
        values, vectors = np.linalg.eigh(self.covariance)
        points = ndtri(shifted_sobol(DRAWS, len(values), np.random.default_rng(0)))
        draws = self.vector + (points * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        given, mean = torch.as_tensor(kinds), np.zeros((len(kinds), GRID.size))
        for draw in np.clip(draws, -FAR, FAR):
            one = _log_mass(torch.as_tensor(draw), given, masses=self.masses)
            mean += np.exp(one.numpy()) / DRAWS
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(mean)[which.ravel()])

    def named(self) -> dict[str, tuple[float, float]]:
        """Return every hyperparameter with its standard error, by name."""
        errors = np.sqrt(np.maximum(self.covariance.diagonal(), 0.0))
        found = {}
        names = [
            f"{what}_{name}"
            for name in ("log_sigma", "theta_logit")
            for what in ("mean", *(f"slope_{z}" for z in range(self.n_covariates)))
        ]
        k = len(names)
        for name, value, error in zip(names, self.vector, errors, strict=False):
            found[name] = float(value), float(error)
        for i, name in enumerate(("log_sigma", "theta_logit")):
            sd = math.exp(self.vector[k + i])
            found[f"sd_{name}"] = sd, sd * float(errors[k + i])
        rho = math.tanh(self.vector[k + 2])
        found["correlation"] = rho, (1.0 - rho**2) * float(errors[k + 2])
        if self.masses:
            share, by = _shares(self.vector[k + 3 :])
            own = np.sqrt(np.maximum(np.diag(by @ self.covariance[k + 3 :, k + 3 :] @ by.T), 0.0))
            for name, one, error in zip(self.masses, share, own, strict=True):
                found[f"share_{name}"] = float(one), float(error)
        return found


def _shares(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the two masses and their derivatives in the logits."""
    odds = np.exp(logits)
    share = odds / (1.0 + odds.sum())
    return share, np.diag(share) - np.outer(share, share)


def fit_gaussian(
    log_likelihoods: FloatArray,  # (G, size)
    covariates: FloatArray,  # (G, Z)
    *,
    masses: Masses,
) -> GaussianOverGenes:
    """Return the hyperparameters at the maximum of the genes' marginal likelihood."""
    values, given = torch.as_tensor(log_likelihoods), torch.as_tensor(covariates)
    n_covariates = covariates.shape[1]
    start = np.zeros(2 * (1 + n_covariates) + 3 + len(masses))
    start[[0, 1 + n_covariates]] = CENTRES
    start[2 * (1 + n_covariates) : 2 * (1 + n_covariates) + 2] = math.log(0.7), math.log(1.5)
    start[len(start) - len(masses) :] = -1.0

    def loss(vector: Tensor) -> Tensor:
        likelihood = genes_log_likelihood(vector, values, given, masses=masses).sum()
        return -likelihood - _log_prior(vector, n_covariates, masses=masses)

    def with_slope(vector: FloatArray) -> tuple[float, FloatArray]:
        at = torch.tensor(vector, requires_grad=True)
        value = loss(at)
        (slope,) = torch.autograd.grad(value, at)
        return float(value.detach()), slope.numpy()

    found = minimize(
        with_slope, start, jac=True, method="L-BFGS-B", bounds=[(-FAR, FAR)] * len(start)
    )
    at = torch.tensor(found.x)
    curvature = torch.autograd.functional.hessian(loss, at).numpy()
    values_, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    covariance = (vectors / np.maximum(values_, 1e-3)) @ vectors.T
    total = genes_log_likelihood(at, values, given, masses=masses).sum()
    return GaussianOverGenes(found.x, covariance, n_covariates, masses, float(total))


def genes_log_likelihood(
    vector: Tensor, log_likelihoods: Tensor, covariates: Tensor, *, masses: Masses
) -> Tensor:  # (G,)
    """Return every gene's marginal log likelihood, differentiable in the hyperparameters."""
    return torch.logsumexp(log_likelihoods + _log_mass(vector, covariates, masses=masses), dim=1)


def _log_mass(vector: Tensor, covariates: Tensor, *, masses: Masses) -> Tensor:
    """Return log probabilities (G, size)."""
    k = 1 + covariates.shape[1]
    means = [vector[i * k] + covariates @ vector[i * k + 1 : (i + 1) * k] for i in (0, 1)]
    sds, rho = torch.exp(vector[2 * k : 2 * k + 2]), torch.tanh(vector[2 * k + 2])
    x = (torch.as_tensor(GRID.log_sigmas) - means[0][:, None]) / sds[0]
    y = (torch.as_tensor(GRID.logits) - means[1][:, None]) / sds[1]
    cross = x[:, :, None] ** 2 - 2.0 * rho * x[:, :, None] * y[:, None, :] + y[:, None, :] ** 2
    inside = torch.log_softmax((-0.5 * cross / (1.0 - rho**2)).flatten(1), dim=1)
    line = torch.log_softmax(-0.5 * x**2, dim=1)
    shares = _log_shares(vector, masses)
    none = inside.new_full((), NONE)
    of_line = shares.get(NO_SPACE, none) + line
    of_point = shares.get(NO_FIELD, none).expand(len(inside), 1)
    return torch.cat([shares["inside"] + inside, of_line, of_point], dim=1)


def _log_shares(vector: Tensor, masses: Masses) -> dict[str, Tensor]:
    """Return the log probability of what is inside and of each mass."""
    logits = torch.cat([vector.new_zeros(1), vector[len(vector) - len(masses) :]])
    return dict(zip(("inside", *masses), torch.log_softmax(logits, dim=0), strict=True))


def _log_prior(vector: Tensor, n_covariates: int, *, masses: Masses) -> Tensor:
    """Return the weak log prior of the hyperparameters."""
    k = 1 + n_covariates
    log_sds, turned = vector[2 * k : 2 * k + 2], vector[2 * k + 2]
    total = -0.5 * ((log_sds - LOG_SD[0]) / LOG_SD[1]).square().sum()
    total = total + torch.log1p(-(torch.tanh(turned) ** 2))
    for i in (0, 1):
        own = vector[i * k : (i + 1) * k]
        total = total - 0.5 * ((own[0] - CENTRES[i]) / WIDE[i]) ** 2
        total = total - 0.5 * (own[1:] / SLOPE).square().sum()
    if masses:
        total = total + (MASS - 1.0) * torch.stack(list(_log_shares(vector, masses).values())).sum()
    return total
