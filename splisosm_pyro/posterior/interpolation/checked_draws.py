"""Draws of a density whose values are dear: interpolated, and refined until they pass a check.

Draws from an interpolated density cost nothing, so that a posterior has as many distinct ones as
wanted; at a few of them the density itself is evaluated, which says how good they are and where
more points are needed. What neither the first points nor a draw has come near goes unseen, such as
a second mode.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import Weights, smoothed_weights, systematic
from splisosm_pyro.posterior.interpolation.gaussian_process import LENGTHS
from splisosm_pyro.posterior.interpolation.importance_sampling import LogDensity, StudentT

# Points at first for every unknown, the fewest and the most of them; points of every check.
FIRST_EACH, FEWEST, MOST_FIRST = 14, 48, 160
CHECKED = 32
# Points that are further out than draws are likely to come, and by how much; two more on every
# axis, so many sd out.
SCOUTS, FAR, END = 16, 2.0, 3.0
# With them come the candidates of the largest weights: what is wrongly high far out is among them.
HEAVIEST = 4
# No further points where this share of the checked draws is effective; with so many unknowns, twice
# running.
CLOSE_SHARE, MANY = 0.97, 6
# Nor beyond so many checks.
MOST_CHECKS = 10
# Nor beyond so many values and slopes, which are interpolated in a second.
MOST_DATA = 2400
# Draws can be used as they are where this share of those checked is effective.
USABLE_SHARE = 0.9
# Of the covariance of the candidates, the share that makes the next ones; the rest is as before.
KEPT = 0.9
# Candidates from which draws are taken, for every draw, and at least.
CANDIDATES_EACH, CANDIDATES = 4, 8192


class Interpolant(Protocol):
    """A density between the points where it is known."""

    @property
    def length(self) -> float:
        """Over which it varies, one of those it was given to choose from."""
        ...

    def log_density(self, points: FloatArray, /) -> FloatArray:
        """Return the log density (N,) at points (N, K)."""
        ...


Between = TypeVar("Between", bound=Interpolant)
# Takes points (n, K), values (n,), slopes (n, K) and lengths to choose from.
Interpolate = Callable[[FloatArray, FloatArray, FloatArray, Sequence[float]], Between]


@dataclass
class EvaluatedPoints(Generic[Between]):
    """Evaluated points (n, K) of a density, what was kept of each, and what is between them.

    ``weights`` are those of the draws at which the density was evaluated last.
    """

    points: FloatArray
    values: FloatArray
    slopes: FloatArray
    states: list[Any] = field(default_factory=list)
    weights: Weights = field(default_factory=lambda: Weights(np.eye(1, CHECKED)[0], np.inf))
    interpolant: Between = field(init=False)

    @property
    def usable(self) -> bool:
        """Whether draws can be taken as they are."""
        return self.weights.share >= USABLE_SHARE

    def add(self, density: LogDensity, points: FloatArray) -> FloatArray:
        """Evaluate the density at more points and return its values."""
        values, slopes, states = zip(*(density(u) for u in points), strict=True)
        self.points = np.concatenate([self.points, points])
        self.values = np.append(self.values, values)
        self.slopes = np.concatenate([self.slopes, np.stack(slopes)])
        self.states.extend(states)
        return np.array(values)

    def interpolate(self, how: Interpolate[Between], lengths: Sequence[float]) -> Between:
        """Interpolate all points."""
        self.interpolant = how(self.points, self.values, self.slopes, lengths)
        return self.interpolant


def checked_draws(
    density: LogDensity,
    how: Interpolate[Between],
    proposal: StudentT,
    box: tuple[FloatArray, FloatArray],
    n_draws: int,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray, EvaluatedPoints[Between]]:
    """Draw from a density between its points, with more of them until draws pass their check.

    Parameters
    ----------
    density : callable
        Takes u (K,), returns the unnormalised log density, its gradient and anything to be kept.
    how : callable
        Interpolates.
    proposal : StudentT
        Where the first points come from.
    box : tuple of ndarray
        Lower and upper ends; the density is zero beyond.
    n_draws : int
    generator : Generator

    Returns
    -------
    tuple
        Draws (N, K), their interpolated log density (N,), and what was evaluated.
    """
    size = proposal.centre.size
    found: EvaluatedPoints[Between] = EvaluatedPoints(
        np.empty((0, size)), np.empty(0), np.empty((0, size))
    )
    first = min(max(FIRST_EACH * size, FEWEST), MOST_FIRST)
    found.add(density, proposal.points(first, generator))
    proposal, *_ = _draws(found.interpolate(how, LENGTHS), proposal, box, CHECKED, generator)
    far = StudentT(proposal.centre, FAR * proposal.root)
    found.add(density, far.points(SCOUTS, generator))
    steps = END * proposal.root.T
    found.add(density, np.clip(proposal.centre + np.concatenate([steps, -steps]), *box))
    lengths: Sequence[float] = LENGTHS
    passed, needed = 0, 1 if size < MANY else 2
    for _ in range(1 + MOST_CHECKS):
        between = found.interpolate(how, lengths)
        full = (found.values.size + CHECKED) * (size + 1) > MOST_DATA
        passed = passed + 1 if found.weights.share >= CLOSE_SHARE else 0
        if passed == needed or full:
            break
        lengths = (between.length,)
        proposal, draws, expected, heaviest = _draws(between, proposal, box, CHECKED, generator)
        draws, places = np.unique(draws, axis=0, return_index=True)
        found.weights = _check(found.add(density, draws) - expected[places])
        found.add(density, heaviest)
    _, draws, expected, _ = _draws(between, proposal, box, n_draws, generator)
    return draws, expected, found


def _check(log_ratios: FloatArray) -> Weights:
    """Return the weights of checked draws; those as good as equal are bounded, k-hat at most 0.

    The shape of a tail of ripples says nothing.
    """
    if 2 * log_ratios.size < CHECKED:  # a draw that many others are copies of
        return Weights(np.eye(1, CHECKED)[0], np.inf)
    weights = smoothed_weights(log_ratios)
    equal = weights.share >= CLOSE_SHARE
    return Weights(weights.values, min(weights.khat, 0.0)) if equal else weights


def _draws(
    between: Interpolant,
    proposal: StudentT,
    box: tuple[FloatArray, FloatArray],
    n_draws: int,
    generator: np.random.Generator,
) -> tuple[StudentT, FloatArray, FloatArray, FloatArray]:
    """Return a better proposal, draws in random order, their log densities, the heaviest points."""
    candidates = proposal.points(max(CANDIDATES, CANDIDATES_EACH * n_draws), generator)
    values = between.log_density(candidates)
    values[((candidates < box[0]) | (candidates > box[1])).any(axis=1)] = -np.inf
    shares = smoothed_weights(values - proposal.log_prob(candidates)).values
    index = generator.permutation(systematic(shares, n_draws, generator))
    mean = shares @ candidates
    apart = candidates - mean
    moments = (apart * shares[:, None]).T @ apart
    mixed = KEPT * moments + (1.0 - KEPT) * proposal.root @ proposal.root.T
    root = np.asarray(np.linalg.cholesky(mixed), dtype=np.float64)
    heaviest = candidates[np.argsort(shares)[-HEAVIEST:]]
    return StudentT(mean, root), candidates[index], values[index], heaviest
