"""The nugget integrated out: each spot's white noise summed over nodes, not replaced by its mode.

At a spot, ``g(x) = log int exp(l(x + e)) N(e; 0, T) de`` with ``l`` the multinomial log-likelihood
(without its coefficient). ``g`` is concave and plays the part of ``h`` in ``spot.py``. With ``E~``
the expectation under the spot's posterior of ``e``,

    g' = E~[l'],   A = -g'' = -E~[l''] - Var~(l'),   phi = 1/2 tr(M A),   correction = 0

and the derivatives in ``T`` follow from the heat equation ``dL/dT_q = 1/2 d2L/dx_q^2`` for
``L = exp g``; ``spot_cumulants.py`` states them. Three rules, all trapezoidal sums, which converge
exponentially here. Two isoforms: a line (``spot_line.py``). More: a star (``spot_star.py``), whose
functions are read from a table (``spot_even.py``) unless counts are very large; then three
isoforms take a plane (``spot_plane.py``) if their nuggets are moderate, others a star of lines.
With the automatic nodes the value of a spot is right to about 1e-9 nats for every total and sigma.
"""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.gaussian import blur_spots
from splisosm_pyro.maths.spot.mean_ratio import normal_nodes, square_root
from splisosm_pyro.maths.spot.quadrature.line import AUTO, HALVED, Rule, fixed_rule, line_pass
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import longest_steps, without_table
from splisosm_pyro.maths.spot.quadrature.shifted_table import Shifted, shifted_table
from splisosm_pyro.maths.spot.quadrature.spot_table import (
    Table,
    empty_table,
    pair_pass,
    pair_rows_of,
)
from splisosm_pyro.maths.spot.spot_quadrature_kernels import derive_spots, evaluate_spots
from splisosm_pyro.maths.spot.terms import SpotDerivatives, SpotTerms

PLANE_AUTO: Rule = (0.92, 1.25, 23.0, 0)
PLANE_HALVED: Rule = (0.46, 0.625, 40.0, 0)
# Gauss-Hermite nodes a dimension for the smooth part in ``posterior_ratio``.
SMOOTH_NODES = {1: 21, 2: 11, 3: 7}


class QuadratureNugget:
    """Multinomial spots with the white noise integrated out (``nugget='quadrature'``).

    Parameters
    ----------
    counts
        (n, P) counts of the occupied spots, whole or fractional; the last isoform is the
        reference.
    nodes
        ``'auto'``: as many as every spot needs. An integer: that many a dimension, equidistant in
        units of the posterior's sd about its mode; ``error`` says what that costs.

    Raises
    ------
    ValueError
        If ``nodes`` is neither, or a spot has no counts.

    Notes
    -----
    Equal arguments give equal results: what is kept between calls (a table of the line integrals of
    small whole counts) does not depend on them.

    Examples
    --------
    >>> import numpy as np
    >>> spots = QuadratureNugget(np.array([[2.0, 1.0], [0.0, 1.0]]))
    >>> terms = spots.evaluate(np.zeros((2, 1)), np.array([4.0]))
    >>> print(f"{terms.value:.6f}")
    -3.273950
    """

    def __init__(self, counts: FloatArray, nodes: int | str = "auto") -> None:
        self._counts = np.ascontiguousarray(counts, dtype=np.float64)
        if not (self._counts.sum(axis=1) > 0.0).all():
            raise ValueError("counts: every spot must have a positive total, one has none")
        self._rules = _rules(nodes)
        if self._counts.shape[1] == 2:
            self._row = pair_rows_of(self._counts)
        else:
            self._longest = longest_steps(self._counts.sum(axis=1))
        self._pairs: tuple[float, Table] | None = None
        self._shifted: tuple[bytes, Shifted] | None = None
        self._finer = _rules(2 * nodes) if isinstance(nodes, int) else (HALVED, PLANE_HALVED)

    def evaluate(self, x: FloatArray, nugget: FloatArray) -> SpotTerms:
        """Return ``g``, ``g'`` and ``-g''`` at ``x`` (n, Q) for nugget variances (Q,) >= 0."""
        x, nugget = _checked(self._counts, x, nugget)
        if x.shape[1] == 1:
            g = pair_pass(self._counts, x, nugget[0], self._rules[0], self._pair_table(nugget[0]))
            score, neg_hessian = g[:, 1:2].copy(), np.maximum(-g[:, 2:3, None], 0.0)
            return SpotTerms(x, nugget, float(g[:, 0].sum()), score, neg_hessian, 0.0, (g,))
        value, score, neg_hessian, e = evaluate_spots(
            self._counts, x, nugget, *self._rules, self._star_table(nugget)
        )
        return SpotTerms(x, nugget, float(value.sum()), score, neg_hessian, 0.0, (e,))

    def derivatives(self, terms: SpotTerms, weight: FloatArray) -> SpotDerivatives:
        """Return the third-order quantities; free for P = 2, else one more pass over the nodes."""
        if terms.x.shape[1] == 1:
            return _line_derivatives(terms.extra[0], weight)
        out = derive_spots(
            self._counts,
            terms.x,
            terms.nugget,
            *self._rules,
            self._star_table(terms.nugget),
            terms.extra[0],
            terms.score,
            terms.neg_hessian,
            np.ascontiguousarray(weight),
        )
        return SpotDerivatives(out[:, 0], out[:, 1], out[:, 2], out[:, 3:])

    def blurred(
        self, x: FloatArray, cov: FloatArray, error: float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``g``, ``g'`` and ``-g''`` of every spot for noise of covariance (n, Q, Q).

        Fewer nodes where values may be off by ``error`` nats a spot.
        """
        return blur_spots(self._counts, x, cov, self._rules[0], error)

    def _pair_table(self, nugget: float) -> Table:
        """Keep the table of the nugget last asked for; its entries are the same whoever asks."""
        if self._pairs is None or self._pairs[0] != nugget:
            self._pairs = nugget, empty_table(self._row, nugget)
        return self._pairs[1]

    def _star_table(self, nugget: FloatArray) -> Shifted:
        """Likewise for three isoforms or more."""
        key = nugget.tobytes()
        if self._shifted is None or self._shifted[0] != key:
            self._shifted = key, shifted_table(nugget, self._longest)
        return self._shifted[1]

    def error(self, x: FloatArray, nugget: FloatArray) -> float:
        """Estimate the error of the value in nats, summed over spots: against half the step.

        The finer values take no table, so that its interpolation is part of the estimate.
        """
        x, nugget = _checked(self._counts, x, nugget)
        if x.shape[1] == 1:
            table = self._pair_table(nugget[0])
            rough = pair_pass(self._counts, x, nugget[0], self._rules[0], table)[:, 0]
            fine = line_pass(self._counts, x, nugget[0], self._finer[0])[:, 0]
        else:
            rough = evaluate_spots(self._counts, x, nugget, *self._rules, self._star_table(nugget))[
                0
            ]
            direct = without_table(self._star_table(nugget))
            fine = evaluate_spots(self._counts, x, nugget, *self._finer, direct)[0]
        return float(np.abs(rough - fine).sum())

    def posterior_ratio(self, x: FloatArray, nugget: FloatArray, cov_x: FloatArray) -> FloatArray:
        """Give the posterior mean of the isoform ratios, smooth part and nugget both integrated.

        Given ``x`` the mean over the nugget is exact, ``E~[pi] = (y - g'(x)) / m``, since ``g'`` is
        the mean of ``l' = y - m pi``. Its mean over ``x ~ N(x, cov_x)`` is by Gauss-Hermite: 21
        nodes for P = 2, 11 and 7 a dimension for P = 3 and 4, 3 beyond.

        Parameters
        ----------
        x, nugget
            Posterior mean of the smooth part (n, Q), nugget variances (Q,).
        cov_x
            (n, Q, Q) its posterior covariance, positive semi-definite.

        Returns
        -------
        FloatArray
            (n, P), rows sum to one.
        """
        n_logits = x.shape[1]
        z, weights = normal_nodes(n_logits, SMOOTH_NODES.get(n_logits, 3))
        root = square_root(cov_x)
        totals = self._counts.sum(axis=1, keepdims=True)
        ratio = np.zeros_like(x)
        for step, weight in zip(z, weights, strict=True):
            score = self.evaluate(x + root @ step, nugget).score
            ratio += weight * (self._counts[:, :-1] - score) / totals
        return np.concatenate([ratio, 1.0 - ratio.sum(axis=1, keepdims=True)], axis=1)


def _rules(nodes: int | str) -> tuple[Rule, Rule]:
    """Give the rules of the lines and of the plane."""
    if nodes == "auto":
        return AUTO, PLANE_AUTO
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 1 <= nodes <= 500:
        raise ValueError(f"nodes: expected 'auto' or an integer from 1 to 500, got {nodes!r}")
    return fixed_rule(nodes), fixed_rule(nodes)


def _checked(
    counts: FloatArray, x: FloatArray, nugget: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Hold the shapes together, once, before compiled code that would not."""
    x = np.ascontiguousarray(x, dtype=np.float64)
    nugget = np.ascontiguousarray(nugget, dtype=np.float64)
    shape = (counts.shape[0], counts.shape[1] - 1)
    if x.shape != shape or nugget.shape != shape[1:]:
        raise ValueError(
            f"x, nugget: expected shapes {shape} and {shape[1:]}, got {x.shape} and {nugget.shape}"
        )
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise ValueError(f"x: expected finite logits, got {x[row]} at spot {row}")
    if not (np.isfinite(nugget).all() and (nugget >= 0.0).all()):
        raise ValueError(f"nugget: expected finite variances >= 0, got {nugget}")
    return x, nugget


def _line_derivatives(g: FloatArray, weight: FloatArray) -> SpotDerivatives:
    """Two isoforms: all from the five numbers of the one pass."""
    g1, g2, g3, g4 = g[:, 1], g[:, 2], g[:, 3], g[:, 4]
    half = -0.5 * weight[:, 0, 0]
    phi_nugget = half * (0.5 * g4 + g2 * g2 + g1 * g3)
    return SpotDerivatives(
        (half * g3)[:, None],
        phi_nugget[:, None],
        (0.5 * (g2 + g1 * g1))[:, None],
        (0.5 * g3 + g1 * g2)[:, None, None],
    )
