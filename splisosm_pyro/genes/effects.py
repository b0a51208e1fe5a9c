"""Coefficients of one gene as changes of usage."""

import numpy as np

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.maths.numeric.arrays import FloatArray


def softmax(eta: FloatArray) -> FloatArray:
    """Return ratios (S, P) of the logits (S, Q) and the reference's 0.

    Examples
    --------
    >>> softmax(np.array([[0.0, np.log(2.0)]])).round(3).tolist()
    [[0.25, 0.5, 0.25]]
    """
    padded = np.column_stack([eta, np.zeros(len(eta))])
    ratio = np.exp(padded - padded.max(axis=1, keepdims=True))
    return np.asarray(ratio / ratio.sum(axis=1, keepdims=True))


def delta_usage(
    own: Coefficients, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the change of usage (P,) from design row ``low`` to ``high``, and its standard error.

    At random effect 0; the error to first order in the coefficients (delta method),
    infinite where what takes part is not known. The rows are those of the design that the
    coefficients belong to.
    """
    rows = np.stack([low, high])
    ratio = softmax(rows @ own.values)
    n_logits = own.values.shape[1]
    slopes = []
    for row, pi in zip(rows, ratio, strict=True):
        by_logit = -np.outer(pi, pi[:n_logits])
        by_logit[np.arange(n_logits), np.arange(n_logits)] += pi[:n_logits]
        slopes.append(np.einsum("pq,f->pfq", by_logit, row).reshape(pi.size, -1))
    slope = slopes[1] - slopes[0]
    error = np.sqrt(np.maximum(np.einsum("pi,ij,pj->p", slope, own.covariance, slope), 0.0))
    if own.unknown.moves_usage(rows).any():
        error = np.full_like(error, np.inf)
    return ratio[1] - ratio[0], error
