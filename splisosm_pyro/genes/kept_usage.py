"""The usage of a gene and its error where the fit ended, kept in single precision on ask."""

import base64

import numpy as np

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glm.fit_gene import GLMFit
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import OuterUncertainty, usage_posterior
from splisosm_pyro.fit.marginal.usage import usage_at_spots
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray
from splisosm_pyro.maths.spot.usage import Usage

# Bytes of an entry of the counts: in records and then in arrays, usage and error each.
BYTES = 2 * 4 * (1 + 4 / 3)


def usage_where_it_ended(
    spec: GLMMSpec,
    own: Coefficients,
    ended: EvaluatedObjective | None,
    outer: OuterUncertainty | None,
    *,
    errors: bool,
) -> tuple[FloatArray, FloatArray] | None:
    """Return posterior means of usage and their errors (S, P) from where a fit ended.

    Errors are infinite where nothing is known, missing where they were not asked for; None where
    the posterior cannot be had.
    """
    if ended is None or not isinstance(ended.objective, MarginalObjective):
        return None
    objective, at = ended.objective, ended.at
    try:
        if errors and outer is not None:
            return usage_posterior(spec, objective, at, outer, own)
        state, design = at.state, spec.design.with_intercept
        mean = usage_at_spots(objective.problem, state.mode, state.variances, design).mean
    except (ArithmeticError, ValueError):
        return None
    return mean, np.full_like(mean, np.inf if errors else np.nan)


def glm_usage(design: StandardDesign, fit: GLMFit) -> tuple[FloatArray, FloatArray]:
    """Return the usage of a GLM and its error (S, P), infinite where it is not determined."""
    rows, own = design.with_intercept, fit.coefficients
    n_rows, n_logits = own.values.shape
    shaped = own.covariance.reshape(n_rows, n_logits, n_rows, n_logits)
    moved = np.einsum("sf,fpgq,sg->spq", rows, shaped, rows, optimize=True)
    share = softmax(rows @ own.values)
    errors = Usage.known(share).standard_errors(moved)
    errors[own.unknown.moves_usage(rows)] = np.inf
    return share, errors


def softmax(eta: FloatArray) -> FloatArray:
    """Return ratios (S, P) of the logits (S, Q) and the reference's 0.

    Examples
    --------
    >>> softmax(np.array([[0.0, np.log(2.0)]])).round(3).tolist()
    [[0.25, 0.5, 0.25]]
    """
    padded = np.column_stack([eta, np.zeros(len(eta))])
    ratio = np.exp(padded - padded.max(axis=1, keepdims=True))
    return np.asarray(ratio / ratio.sum(axis=1, keepdims=True))


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
