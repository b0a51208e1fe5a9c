"""What symmetric coding asks of priors: they must be alike for all isoforms.

The prior of an entry of ``beta`` or ``bias_eta`` is then that of a turned coefficient
(``maths/coding.py``): over the logits against the last isoform a normal prior of scale s has the
covariance ``s^2 (I + 11') / 2``. That is a prior on centred log-ratios; each logit keeps its sd s.
"""

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution

from splisosm_pyro.maths.coding import CODINGS, Turn
from splisosm_pyro.maths.priors.all_parameters import Priors
from splisosm_pyro.maths.priors.coefficients import CoefficientPrior, NormalPrior


def check_coding(coding: str, *, share_variance: bool, priors: Priors) -> None:
    """Refuse what symmetric coding has no meaning for.

    Raises
    ------
    ValueError
        If ``coding`` is unknown; if each logit has a variance of its own; if a prior of a
        coefficient is neither flat nor a normal about 0.

    Examples
    --------
    >>> check_coding("symmetric", share_variance=False, priors=Priors())
    Traceback (most recent call last):
    ValueError: coding='symmetric' has one variance for all isoforms: expected ...
    """
    if coding not in CODINGS:
        listed = ", ".join(map(repr, CODINGS))
        raise ValueError(f"coding must be one of {listed}, came {coding!r}")
    if coding == "reference":
        return
    if not share_variance:
        raise ValueError(
            "coding='symmetric' has one variance for all isoforms: expected share_variance=True, "
            "or coding='reference' for a variance of each logit, came share_variance=False"
        )
    for name, prior in (("beta", priors.beta), ("bias_eta", priors.bias)):
        _check_coefficient(name, prior)


def symmetric_normal(prior: TorchDistribution, shape: tuple[int, ...]) -> TorchDistribution:
    """Return coefficients of that shape (*, Q), each logit normal as ``prior``, none preferred.

    Raises
    ------
    ValueError
        If the prior is no normal about 0, or differs between the logits.
    """
    if isinstance(prior, dist.Normal):
        loc, scale = prior.loc.expand(shape), prior.scale.expand(shape)
        if not bool(loc.any()) and bool((scale == scale[..., :1]).all()):
            root = torch.from_numpy(Turn.of_size(shape[-1] + 1).matrix).to(scale)
            root = torch.linalg.cholesky(root @ root.T)
            normal = dist.MultivariateNormal(loc, scale_tril=scale[..., :1, None] * root)
            return dist.Independent(normal, len(shape) - 1)
    raise ValueError(
        "coding='symmetric' takes a normal prior about 0, alike for all logits, came "
        f"{type(prior).__name__}"
    )


def _check_coefficient(name: str, prior: CoefficientPrior) -> None:
    """Refuse a prior that favours an isoform."""
    if prior.proper and not (isinstance(prior, NormalPrior) and prior.loc == 0.0):
        raise ValueError(
            f"coding='symmetric' takes a normal prior about 0 of {name}, or none: alike for all "
            f"isoforms; came {prior.words}"
        )
