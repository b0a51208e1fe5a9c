"""The Gaussian at the mode of an outer density."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from splisosm_pyro.fit.search.quasi_newton import DIFFERENCE_STEP, Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class OuterMode:
    """Where an outer density has its mode, and the Gaussian there.

    Attributes
    ----------
    at
        The evaluation where the search for the mode ended.
    steps
        The states a ``DIFFERENCE_STEP`` from there up each of the K axes.
    mean, covariance
        (K,) the mode, a Newton step from ``at``, and (K, K).
    min_eigenvalue
        Of the negative Hessian.
    converged
        Whether the search ended well.
    """

    at: Evaluation[Any]
    steps: list[Any]
    mean: FloatArray
    covariance: FloatArray
    min_eigenvalue: float
    converged: bool

    def linear(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return a function's value at the mode and its derivative (..., K), to first order.

        ``values`` (K + 1, ...) are those at ``at`` and at the ``steps``.
        """
        response = np.moveaxis(values[1:] - values[0], 0, -1) / DIFFERENCE_STEP
        return values[0] + response @ (self.mean - self.at.u), response


class Evaluated(Protocol):
    """What can be evaluated with its gradient."""

    def evaluate(self, u: FloatArray, near: Any, /) -> Evaluation[Any]:
        """Value and gradient at ``u``, from the evaluation ``near`` it."""
        ...


def one_sided_hessian(
    density: Evaluated, at: Evaluation[Any], step: float
) -> tuple[FloatArray, list[Any]]:
    """Return the negative Hessian (K, K), one difference of the gradient an axis, and the states.

    Off by half a step times the third derivative.
    """
    there = [density.evaluate(at.u + move, at) for move in step * np.eye(at.u.size)]
    hessian = np.stack([(at.gradient - one.gradient) / step for one in there])
    return 0.5 * (hessian + hessian.T), [one.state for one in there]
