"""Weights that know the gradient: control variates from Stein's identity.

For a density ``p`` that vanishes at the ends, with ``g = grad log p`` and whitened coordinates z,

    E[g] = 0,        E[z_i g_j + z_j g_i + 2 [i = j]] = 0,

so the weighted sums of these functions should vanish. Weights changed as little as possible to make
them vanish give the exact mean and covariance where ``p`` is Gaussian, whatever the points, and
errors several times smaller where it is nearly so (Mira, Solgi and Imparato, 2013,
doi:10.1007/s11222-012-9344-6).
"""

import numpy as np

from splisosm_pyro.maths.spot import FloatArray

# Of the variances of the control functions; keeps equal functions apart.
RIDGE = 1e-6
# A set of control functions wants this many effective points for each.
POINTS_A_CONTROL = 2.0


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
