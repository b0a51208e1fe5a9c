"""Where splisosm 1.2.0 and this package agree and differ, measured on small simulated genes.

python tests/benchmarks/differences.py    # five minutes; needs the extra 'bench'

Prints the rows of the table in docs/from_splisosm.md. Objectives are ours, in double precision, at
either program's final parameters; V is the same matrix.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from splisosm_pyro import MultinomGLM, MultinomGLMM, simulate_tissue
from splisosm_pyro.simulate import Tissue
from splisosm_pyro.utils import get_cov_sp

Row = tuple[str, str]
SIGMA, THETA = 1.0, 0.6


def tissue_of(depth: float, n_genes: int = 20, seed: int = 0) -> Tissue:
    """Genes of three isoforms on 100 spots, sigma 1, theta 0.6."""
    return simulate_tissue(
        n_spots=100,
        n_genes=n_genes,
        n_isos=3,
        n_layers=2,
        depth=depth,
        sigma=SIGMA,
        theta=THETA,
        seed=seed,
    )


def theirs(tissue: Tissue, kind: str = "MultinomGLMM", *, fit: bool = True, **options: Any) -> Any:
    """Set the reference implementation up in single precision, and fit it."""
    model = getattr(importlib.import_module("splisosm.glmm"), kind)(**options)
    spatial = {"corr_sp": tissue.kernel.dense().float()} if kind == "MultinomGLMM" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # size, floor of the variance, epochs
        model.setup_data(tissue.counts.float(), design_mtx=tissue.design.float(), **spatial)
        if fit:
            model.fit(quiet=True)
    return model


def ours(tissue: Tissue, **options: Any) -> MultinomGLMM:
    """Set our GLMM up and fit it."""
    model = MultinomGLMM(**options)
    model.setup_data(tissue.counts, corr_sp=tissue.kernel, design_mtx=tissue.design)
    model.fit(quiet=True)
    return model


def objective_at(model: MultinomGLM, other: Any) -> torch.Tensor:  # (G,)
    """Return our objective at the other's parameters."""
    at, values = model.clone(), dict(other.named_parameters())
    given = {name: values[name].detach().double() for name, _ in at.named_parameters()}
    if "sigma" in given:
        given["sigma"] = given["sigma"].abs()
    at.update_params_from_dict(given)
    return at().detach()


def span(values: Any, digits: int = 1) -> str:
    """Smallest and largest of some numbers."""
    array = np.asarray(values, dtype=float)
    return f"{array.min():.{digits}f} to {array.max():.{digits}f}"


def raises(call: Callable[[], Any]) -> str:
    """Name the error of a call, or say that there is none."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "accepted"


def agreement() -> Iterator[Row]:
    """Compare the GLM, and the joint density at given parameters."""
    tissue = tissue_of(4.0)
    other = theirs(tissue, "MultinomGLM", fitting_method="iwls")
    glm = MultinomGLM()
    glm.setup_data(tissue.counts, design_mtx=tissue.design)
    glm.fit(quiet=True)
    gap = (glm() - objective_at(glm, other)).abs().max().item()
    yield "GLM by `iwls`: largest difference of the log-likelihood, nats", f"{gap:.1e}"
    other = theirs(tissue, fit=False, var_fix_sigma=False)
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(tissue.counts, corr_sp=tissue.kernel, design_mtx=tissue.design)
    generator = torch.Generator().manual_seed(0)
    values = {
        name: 0.4 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in model.named_parameters()
    } | {"sigma": torch.full((20, 1), 0.8, dtype=torch.float64)}
    model.update_params_from_dict(values)
    other.update_params_from_dict({name: value.float() for name, value in values.items()})
    relative = ((other().detach() - model()) / model()).abs().max().item()
    yield "`log_joint` at given parameters: largest relative difference", f"{relative:.1e}"


def joint_newton() -> Iterator[Row]:
    """Compare the ends of joint_newton."""
    tissue, options = tissue_of(4.0), {"fitting_method": "joint_newton", "var_fix_sigma": False}
    other, model = theirs(tissue, **options), ours(tissue, **options)
    gaps = model().detach() - objective_at(model, other)
    epochs = len(other.logger.loss_history) if hasattr(other.logger, "loss_history") else 0
    yield "`joint_newton`: epochs of theirs", str(epochs)
    yield "`joint_newton`: theirs below ours, nats of `log_joint`", span(gaps)


def marginal() -> Iterator[Row]:
    """Compare sigma and the objective of marginal_newton."""
    options = {"fitting_method": "marginal_newton", "var_fix_sigma": False}
    for depth in (1.0, 4.0):
        tissue = tissue_of(depth, n_genes=3)
        other, model = theirs(tissue, **options), ours(tissue, **options)
        gaps = model().detach() - objective_at(model, other)
        head = f"`marginal_newton` at {depth:g} reads a spot"
        yield f"{head}: theirs below ours, nats of `log_marginal`", span(gaps)
        yield f"{head}: `sigma` of theirs (truth 1)", span(other.sigma.detach().abs(), 2)
        yield f"{head}: `sigma` of ours", span(model.sigma.detach(), 2)


def start() -> Iterator[Row]:
    """Compare where a fit starts, and the covariance of coordinates."""
    tissue = tissue_of(4.0)
    other = theirs(tissue, fit=False).sigma.detach()
    model = MultinomGLMM()
    model.setup_data(tissue.counts, corr_sp=tissue.kernel, design_mtx=tissue.design)
    gap = (other - model.sigma.detach()).abs().max().item()
    yield "`sigma` at the start: largest difference", f"{gap:.1e}"
    coords = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    module = importlib.import_module("splisosm.utils")
    gap = (module.get_cov_sp(coords, k=4, rho=0.9) - get_cov_sp(coords, k=4, rho=0.9)).abs().max()
    yield "`get_cov_sp` at random coordinates: largest difference", f"{gap.item():.1e}"


def batch() -> Iterator[Row]:
    """Fit a gene alone and among others, both by 30 epochs of marginal_newton."""
    tissue = tissue_of(4.0, n_genes=4)
    alone = replace(tissue, counts=tissue.counts[:1])
    options = {
        "fitting_method": "marginal_newton",
        "var_fix_sigma": False,
        "fitting_configs": {"max_epochs": 30},
    }
    for name, fit in (("theirs", theirs), ("ours", ours)):
        among, single = fit(tissue, **options), fit(alone, **options)
        change = (among().detach()[0] - single().detach()[0]).abs().item()
        yield (
            f"a gene among 4 against alone, {name}: change of its objective, nats",
            f"{change:.1e}",
        )


def theta_of_epochs() -> Iterator[Row]:
    """Give the default fit more epochs."""
    tissue = tissue_of(4.0, n_genes=3)
    for epochs in (1_000, 10_000):
        configs = {"max_epochs": epochs, "tol": 1e-30, "patience": epochs}
        model = theirs(tissue, fitting_configs=configs)
        value = model.var_sp_prop().detach().mean().item()
        yield f"default fit, `theta` of theirs after {epochs:,} epochs (truth 0.6)", f"{value:.4f}"


def signs() -> Iterator[Row]:
    """Count negative sigmas of fits with free sigma."""
    tissue = tissue_of(1.0, n_genes=20)
    model = theirs(tissue, var_fix_sigma=False)
    negative = int((model.sigma.detach() < 0).sum())
    yield "free `sigma`, default method: negative ones of theirs", f"{negative} of 20"


def interface() -> Iterator[Row]:
    """Try what should be refused or accepted."""
    module = importlib.import_module("splisosm.glmm")
    tissue = tissue_of(2.0, n_genes=1)
    typo = {"fitting_configs": {"max_epoch": 3}}
    for name, cls in (("theirs", module.MultinomGLMM), ("ours", MultinomGLMM)):
        yield f"misspelt key of `fitting_configs`, {name}", raises(lambda cls=cls: cls(**typo))
    lbfgs = {"fitting_configs": {"optim": "lbfgs", "max_epochs": 5}}
    yield "`optim='lbfgs'` in the GLMM, theirs", raises(lambda: theirs(tissue, **lbfgs))

    def double() -> None:
        model = module.MultinomGLMM()
        model.setup_data(tissue.counts.double(), corr_sp=tissue.kernel.dense())
        model.fit(quiet=True)

    yield "float64 counts, theirs", raises(double)
    params = module.MultinomGLMM(var_prior_model="inv_gamma").var_prior_model_params
    yield "default of the inverse gamma prior, theirs", str(params)
    own = MultinomGLMM(var_prior_model="inv_gamma").var_prior_model_params
    yield "default of the inverse gamma prior, ours", str(own)


def main() -> None:
    """Print all rows."""
    print("| what | measured |\n|---|---|")
    parts = (agreement, start, joint_newton, marginal, batch, theta_of_epochs, signs, interface)
    for part in parts:
        for what, measured in part():
            print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
