"""One gene's latent problem: its occupied spots, its covariance system, its spot likelihood."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splisosm_pyro.maths.coding import NOTHING, Turn
from splisosm_pyro.maths.covariance.kernel import Factor, FieldSystem, Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.spot.gaussian import log_coefficient
from splisosm_pyro.maths.spot.terms import SpotLikelihood


@dataclass(frozen=True)
class GeneData:
    """A gene seen at its ``n`` occupied spots; an empty spot carries no information.

    Attributes
    ----------
    counts
        (n, P), the last isoform is the reference.
    design
        (n, F+1), the intercept is the last column.
    occupied
        (n,) places of these spots among all ``n_spots``.
    """

    counts: FloatArray
    design: FloatArray
    occupied: IndexArray
    n_spots: int

    @classmethod
    def from_arrays(cls, counts: FloatArray, design: FloatArray) -> "GeneData":
        """Pick the occupied spots of ``counts`` (S, P) and ``design`` (S, F)."""
        occupied = np.flatnonzero(counts.sum(axis=1) > 0)
        with_intercept = np.column_stack([design, np.ones(len(design))])
        return cls(
            np.ascontiguousarray(counts[occupied], dtype=np.float64),
            np.ascontiguousarray(with_intercept[occupied], dtype=np.float64),
            occupied,
            len(counts),
        )

    @property
    def n_logits(self) -> int:
        """Q."""
        return int(self.counts.shape[1]) - 1

    @cached_property
    def log_coefficient(self) -> float:
        """Sum of the log multinomial coefficients."""
        return float(log_coefficient(self.counts).sum())


@dataclass(frozen=True)
class LatentProblem:
    """What finding a mode needs; ``turn`` takes its coordinates to logits, and orders isoforms."""

    gene: GeneData
    kernel: Kernel
    spots: SpotLikelihood
    turn: Turn = NOTHING

    @cached_property
    def system(self) -> FieldSystem:
        """The kernel at the gene's occupied spots."""
        return self.kernel.system(self.gene.occupied, self.gene.n_logits)

    def factorise(self, precision: FloatArray) -> Factor:
        """Factorise ``H`` for the blocks G (n, Q, Q)."""
        return self.system.factorise(precision)
