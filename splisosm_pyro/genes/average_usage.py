"""The usage that a design row stands for: averaged over the random effect and over the tissue.

With ``nu ~ N(0, diag(sigma^2))`` the usage at a row x is ``E softmax([x B + nu, 0])``, and a change
of usage is the difference of two such means over the spots (an average marginal effect). It is what
a spot picked at random would show, where ``softmax([x B, 0])`` is that of a spot whose random
effect happens to be zero. Intervals are quantiles over draws of (B, log sigma), from one Gaussian
or a mixture over the variances (``over_variances.py``): they stay within [-1, 1].

Reference: Pavlou, Ambler, Seaman and Omar (2015), doi:10.1186/s12874-015-0046-6 (marginal and
conditional predictions of mixed models).
"""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from scipy.linalg import block_diag
from scipy.special import ndtri

from splisosm_pyro.maths.coding import NOTHING, Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.numeric.sobol import shifted_sobol

# For an interval: draws of the parameters, values of the random effect by number of logits, rows.
DRAWS = 1000
NODES, MANY_NODES = {1: 64, 2: 128}, 256
MOST_ROWS = 256
# For the estimate: values of the random effect.
ESTIMATE_NODES = 2048
TAILS = (0.025, 0.975)
# For a quick estimate: rows, values of the random effect, a step of the coefficients.
QUICK_ROWS, QUICK_NODES, QUICK_STEP = 128, 128, 1e-3
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Rows:
    """Design rows that are compared, the distinct ones of all spots.

    Attributes
    ----------
    low, high : ndarray, shape (R, F+1)
        The intercept last.
    weight : ndarray, shape (R,)
        Share of the spots, sums to one.
    """

    low: FloatArray
    high: FloatArray
    weight: FloatArray

    @classmethod
    def of_spots(cls, low: FloatArray, high: FloatArray) -> "Rows":
        """Keep the distinct ones of (S, F+1) rows, in an order of their own.

        Examples
        --------
        >>> rows = Rows.of_spots(np.array([[0.0, 1.0]] * 3), np.array([[1.0, 1.0]] * 3))
        >>> rows.low.tolist(), rows.weight.tolist()
        ([[0.0, 1.0]], [1.0])
        """
        both, times = np.unique(np.hstack([low, high]), axis=0, return_counts=True)
        half = low.shape[1]
        return cls(
            np.ascontiguousarray(both[:, :half]),
            np.ascontiguousarray(both[:, half:]),
            times / times.sum(),
        )

    def some(self, most: int) -> "Rows":
        """Return at most so many of them, evenly spread over their order and equally heavy."""
        if len(self.weight) <= most:
            return self
        middle = (np.arange(most) + 0.5) / most
        at = np.searchsorted(np.cumsum(self.weight), middle).clip(max=len(self.weight) - 1)
        return Rows(self.low[at], self.high[at], np.full(most, 1.0 / most))


@dataclass(frozen=True, eq=False)
class Parameters:
    """Coefficients and scales of one gene and the covariance of ``(B.ravel(), log sigma)``.

    Attributes
    ----------
    coefficients : ndarray, shape (F+1, Q)
    sigma : ndarray, shape (C,)
        One for all logits or one each; empty for a GLM.
    covariance : ndarray, shape ((F+1)Q + C, (F+1)Q + C)
        0 in the rows of what is held.
    turn : Turn
        Of what coordinates coefficients and random effect are.
    mixture, weights : tuple of Parameters, ndarray
        Gaussians that draws are taken from in the place of the own one, and their shares.
    """

    coefficients: FloatArray
    sigma: FloatArray
    covariance: FloatArray
    turn: Turn = NOTHING
    mixture: "tuple[Parameters, ...]" = ()
    weights: FloatArray = field(default_factory=lambda: np.empty(0))

    @property
    def n_logits(self) -> int:
        """Q."""
        return int(self.coefficients.shape[1])

    def in_order_of(self, counts: FloatArray) -> "Parameters":
        """Return them in coordinates of the counts (S, P) alone, where the model allows.

        Draws then do not depend on the order in which the isoforms come.
        """
        if not self.turn.plain or (self.n_logits > 1 and self.sigma.size):
            return self
        turn = Turn.by_counts(counts)
        n_rows, n_logits = self.coefficients.shape
        whole = turn.whole_inverse(np.eye(n_rows), n_logits)
        whole = block_diag(whole, np.eye(self.sigma.size))
        return self._turned(turn, whole)

    def _turned(self, turn: Turn, whole: FloatArray) -> "Parameters":
        """Return them in other coordinates, to which ``whole`` takes them."""
        return replace(
            self,
            coefficients=turn.from_logits(self.coefficients),
            covariance=whole @ self.covariance @ whole.T,
            turn=turn,
            mixture=tuple(one._turned(turn, whole) for one in self.mixture),
        )

    def draws(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Return n quasi-random draws of B (n, F+1, Q) and of sigma (n, Q)."""
        size, parts = len(self.covariance), self.mixture
        if not parts:
            return self._at(shifted_sobol(n, size, np.random.default_rng(0)))
        # the first coordinate says which part: points are as even within it as between them
        points = shifted_sobol(n, 1 + size, np.random.default_rng(0))
        part = np.searchsorted(np.cumsum(self.weights)[:-1], points[:, 0])
        drawn = [parts[k]._at(points[part == k, 1:]) for k in np.unique(part)]
        return np.concatenate([B for B, _ in drawn]), np.concatenate([s for _, s in drawn])

    def _at(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the own Gaussian at points (n, K) of the unit cube."""
        n = len(points)
        values, vectors = np.linalg.eigh(self.covariance)
        # the sign of a vector is rounding's: its largest entry is positive
        largest = np.abs(vectors).argmax(axis=0)
        vectors *= np.sign(vectors[largest, np.arange(len(values))])
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        # from the largest to the smallest, as the first coordinates are the most even
        moved = ndtri(points) @ root[:, ::-1].T
        size = self.coefficients.size
        coefficients = self.coefficients + moved[:, :size].reshape(n, *self.coefficients.shape)
        return coefficients, self._spread(self.sigma * np.exp(np.minimum(moved[:, size:], 50.0)))

    def at_estimate(self) -> tuple[FloatArray, FloatArray]:
        """Return B (1, F+1, Q) and sigma (1, Q) as they were fitted."""
        return self.coefficients[None], self._spread(self.sigma[None])

    def _spread(self, sigma: FloatArray) -> FloatArray:  # (n, C) to (n, Q)
        """Repeat a scale that the logits share; a GLM has none."""
        if not sigma.shape[1]:
            return np.zeros((len(sigma), self.n_logits))
        return np.ascontiguousarray(np.broadcast_to(sigma, (len(sigma), self.n_logits)))


def change_of_usage(own: Parameters, rows: Rows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the change of usage (P,) from low to high rows and the ends of its 95 % interval.

    Examples
    --------
    >>> own = Parameters(np.array([[1.0], [0.0]]), np.array([1.0]), np.diag([0.04, 0.0, 0.0]))
    >>> rows = Rows(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]), np.ones(1))
    >>> change, low, high = change_of_usage(own, rows)
    >>> change.round(3).tolist(), low.round(1).tolist(), high.round(1).tolist()
    ([0.197, -0.197], [0.1, -0.3], [0.3, -0.1])
    """
    nodes = NODES.get(own.n_logits, MANY_NODES)
    (change,) = _changes(*own.at_estimate(), rows, ESTIMATE_NODES, own.turn)
    drawn = _changes(*own.draws(DRAWS), rows.some(MOST_ROWS), nodes, own.turn)
    low, high = np.quantile(drawn, TAILS, axis=0)
    return change, low, high


def changes_of_draws(
    coefficients: FloatArray, sigma: FloatArray, rows: Rows, turn: Turn
) -> FloatArray:
    """Return the changes of usage (n, P) at draws of B (n, F+1, Q) and of sigma (n,).

    Examples
    --------
    >>> rows = Rows(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]), np.ones(1))
    >>> draws = np.array([[[1.0], [0.0]], [[0.5], [0.0]]])
    >>> changes_of_draws(draws, np.ones(2), rows, NOTHING)[:, 0].round(2).tolist()
    [0.2, 0.1]
    """
    n_logits = coefficients.shape[2]
    each = np.ascontiguousarray(np.repeat(sigma[:, None], n_logits, axis=1))
    nodes = NODES.get(n_logits, MANY_NODES)
    return _changes(coefficients, each, rows.some(QUICK_ROWS), nodes, turn)


def largest_change(
    coefficients: FloatArray,  # (F+1, Q)
    moves: FloatArray,  # (D, F+1, Q)
    covariance: FloatArray,  # (D, D)
    sigma: FloatArray,  # (C,)
    rows: Rows,
    turn: Turn = NOTHING,
) -> tuple[int, float, float, float]:
    """Return the isoform whose usage changes most, its change, the ends of its 95 % interval.

    A quick interval: where, of the coefficients' 95 % ellipsoid along ``moves``, the change is
    least and largest to first order, its value is taken. It needs no draws.

    Examples
    --------
    >>> rows = Rows(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]), np.ones(1))
    >>> moves = np.array([[[1.0], [0.0]]])
    >>> found = largest_change(np.array([[1.0], [0.0]]), moves, np.eye(1) / 25, np.ones(1), rows)
    >>> found[0], [round(value, 2) for value in found[1:]]
    (0, [0.2, 0.12, 0.26])
    """
    few, size = rows.some(QUICK_ROWS), len(moves)
    spread = np.broadcast_to(sigma, (1, coefficients.shape[1]))

    def changes(points: FloatArray) -> FloatArray:
        wide = np.ascontiguousarray(np.broadcast_to(spread, (len(points), spread.shape[1])))
        return _changes(points, wide, few, QUICK_NODES, turn)

    steps = QUICK_STEP * np.concatenate([np.zeros((1, *coefficients.shape)), moves, -moves])
    near = changes(coefficients + steps)
    size_of = np.abs(near[0])
    # of two isoforms both change alike, up to rounding: the first one
    p = int(np.flatnonzero(size_of >= (1.0 - 1e-6) * size_of.max())[0])
    slope = (near[1 : size + 1, p] - near[size + 1 :, p]) / (2.0 * QUICK_STEP)
    reach = covariance @ slope
    far = NORMAL_95 / max(math.sqrt(max(float(slope @ reach), 0.0)), 1e-300)
    away = (far * reach @ moves.reshape(size, -1)).reshape(coefficients.shape)
    ends = [float(near[0, p]), *changes(coefficients + np.stack([away, -away]))[:, p].tolist()]
    return p, ends[0], min(ends), max(ends)


def _changes(
    coefficients: FloatArray, sigma: FloatArray, rows: Rows, nodes: int, turn: Turn
) -> FloatArray:  # (n, P)
    """Average the change over rows and random effect, the same values of it on both sides.

    Where coordinates are turned all logits share sigma.
    """
    n_rows = len(rows.weight)
    each = math.ceil(nodes / n_rows) if sigma.any() else 1
    z = _normal_points(n_rows * each, sigma.shape[1])
    if not turn.plain:
        coefficients, z = coefficients @ turn.root.T, z @ turn.root.T
    own = (coefficients, sigma, rows.low, rows.high, rows.weight / each, z)
    return turn.isoforms(_average(*map(np.ascontiguousarray, own)))


@lru_cache(maxsize=16)
def _normal_points(n: int, dimensions: int) -> FloatArray:
    """Return n even points of the standard normal distribution, always the same."""
    return np.asarray(ndtri(shifted_sobol(n, dimensions, np.random.default_rng(0))))


@compiled
def _average(
    coefficients: FloatArray,  # (n, F+1, Q)
    sigma: FloatArray,  # (n, Q)
    low: FloatArray,  # (R, F+1)
    high: FloatArray,  # (R, F+1)
    weight: FloatArray,  # (R,)
    z: FloatArray,  # (R k, Q)
) -> FloatArray:  # (n, P)
    """Sum the differences of usage over the rows and their values of the random effect."""
    n_logits, each = sigma.shape[1], len(z) // len(weight)
    out = np.zeros((len(coefficients), n_logits + 1))
    nu, total = np.empty((each, n_logits)), np.empty(n_logits + 1)
    for i in range(len(coefficients)):
        below, above = low @ coefficients[i], high @ coefficients[i]
        for r in range(len(weight)):
            for k in range(each):
                for q in range(n_logits):
                    nu[k, q] = sigma[i, q] * z[r * each + k, q]
            total[:] = 0.0
            _add_usage(above, r, nu, 1.0, total)
            _add_usage(below, r, nu, -1.0, total)
            for p in range(n_logits + 1):
                out[i, p] += weight[r] * total[p]
    return out


@compiled
def _add_usage(eta: FloatArray, row: int, nu: FloatArray, sign: float, total: FloatArray) -> None:
    """Add the usage at one row to ``total`` (P,), for every value of the random effect."""
    n_logits = eta.shape[1]
    odds = np.empty(n_logits)
    for k in range(nu.shape[0]):
        top = 0.0
        for q in range(n_logits):
            odds[q] = eta[row, q] + nu[k, q]
            top = max(top, odds[q])
        norm = math.exp(-top)
        for q in range(n_logits):
            odds[q] = math.exp(odds[q] - top)
            norm += odds[q]
        for q in range(n_logits):
            total[q] += sign * odds[q] / norm
        total[n_logits] += sign * math.exp(-top) / norm
