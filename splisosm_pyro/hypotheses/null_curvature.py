"""The curvature of the null's log marginal at its maximum, made ready for any further column.

In ``u = (variances v, coefficients c)`` the negative Hessian has the blocks

    [ H_vv   H_vc ]      H_vc = -(d r / d v)' X,      S = X' A X - (D^1/2 A X)' H^-1 (D^1/2 A X)
    [ H_cv   S    ]

with ``r`` the derivative in the spots' offsets. ``H_vv`` and ``d r / d v`` are differences between
two points a variance, found once; a column ``X`` then costs a product, and its own ``S``.
"""

from dataclasses import dataclass, field

import numpy as np

from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.search.quasi_newton import DIFFERENCE_STEP, Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

# A variance of less curvature, theta where sigma is next to nothing, stays where it is.
FLAT = 0.01


@dataclass(frozen=True, eq=False)
class NullCurvature:
    """What the null's variances do at its maximum.

    Attributes
    ----------
    slope
        (n, Q) derivative in the spots' offsets.
    inside
        (V,) which variances are not at a bound, nor without any say.
    outwards
        (V,) gradient in the variances, 0 for those inside.
    among
        (V, V) negative Hessian of those inside.
    along
        (V, n, Q) how ``slope`` falls with each of those inside.
    """

    slope: FloatArray
    inside: Mask
    outwards: FloatArray
    among: FloatArray
    along: FloatArray

    @classmethod
    def at(cls, end: EvaluatedObjective) -> "NullCurvature":
        """Look to both sides of where the null's fit ended; raises ModeError where there is none.

        Two evaluations for each variance that is not at a bound.
        """
        objective, here = end.objective, end.at
        assert isinstance(objective, MarginalObjective)
        size = objective.space.n_variance
        inside = ~objective.space.box().blocked(here.u, here.gradient)[:size]
        slope = objective.smooth.gradient(objective.problem, here.state.mode).offset
        among, along = np.zeros((size, size)), np.zeros((size, *slope.shape))
        for i in np.flatnonzero(inside):
            move = DIFFERENCE_STEP * np.eye(here.u.size)[i]
            up, down = (objective.evaluate(here.u + side * move, here) for side in (1.0, -1.0))
            among[i] = (down.gradient[:size] - up.gradient[:size]) / (2.0 * DIFFERENCE_STEP)
            along[i] = (_slope(down) - _slope(up)) / (2.0 * DIFFERENCE_STEP)
        inside &= among.diagonal() > FLAT
        among *= np.outer(inside, inside)
        outwards = np.where(inside, 0.0, here.gradient[:size])
        return cls(slope, inside, outwards, 0.5 * (among + among.T), along)

    def joined(self, information: FloatArray, design: FloatArray, free: Mask) -> FloatArray:
        """Return the negative Hessian (K, K) with the columns of ``design`` (n, F+1).

        Parameters
        ----------
        information
            (K, K), of a search space with these columns: its part of the coefficients is kept, and
            all of it where what was found has a wrong sign.
        design, free
            The columns on the spots with reads, and which of their coefficients (F+1, Q) move.
        """
        found, size = information.copy(), self.inside.size
        own = np.flatnonzero(self.inside)
        found[np.ix_(own, own)] = self.among[np.ix_(own, own)]
        along = self.along * self.inside[:, None, None]
        cross = np.einsum("vnq,nf->vfq", along, design)[:, free]
        found[:size, size:], found[size:, :size] = cross, cross.T
        try:
            np.linalg.cholesky(found)
        except np.linalg.LinAlgError:
            return information
        return found


def _slope(there: Evaluation[MarginalState]) -> FloatArray:
    """Return the derivative in the spots' offsets at an evaluation."""
    assert there.state.gradient is not None
    return there.state.gradient.offset


@dataclass(frozen=True)
class Curved(MarginalObjective):
    """An objective whose negative Hessian ``known`` (K, K) is at hand where a climb begins."""

    known: FloatArray = field(kw_only=True)

    @classmethod
    def of(cls, objective: MarginalObjective, known: FloatArray, tolerance: float) -> "Curved":
        """Put the two together; sites need be right to ``tolerance`` only."""
        smooth = objective.smooth.rough(tolerance)
        return cls(objective.problem, objective.space, 1, smooth, known=known)

    def information(self, at: Evaluation[MarginalState]) -> FloatArray:
        """Return what is known."""
        return self.known
