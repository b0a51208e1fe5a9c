"""What every method hands on: the draws of one gene, and the densities that it can draw from."""

from dataclasses import dataclass
from dataclasses import field as dataclass_field

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import Weights
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.outer import OuterDensity
from splisosm_pyro.posterior.draws.chain_check import ChainCheck
from splisosm_pyro.posterior.field.drawn_or_gaussian import Field

Density = OuterDensity | GLMDensity


@dataclass(frozen=True, eq=False)
class GeneDraws:
    """N draws of one gene.

    Attributes
    ----------
    u
        (N, K) outer parameters, unconstrained.
    field
        The logits at all spots.
    log_density
        (N,) unnormalised log density of ``u``, interpolated by some methods, NaN where unknown.
    check
        What says whether to trust them: importance weights, of the draws or of the points at which
        the density was evaluated, or the chains' figures.
    stats
        (C, N / C) each: what a chain says of every transition, by ArviZ's names.
    """

    u: FloatArray
    field: Field
    log_density: FloatArray
    check: Weights | ChainCheck
    stats: dict[str, FloatArray] = dataclass_field(default_factory=dict)

    @property
    def eta(self) -> FloatArray:
        """Joint draws of the logits, (S, Q, N)."""
        return self.field.eta
