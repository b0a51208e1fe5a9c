"""The field at many outer parameters from its modes at few of them."""

import numpy as np

from splisosm_pyro.fit.marginal.conditional_mode import bordered
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

# At most so many modes serve a gene's draws.
MOST_MODES = 64
# Points so many nats below the best have no such mode.
DEEPEST = 12.0


def nearest_modes(
    points: FloatArray,  # (n, k)
    values: FloatArray,  # (n,)
    draws: FloatArray,  # (N, k)
) -> IndexArray:  # (N,)
    """Return the point that serves each draw: the nearest of those that are nearest most often.

    Distances are in sd of the draws.

    Examples
    --------
    >>> nearest_modes(np.array([[0.0], [9.0]]), np.zeros(2), np.array([[1.0], [2.0], [8.0]]))
    array([0, 0, 1])
    """
    usable = np.flatnonzero(values > values.max() - DEEPEST)
    scale = draws.std(axis=0) + 1e-12
    scaled, near = draws / scale, points[usable] / scale
    square = ((scaled[:, None, :] - near) ** 2).sum(axis=-1)
    popular = np.argsort(-np.bincount(square.argmin(axis=1), minlength=usable.size))
    kept = np.sort(popular[:MOST_MODES])
    return np.asarray(usable[kept[square[:, kept].argmin(axis=1)]])


def coefficient_response(
    problem: LatentProblem, state: MarginalState, design: FloatArray
) -> FloatArray:  # (S, Q, K)
    """Return how the mean of ``eta`` follows all coefficients B, the sites held.

    A solve a coefficient; ``design`` (S, F+1).
    """
    mode, nugget, occupied = state.mode, state.variances.nugget, problem.gene.occupied
    n_spots, n_logits = len(design), nugget.size
    free = np.ones((design.shape[1], n_logits), dtype=bool)
    border = bordered(problem, mode.linearisation, free)
    d_alpha = mode.linearisation.precision @ border.solved - border.cross
    smooth = problem.kernel.smooth(d_alpha.reshape(occupied.size, -1), occupied)
    out = np.einsum("sf,qp->sqfp", design, np.eye(n_logits)).reshape(n_spots, n_logits, -1)
    out = out + mode.root[:, None] * smooth.reshape(out.shape)
    image = nugget[:, None] * mode.terms.neg_hessian  # T A
    out[occupied] -= image @ out[occupied]
    return np.asarray(out)
