"""The nugget integrated out where every isoform has one: P independent noises of variance T / 2.

In turned coordinates x (``maths/coding.py``) the centred log-ratios are ``C x``, and their noise is
that of P independent ones, up to what all isoforms have in common, which no usage sees. So a spot
is the star of P lines, and with ``G`` its log as a function of the P places,

    g(x) = G(C x),    g' = C' G',    -g'' = C' (-G'') C,    dg/dT = 1/2 sum_p dG/dT_p.

All logits share T here: derivatives in it are given as equal parts of ``T_q``, of which only the
sum has a meaning.
"""

import numpy as np

from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.gaussian import blur_spots
from splisosm_pyro.maths.spot.integrated import (
    QuadratureNugget,
    checked_point,
    derive_spots,
    evaluate_spots,
)
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import without_table
from splisosm_pyro.maths.spot.terms import SpotDerivatives, SpotTerms


class SymmetricNugget(QuadratureNugget):
    """``QuadratureNugget`` in turned coordinates, three isoforms or more.

    Parameters
    ----------
    counts
        (n, P), the isoforms in the turn's order.
    turn
        The map to logits.
    nodes
        As in ``QuadratureNugget``.

    Examples
    --------
    >>> counts = np.array([[2.0, 1.0, 1.0]])
    >>> spots = SymmetricNugget(counts, Turn.of_size(3))
    >>> print(f"{spots.evaluate(np.zeros((1, 2)), np.array([4.0, 4.0])).value:.6f}")
    -5.413702
    """

    def __init__(self, counts: FloatArray, turn: Turn, nodes: int | str = "auto") -> None:
        super().__init__(counts, nodes)
        self._root, self._centred = turn.root, turn.centred

    def evaluate(self, x: FloatArray, nugget: FloatArray) -> SpotTerms:
        """Return ``g``, ``g'`` and ``-g''`` at ``x`` (n, Q) for equal nugget variances (Q,)."""
        x, nugget = checked_point(self._counts, x, nugget)
        value, *of_places = self._places(x, nugget)
        score, neg_hessian = self._pulled(*of_places[:2])
        extra = (x @ self._centred.T, *of_places)
        return SpotTerms(x, nugget, float(value.sum()), score, neg_hessian, 0.0, extra)

    def derivatives(self, terms: SpotTerms, weight: FloatArray) -> SpotDerivatives:
        """Return the third-order quantities; one more pass over the nodes."""
        places, score, neg_hessian, e = terms.extra
        noise = self._noise(terms.nugget)
        on_places = np.ascontiguousarray(self._centred @ weight @ self._centred.T)
        out = derive_spots(
            self._counts,
            places,
            noise,
            *self._rules,
            self._star_table(noise),
            e,
            score,
            neg_hessian,
            on_places,
        )
        by_nugget = 0.5 * out.sum(axis=2)  # (n, 3 + P)
        score_nugget = by_nugget[:, 3:] @ self._centred
        n_logits = terms.x.shape[1]
        return SpotDerivatives(
            out[:, 0] @ self._centred,
            _shared(by_nugget[:, 1], n_logits),
            _shared(by_nugget[:, 2], n_logits),
            _shared(score_nugget, n_logits),
        )

    def each(self, x: FloatArray, nugget: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``g`` (n,), ``g'`` (n, Q) and ``-g''`` (n, Q, Q), spot by spot."""
        value, score, neg_hessian, _ = self._places(*checked_point(self._counts, x, nugget))
        return value, *self._pulled(score, neg_hessian)

    def blurred(
        self, x: FloatArray, cov: FloatArray, error: float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``g``, ``g'`` and ``-g''`` of every spot for noise of covariance (n, Q, Q)."""
        root = self._root
        logits, noise = np.ascontiguousarray(x @ root.T), root @ cov @ root.T
        value, score, neg_hessian = blur_spots(self._counts, logits, noise, self._rules[0], error)
        return value, score @ root, root.T @ neg_hessian @ root

    def error(self, x: FloatArray, nugget: FloatArray) -> float:
        """Estimate the error of the value in nats, summed over spots: against half the step."""
        x, nugget = checked_point(self._counts, x, nugget)
        places, noise = x @ self._centred.T, self._noise(nugget)
        table = without_table(self._star_table(noise))
        fine = evaluate_spots(self._counts, places, noise, *self._finer, table)[0]
        return float(np.abs(self._places(x, nugget)[0] - fine).sum())

    def _noise(self, nugget: FloatArray) -> FloatArray:
        """Return every isoform's own variance (P,)."""
        return np.full(nugget.size + 1, 0.5 * nugget[0])

    def _places(
        self, x: FloatArray, nugget: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the value of every spot, gradient and curvature in its P places."""
        noise = self._noise(nugget)
        places, table = x @ self._centred.T, self._star_table(noise)
        return evaluate_spots(self._counts, places, noise, *self._rules, table)

    def _pulled(self, score: FloatArray, neg_hessian: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return gradient and curvature in the turned coordinates."""
        return score @ self._centred, self._centred.T @ neg_hessian @ self._centred


def integrated(counts: FloatArray, turn: Turn, nodes: int | str = "auto") -> QuadratureNugget:
    """Return spots (n, P) with the nugget integrated out, in coordinates turned or not."""
    if turn.plain:
        return QuadratureNugget(counts, nodes)
    return SymmetricNugget(counts, turn, nodes)


def _shared(total: FloatArray, n_logits: int) -> FloatArray:
    """Return equal parts (..., Q) of what all logits have together."""
    return np.repeat(total[..., None] / n_logits, n_logits, axis=-1)
