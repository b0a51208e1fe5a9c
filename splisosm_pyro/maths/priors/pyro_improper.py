"""Pyro distributions that state no prior at all, or one on a closed interval."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class ClosedUnitUniform(dist.Uniform):
    """Uniform on [0, 1] with both ends, so that theta = 0 and theta = 1 have density 1."""

    def __init__(self, batch_shape: Sequence[int] = ()) -> None:
        zero = torch.zeros(tuple(batch_shape), dtype=torch.float64)
        super().__init__(zero, torch.ones_like(zero))  # type: ignore[no-untyped-call]

    def expand(
        self, batch_shape: Sequence[int], _instance: TorchDistribution | None = None
    ) -> "ClosedUnitUniform":
        """Repeat along a larger batch."""
        return ClosedUnitUniform(batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 inside, minus infinity outside."""
        inside = (value >= 0) & (value <= 1)
        return torch.where(inside, 0.0, -torch.inf).to(value.dtype)


class Flat(dist.ImproperUniform):
    """No prior: log-probability 0 on the whole support.

    It cannot be drawn from. Where Pyro asks for a value nevertheless (to look at shapes, to start a
    search) it gets a fixed point: 0 on the real line, 1 on the positive half line.

    Examples
    --------
    >>> Flat(constraints.positive, (), (2,)).sample().tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        support: constraints.Constraint,
        batch_shape: Sequence[int],
        event_shape: Sequence[int],
    ) -> None:
        shapes = torch.Size(batch_shape), torch.Size(event_shape)
        super().__init__(support, *shapes)  # type: ignore[no-untyped-call]

    def expand(
        self, batch_shape: Sequence[int], _instance: TorchDistribution | None = None
    ) -> "Flat":
        """Repeat along a larger batch."""
        return Flat(self.support, batch_shape, self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Zero."""
        n_event = len(self.event_shape)
        batch = value.shape[: value.dim() - n_event]
        return value.new_zeros(torch.broadcast_shapes(batch, self.batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return the fixed point; not a draw."""
        shape = self._extended_shape(torch.Size(sample_shape))
        zeros = torch.zeros(shape, dtype=torch.float64)
        point: Tensor = torch.distributions.transform_to(self.support)(zeros)
        return point
