"""Fits seen as Pyro guides, to be used with Pyro's own tools such as ``Predictive``."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from splisosm_pyro.generative import GENES

# The sites a point may have, with the number of their event axes.
EVENT_DIMS = {"beta": 2, "bias_eta": 1, "sigma": 1, "sigma_sq": 1, "theta": 1, "nu": 2}


def map_guide(
    point: Mapping[str, Tensor],
    scale_site: Literal["sigma", "sigma_sq"] | None = "sigma",
) -> Callable[..., dict[str, Tensor]]:
    """Build the guide that puts all mass on one point, such as a maximum a posteriori estimate.

    Parameters
    ----------
    point : mapping of Tensor
        Parameters by their documented names with the gene axis first: ``beta`` (G, F, Q),
        ``bias_eta`` (G, Q) and for the GLMM ``sigma`` (G, C), ``theta`` or ``theta_logit`` (G, C),
        ``nu`` (G, S, Q).
    scale_site : {'sigma', 'sigma_sq', None}
        The site of the program that carries the scale: ``prior.variable``, or None where the
        program has sigma fixed.

    Returns
    -------
    callable
        A guide that accepts the program's arguments and returns its sites.

    Raises
    ------
    ValueError
        If a name is unknown, or the genes' number differs between parameters.

    Examples
    --------
    >>> guide = map_guide({"beta": torch.zeros(2, 0, 1), "bias_eta": torch.ones(2, 1)})
    >>> guide()["bias_eta"].tolist()
    [[1.0], [1.0]]
    """
    values = _site_values(point, scale_site)
    sizes = {name: value.shape[0] for name, value in values.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"point must have one number of genes, came {sizes}")
    n_genes = next(iter(sizes.values()))

    def guide(*_args: object, **_kwargs: object) -> dict[str, Tensor]:
        with pyro.plate(GENES, n_genes, dim=-1):
            return {
                name: pyro.sample(name, dist.Delta(value, event_dim=EVENT_DIMS[name]))
                for name, value in values.items()
            }

    return guide


def _site_values(point: Mapping[str, Tensor], scale_site: str | None) -> dict[str, Tensor]:
    """Return the values of the program's sites at a point of documented parameters."""
    known = (*EVENT_DIMS, "theta_logit")
    for name in point:
        if name not in known:
            raise ValueError(f"point must have names among {known}, came {name!r}")
    values = {name: value.detach() for name, value in point.items()}
    logit = values.pop("theta_logit", None)
    if logit is not None:
        values.setdefault("theta", torch.sigmoid(logit))
    sigma, sigma_sq = values.pop("sigma", None), values.pop("sigma_sq", None)
    if sigma is None and sigma_sq is not None:
        sigma = sigma_sq.sqrt()
    if scale_site is not None and sigma is not None:
        values[scale_site] = sigma if scale_site == "sigma" else sigma**2
    return values


@dataclass(frozen=True, eq=False)
class GaussianFit:
    """The Gaussian at the mode of one gene's posterior, as numbers.

    Attributes
    ----------
    mean, root : Tensor, shapes (K,) and (K, K)
        Of ``u = [log sigma (C, unless fixed), theta_logit (C), B ((F+1) Q)]``: mean and lower root
        of the covariance.
    shape : tuple of int
        (F+1, Q), the shape of B, whose last row is ``bias_eta``.
    n_sigma, n_components : int
        How many sigmas and how many theta_logits ``u`` has; both 0 for a GLM.
    nu, response, nu_root : Tensor or None
        Of ``nu`` given ``u``: mean at the mode (S, Q), its derivative in ``u`` (S, Q, K), lower
        root of its covariance (S Q, S Q), logits running fastest. None for a GLM.
    """

    mean: Tensor
    root: Tensor
    shape: tuple[int, int]
    n_sigma: int = 0
    n_components: int = 0
    nu: Tensor | None = None
    response: Tensor | None = None
    nu_root: Tensor | None = None


def laplace_guide(
    fits: Sequence[GaussianFit], scale_site: Literal["sigma", "sigma_sq"] = "sigma"
) -> Callable[..., dict[str, Tensor]]:
    """Build the guide that draws from the Gaussians at the modes of the genes' posteriors.

    The outer parameters are Gaussian in the unconstrained space; given them ``nu`` is Gaussian with
    the covariance at the mode and a mean that follows them to first order.

    Parameters
    ----------
    fits : sequence of GaussianFit
        One a gene, all of the same sizes.
    scale_site : {'sigma', 'sigma_sq'}
        The site of the program that carries the scale, ``prior.variable``.

    Returns
    -------
    callable
        A guide that accepts the program's arguments and returns its sites. Its log-probability is
        that of the constrained sites, so that it serves as a proposal too; what it draws with are
        the auxiliary sites ``_outer`` and ``_field``.

    Raises
    ------
    ValueError
        If there is no fit, or their sizes differ.

    Notes
    -----
    The dense root of ``nu`` takes (S Q)^2 numbers a gene: meant for some hundred spots.

    Examples
    --------
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> guide = laplace_guide([GaussianFit(3.0 * one, 1e-9 * torch.eye(1).double(), (1, 1))])
    >>> round(guide()["bias_eta"].item(), 6)
    3.0
    """
    sizes = {(fit.shape, fit.n_sigma, fit.n_components, fit.mean.numel()) for fit in fits}
    if len(sizes) != 1:
        raise ValueError(f"fits must have one size and at least one gene, came {len(sizes)} sizes")
    first = fits[0]
    mean = torch.stack([fit.mean for fit in fits])
    root = torch.stack([fit.root for fit in fits])
    nu, response, nu_root = (
        torch.stack([part for part in parts if part is not None]) if first.nu is not None else None
        for parts in zip(*((fit.nu, fit.response, fit.nu_root) for fit in fits), strict=True)
    )

    def guide(*_args: object, **_kwargs: object) -> dict[str, Tensor]:
        with pyro.plate(GENES, len(fits), dim=-1):
            outer = dist.MultivariateNormal(mean, scale_tril=root)
            u = pyro.sample("_outer", outer, infer={"is_auxiliary": True})
            out = {
                name: pyro.sample(name, dist.Delta(value, density, EVENT_DIMS[name]))
                for name, (value, density) in _constrained(u, first, scale_site).items()
            }
            if nu is None or response is None or nu_root is None:
                return out
            white = dist.Normal(torch.zeros_like(nu), 1.0).to_event(2)
            z = pyro.sample("_field", white, infer={"is_auxiliary": True})
            moved = nu + torch.einsum("gsqk,...gk->...gsq", response, u - mean)
            apart = (nu_root @ z.flatten(-2)[..., None]).reshape(z.shape)
            density = -nu_root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            delta = dist.Delta(moved + apart, density.expand(z.shape[:-2]), 2)
            return out | {"nu": pyro.sample("nu", delta)}

    return guide


def _constrained(u: Tensor, fit: GaussianFit, scale_site: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return every site's value and the log density that its change of variable adds."""
    split = [fit.n_sigma, fit.n_components, fit.shape[0] * fit.shape[1]]
    log_sigma, logit, flat = u.split(split, dim=-1)
    coefficients = flat.reshape(*u.shape[:-1], *fit.shape)
    none = torch.zeros(u.shape[:-1], dtype=u.dtype)
    sites = {
        "beta": (coefficients[..., :-1, :], none),
        "bias_eta": (coefficients[..., -1, :], none),
    }
    if fit.n_sigma:
        power = 1.0 if scale_site == "sigma" else 2.0
        density = -(power * log_sigma + math.log(power)).sum(-1)
        sites[scale_site] = (torch.exp(power * log_sigma), density)
    if fit.n_components:
        theta = torch.sigmoid(logit)
        by_logit = torch.nn.functional.logsigmoid(logit) + torch.nn.functional.logsigmoid(-logit)
        sites["theta"] = (theta, -by_logit.sum(-1))
    return sites
