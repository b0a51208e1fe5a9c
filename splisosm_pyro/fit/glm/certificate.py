"""What score and information at the end of a GLM fit say about it: errors, limits, status, reason.

At a finite maximum every direction has curvature. Along a direction in which the likelihood rises
for ever (separation), curvature and score die out together like exp(-|eta|) while Newton's step
stays about one logit: such a flat direction tells separation from a maximum.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex

import numpy as np
from scipy.linalg.lapack import dgeqp3
from scipy.special import softmax

from splisosm_pyro.fit.glm.reduced_problem import ABSENT_LOGIT, GLMProblem
from splisosm_pyro.fit.result import Status, failed
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, Mask

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
class Ends:
    """Where the ascents of genes with equally many coefficients ended, in the coordinates C.

    Attributes
    ----------
    coef, score : ndarray, shape (G, K, Q)
    information : ndarray, shape (G, KQ, KQ)
    to_design, from_design : ndarray, shape (G, K, K)
        As in ``Frame``, and its inverse.
    total : ndarray, shape (G,)
        Reads.
    farthest : ndarray, shape (G,)
        The largest squared norm of a row.
    problem : callable
        The problem of one gene; asked for where something looks flat.
    """

    coef: FloatArray
    score: FloatArray
    information: FloatArray
    to_design: FloatArray
    from_design: FloatArray
    total: FloatArray
    farthest: FloatArray
    problem: Callable[[int], GLMProblem]


@dataclass(frozen=True, eq=False)
class Certificates:
    """The ends of fits in the documented coordinates; D coefficients, flat index k Q + q.

    Attributes
    ----------
    information : ndarray, shape (G, D, D)
    standard_errors : ndarray, shape (G, D)
    fixed, held : ndarray of bool, shape (G, D)
        As in ``GLMFit``.
    flat : ndarray, shape (G, D, D)
        A column for each direction without a finite optimum, in units of the covariates' spread;
        the other columns are 0.
    left : ndarray, shape (G,)
        Nats still to gain, to second order.
    gradient_norm, min_eigenvalue : ndarray, shape (G,)
        As in ``GLMFit``.
    """

    information: FloatArray
    standard_errors: FloatArray
    fixed: Mask
    held: Mask
    flat: FloatArray
    left: FloatArray
    gradient_norm: FloatArray
    min_eigenvalue: FloatArray


def certify(ends: Ends) -> Certificates:
    """Split each gene's information into what the data determine and what runs away."""
    n_genes, n_rows, n_logits = ends.coef.shape
    if n_logits == 0:
        return _nothing(n_genes)
    eigenvalues, vectors = np.linalg.eigh(ends.information)
    flat, reach = _flat_directions(ends, eigenvalues, vectors)
    curvature = np.where(flat, np.inf, eigenvalues)
    score = ends.score.reshape(n_genes, 1, -1)
    along = np.abs(score @ vectors)[:, 0]
    left = 0.5 * (along**2 / curvature).sum(axis=1) + (flat * along / reach).sum(axis=1)
    directions = _kron(ends.to_design, n_logits) @ vectors
    spread = np.ones((n_genes, n_rows))
    spread[:, :-1] = np.sqrt((ends.from_design[:, :-1, :-1] ** 2).sum(axis=1))
    runaway = directions * flat[:, None] * np.repeat(spread, n_logits, axis=1)[:, :, None]
    fixed, held = _limits(runaway, flat)
    errors = np.sqrt((directions**2 / curvature[:, None]).sum(axis=2))
    back = _kron(ends.from_design, n_logits)
    information = back.transpose(0, 2, 1) @ ends.information @ back
    return Certificates(
        information=information,
        standard_errors=np.where(fixed, np.inf, errors),
        fixed=fixed,
        held=held,
        flat=runaway,
        left=left,
        gradient_norm=np.linalg.norm((score @ back)[:, 0], axis=1),
        min_eigenvalue=_smallest_eigenvalues(information, ~held),
    )


def _flat_directions(
    ends: Ends, eigenvalues: FloatArray, vectors: FloatArray
) -> tuple[Mask, FloatArray]:
    """Which eigenvectors are flat, (G,D), and by how much they move the row that they move most."""
    threshold = np.maximum(FLAT * np.minimum(1.0, ends.total), 1e-14 * ends.total)[:, None]
    reach = np.ones_like(eigenvalues)
    # no direction of length 1 moves a row by more than the row's norm
    near = eigenvalues <= threshold * ends.farthest[:, None]
    for gene in np.flatnonzero(near.any(axis=1)):
        some = vectors[gene][:, near[gene]]
        moved = ends.problem(int(gene)).frame.rows @ some.reshape(ends.coef.shape[1], -1)
        reach[gene, near[gene]] = np.abs(moved).reshape(-1, some.shape[1]).max(axis=0)
    return eigenvalues <= threshold * reach**2, reach


def _limits(runaway: FloatArray, flat: Mask) -> tuple[Mask, Mask]:
    """Masks of all coefficients without a finite optimum, and of a smallest set to hold."""
    loads = np.abs(runaway).max(axis=2)
    fixed, held = loads > PART_OF_FLAT * loads.max(axis=1)[:, None], np.zeros_like(flat)
    for gene in np.flatnonzero(flat.any(axis=1)):
        some = runaway[gene][:, flat[gene]]
        pivots = dgeqp3(some.T)[1] - 1
        held[gene, pivots[: some.shape[1]]] = True
    return fixed, held


def _smallest_eigenvalues(information: FloatArray, free: Mask) -> FloatArray:
    """Smallest eigenvalue over each gene's free coefficients; infinite if none is free."""
    # what is held gets an eigenvalue of its own, above all others
    largest = np.abs(information).sum(axis=2).max(axis=1)
    apart = np.eye(free.shape[1]) * (~free * largest[:, None])[:, None]
    part = information * (free[:, None] & free[:, :, None]) + apart
    return np.where(free.any(axis=1), np.linalg.eigvalsh(part)[:, 0], np.inf)


def _nothing(n_genes: int) -> Certificates:
    """Certify genes of which nothing is left to fit."""
    none, square = np.zeros((n_genes, 0)), np.zeros((n_genes, 0, 0))
    zero, nowhere = np.zeros(n_genes), np.zeros((n_genes, 0), dtype=bool)
    return Certificates(square, none, nowhere, nowhere, square, zero, zero, zero + np.inf)


def widen(parts: Certificates, places: IndexArray, size: int) -> Certificates:
    """Add the coefficients that are held from the start; the others stand at ``places``."""

    def put(part: AnyArray, rest: float) -> AnyArray:
        whole = np.full((len(part), size), rest, dtype=part.dtype)
        whole[:, places] = part
        return whole

    information = np.zeros((len(parts.left), size, size))
    information[:, places[:, None], places] = parts.information
    return replace(
        parts,
        information=information,
        standard_errors=put(parts.standard_errors, np.inf),
        fixed=put(parts.fixed, True),
        held=put(parts.held, True),
    )


def _kron(left: FloatArray, logits: int) -> FloatArray:
    """Kronecker products of matrices (G,K,K) with the identity."""
    blocks = left[:, :, None, :, None] * np.eye(logits)[:, None, :]
    return np.asarray(blocks.reshape(len(left), left.shape[1] * logits, -1))


def judge(
    reasons: Sequence[str], left: float, stopped: bool, tolerance: float, epochs: int
) -> tuple[str, str]:
    """Status and reason of a fit; ``reasons`` are its limits, named whether or not it got there."""
    if left > max(LEFT_OVER, 10.0 * tolerance):
        if stopped:
            stalled = (
                f"no epoch improved any more, yet about {left:.2g} nats are left: lower tol, "
                "raise patience or change lr"
            )
            return failed("stalled below the optimum"), "; ".join([*reasons, stalled])
        stopped = False
    if not stopped:
        early = (
            f"stopped after {epochs} epochs with about {left:.2g} nats left: raise max_epochs "
            "or fit again, which goes on from here"
        )
        return Status.MAX_EPOCHS, "; ".join([*reasons, early])
    return (Status.BOUNDARY if reasons else Status.CONVERGED), "; ".join(reasons)


def limits_in_words(
    problem: GLMProblem,
    coef: FloatArray,  # (K,Q')
    flat: FloatArray,  # (D,D)
    names: Sequence[str],
) -> list[str]:
    """Sentences about what never occurs, what carries nothing of its own, what is separated."""
    reasons = _structural_reasons(problem, names)
    return [*reasons, _separation_reason(problem, coef, flat, names)] if flat.any() else reasons


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


def _separation_reason(
    problem: GLMProblem, coef: FloatArray, flat: FloatArray, names: Sequence[str]
) -> str:
    """Name the covariates that run to infinity and the isoforms that vanish where they do."""
    loads = np.abs(flat).max(axis=1).reshape(coef.shape).max(axis=1)
    large = problem.frame.kept[:-1][loads[:-1] > PART_OF_FLAT * loads.max()]
    factors = [_name(f, names) for f in large]
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
