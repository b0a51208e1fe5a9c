"""Isoform usage over a tissue: multinomial GLM and spatial GLMM as Pyro programs with fast fits.

The public names are imported when they are first used, so that ``import splisosm_pyro`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from splisosm_pyro.collapsed import CollapsedCounts
    from splisosm_pyro.genes.result.gene_fits import GeneFits
    from splisosm_pyro.genes.run.fit_genes import fit_genes
    from splisosm_pyro.maths.covariance.as_kernel import DenseKernel, LowRankKernel
    from splisosm_pyro.maths.covariance.car import CARKernel
    from splisosm_pyro.maths.priors.all_parameters import ModelPriors
    from splisosm_pyro.model import MultinomGLM, MultinomGLMM
    from splisosm_pyro.simulate import simulate_tissue
    from splisosm_pyro.utils import get_cov_sp

__version__ = "0.1.0"

__all__ = [
    "CARKernel",
    "CollapsedCounts",
    "DenseKernel",
    "GeneFits",
    "LowRankKernel",
    "ModelPriors",
    "MultinomGLM",
    "MultinomGLMM",
    "fit_genes",
    "get_cov_sp",
    "simulate_tissue",
]

_HOME = {
    "CARKernel": "splisosm_pyro.maths.covariance.car",
    "CollapsedCounts": "splisosm_pyro.collapsed",
    "DenseKernel": "splisosm_pyro.maths.covariance.as_kernel",
    "GeneFits": "splisosm_pyro.genes.result.gene_fits",
    "LowRankKernel": "splisosm_pyro.maths.covariance.as_kernel",
    "ModelPriors": "splisosm_pyro.maths.priors.all_parameters",
    "MultinomGLM": "splisosm_pyro.model",
    "MultinomGLMM": "splisosm_pyro.model",
    "fit_genes": "splisosm_pyro.genes.run.fit_genes",
    "get_cov_sp": "splisosm_pyro.utils",
    "simulate_tissue": "splisosm_pyro.simulate",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home, once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
