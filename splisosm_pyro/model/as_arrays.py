"""A model as plain arrays: what posteriors, leave-one-out and studies take of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.draws.arguments import Labels, chosen_genes


@dataclass(frozen=True, eq=False)
class ModelArrays:
    """Data, parameters and last fit of a GLM or GLMM as they stand, float64 on the CPU.

    Attributes
    ----------
    counts : ndarray, shape (G, S, P)
    design : StandardDesign
        The covariates of the S spots.
    names : tuple of str
        Of the covariates.
    spec : GLMMSpec or None
        What a GLMM fits; None in a GLM.
    params : dict of str to ndarray
        By their documented names, genes first, in the user's units; sigma as it is in force.
    fits : tuple of GeneFit
        The last fit, without its parameters; empty before the first.
    """

    counts: FloatArray
    design: StandardDesign
    names: tuple[str, ...]
    spec: GLMMSpec | None
    params: Mapping[str, FloatArray]
    fits: tuple[GeneFit, ...]

    @property
    def sigma(self) -> FloatArray:
        """The total standard deviation in force (G, C); C is 0 in a GLM."""
        return self.params.get("sigma", np.empty((len(self.counts), 0)))

    def params_of(self, gene: int) -> Params:
        """Return a copy of one gene's parameters."""
        return {name: values[gene].copy() for name, values in self.params.items()}

    def each_params(self) -> list[Params]:
        """Return a copy of every gene's parameters."""
        return [self.params_of(gene) for gene in range(len(self.counts))]

    def chosen(
        self, genes: Sequence[int] | None, names: Mapping[str, Sequence[Any]] | None
    ) -> tuple[tuple[int, ...], Labels]:
        """Return the places of the genes wanted, all by default, and the names along the axes."""
        n_genes, n_spots, n_isos = self.counts.shape
        places = chosen_genes(genes, n_genes)
        shape = n_genes, n_spots, n_isos
        return places, Labels.of(names, places, shape, self.names, self.sigma.shape[1])
