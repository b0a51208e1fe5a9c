"""The posterior densities that a model's genes have."""

from dataclasses import dataclass

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.options import NUGGETS, SMOOTHS, choose
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.model.as_arrays import ModelArrays
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.outer import OuterDensity, with_nugget
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.gene_draws import Density


@dataclass(frozen=True, eq=False)
class Densities:
    """Design, priors, and of a GLMM its specification and sigma (G, C) where it is fixed."""

    spec: GLMMSpec | None
    design: StandardDesign
    sigma: FloatArray
    priors: PosteriorPriors

    @classmethod
    def of_model(
        cls,
        model: ModelArrays,
        prior: PosteriorPriors | None,
        nugget: str,
        smooth: str | None = None,
    ) -> "Densities":
        """Take what ``model.posterior`` would; prior, nugget and smooth as there."""
        choose("nugget", nugget, NUGGETS)
        if smooth is not None:
            choose("smooth", smooth, SMOOTHS)
        if model.spec is None:
            return cls(None, model.design, model.sigma, PosteriorPriors.asked(prior))
        n_isos = model.counts.shape[2]
        spec = with_nugget(model.spec, n_isos, nugget, smooth)
        own = PosteriorPriors.asked(prior, spec.priors)
        return cls(spec, model.design, model.sigma, own.for_gene(spec.kernel, n_isos))

    @property
    def kernel(self) -> Kernel | None:
        """The spatial covariance; None in a GLM."""
        return None if self.spec is None else self.spec.kernel

    def of_gene(self, counts: FloatArray, gene: int) -> Density:
        """Return the density of the outer parameters for counts (S, P) in the place of a gene's."""
        if self.spec is None:
            return GLMDensity.of_gene(counts, self.design, self.priors)
        return OuterDensity.of_gene(self.spec, counts, self.priors, self.sigma[gene])
