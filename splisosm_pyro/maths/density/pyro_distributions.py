"""Pyro distributions of the model; their ``log_prob`` is the arithmetic of this floor."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from splisosm_pyro.maths.coding import drawn_field
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.density.joint import field_log_prob
from splisosm_pyro.maths.density.likelihood import log_lik, log_ratio


class MultinomialLogits(TorchDistribution):
    """Multinomial counts at S spots, given each spot's own total and logits.

    Parameters
    ----------
    eta : Tensor, shape (*, S, Q)
        Logits relative to the last isoform.
    totals : Tensor, shape (*, S)
        Totals; 0 is legal. Fractional totals have a log-probability but no draws.

    Examples
    --------
    >>> counts = MultinomialLogits(torch.zeros(2, 1), torch.tensor([3.0, 0.0]))
    >>> round(counts.log_prob(torch.tensor([[2.0, 1.0], [0.0, 0.0]])).item(), 6)
    -0.980829
    """

    arg_constraints: ClassVar = {"eta": constraints.independent(constraints.real, 2)}
    support = constraints.independent(constraints.nonnegative, 2)

    def __init__(self, eta: Tensor, totals: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(eta.shape[:-2], totals.shape[:-1])
        n_spots, n_logits = eta.shape[-2:]
        self.eta = eta.expand(*batch, n_spots, n_logits)
        self.totals = totals.expand(*batch, n_spots)
        super().__init__(batch, torch.Size((n_spots, n_logits + 1)), validate_args=validate_args)

    def expand(
        self, batch_shape: Sequence[int], _instance: TorchDistribution | None = None
    ) -> "MultinomialLogits":
        """Repeat along a larger batch."""
        batch = torch.Size(batch_shape)
        eta = self.eta.expand(*batch, *self.eta.shape[-2:])
        totals = self.totals.expand(*batch, self.totals.shape[-1])
        return MultinomialLogits(eta, totals, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """``log_lik``, with the multinomial coefficient; counts must sum to the totals."""
        if self._validate_args and not torch.allclose(value.sum(-1), self.totals.to(value.dtype)):
            raise ValueError("counts must sum to the totals at every spot")
        return log_lik(self.eta, value)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw isoform by isoform from the binomial of what is left of the total."""
        if bool((self.totals != self.totals.round()).any()):
            raise ValueError("totals must be whole numbers to draw counts from, came fractions")
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            log_ratios = log_ratio(self.eta).expand(shape)
            left = self.totals.to(log_ratios.dtype).expand(shape[:-1]).clone()
            # log of the share of isoforms p, p+1, ...: what isoform p's binomial is out of
            log_tail = log_ratios.flip(-1).logcumsumexp(-1).flip(-1)
            chances = torch.exp(log_ratios - log_tail).clamp(0.0, 1.0)
            draws = []
            for p in range(shape[-1] - 1):
                draws.append(torch.binomial(left, chances[..., p].contiguous()))
                left = left - draws[-1]
            return torch.stack([*draws, left], dim=-1)


class SpatialField(TorchDistribution):
    """The fields of Q logits over S spots, ``nu_q ~ N(0, spatial_q V + nugget_q I)``.

    Independent, or under symmetric coding as if every isoform had its own (``maths/coding.py``).

    Parameters
    ----------
    kernel : Kernel
        V.
    spatial, nugget : Tensor, shape (*, Q)
        Variances of the spatial part and of the white-noise part.
    coding : {'reference', 'symmetric'}

    Notes
    -----
    ``rsample`` draws ``sqrt(spatial) w + sqrt(nugget) e`` from torch's global generator, as every
    Pyro distribution does (seed it by ``pyro.set_rng_seed``); gradients flow to both variances.

    Examples
    --------
    >>> from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
    >>> one = torch.ones(2, dtype=torch.float64)
    >>> field = SpatialField(DenseKernel(torch.eye(3)), one, one)
    >>> round(field.log_prob(torch.zeros(3, 2, dtype=torch.float64)).item(), 6)
    -7.593073
    """

    arg_constraints: ClassVar = {
        "spatial": constraints.independent(constraints.nonnegative, 1),
        "nugget": constraints.independent(constraints.nonnegative, 1),
    }
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        kernel: Kernel,
        spatial: Tensor,
        nugget: Tensor,
        coding: str = "reference",
        validate_args: bool | None = None,
    ) -> None:
        self.kernel, self.coding = kernel, coding
        self.spatial: Tensor
        self.nugget: Tensor
        self.spatial, self.nugget = torch.broadcast_tensors(spatial, nugget)
        event = torch.Size((kernel.n_spots, self.spatial.shape[-1]))
        super().__init__(self.spatial.shape[:-1], event, validate_args=validate_args)

    def expand(
        self, batch_shape: Sequence[int], _instance: TorchDistribution | None = None
    ) -> "SpatialField":
        """Repeat along a larger batch."""
        shape = (*batch_shape, self.spatial.shape[-1])
        spatial, nugget = self.spatial.expand(shape), self.nugget.expand(shape)
        return SpatialField(self.kernel, spatial, nugget, self.coding, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the density of ``log_joint``."""
        return field_log_prob(value, self.spatial, self.nugget, self.kernel, self.coding)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw so that gradients flow to the variances."""
        shape = self._extended_shape(torch.Size(sample_shape))
        by_logit = (*shape[:-2], shape[-1])
        generator = torch.default_generator
        smooth = self.kernel.sample(by_logit, generator).transpose(-1, -2)
        white = torch.randn(shape, dtype=smooth.dtype, generator=generator)
        draw: Tensor = self.spatial.sqrt()[..., None, :] * smooth
        return drawn_field(draw + self.nugget.sqrt()[..., None, :] * white, self.coding)
