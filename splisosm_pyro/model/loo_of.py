"""From a model to its leave-one-spot-out densities."""

from collections.abc import Mapping, Sequence
from typing import Any

from splisosm_pyro.fit.options import choose
from splisosm_pyro.model.as_arrays import ModelArrays
from splisosm_pyro.posterior.loo.gene import OUTER, GeneLoo, glm_loo, glmm_loo
from splisosm_pyro.posterior.loo.table import Loo, gather_loo


def loo_of(
    model: ModelArrays,
    genes: Sequence[int] | None,
    outer: str,
    names: Mapping[str, Sequence[Any]] | None,
) -> Loo:
    """Return the leave-one-out densities of a fitted model; see ``MultinomGLM.loo``."""
    places, labels = model.chosen(genes, names)
    choose("outer", outer, OUTER)
    spec = None if model.spec is None else model.spec.with_nugget()

    def of_gene(gene: int) -> GeneLoo:
        counts, status = model.counts[gene], model.fits[gene].status
        if status.startswith("failed"):
            raise ValueError(status.removeprefix("failed: "))
        if spec is None:
            return glm_loo(counts, model.design, outer=outer)
        return glmm_loo(spec, counts, model.params_of(gene), outer=outer)

    return gather_loo(of_gene, places, labels.gene, labels.spot)
