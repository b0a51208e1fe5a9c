"""Coefficients of one gene with their covariance, what is not known of them, and other units."""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.undetermined import Undetermined
from splisosm_pyro.maths.coding import NOTHING, Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask


@dataclass(frozen=True, eq=False)
class Coefficients:
    """B (F+1, Q), the intercept in the last row; ``D = (F+1) Q``, flat index ``f Q + q``.

    Attributes
    ----------
    values : ndarray, shape (F+1, Q)
    covariance : ndarray, shape (D, D)
        Right for what is known.
    unknown : Undetermined
        The directions along which the data say nothing.
    """

    values: FloatArray
    covariance: FloatArray
    unknown: Undetermined

    @classmethod
    def all_unknown(cls, values: FloatArray) -> "Coefficients":
        """Return coefficients of which nothing is known but their values."""
        size = values.size
        unknown = Undetermined.nothing(size).and_coefficients(np.ones(size, dtype=bool))
        return cls(values, np.zeros((size, size)), unknown)

    @property
    def known(self) -> Mask:
        """Mask (F+1, Q) of what no direction moves."""
        return np.asarray(~self.unknown.coefficients.reshape(self.values.shape))

    def standard_errors(self) -> FloatArray:
        """Return standard errors (F+1, Q), infinite where nothing is known."""
        variance = np.maximum(self.covariance.diagonal(), 0.0).reshape(self.values.shape)
        return np.where(self.known, np.sqrt(variance), np.inf)

    def on_scale(self, back: FloatArray, turn: Turn = NOTHING) -> "Coefficients":
        """Return the logits of ``back @ B``, ``back`` (F+1, F+1), with its covariance.

        ``turn`` says of what coordinates B is, those of the logits if left out.

        Examples
        --------
        >>> own = Coefficients(np.array([[2.0], [1.0]]), np.eye(2), Undetermined.nothing(2))
        >>> halved = own.on_scale(np.array([[0.5, 0.0], [-3.0, 1.0]]))
        >>> halved.values.ravel().tolist(), halved.standard_errors().ravel().round(3).tolist()
        ([1.0, -5.0], [0.5, 3.162])
        """
        whole = turn.whole(back, self.values.shape[1])
        covariance = whole @ self.covariance @ whole.T
        values = turn.to_logits(back @ self.values)
        return Coefficients(values, covariance, self.unknown.on_scale(whole))


def on_logits(functions: FloatArray, n_logits: int) -> FloatArray:
    """Return what acts on all logits alike, (m, F+1), as functions (m Q, D) of B."""
    return np.asarray(np.kron(functions, np.eye(n_logits)), dtype=np.float64)
