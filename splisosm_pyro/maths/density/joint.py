"""The joint density of the spatial GLMM, composed without Pyro for solvers and results."""

import torch
from torch import Tensor

from splisosm_pyro.maths.coding import turned_field
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.density.likelihood import log_lik


def field_variances(
    sigma: Tensor,  # (*,C)
    theta: Tensor,  # (*,C)
    n_logits: int,
) -> tuple[Tensor, Tensor]:  # (*,Q), (*,Q)
    """Spatial variance theta sigma^2 and nugget variance (1 - theta) sigma^2 of each logit.

    Examples
    --------
    >>> spatial, nugget = field_variances(torch.tensor([2.0]), torch.tensor([0.25]), 2)
    >>> spatial.tolist(), nugget.tolist()
    ([1.0, 1.0], [3.0, 3.0])
    """
    spatial, nugget = torch.broadcast_tensors(theta * sigma**2, (1 - theta) * sigma**2)
    if spatial.shape[-1] not in (1, n_logits):
        raise ValueError(
            f"sigma and theta must have 1 or {n_logits} components (one a logit), "
            f"came {spatial.shape[-1]}"
        )
    shape = (*spatial.shape[:-1], n_logits)
    return spatial.expand(shape), nugget.expand(shape)


def log_joint(
    counts: Tensor,  # (*,S,P)
    eta: Tensor,  # (*,S,Q)
    nu: Tensor,  # (*,S,Q)
    sigma: Tensor,  # (*,C)
    theta: Tensor,  # (*,C)
    kernel: Kernel,
    coding: str = "reference",
) -> Tensor:  # (*,)
    """``log p(Y | eta) + log p(nu | sigma, theta)``, gene by gene; the priors are not in it.

    Parameters
    ----------
    counts, eta, nu
        Counts, logits (with ``nu`` in them) and the random effect.
    sigma, theta
        Standard deviation and spatial share; C is 1 (shared by the logits) or Q.
    kernel
        The spatial correlation V.
    coding
        Whether every logit has its own field or every isoform (``maths/coding.py``).

    Examples
    --------
    >>> from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
    >>> zero = torch.zeros(2, 1, dtype=torch.float64)
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> kernel = DenseKernel(torch.eye(2, dtype=torch.float64))
    >>> counts = torch.eye(2, dtype=torch.float64)
    >>> round(log_joint(counts, zero, zero, one, one, kernel).item(), 6)
    -3.224171
    """
    spatial, nugget = field_variances(sigma, theta, nu.shape[-1])
    return log_lik(eta, counts) + field_log_prob(nu, spatial, nugget, kernel, coding)


def field_log_prob(
    nu: Tensor,  # (*,S,Q)
    spatial: Tensor,  # (*,Q)
    nugget: Tensor,  # (*,Q)
    kernel: Kernel,
    coding: str,
) -> Tensor:  # (*,)
    """``log p(nu | sigma, theta)``: of independent fields, those of turned coordinates."""
    fields, log_volume = turned_field(nu, coding)
    return kernel.field_log_prob(fields, spatial, nugget) + log_volume
