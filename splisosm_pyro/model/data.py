"""What a model is given, checked once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.maths.axes import Counts


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
    """

    counts: Counts
    design: Tensor
    names: tuple[str, ...] = ()
    kernel: Any = None

    @cached_property
    def standard(self) -> StandardDesign:
        """The design as the solvers take it."""
        return StandardDesign.of(self.design.numpy())
