"""Our classes under splisosm's own pipeline, ``SplisosmGLMM`` of splisosm 1.2.

``install()`` puts them there and ``uninstall()`` takes them away again;
``with installed(): ...`` does both.

Examples
--------
>>> from splisosm_pyro import compat
>>> compat.install()  # doctest: +SKIP
>>> from splisosm import SplisosmGLMM  # doctest: +SKIP
>>> model = SplisosmGLMM(fitting_method="marginal_newton")  # doctest: +SKIP
"""

from splisosm_pyro.compat.classes import FullModel, MultinomGLM, MultinomGLMM, NullModel
from splisosm_pyro.compat.place import install, installed, is_installed, uninstall

__all__ = [
    "FullModel",
    "MultinomGLM",
    "MultinomGLMM",
    "NullModel",
    "install",
    "installed",
    "is_installed",
    "uninstall",
]
