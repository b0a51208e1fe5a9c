"""An outer density by interpolation, from few values and gradients.

Where a value is dear, the log density is written as that of a Gaussian about the mode plus a smooth
remainder, in coordinates z in which that Gaussian is standard, and the remainder as a Gaussian
process of squared exponential covariance, conditioned on values and gradients (Rasmussen and
Williams, 2006, section 9.4). Far from all points it falls back to the Gaussian. Draws from it cost
nothing, so that a posterior has as many distinct ones as wanted; at a few of them the density
itself is evaluated, which says how good they are and where more points are needed. What neither
the first points nor a draw has come near goes unseen, such as a second mode.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky

from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.proposal import StudentT
from splisosm_pyro.posterior.weights import Weights, smoothed_weights, systematic

# By how much the Gaussian is wider than the one at the mode: draws that are too wide are found out
# and mended, what is too narrow has none where it matters.
WIDER = 1.5
# Candidates for the length over which the remainder varies, in sd of that Gaussian.
LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Variances of errors of values and gradients, as shares of the remainder's.
VALUE_NOISE, SLOPE_NOISE = 1e-5, 1e-4
# Points so many nats below the highest say nothing of the bulk.
DEEPEST = 20.0
# Points at first for every unknown, the fewest and the most of them; points of every check.
FIRST_EACH, FEWEST, MOST_FIRST = 14, 48, 160
CHECKED = 32
# Points that are further out than draws are likely to come, and by how much.
SCOUTS, FAR = 16, 2.0
# No further points where this share of the checked draws is effective, nor beyond so many checks.
CLOSE_SHARE = 0.97
# Draws of the surrogate can be used from this share on.
USABLE_SHARE = 0.9
MOST_CHECKS = 10
# Nor beyond so many values and slopes, which are interpolated in a second.
MOST_DATA = 2400
# Of the covariance of the candidates, the share that makes the next ones; the rest is as before.
KEPT = 0.9
# Candidates from which draws are taken, for every draw, and at least.
CANDIDATES_EACH, CANDIDATES = 4, 8192

# Takes u; returns the log density, its gradient, and anything to be kept with the point.
LogDensity = Callable[[FloatArray], tuple[float, FloatArray, Any]]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The interpolated log density of u = centre + root z.

    Attributes
    ----------
    centre, root
        (K,) and (K, K) of the Gaussian.
    level, highest
        The log density of the Gaussian at its centre, and that of the mode, above which nothing is.
    nodes
        (n, K) points in z.
    length, coefficients
        Of the remainder: its length, and (n (K + 1),) what multiplies the covariances with values
        and gradients at the nodes.
    """

    centre: FloatArray
    root: FloatArray
    level: float
    highest: float
    nodes: FloatArray
    length: float
    coefficients: FloatArray

    @classmethod
    def through(
        cls,
        points: FloatArray,  # (n, K)
        values: FloatArray,  # (n,)
        slopes: FloatArray,  # (n, K)
        centre: FloatArray,
        root: FloatArray,
        highest: float = np.inf,
        lengths: Sequence[float] = LENGTHS,
    ) -> "Surrogate":
        """Interpolate; points without a value, or far below the others, are left out.

        The length is that of the highest evidence. Costs (n (K + 1))^3 / 3 for each.
        """
        used = values > values.max() - DEEPEST
        z = np.linalg.solve(root, (points[used] - centre).T).T
        level = float(values[used].max())
        rest = values[used] - level + 0.5 * (z**2).sum(axis=1)
        by_z = slopes[used] @ root + z
        data = np.concatenate([rest, by_z.T.ravel()])
        fits = [_conditioned(z, data, length) for length in lengths]
        best = int(np.argmax([evidence for evidence, _ in fits]))
        return cls(centre, root, level, highest, z, lengths[best], fits[best][1])

    def log_density(self, points: FloatArray) -> FloatArray:
        """Return the log density (N,) at points (N, K).

        Examples
        --------
        >>> u = np.linspace(-2.0, 2.0, 5)[:, None]
        >>> one = np.ones((1, 1))
        >>> cubic = Surrogate.through(u, u[:, 0] ** 3, 3 * u**2, np.zeros(1), one)
        >>> cubic.log_density(np.array([[0.5]])).round(1)
        array([0.1])
        """
        z = np.linalg.solve(self.root, (points - self.centre).T).T
        n, square = len(self.nodes), (z**2).sum(axis=1)
        apart = square[:, None] + (self.nodes**2).sum(axis=1) - 2.0 * z @ self.nodes.T
        base = np.exp(-0.5 * apart / self.length**2)
        lean = self.coefficients[n:].reshape(-1, n).T / self.length**2  # (n, K)
        weights = self.coefficients[:n] - (self.nodes * lean).sum(axis=1) + z @ lean.T
        value = self.level - 0.5 * square + (base * weights).sum(axis=1)
        return np.asarray(np.minimum(value, self.highest))


def _conditioned(z: FloatArray, data: FloatArray, length: float) -> tuple[float, FloatArray]:
    """Return the log evidence, the variance profiled out, and the coefficients."""
    n, size = z.shape
    apart = z[:, None, :] - z
    base = np.exp(-0.5 * (apart**2).sum(axis=-1) / length**2)
    whole = np.empty((size + 1, n, size + 1, n))
    whole[0, :, 0] = base
    for i in range(size):
        whole[0, :, i + 1] = base * apart[:, :, i] / length**2
        whole[i + 1, :, 0] = -whole[0, :, i + 1]
        for j in range(size):
            curved = (i == j) / length**2 - apart[:, :, i] * apart[:, :, j] / length**4
            whole[i + 1, :, j + 1] = base * curved
    matrix = whole.reshape(data.size, -1)
    noise = np.repeat([VALUE_NOISE, SLOPE_NOISE / length**2], [n, n * size])
    root = cholesky(matrix + np.diag(noise), lower=True)
    coefficients = cho_solve((root, True), data)
    variance = max(float(data @ coefficients) / data.size, 1e-12)
    evidence = -0.5 * data.size * np.log(variance) - np.log(root.diagonal()).sum()
    return float(evidence), coefficients


@dataclass
class Explored:
    """Evaluated points (n, K) of a density, what was kept of each, and its surrogate.

    ``weights`` are those of the draws of the surrogate at which the density was evaluated last.
    """

    points: FloatArray
    values: FloatArray
    slopes: FloatArray
    states: list[Any] = field(default_factory=list)
    weights: Weights = field(default_factory=lambda: Weights(np.eye(1, CHECKED)[0], np.inf))

    @property
    def close(self) -> bool:
        """Whether the density at draws of the surrogate was as good as what that said."""
        return _close(self.weights, CLOSE_SHARE)

    @property
    def usable(self) -> bool:
        """Whether the draws can be taken as they are."""
        return _close(self.weights, USABLE_SHARE)

    def add(self, density: LogDensity, points: FloatArray) -> FloatArray:
        """Evaluate the density at more points and return its values."""
        values, slopes, states = zip(*(density(u) for u in points), strict=True)
        self.points = np.concatenate([self.points, points])
        self.values = np.append(self.values, values)
        self.slopes = np.concatenate([self.slopes, np.stack(slopes)])
        self.states.extend(states)
        return np.array(values)


def explore(
    density: LogDensity,
    centre: FloatArray,
    highest: float,
    covariance: FloatArray,
    box: tuple[FloatArray, FloatArray],
    n_draws: int,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray, Explored]:
    """Draw from a density by its surrogate, refined until draws pass their own check.

    Parameters
    ----------
    density : callable
        Takes u (K,), returns the unnormalised log density, its gradient and anything to be kept.
    centre, highest, covariance : ndarray (K,), float, ndarray (K, K)
        The mode, the log density there, and the covariance of the Gaussian there.
    box : tuple of ndarray
        Lower and upper ends; the density is zero beyond.
    n_draws : int
    generator : Generator

    Returns
    -------
    tuple
        Draws (N, K), their log density by the surrogate (N,), and what was evaluated.
    """
    root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    proposal, root = StudentT(centre, root), WIDER * root
    none = np.empty((0, centre.size))
    found = Explored(none, np.empty(0), none)
    first = min(max(FIRST_EACH * centre.size, FEWEST), MOST_FIRST)
    found.add(density, proposal.points(first, generator))
    surrogate = Surrogate.through(found.points, found.values, found.slopes, centre, root, highest)
    proposal, _, _ = _draws(surrogate, proposal, box, CHECKED, generator)
    far = StudentT(proposal.centre, FAR * proposal.root)
    found.add(density, far.points(SCOUTS, generator))
    lengths: Sequence[float] = LENGTHS
    for _ in range(1 + MOST_CHECKS):
        surrogate = Surrogate.through(
            found.points, found.values, found.slopes, centre, root, highest, lengths
        )
        full = (found.values.size + CHECKED) * (centre.size + 1) > MOST_DATA
        if found.close or full:
            break
        lengths = (surrogate.length,)
        proposal, draws, by_surrogate = _draws(surrogate, proposal, box, CHECKED, generator)
        draws, places = np.unique(draws, axis=0, return_index=True)
        found.weights = _check(found.add(density, draws) - by_surrogate[places])
    _, draws, by_surrogate = _draws(surrogate, proposal, box, n_draws, generator)
    return draws, by_surrogate, found


def _close(weights: Weights, share: float) -> bool:
    """Whether the weights of checked draws are as good as equal."""
    return weights.effective >= share * weights.values.size


def _check(log_ratios: FloatArray) -> Weights:
    """Return the weights of checked draws; those as good as equal are bounded, k-hat at most 0.

    The shape of a tail of ripples says nothing.
    """
    if 2 * log_ratios.size < CHECKED:  # a draw that many others are copies of
        return Weights(np.eye(1, CHECKED)[0], np.inf)
    weights = smoothed_weights(log_ratios)
    return (
        Weights(weights.values, min(weights.khat, 0.0)) if _close(weights, CLOSE_SHARE) else weights
    )


def _draws(
    surrogate: Surrogate,
    proposal: StudentT,
    box: tuple[FloatArray, FloatArray],
    n_draws: int,
    generator: np.random.Generator,
) -> tuple[StudentT, FloatArray, FloatArray]:
    """Return a better proposal, draws in random order, and their log densities."""
    candidates = proposal.points(max(CANDIDATES, CANDIDATES_EACH * n_draws), generator)
    values = surrogate.log_density(candidates)
    values[((candidates < box[0]) | (candidates > box[1])).any(axis=1)] = -np.inf
    shares = smoothed_weights(values - proposal.log_prob(candidates)).values
    index = generator.permutation(systematic(shares, n_draws, generator))
    mean = shares @ candidates
    apart = candidates - mean
    moments = (apart * shares[:, None]).T @ apart
    mixed = KEPT * moments + (1.0 - KEPT) * proposal.root @ proposal.root.T
    root = np.asarray(np.linalg.cholesky(mixed), dtype=np.float64)
    return StudentT(mean, root), candidates[index], values[index]
