"""What the engine asks of a spot once the white-noise part of the field is eliminated there.

With ``nu = D^1/2 w + e`` and ``e ~ N(0, T)`` independent over spots, ``e`` is eliminated spot by
spot, either at its own mode (``nugget='laplace'``) or by integration (``nugget='quadrature'``).
Either way a spot becomes one concave function ``h_s(x)`` of ``x = offset + D^1/2 w``, and the
engine needs ``h`` and its derivatives only.
"""

from dataclasses import dataclass
from typing import Protocol

from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True)
class SpotTerms:
    """``h_s`` and its first two derivatives at ``x``, for the ``n`` occupied spots of a gene.

    Attributes
    ----------
    x, nugget
        The point (n, Q) and the nugget variances ``T`` (Q,).
    value
        ``sum_s h_s(x_s)`` in nats, without the multinomial coefficient.
    score, neg_hessian
        ``h'`` (n, Q) and ``A = -h''`` (n, Q, Q), positive semi-definite.
    correction
        ``sum_s c_s``: what the elimination adds to the log marginal and the mode of ``w`` does not
        see; ``-1/2 log|I + T W_s|`` when ``e`` is profiled out, zero when it is integrated out.
    extra
        Per-spot arrays that the same nugget object needs for the derivatives.
    """

    x: FloatArray
    nugget: FloatArray
    value: float
    score: FloatArray
    neg_hessian: FloatArray
    correction: float
    extra: tuple[FloatArray, ...]


@dataclass(frozen=True)
class SpotDerivatives:
    """Third-order quantities, contracted with a symmetric weight ``M_s`` per spot.

    With ``phi_s = 1/2 tr(M_s A_s) - c_s``: ``phi_x`` (n, Q) its gradient in ``x``, ``phi_nugget``
    (n, Q) in ``T_q``; ``value_nugget`` (n, Q) is ``dh/dT_q`` and ``score_nugget`` (n, Q, Q) holds
    ``dh'_k/dT_q`` at ``[k, q]``.
    """

    phi_x: FloatArray
    phi_nugget: FloatArray
    value_nugget: FloatArray
    score_nugget: FloatArray


class SpotLikelihood(Protocol):
    """The two ways to eliminate the nugget obey this protocol."""

    def evaluate(self, x: FloatArray, nugget: FloatArray) -> SpotTerms:
        """Return ``h``, ``h'`` and ``-h''`` at ``x``."""
        ...

    def derivatives(self, terms: SpotTerms, weight: FloatArray) -> SpotDerivatives:
        """Return the third-order quantities at the point of ``terms``."""
        ...
