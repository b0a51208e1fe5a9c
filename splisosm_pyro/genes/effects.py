"""Coefficients of one gene with their covariance: on the user's scale, and as changes of usage."""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask


@dataclass(frozen=True, eq=False)
class Coefficients:
    """B (F+1, Q), the intercept in the last row, and the covariance of ``B.ravel()``.

    Attributes
    ----------
    values : ndarray, shape (F+1, Q)
    covariance : ndarray, shape ((F+1)Q, (F+1)Q)
        0 in the rows of what is not ``known``.
    known : ndarray of bool, shape (F+1, Q)
        False where a coefficient has no finite optimum or the curvature says nothing of it.
    """

    values: FloatArray
    covariance: FloatArray
    known: Mask

    @classmethod
    def from_free(cls, values: FloatArray, covariance: FloatArray, known: Mask) -> "Coefficients":
        """Keep the covariance of what is known (a flat mask) alone."""
        kept = np.where(known[:, None] & known, covariance, 0.0)
        return cls(values, kept, known.reshape(values.shape))

    @classmethod
    def unknown(cls, values: FloatArray) -> "Coefficients":
        """Return coefficients of which nothing is known but their values."""
        nothing = np.zeros(values.shape, dtype=bool)
        return cls(values, np.zeros((values.size, values.size)), nothing)

    def standard_errors(self) -> FloatArray:
        """Return standard errors (F+1, Q), infinite where nothing is known."""
        variance = np.maximum(self.covariance.diagonal(), 0.0).reshape(self.values.shape)
        return np.where(self.known, np.sqrt(variance), np.inf)

    def on_scale(self, back: FloatArray) -> "Coefficients":
        """Return ``back @ B`` (F+1, F+1) with its covariance.

        Examples
        --------
        >>> own = Coefficients(np.array([[2.0], [1.0]]), np.eye(2), np.ones((2, 1), dtype=bool))
        >>> halved = own.on_scale(np.array([[0.5, 0.0], [-3.0, 1.0]]))
        >>> halved.values.ravel().tolist(), halved.standard_errors().ravel().round(3).tolist()
        ([1.0, -5.0], [0.5, 3.162])
        """
        whole = np.kron(back, np.eye(self.values.shape[1]))
        unknown = (np.abs(back) > 0).astype(float) @ ~self.known
        return Coefficients(back @ self.values, whole @ self.covariance @ whole.T, unknown == 0)


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
    infinite where a coefficient that takes part is not known.
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
    takes_part = (rows != 0).any(axis=0)
    if not own.known[takes_part].all():
        error = np.full_like(error, np.inf)
    return ratio[1] - ratio[0], error
