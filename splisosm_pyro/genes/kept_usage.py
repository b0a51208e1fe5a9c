"""The fitted usage of a gene and its error where the fit ended, kept in single precision on ask."""

import base64

import numpy as np

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import OuterUncertainty, usage_errors
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray

# Bytes of an entry of the counts: in records and then in arrays, usage and error each.
BYTES = 2 * 4 * (1 + 4 / 3)


def errors_where_it_ended(
    spec: GLMMSpec,
    own: Coefficients,
    ended: EvaluatedObjective | None,
    outer: OuterUncertainty | None,
) -> FloatArray:
    """Return standard errors of usage (S, P) from the evaluation that a fit ended at.

    Infinite where nothing is known.
    """
    unknown = np.full((len(spec.design.with_intercept), own.values.shape[1] + 1), np.inf)
    if ended is None or outer is None or not isinstance(ended.objective, MarginalObjective):
        return unknown
    try:
        return usage_errors(spec, ended.objective, ended.at, outer, own)
    except (ArithmeticError, ValueError):
        return unknown


def packed(usage: FloatArray, error: FloatArray) -> str:
    """Return usage and error (S, P) as a word that JSON can hold.

    Examples
    --------
    >>> unpacked(packed(np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]])), 2).tolist()
    [[[0.25, 0.75]], [[0.5, 0.5]]]
    """
    both = np.stack([usage, error]).astype("<f4")
    return base64.b64encode(both.tobytes()).decode("ascii")


def unpacked(word: str, n_isos: int) -> AnyArray:  # (2, S, P)
    """Return what was packed, in single precision."""
    return np.frombuffer(base64.b64decode(word), dtype="<f4").reshape(2, -1, n_isos)
