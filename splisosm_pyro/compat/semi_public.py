"""What splisosm's pipeline asks of a model beyond its documented members."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from splisosm_pyro.maths.axes import covariate_names
from splisosm_pyro.model.base import BaseModel

# The pipeline writes these into the options that it hands to a model; they are the pipeline's own.
PIPELINE_KEYS = ("with_design_mtx", "from_null", "refit_null", "batch_size")


def own_configs(configs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of a fit without those of the pipeline.

    Examples
    --------
    >>> own_configs({"max_epochs": 500, "with_design_mtx": True})
    {'max_epochs': 500}
    """
    return {key: value for key, value in (configs or {}).items() if key not in PIPELINE_KEYS}


class SemiPublic(BaseModel):
    """A model whose design can be set, with ratios and curvature under splisosm's names."""

    @property
    def X_spot(self) -> Tensor:
        """The design (1, S, F), without intercept.

        A design that is set takes the place of the model's own, unchecked and without a word to
        ``n_factors`` or ``beta``; the pipeline sets ``beta`` next. An earlier fit is forgotten.
        """
        return self._like_parameters(self._there("X_spot").design[None])

    @X_spot.setter
    def X_spot(self, design: Tensor) -> None:
        columns = design.detach().reshape(design.shape[-2:]).to("cpu", torch.float64)
        names = tuple(covariate_names(columns))
        self._data = replace(self.data, design=columns, names=names)
        self._forget_fit()

    def _alpha(self) -> Tensor:
        """Isoform ratios (G, S, P) at the parameters."""
        ratio: Tensor = self.get_isoform_ratio()  # type: ignore[operator]  # of the classes
        return ratio

    def _get_log_lik_hessian_beta_bias(self) -> Tensor:
        """Hessian of ``log p(Y | eta)`` in the fixed effects at the parameters.

        Returns
        -------
        Tensor, shape (G, Q (F + 1), Q (F + 1))
            Place ``q (F + 1) + f`` is that of covariate f and logit q, f = F that of an intercept.
        """
        ratio, totals = self._alpha().double(), self.data.counts.totals
        design = self.data.design.to(ratio)
        rows = torch.cat([design, torch.ones_like(design[:, :1])], dim=1)  # (S, F+1)
        p = ratio[..., :-1]
        information = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]  # (G, S, Q, Q)
        weighted = totals.to(ratio)[..., None, None] * information
        hessian = -torch.einsum("sf,gsqr,sk->gqfrk", rows, weighted, rows)
        size = p.shape[-1] * rows.shape[1]
        return self._like_parameters(hessian.reshape(-1, size, size))
