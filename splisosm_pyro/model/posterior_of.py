"""From a model to what the posterior floor asks for."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
    nugget: str = "quadrature",
    smooth: str | None = None,
) -> Any:
    """Return the posterior of a GLM or GLMM; see their ``posterior``."""
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


def posterior_with_field(
    self: BaseModel,
    method: Literal["auto", "laplace", "nested_laplace", "marginal_nuts", "nuts"] = "auto",
    draws: int = 1000,
    chains: int = 4,
    seed: int = 0,
    genes: Sequence[int] | None = None,
    *,
    prior: PosteriorPriors | None = None,
    field: Literal["auto", "draws", "quantiles"] = "auto",
    nugget: Literal["quadrature", "laplace"] = "quadrature",
    smooth: Literal["ep", "laplace"] | None = None,
    names: Mapping[str, Sequence[Any]] | None = None,
    warmup: int | None = None,
    predictive: bool = False,
) -> Any:
    """Draw from the posterior of every gene; it needs no fit and leaves the model as it is.

    After a marginal fit the mode is looked for from there.

    Parameters
    ----------
    method : {'auto', 'laplace', 'nested_laplace', 'marginal_nuts', 'nuts'}
        ``'laplace'``: a Gaussian at the mode of the outer parameters (``log sigma``,
        ``theta_logit``, ``beta``, ``bias_eta``), the field given them at that mode to first
        order. ``'nested_laplace'``: weighted points of the outer posterior, the field at each
        point's own mode. ``'marginal_nuts'``: Pyro's NUTS over the outer parameters, the field
        drawn given each draw. ``'nuts'``: Pyro's NUTS over the whole program, the reference for
        the others on some hundred spots at most. ``'auto'``: the first of the first three that
        passes its own check.
    draws, chains : int
        Draws of a chain, number of chains; without NUTS all draws are independent.
    seed : int
        A gene's draws depend on the seed and its own counts, not on the batch.
    genes : sequence of int, optional
        Places of the genes wanted, all by default.
    prior : PosteriorPriors, optional
        Default: those of the model, and where it has none Normal(0, 10) for the effect of one
        standard deviation of a covariate (of the step between its two values, such as 0 and 1)
        and for the intercept at the covariates' means, Gamma(2, rate 0.3) for sigma, Uniform(0,
        1) for theta. A sigma that the model fixes stays.
    field : {'auto', 'draws', 'quantiles'}
        Keep ``eta`` and ``isoform_ratio`` draw by draw, or their mean, sd and quantiles in the
        group ``posterior_quantiles``; ``'auto'`` keeps draws up to 256 MB.
    nugget : {'quadrature', 'laplace'}
        How the white part of the field is integrated out of the outer posterior.
    smooth : {'ep', 'laplace'}, optional
        How the smooth part is: by expectation propagation, the default with ``'quadrature'``
        for up to three isoforms and nearly exact, or by Laplace's method, which is off where
        counts are few. The attributes say which.
    names : mapping, optional
        Names of ``'gene'`` (G), ``'spot'`` (S) and ``'isoform'`` (P); places by default.
    warmup : int, optional
        Transitions of a chain of NUTS before its draws; 250 over the outer parameters, 600 over
        the whole program by default.
    predictive : bool
        Add the groups ``posterior_predictive``, ``prior`` and ``prior_predictive``: counts with
        every spot's own total (rounded where it is a fraction, as ``status`` then says), and
        parameters from the prior. Of their draws as many are kept, evenly spaced, as fit in
        256 MB together.

    Returns
    -------
    InferenceData or DataTree
        As the installed ArviZ has it, with groups ``posterior``, ``sample_stats`` (``method``,
        ``status``, ``khat`` or ``r_hat`` by gene; what NUTS says of every draw), ``log_prior``,
        ``log_likelihood`` (summed over spots; those of every spot given its ``eta`` in
        ``log_likelihood_given_field`` where the draws of the field are kept),
        ``observed_data``, ``constant_data``. A gene that breaks is NaN and has the status
        ``'failed: ...'``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal or the model has no data.

    Examples
    --------
    >>> import warnings
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, seed=0)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", FutureWarning)
    ...     posterior = model.posterior("laplace", draws=500)
    >>> dict(posterior["posterior"].sizes)["draw"]
    500
    """
    model = self.as_arrays()
    places, labels = model.chosen(genes, names)
    request = Request(method, draws, chains, seed, places, field, warmup, predictive)
    return posterior_of(model, request, labels, prior, nugget, smooth)


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
        As in ``MultinomGLMM.posterior``.

    Returns
    -------
    list of GaussianFit
        One a gene.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal.

    Examples
    --------
    >>> import torch
    >>> from splisosm_pyro import MultinomGLM
    >>> model = MultinomGLM()
    >>> model.setup_data(torch.tensor([[30, 10], [10, 30], [0, 0], [20, 20]]))
    >>> len(gaussian_fits(model))
    1
    """
    arrays = model.as_arrays()
    densities, fits = Densities.of_model(arrays, prior, nugget, smooth), []
    for gene in chosen_genes(genes, len(arrays.counts)):
        counts = arrays.counts[gene]
        density = densities.of_gene(counts, gene)
        mode = outer_mode(density, density.starts())
        fits.append(gaussian_fit(density, mode, arrays.design))
    return fits
