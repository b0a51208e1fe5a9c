"""Fits seen as Pyro guides, to be used with Pyro's own tools such as ``Predictive``."""

from collections.abc import Callable, Mapping
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
