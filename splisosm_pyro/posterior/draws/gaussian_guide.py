"""The Gaussian at the mode of a gene's posterior, written out for a Pyro guide.

With ``M = G - G H^-1 G`` at the occupied spots the smooth part has the posterior covariance
``V - V M V`` at all of them, and ``nu`` given it is that of ``field.py``. The coefficients are the
program's, in the user's units.
"""

import numpy as np
import torch
from scipy.linalg import block_diag

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.guides import GaussianFit
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.outer import OuterDensity
from splisosm_pyro.posterior.draws.gene_draws import Density
from splisosm_pyro.posterior.field.gaussian_draws import eta_means

# Added to the variances of nu, as a share of the largest, so that their root exists.
JITTER = 1e-12


def gaussian_fit(density: Density, mode: OuterMode, design: StandardDesign) -> GaussianFit:
    """Return the Gaussian at ``mode``."""
    space, columns = density.space, design.with_intercept
    shape, k, turn = (space.free.shape[0], space.free.shape[1]), space.n_variance, space.turn
    whole = block_diag(np.eye(k), turn.whole(design.back, shape[1]))
    mean = torch.from_numpy(whole @ mode.mean)
    root = torch.from_numpy(_lower(whole @ np.linalg.cholesky(mode.covariance)))
    if not isinstance(density, OuterDensity):
        return GaussianFit(mean, root, shape)
    problem = density.problem
    eta, response = mode.linear(eta_means(problem, [mode.at.state, *mode.steps], columns))
    for i, (f, q) in enumerate(np.argwhere(space.free)):
        response[:, q, k + i] -= columns[:, f]  # of eta, not of nu
    response[:, :, k:] = response[:, :, k:] @ turn.whole_inverse(design.there, shape[1])
    _, state = density.value(mode.at.u, mode.at)
    nu = eta - columns @ mode.mean[k:].reshape(shape)
    covariance = nu_covariance(problem, state)
    if not turn.plain:
        to_logits = np.kron(np.eye(len(columns)), turn.matrix)
        covariance = to_logits @ covariance @ to_logits.T
    covariance[np.diag_indices_from(covariance)] += JITTER * covariance.diagonal().max()
    return GaussianFit(
        mean,
        root,
        shape,
        space.n_sigma,
        space.n_components,
        torch.from_numpy(turn.to_logits(nu)),
        torch.from_numpy(turn.columns_to_logits(response)),
        torch.from_numpy(np.linalg.cholesky(covariance)),
    )


def _lower(root: FloatArray) -> FloatArray:
    """Return the lower root with a positive diagonal of ``root root'``."""
    lower = np.asarray(np.linalg.qr(root.T, mode="r")).T
    return np.asarray(lower * np.sign(lower.diagonal()))


def nu_covariance(problem: LatentProblem, state: MarginalState) -> FloatArray:
    """Return the dense covariance of ``nu`` (S Q, S Q) given the outer parameters."""
    mode, kernel, occupied = state.mode, problem.kernel, problem.gene.occupied
    nugget, n_spots = state.variances.nugget, kernel.n_spots
    n_logits = nugget.size
    precision = mode.linearisation.precision
    big_g = block_diag(*precision).reshape(occupied.size, n_logits, -1)
    middle = big_g - precision @ mode.linearisation.factor.solve(big_g)  # M, (n, Q, n Q)
    half = kernel.smooth(middle.reshape(occupied.size, -1), occupied)  # V M
    turned = half.reshape(n_spots * n_logits, -1).T.reshape(occupied.size, -1)
    taken = kernel.smooth(np.ascontiguousarray(turned), occupied)  # V M' V
    smooth = kernel.dense().numpy() - kernel.residual * np.eye(n_spots)
    covariance = np.kron(smooth, np.eye(n_logits)) - taken.reshape(n_spots * n_logits, -1)
    root = np.tile(mode.root, n_spots)
    covariance = root[:, None] * covariance * root
    image = nugget[:, None] * mode.terms.neg_hessian  # T A
    shrink = np.broadcast_to(np.eye(n_logits), (n_spots, n_logits, n_logits)).copy()
    shrink[occupied] -= image
    left = block_diag(*shrink)
    return np.asarray(left @ covariance @ left.T + block_diag(*(shrink * nugget)))
