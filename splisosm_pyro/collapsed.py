"""The GLMM with its field integrated out, as a Pyro distribution with exact gradients.

    p(Y | beta, bias_eta, sigma, theta) = int Multinomial(Y | softmax([X beta + bias_eta + nu, 0]))
                                              N(nu; 0, sigma^2 (theta V + (1 - theta) I)) d nu

by the engine (expectation propagation or Laplace's method), what Stan calls an embedded Laplace
approximation. A program over genes, donors or slides states its own priors of the few parameters
that are left, and generic Pyro inference (NUTS, SVI, guides) sees no field.

Reference: Margossian, Vehtari, Simpson and Agrawal (2020), Hamiltonian Monte Carlo using an
adjoint-differentiated Laplace approximation, arXiv:2004.12550.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.marginal_error import Conditional
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.marginal.conditional_mode import ModeError
from splisosm_pyro.fit.marginal.laplace import log_marginal as value_at_mode
from splisosm_pyro.fit.options import GLMMOptions, smooth_by_default
from splisosm_pyro.maths.axes import DesignLike, as_design
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.density.joint import field_variances
from splisosm_pyro.maths.density.pyro_distributions import MultinomialLogits, SpatialField
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import Priors

Slopes = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
# The engine's parameters are log sigma and theta_logit: values nearer to a bound count as these.
LEAST_SIGMA, LEAST_SHARE = 1e-6, 1e-12


class CollapsedCounts(TorchDistribution):
    """Counts of genes at S spots, the spatial random effect integrated out.

    Parameters
    ----------
    kernel : Kernel
        The spatial correlation V over the S spots.
    totals : Tensor, shape (*, S)
        Reads of every spot; 0 is legal.
    design : Tensor, ndarray or DataFrame, shape (S, F), or None
        Covariates.
    beta : Tensor, shape (*, F, Q)
        Coefficients, logits against the last isoform.
    bias_eta : Tensor, shape (*, Q)
        Intercepts.
    sigma, theta : Tensor, shape (*, C)
        Standard deviation of the random effect and its spatial share in [0, 1], one for all logits
        (C = 1) or one each (C = Q). At a bound the gradient is 0.
    nugget : {'quadrature', 'laplace'}
        How the white part of the field is integrated out.
    smooth : {'auto', 'ep', 'laplace'}
        How its smooth part is; 'auto': by expectation propagation up to three isoforms.
    coding : {'reference', 'symmetric'}
        Whether every logit has its own field or every isoform.

    Raises
    ------
    TypeError, ValueError
        If the kernel, the design or an option is not legal, or shapes do not go together.

    Notes
    -----
    ``batch_shape`` is what ``*`` broadcasts to, genes last as a rule; ``event_shape`` is (S, P).
    ``log_prob`` costs one mode of the field an entry of the batch, 2 to 20 ms for a gene of some
    hundred occupied spots, and a fifth more with its gradient, which is that of the value, the
    mode's own dependence included. Where no mode is found it is minus infinity. float64 on the CPU.
    ``sample`` draws the field and then counts, from torch's global generator.

    Examples
    --------
    >>> from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
    >>> sigma = torch.ones(1, dtype=torch.float64, requires_grad=True)
    >>> half = torch.full((1,), 0.5, dtype=torch.float64)
    >>> totals = torch.tensor([3.0, 0.0], dtype=torch.float64)
    >>> zero = torch.zeros(1, dtype=torch.float64)
    >>> gene = CollapsedCounts(
    ...     DenseKernel(torch.eye(2)), totals, None, torch.zeros(0, 1), zero, sigma, half
    ... )
    >>> value = gene.log_prob(torch.tensor([[2.0, 1.0], [0.0, 0.0]]))
    >>> round(value.item(), 4), round(torch.autograd.grad(value, sigma)[0].item(), 4)
    (-1.1714, -0.302)
    """

    arg_constraints: ClassVar = {
        "beta": constraints.independent(constraints.real, 2),
        "bias_eta": constraints.independent(constraints.real, 1),
        "sigma": constraints.independent(constraints.nonnegative, 1),
        "theta": constraints.independent(constraints.unit_interval, 1),
    }
    support = constraints.independent(constraints.nonnegative, 2)

    def __init__(
        self,
        kernel: Kernel,
        totals: Tensor,
        design: DesignLike | None,
        beta: Tensor,
        bias_eta: Tensor,
        sigma: Tensor,
        theta: Tensor,
        *,
        nugget: Literal["quadrature", "laplace"] = "quadrature",
        smooth: Literal["auto", "ep", "laplace"] = "auto",
        coding: str = "reference",
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(kernel, Kernel):
            raise TypeError(f"kernel must be a kernel object, came {type(kernel).__name__}")
        if totals.shape[-1:] != (kernel.n_spots,):
            raise ValueError(
                f"totals must have the kernel's {kernel.n_spots} spots on its last axis, came "
                f"shape {tuple(totals.shape)}"
            )
        self.kernel, self.design = kernel, as_design(design, kernel.n_spots)
        n_logits = bias_eta.shape[-1]
        own = self.design.shape[1], n_logits
        if beta.shape[-2:] != own:
            raise ValueError(f"beta must end in shape {own}, came {tuple(beta.shape)}")
        field_variances(sigma, theta, n_logits)  # says what is wrong with their shapes
        parts = totals[..., 0], beta[..., 0, 0] if own[0] else beta.sum((-2, -1))
        more = bias_eta[..., 0], sigma[..., 0], theta[..., 0]
        batch = torch.broadcast_shapes(*(part.shape for part in (*parts, *more)))
        self.totals = totals.expand(*batch, kernel.n_spots)
        self.beta, self.bias_eta = beta.expand(*batch, *own), bias_eta.expand(*batch, n_logits)
        self.sigma = sigma.expand(*batch, sigma.shape[-1])
        self.theta = theta.expand(*batch, theta.shape[-1])
        self.nugget, self.smooth, self.coding = nugget, smooth, coding
        event = torch.Size((kernel.n_spots, n_logits + 1))
        super().__init__(batch, event, validate_args=validate_args)

    def expand(
        self, batch_shape: Sequence[int], _instance: TorchDistribution | None = None
    ) -> "CollapsedCounts":
        """Repeat along a larger batch."""
        wide = torch.Size(batch_shape)
        return CollapsedCounts(
            self.kernel,
            self.totals.expand(*wide, *self.totals.shape[-1:]),
            self.design,
            self.beta.expand(*wide, *self.beta.shape[-2:]),
            self.bias_eta.expand(*wide, *self.bias_eta.shape[-1:]),
            self.sigma.expand(*wide, *self.sigma.shape[-1:]),
            self.theta.expand(*wide, *self.theta.shape[-1:]),
            nugget=self.nugget,
            smooth=self.smooth,
            coding=self.coding,
            validate_args=False,
        )

    @cached_property
    def _spec(self) -> GLMMSpec:
        """What the engine is asked for."""
        n_isos = self.event_shape[-1]
        smooth = smooth_by_default(self.nugget, n_isos) if self.smooth == "auto" else self.smooth
        configs = {"nugget": self.nugget, "smooth": smooth}
        return GLMMSpec(
            kernel=self.kernel,
            design=StandardDesign.of(self.design.numpy()),
            share_variance=self.sigma.shape[-1] == 1,
            fix_sigma=False,
            priors=Priors.of("none", None),
            options=GLMMOptions.from_configs("marginal_newton", configs),
            coding=self.coding,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability of counts (*, S, P), differentiable in all parameters."""
        if self._validate_args and not torch.allclose(value.sum(-1), self.totals.to(value.dtype)):
            raise ValueError("counts must sum to the totals at every spot")
        batch = torch.broadcast_shapes(value.shape[:-2], self.batch_shape)
        sigma = self.sigma.clamp(min=LEAST_SIGMA)
        theta = self.theta.clamp(LEAST_SHARE, 1.0 - LEAST_SHARE)
        both = torch.broadcast_tensors(sigma, theta)
        flat = [
            part.expand(*batch, *part.shape[len(self.batch_shape) :]).flatten(0, len(batch) - 1)
            if batch
            else part[None]
            for part in (self.beta, self.bias_eta, both[0], torch.logit(both[1]))
        ]
        counts = value.detach().expand(*batch, *self.event_shape).reshape(-1, *self.event_shape)
        return log_marginal(self._spec, counts.to(torch.float64).numpy(), *flat).reshape(batch)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw the field, then counts given it; totals must be whole numbers."""
        with torch.no_grad():
            variances = field_variances(self.sigma, self.theta, self.bias_eta.shape[-1])
            nu = SpatialField(self.kernel, *variances, self.coding).sample(torch.Size(sample_shape))
            fixed = self.design @ self.beta.to(self.design.dtype) + self.bias_eta[..., None, :]
            return MultinomialLogits(fixed + nu, self.totals).sample()


def log_marginal(
    spec: GLMMSpec,
    counts: FloatArray,  # (G, S, P)
    beta: Tensor,  # (G, F, Q)
    bias_eta: Tensor,  # (G, Q)
    sigma: Tensor,  # (G, C)
    theta_logit: Tensor,  # (G, C)
) -> Tensor:  # (G,)
    """Return ``log_marginal`` and the log priors of every gene; minus infinity without a mode."""
    apply: Callable[..., Tensor] = _LogMarginal.apply
    return apply(beta, bias_eta, sigma, theta_logit, spec, counts)


class _LogMarginal(torch.autograd.Function):
    """The value gene by gene; the backward pass hands on the exact gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        beta: Tensor,
        bias_eta: Tensor,
        sigma: Tensor,
        theta_logit: Tensor,
        spec: GLMMSpec,
        counts: FloatArray,
    ) -> Tensor:
        given = [
            t.detach().to("cpu", torch.float64).numpy()
            for t in (beta, bias_eta, sigma, theta_logit)
        ]
        needed = any(ctx.needs_input_grad[:4])
        rows = [
            _one_gene(spec, counts[g], *(part[g] for part in given), needed=needed)
            for g in range(len(counts))
        ]
        if needed:
            slopes = zip(*(row[1] for row in rows), strict=True)
            ctx.save_for_backward(*(torch.as_tensor(np.stack(s)).to(beta) for s in slopes))
        return torch.tensor([row[0] for row in rows], dtype=torch.float64).to(beta)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            upstream[0].reshape(-1, *[1] * (slope.dim() - 1)) * slope for slope in ctx.saved_tensors
        ]
        return (*scaled, None, None)


def _one_gene(
    spec: GLMMSpec,
    counts: FloatArray,
    beta: FloatArray,
    bias_eta: FloatArray,
    sigma: FloatArray,
    theta_logit: FloatArray,
    *,
    needed: bool,
) -> tuple[float, Slopes | None]:
    """Value and, where needed, gradient in (beta, bias_eta, sigma, theta_logit)."""
    params = {"beta": beta, "bias_eta": bias_eta, "sigma": sigma, "theta_logit": theta_logit}
    spec = spec.of_gene(counts)
    try:
        at = Conditional.of_gene(spec, counts, params)
    except ModeError:
        still = (np.zeros_like(beta), np.zeros_like(bias_eta), *np.zeros((2, sigma.size)))
        return -np.inf, still if needed else None
    value = value_at_mode(at.problem, at.mode) + spec.log_prior(params)
    if not needed:
        return value, None
    gradient = spec.smooth.gradient(at.problem, at.mode)
    by_sigma, by_theta = at.variances.pull_back(gradient.log_spatial, gradient.nugget)
    stated = spec.priors.coefficients.stated(spec.design.back)
    prior = spec.priors.slopes(sigma, at.variances.theta, stated @ at.mode.coefficients)
    by_turned = gradient.coefficients + stated.T @ prior[2]
    by_all = spec.turn.slope_in_logits(spec.design.there.T @ by_turned)
    return value, (by_all[:-1], by_all[-1], (by_sigma + prior[0]) / sigma, by_theta + prior[1])
