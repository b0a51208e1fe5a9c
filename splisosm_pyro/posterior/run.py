"""The posterior of a batch of genes, gene by gene, as one container."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.result import failed
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.numeric.psis import Weights
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.posterior.arviz.container import to_container
from splisosm_pyro.posterior.arviz.groups import DrawStore, as_datasets
from splisosm_pyro.posterior.arviz.predictive_groups import PredictiveStore
from splisosm_pyro.posterior.density.gaussian_at_mode import OuterMode
from splisosm_pyro.posterior.density.glm import GLMDensity
from splisosm_pyro.posterior.density.outer import Fitted, OuterDensity
from splisosm_pyro.posterior.draws.arguments import Labels, Request
from splisosm_pyro.posterior.draws.from_prior import prior_draws
from splisosm_pyro.posterior.draws.gene_draws import Density, GeneDraws
from splisosm_pyro.posterior.draws.laplace_and_nested import laplace_draws, nested_draws, outer_mode
from splisosm_pyro.posterior.field.drawn_or_gaussian import in_logits
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.nuts.samplers import marginal_nuts_draws, nuts_of_gene

SAMPLERS: dict[str, Callable[[Density, OuterMode, FloatArray, Request, Noise], GeneDraws]] = {
    "laplace": lambda d, mode, x, request, noise: laplace_draws(d, mode, x, request.size, noise),
    "nested_laplace": lambda d, mode, x, request, noise: nested_draws(
        d, mode, x, request.size, noise
    ),
    "marginal_nuts": marginal_nuts_draws,
}
# What 'auto' tries, the cheapest first.
AUTO = ("laplace", "nested_laplace", "marginal_nuts")

DensityOf = Callable[[int], Density]


def glmm_posterior(
    spec: GLMMSpec,
    counts: FloatArray,  # (G, S, P)
    sigma: FloatArray,  # (G, C), where it stays if the model fixes it
    request: Request,
    labels: Labels,
    priors: Priors,
    fitted: Mapping[int, Fitted],
) -> Any:
    """Return the posterior of a GLMM; the marginal density has the nugget that ``spec`` says.

    ``fitted`` holds the parameters of the genes that a fit has brought near the mode.
    """

    def density(gene: int) -> Density:
        return OuterDensity.of_gene(spec, counts[gene], priors, sigma[gene], fitted.get(gene))

    how = {"nugget": spec.options.nugget, "smooth": spec.options.smooth}
    attrs = {"model": "MultinomGLMM", **how, **priors.attributes()}
    if spec.fix_sigma:
        del attrs[f"prior_{priors.sigma.variable}"]
        attrs["sigma"] = "fixed by the model"
    return _posterior(density, counts, spec.design, spec.kernel, request, labels, attrs)


def glm_posterior(
    counts: FloatArray,  # (G, S, P)
    design: StandardDesign,
    request: Request,
    labels: Labels,
    priors: Priors,
) -> Any:
    """Return the posterior of a GLM."""

    def density(gene: int) -> Density:
        return GLMDensity.of_gene(counts[gene], design, priors)

    named = {name: text for name, text in priors.attributes().items() if "_b" in name}
    attrs = {"model": "MultinomGLM", **named}
    return _posterior(density, counts, design, None, request, labels, attrs)


def _posterior(
    density_of: DensityOf,
    counts: FloatArray,
    design: StandardDesign,
    kernel: Kernel | None,
    request: Request,
    labels: Labels,
    attrs: dict[str, Any],
) -> Any:
    """Draw gene by gene; a gene that breaks is left NaN, and its status says why."""
    store, predictive = DrawStore(request, labels), PredictiveStore(request, labels)
    for place, gene in enumerate(request.genes):
        try:
            density = density_of(gene)
            draws, method, status = draw_gene(density, counts[gene], design, kernel, request)
            store.add(place, draws, density.space, method, counts[gene])
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            status = failed(str(error))
            store.clear(place)
        else:
            if request.predictive:
                status += predictive.add(
                    place, density, draws, counts[gene], design.with_intercept, kernel
                )
        store.words["status"][place] = status
    chosen = counts[list(request.genes)]
    groups = store.groups() | predictive.groups()
    groups["observed_data"] = {"counts": (("gene", "spot", "isoform"), chosen)}
    groups["constant_data"] = {
        "total": (("gene", "spot"), chosen.sum(-1)),
        "design": (("spot", "covariate"), design.given),
    }
    attrs = attrs | {"seed": request.seed, "method": request.method}
    return to_container(as_datasets(groups, labels, request, attrs))


@interrupts_heard()
def draw_gene(
    density: Density,
    counts: FloatArray,
    design: StandardDesign,
    kernel: Kernel | None,
    request: Request,
) -> tuple[GeneDraws, str, str]:
    """Return the draws, their field in logits, the method that made them, and the status."""
    turn = density.space.turn
    ordered = turn.counts(counts)
    noise = Noise.of_gene(request.seed, ordered)
    if not counts.any():
        draws = prior_draws(density, design.with_intercept, kernel, request.size, noise)
        return draws, "prior", "no counts"
    draws, method = _drawn(density, ordered, design, kernel, request, noise)
    draws = replace(draws, field=in_logits(draws.field, turn))
    words = draws.check.words()
    return draws, method, f"{words}: do not trust these draws" if words else "ok"


def _drawn(
    density: Density,
    counts: FloatArray,
    design: StandardDesign,
    kernel: Kernel | None,
    request: Request,
    noise: Noise,
) -> tuple[GeneDraws, str]:
    """Return the draws of the method asked for, or of the first that passes its own check."""
    if request.method == "nuts":
        return nuts_of_gene(density, kernel, design, counts, request, noise), "nuts"
    mode = outer_mode(density, density.starts())
    methods = AUTO if request.method == "auto" else (request.method,)
    for method in methods:
        noise = Noise.of_gene(request.seed, counts)  # as if this method had been asked for
        draws = SAMPLERS[method](density, mode, design.with_intercept, request, noise)
        if _enough(draws, method):
            break
    return draws, method


def _enough(draws: GeneDraws, method: str) -> bool:
    """Whether ``'auto'`` stops here: a Gaussian must have nearly equal weights."""
    if method == "laplace" and isinstance(draws.check, Weights):
        return draws.check.equal
    return draws.check.trusted
