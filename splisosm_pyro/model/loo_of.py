"""From a model to the checks of the posterior floor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.glm.reduced_problem import DesignRows
from splisosm_pyro.fit.options import choose
from splisosm_pyro.posterior.arviz.diagnose import diagnose
from splisosm_pyro.posterior.draws.arguments import Labels, chosen_genes
from splisosm_pyro.posterior.loo.gene import OUTER, GeneLoo, glm_loo, glmm_loo
from splisosm_pyro.posterior.loo.table import Loo, gather_loo


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


def with_posterior(table: pd.DataFrame, posterior: Any) -> pd.DataFrame:
    """Join the posterior's own checks to a model's table of certificates.

    Parameters
    ----------
    table : DataFrame
        One row a gene, by place.
    posterior : InferenceData or DataTree
        Of all genes of the model, in order, or of some of them by place.

    Returns
    -------
    DataFrame
        The table and the columns of ``posterior.diagnose`` with the prefix ``posterior_``; rows of
        genes without draws are NaN there.

    Raises
    ------
    ValueError
        If the posterior is none, or its genes cannot be told: some only, and by name.
    """
    checks = diagnose(posterior).add_prefix("posterior_")
    places = checks.index
    by_place = pd.api.types.is_integer_dtype(places) and bool(np.isin(places, table.index).all())
    if not by_place:
        if len(checks) != len(table):
            raise ValueError(
                f"posterior must have the model's {len(table)} genes, or some of them by place, "
                f"came {len(checks)} genes: {', '.join(map(str, places[:3]))}"
                f"{', ...' if len(places) > 3 else ''}"
            )
        checks = checks.set_axis(table.index)
    return table.join(checks)
