"""The documented models of isoform usage."""

from splisosm_pyro.model.glm import MultinomGLM
from splisosm_pyro.model.glmm import MultinomGLMM

__all__ = ["MultinomGLM", "MultinomGLMM"]
