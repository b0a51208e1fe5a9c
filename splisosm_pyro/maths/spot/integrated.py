"""The nugget integrated out: each spot's white noise summed over nodes, not replaced by its mode.

At a spot, ``g(x) = log int exp(l(x + e)) N(e; 0, T) de`` with ``l`` the multinomial log-likelihood
(without its coefficient). ``g`` is concave and plays the part of ``h`` in ``terms.py``. With ``E~``
the expectation under the spot's posterior of ``e``,

    g' = E~[l'],   A = -g'' = -E~[l''] - Var~(l'),   phi = 1/2 tr(M A),   correction = 0

and the derivatives in ``T`` follow from the heat equation ``dL/dT_q = 1/2 d2L/dx_q^2`` for
``L = exp g``; ``quadrature/cumulants.py`` states them. ``quadrature/`` says which rule a spot
takes. With the automatic nodes its value is right to about 1e-9 nats for every total and sigma.
"""

import math

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.spot.gaussian import blur_spots
from splisosm_pyro.maths.spot.quadrature.cumulants import (
    covariance,
    derive,
    diagonal_moments,
    flat_sums,
    log_norm,
    mean,
)
from splisosm_pyro.maths.spot.quadrature.line import AUTO, HALVED, Rule, fixed_rule, line_pass
from splisosm_pyro.maths.spot.quadrature.plane import (
    plane,
    plane_mode,
    plane_moments,
    plane_sums,
    plane_value,
)
from splisosm_pyro.maths.spot.quadrature.poisson_star import star
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import (
    NODES,
    PoissonTable,
    longest_steps,
    poisson_table,
    reaches,
    without_table,
)
from splisosm_pyro.maths.spot.rounding import lift
from splisosm_pyro.maths.spot.terms import SpotDerivatives, SpotTerms

PLANE_AUTO: Rule = (0.92, 1.25, 23.0, 0)
PLANE_HALVED: Rule = (0.46, 0.625, 40.0, 0)
# In a plane of smaller cells a lattice is dearer than a star without a table (measured).
SMALLEST_CELL = 0.12


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
    Equal arguments give equal results: what is kept between calls (a table of line integrals, for
    three isoforms or more) does not depend on them.

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
        if self._counts.shape[1] > 2:
            self._longest = longest_steps(self._counts.sum(axis=1))
        self._table: tuple[bytes, PoissonTable] | None = None
        self._finer = _rules(2 * nodes) if isinstance(nodes, int) else (HALVED, PLANE_HALVED)

    def evaluate(self, x: FloatArray, nugget: FloatArray) -> SpotTerms:
        """Return ``g``, ``g'`` and ``-g''`` at ``x`` (n, Q) for nugget variances (Q,) >= 0."""
        x, nugget = checked_point(self._counts, x, nugget)
        if x.shape[1] == 1:
            g = line_pass(self._counts, x, nugget[0], self._rules[0])
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

    def each(self, x: FloatArray, nugget: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``g`` (n,), ``g'`` (n, Q) and ``-g''`` (n, Q, Q), spot by spot."""
        x, nugget = checked_point(self._counts, x, nugget)
        if x.shape[1] == 1:
            g = line_pass(self._counts, x, nugget[0], self._rules[0])
            return g[:, 0].copy(), g[:, 1:2].copy(), np.maximum(-g[:, 2:3, None], 0.0)
        return evaluate_spots(self._counts, x, nugget, *self._rules, self._star_table(nugget))[:3]

    def blurred(
        self, x: FloatArray, cov: FloatArray, error: float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``g``, ``g'`` and ``-g''`` of every spot for noise of covariance (n, Q, Q).

        Fewer nodes where values may be off by ``error`` nats a spot.
        """
        return blur_spots(self._counts, x, cov, self._rules[0], error)

    def _star_table(self, nugget: FloatArray) -> PoissonTable:
        """Keep the table of the nugget last asked for; its entries are the same whoever asks."""
        key = nugget.tobytes()
        if self._table is None or self._table[0] != key:
            self._table = key, poisson_table(nugget, self._longest)
        return self._table[1]

    def error(self, x: FloatArray, nugget: FloatArray) -> float:
        """Estimate the error of the value in nats, summed over spots: against half the step.

        The finer values take no table, so that its interpolation is part of the estimate.
        """
        x, nugget = checked_point(self._counts, x, nugget)
        if x.shape[1] == 1:
            rough, fine = (
                line_pass(self._counts, x, nugget[0], rules[0])[:, 0]
                for rules in (self._rules, self._finer)
            )
        else:
            table = self._star_table(nugget)
            rough = evaluate_spots(self._counts, x, nugget, *self._rules, table)[0]
            fine = evaluate_spots(self._counts, x, nugget, *self._finer, without_table(table))[0]
        return float(np.abs(rough - fine).sum())


def _rules(nodes: int | str) -> tuple[Rule, Rule]:
    """Give the rules of the lines and of the plane."""
    if nodes == "auto":
        return AUTO, PLANE_AUTO
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 1 <= nodes <= 500:
        raise ValueError(f"nodes: expected 'auto' or an integer from 1 to 500, got {nodes!r}")
    return fixed_rule(nodes), fixed_rule(nodes)


def checked_point(
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


@compiled
def _flat(y: FloatArray, x: FloatArray, score: FloatArray, neg_hessian: FloatArray) -> float:
    """No nugget: the multinomial log-likelihood itself; write its score and information."""
    m, norm = y.sum(), log_norm(x, y.size > x.size)
    value = -m * norm
    for a in range(x.size):
        value += y[a] * x[a]
        p = math.exp(x[a] - norm)
        score[a] = y[a] - m * p
        for b in range(x.size):
            neg_hessian[a, b] = -m * p * math.exp(x[b] - norm)
        neg_hessian[a, a] += m * p
    return float(value)


@compiled
def evaluate_spots(
    counts: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    plane_rule: Rule,
    table: PoissonTable,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Give g, g', -g'' of every spot, and where its plane is centred (NaN: it is not a plane)."""
    n, n_logits = x.shape
    value, score = np.empty(n), np.empty((n, n_logits))
    neg_hessian, e = np.zeros((n, n_logits, n_logits)), np.full((n, 2), np.nan)
    parts, weight = np.empty((n_logits, 3, NODES)), np.empty(NODES)
    sums = np.empty(11)
    for s in range(n):
        if nugget.max() == 0.0:
            value[s] = _flat(counts[s], x[s], score[s], neg_hessian[s])
            lift(neg_hessian[s], counts[s].sum())
            continue
        looked_up = rule[3] == 0 and reaches(table, counts[s], x[s], nugget, s)
        if n_logits == 2 and nugget.min() > 0.0 and not looked_up:
            e0, e1 = plane_mode(counts[s], x[s], (nugget[0], 0.0, nugget[1]))
            at = plane(counts[s], x[s], (nugget[0], 0.0, nugget[1]), plane_rule, (e0, e1))
            cell = at.h0 * at.h1
            if rule[3] > 0 or cell > SMALLEST_CELL:
                e[s, 0], e[s, 1] = e0, e1
                plane_sums(at, plane_rule, sums)
                value[s] = plane_value(at, sums, score[s], neg_hessian[s])
                lift(neg_hessian[s], counts[s].sum())
                continue
        value[s], nodes = star(counts[s], x[s], nugget, rule, table, s, parts, weight)
        _star_score(parts, weight, nodes, score[s], neg_hessian[s])
        lift(neg_hessian[s], counts[s].sum())
    return value, score, neg_hessian, e


@compiled
def _star_score(
    parts: FloatArray, weight: FloatArray, nodes: int, score: FloatArray, neg_hessian: FloatArray
) -> None:
    """Write g' and -g'' from the nodes of a star; centre ``parts`` about its means."""
    n_logits, w = score.size, weight[:nodes]
    for a in range(n_logits):
        first, second = parts[a, 1, :nodes], parts[a, 2, :nodes]
        score[a], curve = mean(w, first), mean(w, second)
        neg_hessian[a, a] = -curve
        for i in range(nodes):
            first[i] -= score[a]
            second[i] -= curve
        for b in range(a + 1):
            both = covariance(w, first, parts[b, 1, :nodes])
            if b == a:
                neg_hessian[a, a] -= both
            else:
                neg_hessian[a, b] = neg_hessian[b, a] = -both


@compiled
def derive_spots(
    counts: FloatArray,
    x: FloatArray,
    nugget: FloatArray,
    rule: Rule,
    plane_rule: Rule,
    table: PoissonTable,
    e: FloatArray,
    score: FloatArray,
    neg_hessian: FloatArray,
    weight: FloatArray,
) -> FloatArray:
    """Give the rows of ``cumulants.derive`` for every spot: (n, 3 + Q, Q)."""
    n, n_logits = x.shape
    out = np.empty((n, 3 + n_logits, n_logits))
    parts, share = np.empty((n_logits, 5, NODES)), np.empty(NODES)
    sums, packed = np.empty(20), np.empty((2 * n_logits + 3, n_logits))
    centre, curve = np.empty(n_logits), np.empty((n_logits, n_logits))
    for s in range(n):
        packed[:] = 0.0
        if nugget.max() == 0.0:
            one = counts.shape[1] > n_logits
            flat_sums(counts[s].sum(), x[s], one, weight[s], packed)
        elif not math.isnan(e[s, 0]):
            at = plane(counts[s], x[s], (nugget[0], 0.0, nugget[1]), plane_rule, (e[s, 0], e[s, 1]))
            plane_sums(at, plane_rule, sums)
            plane_moments(at, sums, weight[s], packed)
        else:
            nodes = star(counts[s], x[s], nugget, rule, table, s, parts, share)[1]
            _star_score(parts, share, nodes, centre, curve)
            diagonal_moments(share[:nodes], parts, weight[s], packed)
        derive(weight[s], score[s], neg_hessian[s], packed, out[s])
    return out
