"""From a model to what the posterior floor asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from splisosm_pyro.fit.options import NUGGETS, SMOOTHS, choose
from splisosm_pyro.guides import GaussianFit
from splisosm_pyro.model.history import few_threads
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.outer import Fitted, OuterDensity, with_nugget
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.arguments import Labels, Request, chosen_genes
from splisosm_pyro.posterior.draws.gaussian_guide import gaussian_fit
from splisosm_pyro.posterior.draws.gene_draws import Density
from splisosm_pyro.posterior.draws.laplace_and_nested import outer_mode
from splisosm_pyro.posterior.run import glm_posterior, glmm_posterior

# A fit that ends so is near the mode of the posterior.
WHERE_THE_MODE_IS = ("converged", "boundary")


def posterior_of(
    model: Any,
    method: str,
    draws: int,
    chains: int,
    seed: int,
    genes: Sequence[int] | None,
    *,
    prior: PosteriorPriors | None,
    field: str,
    nugget: str,
    smooth: str | None,
    names: Mapping[str, Sequence[Any]] | None,
    warmup: int | None,
    predictive: bool,
) -> Any:
    """Return the posterior of a GLM or GLMM; see ``MultinomGLM.posterior``."""
    data = model.data
    places = chosen_genes(genes, model.n_genes)
    request = Request(method, draws, chains, seed, places, field, warmup, predictive)
    choose("nugget", nugget, NUGGETS)
    if smooth is not None:
        choose("smooth", smooth, SMOOTHS)
    counts, design = data.counts.values.numpy(), data.design.numpy()
    shape = (model.n_genes, model.n_spots, model.n_isos)
    if data.kernel is None:
        labels = Labels.of(names, places, shape, data.names, 0)
        return glm_posterior(counts, design, request, labels, PosteriorPriors.asked(prior))
    spec = with_nugget(model._spec(), model.n_isos, nugget, smooth)
    sigma = model._sigma_in_force().detach().to("cpu", torch.float64).numpy()
    labels = Labels.of(names, places, shape, data.names, sigma.shape[1])
    priors = PosteriorPriors.asked(prior, spec.priors).for_gene(spec.kernel, model.n_isos)
    with few_threads(model.n_spots):
        fitted = _fitted(model, places)
        return glmm_posterior(spec, counts, np.asarray(sigma), request, labels, priors, fitted)


def _fitted(model: Any, genes: Sequence[int]) -> dict[int, Fitted]:
    """Return what a marginal fit has found of the genes, nothing of those for which it failed."""
    if not model.fitting_method.startswith("marginal") or not model.status:
        return {}
    params = {g: model._params_of(g) for g in genes if model.status[g] in WHERE_THE_MODE_IS}
    return {
        gene: (np.vstack([own["beta"], own["bias_eta"]]), own["sigma"], own["theta_logit"])
        for gene, own in params.items()
    }


def gaussian_fits(
    model: Any,
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
    counts, design = model.data.counts.values.numpy(), model.data.design.numpy()
    full = np.column_stack([design, np.ones(len(design))])
    fits = []
    for gene in chosen_genes(genes, model.n_genes):
        density = _density_of(model, gene, prior, (nugget, smooth))
        mode = outer_mode(density, density.starts(counts[gene], design))
        fits.append(gaussian_fit(density, mode, full))
    return fits


def _density_of(
    model: Any, gene: int, prior: PosteriorPriors | None, treatment: tuple[str, str | None]
) -> Density:
    """Return the outer density of one gene of a model."""
    counts = model.data.counts.values.numpy()[gene]
    if model.data.kernel is None:
        return GLMDensity.of_gene(counts, model.data.design.numpy(), PosteriorPriors.asked(prior))
    spec = with_nugget(model._spec(), model.n_isos, *treatment)
    priors = PosteriorPriors.asked(prior, spec.priors).for_gene(spec.kernel, model.n_isos)
    sigma = np.asarray(model._sigma_in_force().detach().to("cpu", torch.float64).numpy())
    return OuterDensity.of_gene(spec, counts, priors, sigma[gene])
