"""What score and information at the end of a GLM fit say about it: errors, limits, status, reason.

At a finite maximum every direction has curvature. Along a direction in which the likelihood rises
for ever (separation), curvature and score die out together like exp(-|eta|) while Newton's step
stays about one logit: such a flat direction tells separation from a maximum.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from scipy.linalg.lapack import dgeqp3
from scipy.special import softmax

from splisosm_pyro.fit.glm.reduced_problem import ABSENT_LOGIT, Climb, ReducedProblem
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.result import Status, failed
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

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
class Certificates:
    """The ends of climbs of equally many coefficients, in the design's units; D = K Q'.

    Attributes
    ----------
    to_design : ndarray, shape (G, K, K)
        Takes coordinates C to coefficients of the kept covariates and the intercept.
    coef : ndarray, shape (G, K, Q')
        Those coefficients; flat index ``k Q' + q``.
    information : ndarray, shape (G, D, D)
    covariance : ndarray, shape (G, D, D)
        Without the directions that have no finite optimum.
    fixed, held : ndarray of bool, shape (G, K, Q')
        As in ``GLMFit``.
    flat : ndarray, shape (G, D, D)
        A column for each direction without a finite optimum, in units of the covariates' spread;
        the other columns are 0.
    left : ndarray, shape (G,)
        Nats still to gain, to second order.
    gradient_norm, min_eigenvalue : ndarray, shape (G,)
        As in ``GLMFit``.
    """

    to_design: FloatArray
    coef: FloatArray
    information: FloatArray
    covariance: FloatArray
    fixed: Mask
    held: Mask
    flat: FloatArray
    left: FloatArray
    gradient_norm: FloatArray
    min_eigenvalue: FloatArray


def certify(climbs: Mapping[int, Climb], problem: Callable[[int], ReducedProblem]) -> Certificates:
    """Split each gene's information into what the data determine and what runs away.

    Parameters
    ----------
    climbs : mapping from genes to Climb
        Of equally many coefficients.
    problem : callable
        Gives the problem of a gene; asked for where something looks flat.
    """
    ends = climbs.values()
    coef, score = np.array([end.coef for end in ends]), np.array([end.score for end in ends])
    inside = np.array([end.information for end in ends])
    from_design = np.array([end.from_design for end in ends])
    to_design = np.linalg.inv(from_design)
    n_genes, n_rows, n_logits = coef.shape
    eigenvalues, vectors = np.linalg.eigh(inside)
    flat, reach = _flat_directions(climbs, problem, eigenvalues, vectors)
    curvature = np.where(flat, np.inf, eigenvalues)
    score = score.reshape(n_genes, 1, -1)
    along = np.abs(score @ vectors)[:, 0]
    left = 0.5 * (along**2 / curvature).sum(axis=1) + (flat * along / reach).sum(axis=1)
    directions = _kron(to_design, n_logits) @ vectors
    spread = np.ones((n_genes, n_rows))
    spread[:, :-1] = np.sqrt((from_design[:, :-1, :-1] ** 2).sum(axis=1))
    runaway = directions * flat[:, None] * np.repeat(spread, n_logits, axis=1)[:, :, None]
    fixed, held = _limits(runaway, flat)
    back = _kron(from_design, n_logits)
    information = back.transpose(0, 2, 1) @ inside @ back
    return Certificates(
        to_design=to_design,
        coef=to_design @ coef,
        information=information,
        covariance=(directions / curvature[:, None]) @ directions.transpose(0, 2, 1),
        fixed=fixed.reshape(coef.shape),
        held=held.reshape(coef.shape),
        flat=runaway,
        left=left,
        gradient_norm=np.linalg.norm((score @ back)[:, 0], axis=1),
        min_eigenvalue=_smallest_eigenvalues(information, ~held),
    )


def _flat_directions(
    climbs: Mapping[int, Climb],
    problem: Callable[[int], ReducedProblem],
    eigenvalues: FloatArray,  # (G,D)
    vectors: FloatArray,  # (G,D,D)
) -> tuple[Mask, FloatArray]:
    """Which eigenvectors are flat, (G,D), and by how much they move the row that they move most."""
    reads, farthest = np.array([(climb.reads, climb.farthest) for climb in climbs.values()]).T
    threshold = np.maximum(FLAT * np.minimum(1.0, reads), 1e-14 * reads)[:, None]
    reach = np.ones_like(eigenvalues)
    # no direction of length 1 moves a row by more than the row's norm
    near = eigenvalues <= threshold * farthest[:, None]
    genes = list(climbs)
    for i in np.flatnonzero(near.any(axis=1)):
        some = vectors[i][:, near[i]]
        rows = problem(genes[i]).table.rows
        moved = rows.T @ some.reshape(len(rows), -1)
        reach[i, near[i]] = np.abs(moved).reshape(-1, some.shape[1]).max(axis=0)
    return eigenvalues <= threshold * reach**2, reach


def _limits(runaway: FloatArray, flat: Mask) -> tuple[Mask, Mask]:
    """Masks of all coefficients without a finite optimum, and of a smallest set to hold."""
    loads = np.abs(runaway).max(axis=2, initial=0.0)
    fixed = loads > PART_OF_FLAT * loads.max(axis=1, initial=0.0)[:, None]
    held = np.zeros_like(flat)
    for gene in np.flatnonzero(flat.any(axis=1)):
        some = runaway[gene][:, flat[gene]]
        pivots = dgeqp3(some.T)[1] - 1
        held[gene, pivots[: some.shape[1]]] = True
    return fixed, held


def _smallest_eigenvalues(information: FloatArray, free: Mask) -> FloatArray:
    """Smallest eigenvalue over each gene's free coefficients; infinite if none is free."""
    # what is held gets an eigenvalue of its own, above all others
    largest = np.abs(information).sum(axis=2).max(axis=1, initial=0.0)
    apart = np.eye(free.shape[1]) * (~free * largest[:, None])[:, None]
    part = information * (free[:, None] & free[:, :, None]) + apart
    return np.where(free.any(axis=1), np.linalg.eigvalsh(part).min(axis=1, initial=np.inf), np.inf)


def _kron(left: FloatArray, logits: int) -> FloatArray:
    """Kronecker products of matrices (G,K,K) with the identity."""
    blocks = left[:, :, None, :, None] * np.eye(logits)[:, None, :]
    return np.asarray(blocks.reshape(len(left), *[left.shape[1] * logits] * 2))


def judge(
    reasons: Sequence[str], left: float, climb: Climb, options: GLMOptions
) -> tuple[str, str]:
    """Status and reason of a fit; ``reasons`` are its limits, named whether or not it got there."""
    tolerance = options.tol * (abs(climb.value) if options.tol_relative else 1.0)
    far = left > max(LEFT_OVER, 10.0 * tolerance)
    if far and climb.stopped:
        stalled = (
            f"no epoch improved any more, yet about {left:.2g} nats are left: lower tol, "
            "raise patience or change lr"
        )
        return failed("stalled below the optimum"), "; ".join([*reasons, stalled])
    if not climb.stopped:
        early = (
            f"stopped after {len(climb.values)} epochs with about {left:.2g} nats left: raise "
            "max_epochs or fit again, which goes on from here"
        )
        return Status.MAX_EPOCHS, "; ".join([*reasons, early])
    return (Status.BOUNDARY if reasons else Status.CONVERGED), "; ".join(reasons)


def limits_in_words(
    problem: ReducedProblem,
    coef: FloatArray,  # (K,Q')
    flat: FloatArray,  # (D,D)
    names: Sequence[str],
    left_out: Mask,  # (F,) said before any fit
) -> list[str]:
    """Sentences about what never occurs, what carries nothing of its own, what is separated."""
    reasons = _structural_reasons(problem, names, left_out)
    return [*reasons, _separation_reason(problem, coef, flat, names)] if flat.any() else reasons


def _structural_reasons(problem: ReducedProblem, names: Sequence[str], left_out: Mask) -> list[str]:
    """Sentences about what never occurs and what carries nothing of its own."""
    reasons = [
        f"isoform {p} never occurs: bias_eta held at {ABSENT_LOGIT:g}, beta at 0"
        for p in problem.absent
        if p < problem.n_logits
    ]
    if problem.reference_absent:
        stand_in = problem.isoforms[-1]
        reasons.append(
            f"the reference, isoform {problem.n_logits}, never occurs: isoform {stand_in} is held "
            f"{-ABSENT_LOGIT:g} logits above it and the others are relative to isoform {stand_in}; "
            "put an isoform that occurs last"
        )
    return reasons + [
        f"covariate {_name(f, names)} is constant or a linear combination of earlier ones on "
        "the spots with counts: its beta is held at 0"
        for f in problem.dropped
        if not left_out[f]
    ]


def _separation_reason(
    problem: ReducedProblem, coef: FloatArray, flat: FloatArray, names: Sequence[str]
) -> str:
    """Name the covariates that run to infinity and the isoforms that vanish where they do."""
    table = problem.table
    loads = np.abs(flat).max(axis=1).reshape(coef.shape).max(axis=1)
    large = problem.kept[:-1][loads[:-1] > PART_OF_FLAT * loads.max()]
    factors = [_name(f, names) for f in large]
    eta = np.vstack([coef.T @ table.rows, np.zeros(table.totals.size)])
    expected = table.totals * softmax(eta, axis=0)
    vanishes = ((table.counts == 0) & (expected < VANISHED)).any(axis=1)
    isoforms = [str(p) for p in sorted(problem.isoforms[vanishes])]
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
