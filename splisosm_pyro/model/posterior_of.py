"""From a model to what the posterior floor asks for."""

from collections.abc import Sequence
from typing import Any

from splisosm_pyro.guides import GaussianFit
from splisosm_pyro.model.as_arrays import ModelArrays
from splisosm_pyro.model.base import BaseModel
from splisosm_pyro.model.densities import Densities
from splisosm_pyro.model.history import few_threads
from splisosm_pyro.posterior.density.outer import Fitted
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.arguments import Labels, Request, chosen_genes
from splisosm_pyro.posterior.draws.gaussian_guide import gaussian_fit
from splisosm_pyro.posterior.draws.laplace_and_nested import outer_mode
from splisosm_pyro.posterior.run import glm_posterior, glmm_posterior

# A fit that ends so is near the mode of the posterior.
WHERE_THE_MODE_IS = ("converged", "boundary")


def posterior_of(
    model: ModelArrays,
    request: Request,
    labels: Labels,
    prior: PosteriorPriors | None,
    nugget: str,
    smooth: str | None,
) -> Any:
    """Return the posterior of a GLM or GLMM; see ``MultinomGLM.posterior``."""
    own = Densities.of_model(model, prior, nugget, smooth)
    if own.spec is None:
        return glm_posterior(model.counts, model.design, request, labels, own.priors)
    with few_threads(model.counts.shape[1]):
        fitted = _fitted(model, request.genes)
        return glmm_posterior(
            own.spec, model.counts, own.sigma, request, labels, own.priors, fitted
        )


def _fitted(model: ModelArrays, genes: Sequence[int]) -> dict[int, Fitted]:
    """Return what a marginal fit has found of the genes, nothing of those for which it failed."""
    if model.spec is None or model.spec.joint or not model.fits:
        return {}
    params = {g: model.params_of(g) for g in genes if model.fits[g].status in WHERE_THE_MODE_IS}
    return {
        gene: (
            model.design.standard(own["beta"], own["bias_eta"]),
            own["sigma"],
            own["theta_logit"],
        )
        for gene, own in params.items()
    }


def gaussian_fits(
    model: BaseModel,
    genes: Sequence[int] | None = None,
    *,
    prior: PosteriorPriors | None = None,
    nugget: str = "quadrature",
    smooth: str | None = None,
) -> list[GaussianFit]:
    """Return the Gaussians at the modes of the genes' posteriors, for ``guides.laplace_guide``.

    Parameters
    ----------
    model : MultinomGLM or MultinomGLMM
        With data; it needs no fit.
    genes, prior, nugget, smooth
        As in ``MultinomGLM.posterior``.

    Returns
    -------
    list of GaussianFit
        One a gene.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal.
    """
    arrays = model.as_arrays()
    densities, fits = Densities.of_model(arrays, prior, nugget, smooth), []
    for gene in chosen_genes(genes, len(arrays.counts)):
        counts = arrays.counts[gene]
        density = densities.of_gene(counts, gene)
        mode = outer_mode(density, density.starts())
        fits.append(gaussian_fit(density, mode, arrays.design))
    return fits
