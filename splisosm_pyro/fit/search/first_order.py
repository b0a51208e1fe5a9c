"""First-order ascent of one gene's objective: ``'adam'``, ``'sgd'`` and ``'lbfgs'``.

Each gene has its own state, step length and stop, so that no gene feels another. The objective is
smooth and deterministic, so all three may look back: a step length shrinks where the objective
fell. They return the best point seen.

An epoch is one evaluation of the objective for ``'adam'`` and ``'sgd'`` and one line search for
``'lbfgs'``. An epoch improves if it beats the best value so far by more than ``tol`` (in nats, or
in units of the best value's size); after ``patience`` epochs in a row without, the ascent stops.

References: Kingma and Ba (2015), arXiv:1412.6980;
Nocedal (1980), doi:10.1090/S0025-5718-1980-0572855-7;
Lewis and Overton (2013), doi:10.1007/s10107-012-0514-2 (the line search).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from splisosm_pyro.fit.options import FitOptions
from splisosm_pyro.maths.numeric.arrays import FloatArray

Objective = Callable[[FloatArray], tuple[float, FloatArray]]

# Adam forgets squared gradients over 100 epochs; the customary 1000 makes the last digits slow.
ADAM_MEMORY = (0.9, 0.99)
ADAM_EPSILON = 1e-12
# A step that fell shrinks the next ones, a step that rose lengthens them.
SHRINK, GROW = 0.5, 1.1
LBFGS_MEMORY = 10
ARMIJO, WOLFE = 1e-4, 0.9
MOST_TRIALS = 40
ROUNDING = 1e-15


@dataclass(frozen=True, eq=False)
class Point:
    """A place, the objective and its gradient there."""

    at: FloatArray
    value: float
    gradient: FloatArray

    @classmethod
    def evaluate(cls, objective: Objective, at: FloatArray) -> "Point":
        """Evaluate the objective; a value that is no number counts as minus infinity."""
        value, gradient = objective(at)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return cls(at, -np.inf, np.zeros_like(at))
        return cls(at, float(value), gradient)


@dataclass(frozen=True, eq=False)
class Ascent:
    """Where an ascent ended.

    Attributes
    ----------
    best : Point
        The best point seen.
    values : ndarray, shape (epochs,)
        The objective after each epoch.
    path : ndarray, shape (epochs, D)
        The point after each epoch.
    stopped : bool
        True if it stopped by tolerance and patience, False if by ``max_epochs``.
    """

    best: Point
    values: FloatArray
    path: FloatArray
    stopped: bool


class Stepper(Protocol):
    """One way to go on from a point; holds its own state."""

    def step(self, objective: Objective, point: Point) -> Point:
        """Return the point after one epoch; the same object if there is nowhere to go."""


class Adam:
    """Steps of about ``lr`` in each coordinate, by moments of the gradient."""

    def __init__(self, lr: float, curvature: FloatArray) -> None:
        self.lr = self.first_lr = lr
        self.mean = np.zeros_like(curvature)
        self.square = np.zeros_like(curvature)
        self.epoch = 0

    def step(self, objective: Objective, point: Point) -> Point:
        """Move by the ratio of the moments; a fall is kept but shortens later steps."""
        keep_mean, keep_square = ADAM_MEMORY
        self.epoch += 1
        self.mean += (1.0 - keep_mean) * (point.gradient - self.mean)
        self.square += (1.0 - keep_square) * (point.gradient**2 - self.square)
        mean = self.mean / (1.0 - keep_mean**self.epoch)
        root = np.sqrt(self.square / (1.0 - keep_square**self.epoch))
        new = Point.evaluate(objective, point.at + self.lr * mean / (root + ADAM_EPSILON))
        if new.value > point.value:
            self.lr = min(self.first_lr, GROW * self.lr)
            return new
        self.lr *= SHRINK
        self.mean[:] = 0.0
        return point if new.value == -np.inf else new


class GradientAscent:
    """Steps along the gradient in units of the curvature; a fall is taken back."""

    def __init__(self, lr: float, curvature: FloatArray) -> None:
        self.length = lr
        self.curvature = curvature

    def step(self, objective: Objective, point: Point) -> Point:
        """Move, or shorten the step."""
        new = Point.evaluate(objective, point.at + self.length * point.gradient / self.curvature)
        if new.value < point.value:
            self.length *= SHRINK
            return point
        self.length *= GROW
        return new


class LBFGS:
    """Quasi-Newton steps from the last few differences of points and gradients."""

    def __init__(self, lr: float, curvature: FloatArray) -> None:
        self.lr = lr
        self.curvature = curvature
        self.pairs: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=LBFGS_MEMORY)

    def step(self, objective: Objective, point: Point) -> Point:
        """Search along the quasi-Newton direction; from scratch if it is not uphill."""
        direction = self.direction(point.gradient)
        if not point.gradient @ direction > 0.0:
            self.pairs.clear()
            direction = self.direction(point.gradient)
        new = line_search(objective, point, direction, self.lr)
        moved, change = new.at - point.at, point.gradient - new.gradient
        if moved @ change > 1e-14 * np.sqrt((moved @ moved) * (change @ change)):
            self.pairs.append((moved, change))
        return new

    def direction(self, gradient: FloatArray) -> FloatArray:
        """Two-loop recursion."""
        direction = gradient.copy()
        shares = []
        for moved, change in reversed(self.pairs):
            share = (moved @ direction) / (moved @ change)
            direction -= share * change
            shares.append(share)
        direction /= self.curvature
        if self.pairs:
            moved, change = self.pairs[-1]
            direction *= (moved @ change) / (change @ (change / self.curvature))
        for (moved, change), share in zip(self.pairs, reversed(shares), strict=True):
            direction += moved * (share - (change @ direction) / (moved @ change))
        return direction


def line_search(objective: Objective, point: Point, direction: FloatArray, length: float) -> Point:
    """Bisect and double to a point that rises enough and where the slope has eased.

    Returns the highest trial if the trials run out, and ``point`` itself if none is higher.
    """
    slope = point.gradient @ direction
    low, high = 0.0, np.inf
    best = point
    for _ in range(MOST_TRIALS):
        trial = Point.evaluate(objective, point.at + length * direction)
        best = trial if trial.value > best.value else best
        if trial.value < point.value + ARMIJO * length * slope:
            high = length
        elif trial.gradient @ direction > WOLFE * slope:
            low = length
        else:
            return trial
        length = 2.0 * low if high == np.inf else 0.5 * (low + high)
        if length * slope <= ROUNDING * abs(point.value):
            break  # what is left to gain drowns in rounding
    return best


STEPPERS: dict[str, Callable[[float, FloatArray], Stepper]] = {
    "adam": Adam,
    "sgd": GradientAscent,
    "lbfgs": LBFGS,
}


def ascend(
    objective: Objective,
    start: FloatArray,
    options: FitOptions,
    curvature: FloatArray | None = None,
) -> Ascent:
    """Maximise a smooth function from its values and gradients.

    Parameters
    ----------
    objective : callable
        Takes a point (D,), returns (value, gradient (D,)); not-a-number stands for illegal points.
    start : ndarray, shape (D,)
        Where to begin; the objective must be finite there.
    options : FitOptions
        ``optim, lr, tol, tol_relative, max_epochs, patience`` are read.
    curvature : ndarray, shape (D,), optional
        A guess of minus the second derivatives, positive; ``'sgd'`` and ``'lbfgs'`` measure the
        gradient in its units. Default 1.

    Returns
    -------
    Ascent

    Raises
    ------
    ValueError
        If the objective is not finite at the start.

    Examples
    --------
    >>> from splisosm_pyro.fit.options import GLMOptions
    >>> options = GLMOptions.from_configs("gd")
    >>> hill = lambda x: (-float((x[0] - 3.0) ** 4), -4.0 * (x - 3.0) ** 3)
    >>> round(float(ascend(hill, np.zeros(1), options).best.at[0]), 1)
    3.0
    """
    units = np.ones_like(start) if curvature is None else curvature
    stepper = STEPPERS[options.optim](options.lr, units)
    point = best = Point.evaluate(objective, np.asarray(start, dtype=np.float64))
    if point.value == -np.inf:
        raise ValueError("the objective or its gradient is not finite at the start")
    values: list[float] = []
    path: list[FloatArray] = []
    idle = 0
    while len(values) < options.most_epochs and idle < options.patience:
        point = stepper.step(objective, point)
        threshold = options.tol * (abs(best.value) if options.tol_relative else 1.0)
        idle = 0 if point.value > best.value + threshold else idle + 1
        best = point if point.value > best.value else best
        values.append(point.value)
        path.append(point.at)
    return Ascent(best, np.array(values), np.array(path), idle >= options.patience)
