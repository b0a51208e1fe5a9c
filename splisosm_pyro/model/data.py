"""What a model is given, checked once, and how it is read."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.options import boolean
from splisosm_pyro.maths.axes import (
    Counts,
    DesignLike,
    SplisosmWarning,
    covariate_names,
    design_with_dependent,
    refuse_dependent,
)
from splisosm_pyro.model.history import FitLog


@dataclass(frozen=True, eq=False)
class ModelData:
    """What ``setup_data`` checked and keeps, float64 on the CPU; never changed afterwards.

    Attributes
    ----------
    counts : Counts
        Axes (G, S, P).
    design : Tensor, shape (S, F)
        Covariates without intercept.
    names : tuple of str
        Names of the covariates.
    kernel : object
        The spatial covariance, where the model has one.
    dtype : torch.dtype
        Of parameters and outputs.
    left_out : tuple of int
        Covariates that others and the intercept determine: beta is 0.
    """

    counts: Counts
    design: Tensor
    names: tuple[str, ...] = ()
    kernel: Any = None
    dtype: torch.dtype = torch.float64
    left_out: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        counts: Counts,
        design_mtx: DesignLike | None,
        kernel: Any = None,
        *,
        strict: bool = False,
    ) -> "ModelData":
        """Check the design and put all together; a warning says which columns are left out."""
        names, n_spots = tuple(covariate_names(design_mtx)), counts.n_spots
        design, dependent = design_with_dependent(design_mtx, n_spots)
        if boolean("strict", strict):
            refuse_dependent(dependent, names)
        dtype = output_dtype(counts, design_mtx)
        left_out = tuple(sorted(one.column for one in dependent))
        made = cls(counts, design, names, kernel, dtype, left_out)
        if dependent:
            said = ", ".join(one.in_words(names) for one in dependent)
            warnings.warn(
                "design_mtx has no coefficient of its own for every column, since the model has an "
                f"intercept: {said}; left out of the fit, beta stays 0 there and the others are "
                "those without it (strict=True refuses)",
                SplisosmWarning,
                stacklevel=4,
            )
        return made

    @cached_property
    def standard(self) -> StandardDesign:
        """The design as the solvers take it, 0 where a column is left out."""
        design = self.design.numpy().copy()
        design[:, self.left_out] = 0.0
        return StandardDesign.of(design)

    def standard_where(self, held: frozenset[str]) -> StandardDesign:
        """Return the design as the solvers take it where some coefficients are held.

        Of centred columns an intercept that is held would move with their coefficients.
        """
        alone = "bias_eta" in held and "beta" not in held
        return self.standard.about_origin() if alone else self.standard


def output_dtype(counts: Counts, design_mtx: DesignLike | None) -> torch.dtype:
    """Return the dtype of parameters and outputs.

    That of the counts where it is floating, else that of the design, else torch's default.
    """
    if counts.dtype is not None:
        return counts.dtype
    if isinstance(design_mtx, pd.DataFrame):
        return torch.float64
    if isinstance(design_mtx, np.ndarray) and design_mtx.dtype.kind == "f":
        return torch.float32 if design_mtx.dtype.itemsize == 4 else torch.float64
    if isinstance(design_mtx, Tensor) and design_mtx.dtype.is_floating_point:
        return design_mtx.dtype
    return torch.get_default_dtype()


class WithBuffers(nn.Module):
    """What is read of a model beside its parameters; made when asked for, none of it is set.

    All of it has the parameters' device and, where it is floating, their dtype; an AttributeError
    before ``setup_data``.
    """

    _data: ModelData | None
    logger: FitLog | None

    @property
    def device(self) -> torch.device:
        """Where parameters and outputs live; the CPU before ``setup_data``."""
        return next((value.device for value in self.parameters()), torch.device("cpu"))

    @property
    def counts(self) -> Tensor:
        """The counts (G, S, P)."""
        return self._like_parameters(self._there("counts").counts.values)

    @property
    def X_spot(self) -> Tensor:
        """The design (1, S, F), without intercept."""
        return self._like_parameters(self._there("X_spot").design[None])

    @property
    def corr_sp(self) -> Tensor:
        """The spatial covariance (S, S) as a matrix, in whichever form it was given."""
        return self._like_parameters(self._kernel("corr_sp").dense())

    @property
    def corr_sp_eigvals(self) -> Tensor:
        """Eigenvalues of the spatial covariance (R,), as given, else ascending at a cost of S^3."""
        return self._eigenpairs("corr_sp_eigvals")[0]

    @property
    def corr_sp_eigvecs(self) -> Tensor:
        """Its eigenvectors (S, R)."""
        return self._eigenpairs("corr_sp_eigvecs")[1]

    @property
    def convergence(self) -> Tensor:
        """Whether each gene's last fit ended at an optimum or a named boundary, (G,) of bool."""
        if self.logger is not None:
            return self.logger.convergence
        return torch.zeros(len(self._there("convergence").counts.values), dtype=torch.bool)

    @property
    def best_params(self) -> dict[str, Tensor]:
        """Copies of the parameters, which after a fit are the best that it saw."""
        return {name: value.detach().clone() for name, value in self.named_parameters()}

    def _there(self, name: str) -> ModelData:
        if self._data is None:
            raise AttributeError(name)
        return self._data

    def _kernel(self, name: str) -> Any:
        kernel = self._there(name).kernel
        if kernel is None:
            raise AttributeError(name)
        return kernel

    def _eigenpairs(self, name: str) -> tuple[Tensor, Tensor]:
        kernel = self._kernel(name)
        if hasattr(kernel, "spectrum"):
            pairs = (
                torch.from_numpy(p) for p in (kernel.spectrum.eigvals, kernel.spectrum.eigvecs)
            )
        else:
            pairs = iter(torch.linalg.eigh(kernel.dense()))
        values, vectors = map(self._like_parameters, pairs)
        return values, vectors

    def _like_parameters(self, values: Tensor) -> Tensor:
        return values.to(next(self.parameters()), copy=True)


def checked_parameter(name: str, value: Any, own: Mapping[str, nn.Parameter]) -> Tensor:
    """Check one new parameter value against the parameter of that name."""
    if name not in own:
        valid = ", ".join(repr(n) for n in own)
        raise ValueError(f"params has {name!r}, but the model's parameters are {valid}")
    try:
        writable = value.copy() if isinstance(value, np.ndarray) else value  # torch warns if not
        new = torch.as_tensor(writable).detach().to(own[name])
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"params[{name!r}] must be a numeric tensor or array: {error}") from error
    if new.shape != own[name].shape:
        raise ValueError(
            f"params[{name!r}] must have shape {tuple(own[name].shape)}, came {tuple(new.shape)}"
        )
    legal = torch.isfinite(new)
    if name == "theta_logit":
        legal |= new == -torch.inf  # theta = 0
    if not bool(legal.all()):
        raise ValueError(f"params[{name!r}] must be finite in {own[name].dtype}")
    return new
