"""What score and information at the end of a GLM fit say about it: errors, limits, status, reason.

At a finite maximum every direction has curvature. Along a direction in which the likelihood rises
for ever (separation), curvature and score die out together like exp(-|eta|) while Newton's step
stays about one logit: such a flat direction tells separation from a maximum.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from scipy.special import softmax

from splisosm_pyro.fit.glm_rows import ABSENT_LOGIT, GLMProblem
from splisosm_pyro.fit.result import Array, Status, failed

Mask = npt.NDArray[np.bool_]

# A direction whose curvature, per squared logit at the row that it moves most, is below this many
# counts has no finite optimum: its standard error is above 1000 logits.
FLAT = 1e-6
# The share of a flat direction that makes a coefficient part of it.
PART_OF_FLAT = 1e-5
# Fewer expected counts than this at a spot, where there are none, and an isoform has vanished.
VANISHED = 1e-5
# A fit that stopped by its tolerance must not leave more than this many nats.
LEFT_OVER = 1e-4


@dataclass(frozen=True, eq=False)
class Certificate:
    """The end of a fit in the documented coordinates, flat index f Q + q.

    Attributes
    ----------
    information : ndarray, shape ((F+1)Q, (F+1)Q)
    standard_errors : ndarray, shape ((F+1)Q,)
    fixed, held : ndarray of bool, shape ((F+1)Q,)
        As in ``GLMFit``.
    flat : ndarray, shape ((F+1)Q, r)
        The directions without a finite optimum, in units of the covariates' spread.
    left : float
        Nats still to gain, to second order.
    gradient_norm, min_eigenvalue : float
        As in ``GLMFit``.
    """

    information: Array
    standard_errors: Array
    fixed: Mask
    held: Mask
    flat: Array
    left: float
    gradient_norm: float
    min_eigenvalue: float


def certify(
    problem: GLMProblem,
    coef: Array,  # (K,Q')
    score: Array,  # (K,Q')
    information: Array,  # (KQ',KQ')
) -> Certificate:
    """Split the information into what the data determine and what runs away."""
    places = problem.places()
    size = (problem.n_factors + 1) * problem.n_logits
    if len(places) == 0:
        nowhere = np.ones(size, dtype=bool)
        flat = np.zeros((size, 0))
        errors = np.full(size, np.inf)
        square = np.zeros((size, size))
        return Certificate(square, errors, nowhere, nowhere, flat, 0.0, 0.0, np.inf)
    covariance, directions, left = _split(problem, coef, score, information)
    logits = np.eye(coef.shape[1])
    to_design = _kron(problem.frame.to_design, logits)
    from_design = _kron(np.asarray(np.linalg.inv(problem.frame.to_design)), logits)
    flat = np.zeros((size, directions.shape[1]))
    flat[places] = to_design @ directions * np.repeat(problem.frame.spread, len(logits))[:, None]
    fixed, held = _limits(flat, places)
    errors = np.full(size, np.inf)
    errors[places] = np.sqrt(np.maximum(np.diag(to_design @ covariance @ to_design.T), 0.0))
    errors[fixed] = np.inf
    full_information = np.zeros((size, size))
    full_information[places[:, None], places] = from_design.T @ information @ from_design
    return Certificate(
        full_information,
        errors,
        fixed,
        held,
        flat,
        left,
        float(np.linalg.norm(score.reshape(-1) @ from_design)),
        _smallest_eigenvalue(full_information, ~held),
    )


def _split(
    problem: GLMProblem, coef: Array, score: Array, information: Array
) -> tuple[Array, Array, float]:
    """Covariance of what is determined (D,D), flat directions (D,r), nats left; coordinates C."""
    eigenvalues, vectors = np.linalg.eigh(information)
    along = score.reshape(-1) @ vectors
    total = problem.table.totals.sum()
    threshold = max(FLAT * min(1.0, total), 1e-14 * total)
    reach = np.ones_like(eigenvalues)
    farthest = (problem.frame.rows**2 @ np.ones(len(coef))).max()
    for i in np.flatnonzero(eigenvalues <= threshold * farthest):
        reach[i] = np.abs(problem.frame.rows @ vectors[:, i].reshape(coef.shape)).max()
    flat = eigenvalues <= threshold * reach**2
    sound = vectors[:, ~flat]
    left = 0.5 * np.sum(along[~flat] ** 2 / eigenvalues[~flat])
    left += np.sum(np.abs(along[flat]) / reach[flat])
    return (sound / eigenvalues[~flat]) @ sound.T, vectors[:, flat], float(left)


def _limits(flat: Array, places: npt.NDArray[np.intp]) -> tuple[Mask, Mask]:
    """Masks of all coefficients without a finite optimum, and of a smallest set to hold."""
    held = np.ones(len(flat), dtype=bool)
    held[places] = False
    fixed = held.copy()
    if flat.shape[1]:
        fixed |= np.abs(flat).max(axis=1) > PART_OF_FLAT * np.abs(flat).max()
        pivots = qr(flat.T, mode="r", pivoting=True)[1]
        held[pivots[: flat.shape[1]]] = True
    return fixed, held


def _smallest_eigenvalue(information: Array, free: Mask) -> float:
    """Smallest eigenvalue over the free coefficients; infinite if none is free."""
    if not free.any():
        return np.inf
    return float(np.linalg.eigvalsh(information[free][:, free])[0])


def _kron(left: Array, right: Array) -> Array:
    """Kronecker product of two small matrices, with less ado than the library's."""
    blocks = left[:, None, :, None] * right[None, :, None, :]
    return blocks.reshape(len(left) * len(right), -1)


def judge(
    problem: GLMProblem,
    coef: Array,
    certificate: Certificate,
    stopped: bool,
    tolerance: float,
    epochs: int,
    names: Sequence[str],
) -> tuple[str, str]:
    """Status and reason of a fit; limits are named whether or not it got there."""
    reasons = _structural_reasons(problem, names)
    if certificate.flat.shape[1]:
        reasons.append(_separation_reason(problem, coef, certificate.flat, names))
    left = certificate.left
    if left > max(LEFT_OVER, 10.0 * tolerance):
        if stopped:
            reasons.append(
                f"no epoch improved any more, yet about {left:.2g} nats are left: lower tol, "
                "raise patience or change lr"
            )
            return failed("stalled below the optimum"), "; ".join(reasons)
        stopped = False
    if not stopped:
        reasons.append(
            f"stopped after {epochs} epochs with about {left:.2g} nats left: raise max_epochs "
            "or fit again, which goes on from here"
        )
        return Status.MAX_EPOCHS, "; ".join(reasons)
    return (Status.BOUNDARY if reasons else Status.CONVERGED), "; ".join(reasons)


def _structural_reasons(problem: GLMProblem, names: Sequence[str]) -> list[str]:
    """Sentences about what never occurs and what carries nothing of its own."""
    reasons = []
    occurring = problem.occurring
    for p in occurring.absent:
        if p < problem.n_logits:
            reasons.append(
                f"isoform {p} never occurs: bias_eta held at {ABSENT_LOGIT:g}, beta at 0"
            )
    if occurring.reference_absent:
        stand_in = occurring.isoforms[-1]
        reasons.append(
            f"the reference, isoform {problem.n_logits}, never occurs: isoform {stand_in} is held "
            f"{-ABSENT_LOGIT:g} logits above it and the others are relative to isoform {stand_in}; "
            "put an isoform that occurs last"
        )
    for f in problem.frame.dropped:
        reasons.append(
            f"covariate {_name(f, names)} is constant or a linear combination of earlier ones on "
            "the spots with counts: its beta is held at 0"
        )
    return reasons


def _separation_reason(problem: GLMProblem, coef: Array, flat: Array, names: Sequence[str]) -> str:
    """Name the covariates that run to infinity and the isoforms that vanish where they do."""
    loads = np.abs(flat).max(axis=1).reshape(problem.n_factors + 1, problem.n_logits).max(axis=1)
    factors = [_name(f, names) for f in np.flatnonzero(loads[:-1] > PART_OF_FLAT * loads.max())]
    eta = np.column_stack([problem.frame.rows @ coef, np.zeros(len(problem.counts))])
    expected = problem.counts.sum(axis=1, keepdims=True) * softmax(eta, axis=1)
    vanishes = ((problem.counts == 0) & (expected < VANISHED)).any(axis=0)
    isoforms = [str(p) for p in sorted(problem.occurring.isoforms[vanishes])]
    which, verb = ("covariate", "separates") if len(factors) == 1 else ("covariates", "separate")
    what = "isoform" if len(isoforms) == 1 else "isoforms"
    return (
        f"{which} {', '.join(factors)} {verb} {what} {', '.join(isoforms)}: the likelihood has no "
        "finite maximum, the coefficients were stopped where nothing is left to gain; drop or "
        "merge the covariate"
    )


def _name(f: SupportsIndex, names: Sequence[str]) -> str:
    """Quote the name of covariate f."""
    return repr(names[operator.index(f)]) if len(names) else str(f)
