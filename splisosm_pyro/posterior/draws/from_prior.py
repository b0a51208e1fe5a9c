"""Draws of the parameters and of the field of one gene from their prior."""

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logit

from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import smoothed_weights
from splisosm_pyro.posterior.draws.gene_draws import Density, GeneDraws
from splisosm_pyro.posterior.field.drawn_or_gaussian import DrawnField, in_logits
from splisosm_pyro.posterior.field.gaussian_draws import normals, smooth_draws
from splisosm_pyro.posterior.field.noise import Noise


def prior_draws(
    density: Density, design: FloatArray, kernel: Kernel | None, n_draws: int, noise: Noise
) -> GeneDraws:
    """Draw from the prior, which is the posterior of a gene without counts."""
    space = density.space
    shape = (space.free.shape[0], space.free.shape[1])
    drawn = space.priors.sample(n_draws, shape, space.n_components, noise.numpy)
    back = solve_triangular(space.stated, np.eye(shape[0]), lower=True)
    coefficients = back @ drawn["coefficients"]
    parts = [coefficients.reshape(n_draws, -1)]
    if space.n_components:
        log_sigma = np.log(drawn["sigma"])[:, : space.n_sigma]
        parts = [log_sigma, logit(drawn["theta"]), *parts]
    u = np.concatenate(parts, axis=1)
    eta = np.einsum("sf,nfq->sqn", design, coefficients)
    if kernel is not None:
        named = space.named(u)
        eta = eta + _prior_field(kernel, named["sigma"], named["theta"], shape[1], noise)
    unknown = np.full(n_draws, np.nan)
    field = in_logits(DrawnField(eta), space.turn)
    return GeneDraws(u, field, unknown, smoothed_weights(np.zeros(n_draws)))


def _prior_field(
    kernel: Kernel, sigma: FloatArray, theta: FloatArray, n_logits: int, noise: Noise
) -> FloatArray:  # (S, Q, N)
    """Draw the random effect given its variances (N, C)."""
    smooth = smooth_draws(kernel, n_logits, len(sigma), noise.torch)
    variances = [
        Variances(s, t, n_logits, kernel.residual) for s, t in zip(sigma, theta, strict=True)
    ]
    spatial = np.stack([v.spatial for v in variances], axis=-1)
    nugget = np.stack([v.nugget for v in variances], axis=-1)
    return np.asarray(
        np.sqrt(spatial) * smooth + np.sqrt(nugget) * normals(smooth.shape, noise.torch)
    )
