"""Both programs behind one call, and the one objective that judges where they end."""

import importlib
import importlib.util
import warnings
from collections import Counter
from typing import Any

from slides import Slide
from torch import Tensor

from splisosm_pyro import MultinomGLM, MultinomGLMM

HAVE_OTHER = importlib.util.find_spec("splisosm") is not None
Options = dict[str, Any]
MARGINAL: Options = {"var_fix_sigma": False, "fitting_method": "marginal_newton"}
JOINT: Options = {"var_fix_sigma": True, "fitting_method": "joint_gd"}


def glmm(slide: Slide, options: Options, *, fit: bool = True) -> MultinomGLMM:
    """Set our GLMM up with the kernel object, and fit it."""
    model = MultinomGLMM(**options)
    model.setup_data(slide.counts, corr_sp=slide.kernel)
    if fit:
        model.fit(quiet=True)
    return model


def glm(slide: Slide) -> MultinomGLM:
    """Set our GLM up and fit it by its default, iwls."""
    model = MultinomGLM()
    model.setup_data(slide.counts, design_mtx=slide.design)
    model.fit(quiet=True)
    return model


class Other:
    """The reference implementation, in the single precision that it needs.

    The dense covariance is made before the clock starts.
    """

    def __init__(self, slide: Slide, *, spatial: bool) -> None:
        self.module = importlib.import_module("splisosm.glmm")
        self.counts = slide.counts.float()
        self.design = None if slide.design is None else slide.design.float()
        self.cov = slide.kernel.dense().float() if spatial else None

    def glmm(self, options: Options) -> Any:
        """Set up and fit its GLMM at its defaults but for ``options``."""
        return self._fitted(self.module.MultinomGLMM(**options), corr_sp=self.cov)

    def glm(self) -> Any:
        """Set up and fit its GLM by iwls."""
        model = self.module.MultinomGLM(fitting_method="iwls")
        return self._fitted(model, design_mtx=self.design)

    def _fitted(self, model: Any, **data: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size, floor of the variance, epochs
            model.setup_data(self.counts, **data)
            model.fit(quiet=True)
        return model


def objective_at(ours: MultinomGLM, other: Any) -> Tensor:
    """Our objective, all constants included, at the other's final parameters, (G,)."""
    at = ours.clone()
    theirs = {name: value.detach().double() for name, value in other.named_parameters()}
    if "sigma" in theirs:
        theirs["sigma"] = theirs["sigma"].abs()
    at.update_params_from_dict({name: theirs[name] for name, _ in at.named_parameters()})
    return at.forward().detach()


def certificates(model: MultinomGLM) -> str:
    """How the fits of a model ended, in words."""
    kinds = Counter("failed" if s.startswith("failed") else s for s in model.status)
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
