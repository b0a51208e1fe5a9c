"""Three models of one gene that a study compares: the GLM, white noise, space.

``glm`` has no random effect, ``white`` the GLMM with theta held at 0, ``spatial`` the GLMM. All are
fitted by maximum (marginal) likelihood, the GLMMs with the sigma prior that the model states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_error import Conditional
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.without_space import without_space
from splisosm_pyro.fit.marginal.cavity import smooth_cavity
from splisosm_pyro.fit.options import as_names
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.model.as_arrays import ModelArrays
from splisosm_pyro.posterior.loo.gene import GeneLoo, glm_loo, glmm_loo

CANDIDATES = ("glm", "white", "spatial")


@dataclass(frozen=True, eq=False)
class Predictor:
    """The logits of every spot under a fit: mean (S, Q), covariance (S, Q, Q), how the fit ended.

    At a spot with counts in the fit they are those given all other spots (its cavity).
    """

    mean: FloatArray
    cov: FloatArray
    status: str


@dataclass(frozen=True, eq=False)
class Candidates:
    """What the models of a gene share.

    Attributes
    ----------
    spec
        Of the spatial GLMM, a marginal method; None: there is the GLM alone.
    design
        The covariates.
    sigma
        (G, C) where sigma stays if the model fixes it.
    """

    spec: GLMMSpec | None
    design: StandardDesign
    sigma: FloatArray

    @classmethod
    def of_model(cls, model: ModelArrays) -> "Candidates":
        """Take kernel, design, priors and options from a GLM or GLMM with data."""
        spec = model.spec
        if spec is not None:
            options = replace(spec.with_nugget().options, method="marginal_newton")
            spec = replace(spec, options=options)
        return cls(spec, model.design, model.sigma)

    def checked(self, models: Sequence[str] | None) -> tuple[str, ...]:
        """Return the models asked for, all that there are by default."""
        there = CANDIDATES if self.spec is not None else CANDIDATES[:1]
        if models is None:
            return there
        asked = as_names("models", models)
        wrong = [name for name in asked if name not in there]
        if wrong or not asked or len(set(asked)) < len(asked):
            raise ValueError(f"models must be different ones of {there}, came {models!r}")
        return asked

    def spec_of(self, name: str) -> GLMMSpec:
        """Return the specification of a GLMM among the candidates."""
        assert self.spec is not None
        return without_space(self.spec) if name == "white" else self.spec

    def fitted(self, name: str, gene: int, counts: FloatArray) -> tuple[Params, str]:
        """Fit a GLMM to counts (S, P); a ValueError where the fit broke."""
        fit = fit_gene(self.spec_of(name), counts, self._start(gene, counts))
        if not fit.settled and fit.epochs == 0:
            raise ValueError(fit.status.removeprefix("failed: "))
        return fit.params, str(fit.status)

    def predictor(self, name: str, gene: int, counts: FloatArray) -> Predictor:
        """Fit a model to counts (S, P) and say what it knows of the logits of every spot."""
        if not counts.any():
            raise ValueError("a fold leaves no counts to fit")
        if name == "glm":
            glm = fit_glm(counts, self.design.rows)
            mean = self.design.with_intercept @ glm.B
            return Predictor(mean, np.zeros((*mean.shape, mean.shape[1])), str(glm.status))
        params, status = self.fitted(name, gene, counts)
        at = Conditional.of_gene(self.spec_of(name), counts, params)
        mean, cov = at.predictor(self.design.with_intercept)
        occupied, cavity = at.problem.gene.occupied, smooth_cavity(at.mode)
        mean[occupied] = cavity.mean
        cov[occupied] = cavity.cov + np.diag(at.variances.nugget)
        turn = at.problem.turn
        return Predictor(turn.to_logits(mean), turn.covariance(cov), status)

    def loo(self, name: str, gene: int, counts: FloatArray, outer: str) -> GeneLoo:
        """Fit a model to counts (S, P) and return its leave-one-spot-out densities."""
        if name == "glm":
            return glm_loo(counts, self.design, outer=outer)
        params, _ = self.fitted(name, gene, counts)
        return glmm_loo(self.spec_of(name), counts, params, outer=outer)

    def _start(self, gene: int, counts: FloatArray) -> Params:
        """Return the documented parameters at which a search begins."""
        n_spots, n_logits = counts.shape[0], counts.shape[1] - 1
        n_components = self.sigma.shape[1]
        return {
            "beta": np.zeros((len(self.design.scale), n_logits)),
            "bias_eta": np.zeros(n_logits),
            "nu": np.zeros((n_spots, n_logits)),
            "sigma": self.sigma[gene],
            "theta_logit": np.zeros(n_components),
        }
