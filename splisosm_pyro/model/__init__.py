"""The documented models of isoform usage."""

from splisosm_pyro.model.glm import MultinomGLM
from splisosm_pyro.model.glmm import MultinomGLMM
from splisosm_pyro.model.posterior_of import gaussian_fits

__all__ = ["MultinomGLM", "MultinomGLMM", "gaussian_fits"]
