"""From a model to the checks of the posterior floor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm_rows import DesignRows
from splisosm_pyro.fit.options import choose
from splisosm_pyro.posterior.loo import OUTER, GeneLoo, glm_loo, glmm_loo
from splisosm_pyro.posterior.loo_table import Loo, gather_loo
from splisosm_pyro.posterior.request import Labels, chosen_genes


def loo_of(
    model: Any,
    genes: Sequence[int] | None,
    outer: str,
    names: Mapping[str, Sequence[Any]] | None,
) -> Loo:
    """Return the leave-one-out densities of a fitted model; see ``MultinomGLM.loo``."""
    data, places = model.data, chosen_genes(genes, model.n_genes)
    choose("outer", outer, OUTER)
    fits = model._fitted()
    shape = (model.n_genes, model.n_spots, model.n_isos)
    labels = Labels.of(names, places, shape, data.names, 1)
    counts, design = data.counts.values.numpy(), data.design.numpy()
    rows = DesignRows.from_design(design)
    spec = None if data.kernel is None else model._marginal_spec(None)

    def of_gene(gene: int) -> GeneLoo:
        if fits[gene].status.startswith("failed"):
            raise ValueError(fits[gene].status.removeprefix("failed: "))
        if spec is None:
            return glm_loo(counts[gene], rows, design, outer=outer)
        params = model._params_of(gene)
        params["sigma"] = np.maximum(params["sigma"], model._spec().sigma_floor)
        return glmm_loo(spec, rows, counts[gene], params, outer=outer)

    return gather_loo(of_gene, places, labels.gene, labels.spot)
