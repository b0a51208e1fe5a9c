"""The classes that stand for splisosm's own under its pipeline."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from splisosm_pyro import model
from splisosm_pyro.compat.semi_public import SemiPublic, own_configs
from splisosm_pyro.fit.options import FitOptions, GLMMOptions, GLMOptions

START_THETA_LOGIT = -3.0


class GLMConfigs(GLMOptions):
    """Options of the GLM among those of the pipeline."""

    @classmethod
    def from_configs(cls, method: str, configs: Mapping[str, object] | None = None) -> Self:
        """Translate the documented arguments."""
        return super().from_configs(method, own_configs(configs))


class GLMMConfigs(GLMMOptions):
    """Options of the GLMM among those of the pipeline."""

    @classmethod
    def from_configs(cls, method: str, configs: Mapping[str, object] | None = None) -> Self:
        """Translate the documented arguments."""
        return super().from_configs(method, own_configs(configs))


class MultinomGLM(SemiPublic, model.MultinomGLM):
    """``splisosm_pyro.model.MultinomGLM`` with what the pipeline asks of it."""

    options_class: ClassVar[type[FitOptions]] = GLMConfigs


class MultinomGLMM(SemiPublic, model.MultinomGLMM):
    """``splisosm_pyro.model.MultinomGLMM`` with what the pipeline asks of it."""

    options_class: ClassVar[type[FitOptions]] = GLMMConfigs

    def _calc_log_prob_marginal(self) -> Tensor:
        """``log_marginal()`` at the parameters (G,), the field at its conditional mode."""
        return self.log_marginal()

    @classmethod
    def _after(cls, other: model.MultinomGLMM) -> Self:
        """Return a model of this class with another's data, options and parameters, unfitted."""
        made = other.clone()
        made.__class__ = cls
        made._forget_fit()
        return made  # type: ignore[return-value]  # its class was just set


class FullModel(MultinomGLMM):
    """The GLMM with a spatial field: ``IsoFullModel`` of splisosm."""

    @classmethod
    def from_trained_null_no_sp_var_model(cls, null_model: model.MultinomGLMM) -> Self:
        """Return the full model at a null model's parameters, theta at its start.

        sigma stays where the null model has it, and so does the way of fitting.
        """
        made = cls._after(null_model)
        with torch.no_grad():
            made.theta_logit.fill_(START_THETA_LOGIT)
        made.theta_logit.requires_grad_(True)
        return made


class NullModel(MultinomGLMM):
    """The GLMM without a spatial field, theta = 0: ``IsoNullNoSpVar`` of splisosm."""

    def setup_data(self, *args: Any, **kwargs: Any) -> None:
        """Take the data as ``MultinomGLMM.setup_data`` does; theta is 0 and stays there."""
        super().setup_data(*args, **kwargs)
        self._turn_off_spatial_variance()

    def _turn_off_spatial_variance(self) -> None:
        with torch.no_grad():
            self.theta_logit.fill_(-torch.inf)
        self.theta_logit.requires_grad_(False)

    @classmethod
    def from_trained_full_model(cls, full_model: model.MultinomGLMM) -> Self:
        """Return the null model at a full model's parameters."""
        made = cls._after(full_model)
        made._turn_off_spatial_variance()
        return made
