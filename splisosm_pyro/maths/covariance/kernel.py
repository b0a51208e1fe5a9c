"""What the engine asks of a spatial correlation V; whoever consumes one does not know its form.

Every form splits ``V = V_smooth + residual I``. The residual is zero except for a low-rank form,
where it is the one eigenvalue of all directions that were left out; the engine counts it as nugget.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray


class Factor(Protocol):
    """The posterior of ``w ~ N(0, V_smooth x I_Q)`` given Gaussian information at occupied spots.

    With ``K = V_smooth^-1`` (a manner of speaking: V_smooth may be singular) and ``H = K x I_Q +
    blockdiag(G)``. A factor stays that of its G whatever its system factorises afterwards.
    """

    @property
    def log_det(self) -> float:
        """``log|H| - Q log|K| = log|I + V_smooth G|``."""
        ...

    def solve(self, b: FloatArray) -> FloatArray:
        """``H^-1 b`` at the occupied spots; b is (n, Q) or (n, Q, k), zero at the empty spots."""
        ...

    def blocks(self) -> FloatArray:
        """Return the diagonal Q x Q blocks of H^-1 at the occupied spots, (n, Q, Q)."""
        ...

    def all_blocks(self) -> FloatArray:
        """Return the diagonal Q x Q blocks of H^-1 at all spots, (S, Q, Q)."""
        ...

    @property
    def n_noise(self) -> int:
        """How many white-noise numbers one draw takes."""
        ...

    def sample(self, z: FloatArray) -> FloatArray:
        """Draws (n, Q, k) of N(0, H^-1) at the occupied spots, linear in white noise (n_noise, k).

        The layout of the noise is the form's own.
        """
        ...


class FieldSystem(Protocol):
    """A kernel seen at the occupied spots of one gene, ready to be factorised again and again."""

    def factorise(self, precision: FloatArray, /) -> Factor:
        """Factorise H for positive semi-definite blocks G of shape (n, Q, Q)."""
        ...


@runtime_checkable
class Kernel(Protocol):
    """A spatial correlation matrix V over S spots."""

    @property
    def n_spots(self) -> int:
        """S."""
        ...

    @property
    def residual(self) -> float:
        """The multiple of the identity in ``V = V_smooth + residual I``."""
        ...

    def dense(self) -> Tensor:
        """V whole, (S, S) float64."""
        ...

    def system(self, occupied: IndexArray, n_logits: int) -> FieldSystem:
        """Set up the linear algebra of Q independent fields with covariance V_smooth."""
        ...

    def smooth(self, alpha: FloatArray, occupied: IndexArray) -> FloatArray:
        """``V_smooth[:, occupied] @ alpha``, (S, Q), for alpha (n, Q)."""
        ...

    def log_det_terms(self, spatial: float, nugget: float) -> tuple[float, float, float]:
        """``log|spatial V + nugget I|`` and its derivatives in ``spatial`` and in ``nugget``."""
        ...

    def precision_quad(self, nu: FloatArray, spatial: FloatArray, nugget: FloatArray) -> FloatArray:
        """``nu_q' (spatial_q V + nugget_q I)^-1 nu_q``, (Q,), for nu (S, Q)."""
        ...

    def field_log_prob(self, nu: Tensor, spatial: Tensor, nugget: Tensor) -> Tensor:
        """``sum_q log N(nu_q; 0, spatial_q V + nugget_q I)``, ``(*,)``, differentiable."""
        ...

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws of ``N(0, V)``, ``(*shape, S)``."""
        ...
