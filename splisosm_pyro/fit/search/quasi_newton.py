"""The outer search: a projected BFGS ascent in a few unknowns, whose bounds are reached at once.

The unknowns (log sigma, theta_logit, beta, bias) are few and a value is dear, so the search keeps a
dense approximation of the negative Hessian, starts it at an information matrix, and wants a handful
of evaluations. Along ``theta_logit`` and ``log sigma`` the objective flattens towards its limits; a
coordinate that heads there is tried at its bound directly instead of crawling.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from splisosm_pyro.fit.options import FitOptions
from splisosm_pyro.fit.search.first_order import ascend
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

State = TypeVar("State")
ARMIJO = 1e-4
MAX_BACKTRACKS = 30
# How far back towards the place where bounds are tried a coordinate is pulled from beyond it.
PULLS = (1.0, 0.5, 0.25, 0.1)
# A line search that fails where no more than this is to be gained has met the error of the value:
# rounding or, at saturated spots under a wide field, of the integrals (4e-5 nats were seen).
NEGLIGIBLE_GAIN = 1e-4
# A value, a sum over spots at a mode, is known to this share of itself (measured: half of it).
ROUNDING = 1e-13
# Step of central differences of the gradient; their error is of its square.
DIFFERENCE_STEP = 1e-3
# A first-order ascent has converged where a Newton step would gain less than this, in nats.
FIRST_ORDER_GAIN = 1e-6


@dataclass(frozen=True)
class Evaluation(Generic[State]):
    """A point, its value in nats, its gradient, and the state that the objective keeps with it."""

    u: FloatArray
    value: float
    gradient: FloatArray
    state: State


@dataclass(frozen=True)
class Box:
    """Bounds, longest steps, and where a coordinate on its way to a bound is tried there."""

    lower: FloatArray
    upper: FloatArray
    longest: FloatArray
    try_lower: FloatArray
    try_upper: FloatArray

    def project(self, u: FloatArray) -> FloatArray:
        """Return the nearest point inside."""
        return np.clip(u, self.lower, self.upper)

    def blocked(self, u: FloatArray, gradient: FloatArray) -> Mask:
        """Mask of coordinates at a bound with the gradient pointing outwards."""
        low = (u <= self.lower) & (gradient <= 0)
        return np.asarray(low | ((u >= self.upper) & (gradient >= 0)))


class Space(Protocol):
    """The search vector's meaning; its box is all that the search needs."""

    def box(self) -> Box:
        """Return the bounds of the search."""
        ...


class Objective(Protocol[State]):
    """What is maximised: a value first, its gradient only where the value was accepted."""

    @property
    def space(self) -> Space:
        """What the search vector means."""
        ...

    def information(self, at: Evaluation[State]) -> FloatArray:
        """Return a first guess of the negative Hessian, (K, K)."""
        ...

    def value(self, u: FloatArray, near: Evaluation[State] | None) -> tuple[float, State]:
        """Return the value at ``u``; ``near`` is the evaluation to start from."""
        ...

    def gradient(self, u: FloatArray, state: State) -> tuple[FloatArray, State]:
        """Return the gradient at the point that ``state`` belongs to."""
        ...


@dataclass
class SearchResult(Generic[State]):
    """Where the search ended.

    ``path`` holds the value after every epoch, the start first; ``trace`` the evaluations, if kept.
    """

    best: Evaluation[State]
    at_bound: Mask
    converged: bool
    exhausted: bool = False
    path: list[float] = field(default_factory=list)
    trace: list[Evaluation[State]] = field(default_factory=list)


class _Path(Generic[State]):
    """The values of an ascent and, if asked for, its evaluations."""

    def __init__(self, start: Evaluation[State], keep_trace: bool) -> None:
        self.keep_trace = keep_trace
        self.values: list[float] = []
        self.trace: list[Evaluation[State]] = []
        self.append(start)

    def append(self, at: Evaluation[State]) -> None:
        """Note an epoch."""
        self.last = at
        self.values.append(at.value)
        if self.keep_trace:
            self.trace.append(at)


Curvature = Callable[[Objective[State], Evaluation[State]], FloatArray]


class _Search(Generic[State]):
    """The state of one projected BFGS ascent."""

    def __init__(
        self,
        objective: Objective[State],
        start: Evaluation[State],
        neg_hessian: FloatArray,
        box: Box,
    ) -> None:
        self.objective, self.box = objective, box
        self.here, self.neg_hessian = start, neg_hessian
        self.untried = np.ones((2, start.u.size), dtype=bool)
        self.stuck = np.zeros((2, start.u.size), dtype=bool)

    def evaluate(self, u: FloatArray) -> tuple[float, State]:
        return self.objective.value(u, self.here)

    def accept(self, u: FloatArray, value: float, state: State) -> None:
        """Move to ``u``."""
        gradient, state = self.objective.gradient(u, state)
        self.move(Evaluation(u, value, gradient, state))

    def move(self, to: Evaluation[State]) -> None:
        """Go on from ``to`` and update the Hessian by the change of the gradient."""
        moved, change = to.u - self.here.u, self.here.gradient - to.gradient
        held = moved == 0
        change = np.where(held, 0.0, change)
        if float(moved @ change) > 1e-10 * np.linalg.norm(moved) * np.linalg.norm(change):
            image = self.neg_hessian @ moved
            self.neg_hessian = (
                self.neg_hessian
                + np.outer(change, change) / float(moved @ change)
                - np.outer(image, image) / float(moved @ image)
            )
        self.here = to

    def direction(self) -> tuple[FloatArray, float]:
        """Return the bounded quasi-Newton step and the gain it promises."""
        gradient = self.here.gradient
        free = ~self.box.blocked(self.here.u, gradient)
        step = self._newton(free)
        if gradient[free].any() and not gradient @ step > 0.0:  # the curvature has gone wrong
            self.neg_hessian = np.diag(np.maximum(np.abs(gradient), 1.0))
            step = self._newton(free)
        gain = 0.5 * float(gradient @ step)
        over = np.max(np.abs(step) / self.box.longest, initial=1.0)
        return step / over, gain

    def _newton(self, free: Mask) -> FloatArray:
        """Return the step to the maximum of the quadratic model; 0 where the model is flat."""
        step = np.zeros_like(self.here.gradient)
        inside = self.neg_hessian[np.ix_(free, free)]
        with suppress(np.linalg.LinAlgError):
            step[free] = np.linalg.solve(inside, self.here.gradient[free])
        return step

    def line_search(self, step: FloatArray) -> bool:
        """Accept the first point along ``step`` that rises enough."""
        scale = 1.0
        for _ in range(MAX_BACKTRACKS):
            u = self.box.project(self.here.u + scale * step)
            slope = float(self.here.gradient @ (u - self.here.u))
            value, state = self.evaluate(u)
            if value >= self.here.value + ARMIJO * slope and slope > 0:
                self.accept(u, value, state)
                return True
            lack = slope - (value - self.here.value)
            best = 0.5 * slope / lack if np.isfinite(lack) and lack > 0 else 0.1
            scale *= min(max(best, 0.1), 0.5)
        return False

    def try_bounds(self) -> bool:
        """Try a coordinate that heads for its limit at its bound; at most once per visit.

        Where the gradient at the bound points back, the maximum lies between, and the bound is no
        place to go on from: the gradient fades towards it.
        """
        u, gradient, box = self.here.u, self.here.gradient, self.box
        low = (0, gradient < 0, (u < box.try_lower) & (u > box.lower))
        high = (1, gradient > 0, (u > box.try_upper) & (u < box.upper))
        for side, heading, beyond in (low, high):
            self.untried[side] |= ~beyond
            for i in np.flatnonzero(beyond & heading & self.untried[side]):
                self.untried[side, i] = False
                there = u.copy()
                there[i] = (box.lower, box.upper)[side][i]
                value, state = self.evaluate(there)
                if not value >= self.here.value:
                    continue
                slopes, state = self.objective.gradient(there, state)
                if box.blocked(there, slopes)[i]:
                    self.move(Evaluation(there, value, slopes, state))
                    return True
        return False

    def leave_plateau(self) -> bool:
        """Pull back a coordinate that is far out with its gradient pointing inside.

        Out there the gradient has faded and promises no gain, whatever there is to gain.
        """
        u, gradient, box = self.here.u, self.here.gradient, self.box
        low = (0, (gradient > 0) & (u < box.try_lower), box.try_lower)
        high = (1, (gradient < 0) & (u > box.try_upper), box.try_upper)
        for side, inwards, place in (low, high):
            self.stuck[side] &= inwards
            for i in np.flatnonzero(inwards & ~self.stuck[side]):
                for share in PULLS:
                    there = u.copy()
                    there[i] += share * (place[i] - u[i])
                    value, state = self.evaluate(there)
                    if value > self.here.value:
                        self.accept(there, value, state)
                        return True
                self.stuck[side, i] = True
        return False


def highest(
    objective: Objective[State],
    starts: Sequence[FloatArray],
    near: Evaluation[State] | None = None,
) -> Evaluation[State]:
    """Evaluate the objective at ``starts`` and return the best, without its gradient."""
    best: Evaluation[State] | None = None
    for u in starts:
        value, state = objective.value(u, near)
        near = Evaluation(u, value, np.full_like(u, np.nan), state)
        best = near if best is None or value > best.value else best
    if best is None:
        raise ValueError("starts must hold at least one point")
    return best


def best_start(
    objective: Objective[State],
    starts: Sequence[FloatArray],
    near: Evaluation[State] | None = None,
) -> Evaluation[State]:
    """Return the best of ``starts`` with its gradient, ready to climb from."""
    best = highest(objective, starts, near)
    if len(starts) > 1:
        return _evaluate(objective, best.u, best)
    gradient, state = objective.gradient(best.u, best.state)
    return replace(best, gradient=gradient, state=state)


def search(
    objective: Objective[State],
    start: Evaluation[State],
    options: FitOptions,
    *,
    keep_trace: bool = False,
) -> SearchResult[State]:
    """Maximise by the method and optimiser of ``options``.

    ``'joint_newton'`` takes Newton steps; else ``'lbfgs'`` is the BFGS ascent of this module and
    ``'adam'`` and ``'sgd'`` are those of ``fit/search/first_order.py``.
    """
    if options.method == "joint_newton":
        return maximise(objective, start, _newton_curvature, options, keep_trace=keep_trace)
    if options.optim == "lbfgs":
        return maximise(objective, start, None, options, keep_trace=keep_trace)
    return _first_order(objective, start, options, keep_trace=keep_trace)


def differenced_hessian(
    objective: Objective[State], at: Evaluation[State], at_bound: Mask
) -> tuple[FloatArray, Mask]:
    """Return the negative Hessian (K, K), by differences of the exact gradient, and ``at_bound``.

    Two evaluations per unknown inside; rows and columns of those at a bound are zero.
    """
    inside = np.flatnonzero(~at_bound)
    hessian = np.zeros((at.u.size, at.u.size))
    for i in inside:
        slopes = []
        for sign in (1.0, -1.0):
            u = at.u.copy()
            u[i] += sign * DIFFERENCE_STEP
            _, state = objective.value(u, at)
            slopes.append(objective.gradient(u, state)[0][inside])
        hessian[i, inside] = (slopes[1] - slopes[0]) / (2.0 * DIFFERENCE_STEP)
    return 0.5 * (hessian + hessian.T), at_bound


def _newton_curvature(objective: Objective[State], at: Evaluation[State]) -> FloatArray:
    """Return the negative Hessian with its eigenvalues made positive."""
    at_bound = objective.space.box().blocked(at.u, at.gradient)
    hessian, _ = differenced_hessian(objective, at, at_bound)
    values, vectors = np.linalg.eigh(hessian)
    positive = np.maximum(np.abs(values), 1e-6 * max(1.0, float(np.abs(values).max())))
    return np.asarray((vectors * positive) @ vectors.T)


def maximise(
    objective: Objective[State],
    start: Evaluation[State],
    curvature: Curvature[State] | None,
    options: FitOptions,
    *,
    keep_trace: bool = False,
) -> SearchResult[State]:
    """Climb from ``start`` by Newton steps with ``curvature``, or by BFGS where it is None.

    Never ends below ``start.value``. Stops where the step promises no more than ``tol`` nats, or
    than the value's own rounding, for ``patience`` epochs. ``converged`` is false where
    ``max_epochs`` ran out (``exhausted``) or no step along an ascent direction rose although more
    than rounding was promised.
    """
    box = objective.space.box()
    climb = _Search(objective, start, objective.information(start), box)
    path, converged, idle = _Path(start, keep_trace), False, 0
    while not converged and len(path.values) <= options.most_epochs:
        if climb.leave_plateau():
            path.append(climb.here)
            continue
        if curvature is not None:
            climb.neg_hessian = curvature(objective, climb.here)
        step, gain = climb.direction()
        scale = abs(climb.here.value) if options.tol_relative else 1.0
        least = max(options.tol * scale, ROUNDING * abs(climb.here.value))
        idle = idle + 1 if gain <= least else 0
        converged = idle >= options.patience or gain <= 0.0
        if converged:
            break
        if not climb.try_bounds() and not climb.line_search(options.lr * step):
            converged = gain <= NEGLIGIBLE_GAIN
            break
        path.append(climb.here)
    blocked = box.blocked(climb.here.u, climb.here.gradient)
    exhausted = not converged and len(path.values) > options.most_epochs
    return SearchResult(climb.here, blocked, converged, exhausted, path.values, path.trace)


def _first_order(
    objective: Objective[State],
    start: Evaluation[State],
    options: FitOptions,
    *,
    keep_trace: bool = False,
) -> SearchResult[State]:
    """Climb by ``'adam'`` or ``'sgd'`` inside the box, then try the bounds it was heading for."""
    box, neg_hessian = objective.space.box(), objective.information(start)
    path = _Path(start, keep_trace)

    def inside(u: FloatArray) -> tuple[float, FloatArray]:
        if len(path.values) > 1 or not np.array_equal(u, start.u):  # the start is known
            path.append(_evaluate(objective, box.project(u), path.last))
        gradient = path.last.gradient
        return path.last.value, np.where(box.blocked(path.last.u, gradient), 0.0, gradient)

    ascent = ascend(inside, start.u, options, np.maximum(neg_hessian.diagonal(), 1e-3))
    best = _evaluate(objective, box.project(ascent.best.at), path.last)
    climb = _Search(objective, best, neg_hessian, box)
    while climb.try_bounds():
        path.append(climb.here)
    converged = ascent.stopped or climb.direction()[1] <= FIRST_ORDER_GAIN
    blocked = box.blocked(climb.here.u, climb.here.gradient)
    return SearchResult(climb.here, blocked, converged, not converged, path.values, path.trace)


def _evaluate(
    objective: Objective[State], u: FloatArray, near: Evaluation[State]
) -> Evaluation[State]:
    """Value and gradient at ``u``."""
    value, state = objective.value(u, near)
    gradient, state = objective.gradient(u, state)
    return Evaluation(u, value, gradient, state)
