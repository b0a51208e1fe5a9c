"""What a fit of one gene hands back. Failure is data: a status, a reason, a certificate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray


class Status(StrEnum):
    """How a fit ended; a fit that broke has the string of ``failed`` instead.

    Examples
    --------
    >>> print(Status.CONVERGED)
    converged
    """

    CONVERGED = "converged"
    BOUNDARY = "boundary"
    MAX_EPOCHS = "max_epochs"
    NO_COUNTS = "no counts"


def failed(why: object) -> str:
    """Return the status of a fit that broke.

    Examples
    --------
    >>> failed("the information is not finite")
    'failed: the information is not finite'
    """
    return f"failed: {why}"


@dataclass(frozen=True, eq=False)
class GeneFit:
    """The fit of one gene, whichever model and method.

    Attributes
    ----------
    params : mapping of name to ndarray
        The parameters at the end, documented names, documented shapes without the gene axis, in the
        units of the user's covariates.
    standard_errors : mapping of name to ndarray
        Infinite where there is no finite optimum or nothing to learn from; never NaN.
    objective : str
        The name of what was maximised, such as ``'log_lik'``.
    value : float
        Its value at ``params``, in nats.
    status : str
        A ``Status`` or ``failed(why)``.
    reason : str
        What is at a bound, or why the fit stopped short, with the remedy; empty if converged.
    at_bound : tuple of str
        The variance parameters that ended at a bound of the search, ``'theta = 1'`` for example.
    gradient_norm : float
        Euclidean norm of the objective's gradient in the free parameters at ``params``.
    min_eigenvalue : float
        Smallest eigenvalue of the observed information in the free parameters at ``params``.
    epochs : int
        Epochs taken.
    values : ndarray, shape (epochs,)
        The objective after each epoch.
    params_path : sequence of mappings
        ``params`` after each epoch; may be empty if no history was asked for.
    ended : optional
        The objective evaluated at ``params``, if it was asked for: large, and of this process.
    """

    params: Mapping[str, FloatArray]
    standard_errors: Mapping[str, FloatArray]
    objective: str
    value: float
    status: str
    reason: str
    gradient_norm: float
    min_eigenvalue: float
    epochs: int
    values: FloatArray
    params_path: Sequence[Mapping[str, FloatArray]] = field(default_factory=list)
    at_bound: tuple[str, ...] = ()
    ended: Any = None

    @property
    def settled(self) -> bool:
        """True if the fit ended where it should: at an optimum, or at a named boundary."""
        return self.status in (Status.CONVERGED, Status.BOUNDARY, Status.NO_COUNTS)

    def without_params(self) -> "GeneFit":
        """Return all but the parameters, which are kept elsewhere and may be large."""
        return GeneFit(**(vars(self) | {"params": {}, "params_path": [], "ended": None}))


def broken_fit(start: Mapping[str, FloatArray], objective: str, why: object) -> GeneFit:
    """Return what stands for a fit that raised: the parameters stay at their finite start.

    Examples
    --------
    >>> broken_fit({"beta": np.zeros(2)}, "log_lik", "overflow").status
    'failed: overflow'
    """
    return GeneFit(
        params=start,
        standard_errors={name: np.full_like(value, np.inf) for name, value in start.items()},
        objective=objective,
        value=-np.inf,
        status=failed(why),
        reason=f"{why}; the parameters of this gene were left at their start",
        gradient_norm=np.inf,
        min_eigenvalue=-np.inf,
        epochs=0,
        values=np.empty(0),
    )
