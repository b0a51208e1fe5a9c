"""The multinomial GLM and the spatial multinomial GLMM as Pyro programs.

Sites carry the documented names. Genes are a plate at dim -1, so every site has a log-probability
of shape (G,); spots, logits and components are event axes. The distributions call the functions of
``maths``, so the trace's log-probability is the ``log_joint`` that the solvers maximise.
"""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from splisosm_pyro.collapsed import CollapsedCounts
from splisosm_pyro.maths.axes import ArrayLike, Counts, DesignLike, as_counts, as_design
from splisosm_pyro.maths.coding import turns
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.density.joint import field_variances
from splisosm_pyro.maths.density.pyro_distributions import MultinomialLogits, SpatialField
from splisosm_pyro.maths.priors import Prior, Priors, ThetaPrior
from splisosm_pyro.maths.priors.pyro_improper import Flat
from splisosm_pyro.maths.priors.symmetric import check_coding, symmetric_normal

GENES = "genes"  # the plate's name


def multinomial_glm(
    counts: ArrayLike | Counts | None,
    design: DesignLike | None = None,
    *,
    totals: Tensor | None = None,
    n_isos: int | None = None,
    beta_prior: TorchDistribution | None = None,
    bias_prior: TorchDistribution | None = None,
) -> Tensor:
    """State the GLM, ``Y ~ Multinomial(total, softmax([X beta + bias_eta, 0]))``.

    Parameters
    ----------
    counts : Tensor, ndarray or Counts, shape (G, S, P) or (S, P), or None
        Observed counts; None draws them, for given ``totals`` and ``n_isos``.
    design : Tensor, ndarray or DataFrame, shape (S, F), or None
        Covariates.
    totals : Tensor, shape (G, S) or (S,)
        Totals to draw counts for; only with ``counts=None``.
    n_isos : int
        P; only with ``counts=None``.
    beta_prior, bias_prior : Distribution, optional
        Priors of every entry of ``beta`` (F, Q) and ``bias_eta`` (Q,), or of all of them by a
        distribution of that batch shape. Without one the density is flat (improper), and the site
        is 0 unless a guide or conditioning gives it a value.

    Returns
    -------
    Tensor, shape (G, S, P)
        The counts.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        On counts and designs that are not legal; see ``maths.axes``.

    Notes
    -----
    Sites, each with log-probability (G,): ``beta``, ``bias_eta``, ``eta`` (deterministic),
    ``counts``. Checking counts and design costs more than a small model itself: give a ``Counts``
    where the program runs many times.

    Examples
    --------
    >>> from pyro import poutine
    >>> values = {"beta": torch.zeros(1, 0, 1), "bias_eta": torch.zeros(1, 1)}
    >>> program = poutine.condition(multinomial_glm, data=values)
    >>> trace = poutine.trace(program).get_trace(torch.tensor([[2, 1], [0, 0]]))
    >>> round(trace.log_prob_sum().item(), 6)
    -0.980829
    """
    observed, totals, n_logits = _observation(counts, totals, n_isos)
    covariates = as_design(design, totals.shape[-1])
    with _gene_plate(totals):
        eta = _fixed_effects(covariates, n_logits, beta_prior, bias_prior)
        return _observe(eta, totals, observed)


def multinomial_glmm(
    counts: ArrayLike | Counts | None,
    design: DesignLike | None = None,
    kernel: Kernel | None = None,
    *,
    prior: Prior | None = None,
    theta_prior: ThetaPrior | None = None,
    share_variance: bool = True,
    sigma: Tensor | float | None = None,
    totals: Tensor | None = None,
    n_isos: int | None = None,
    beta_prior: TorchDistribution | None = None,
    bias_prior: TorchDistribution | None = None,
    coding: str = "reference",
) -> Tensor:
    """State the GLMM: the GLM's logits plus a random effect ``nu`` with spatial correlation.

    ``nu_q ~ N(0, sigma^2 (theta V + (1 - theta) I))``, ``theta ~ Uniform(0, 1)`` unless said
    otherwise; ``sigma`` has a prior or none.

    Parameters
    ----------
    counts, design, totals, n_isos, beta_prior, bias_prior
        As in ``multinomial_glm``.
    kernel : Kernel
        The spatial correlation V over the S spots.
    prior : ScalePrior
        Prior of each component of the scale, on the variable it is stated on; none by default,
        and sigma is then 1 unless a guide or conditioning gives it a value.
    theta_prior : ThetaPrior
        Prior of each component of theta; uniform by default.
    share_variance : bool
        One variance for all logits (C = 1), or one each (C = Q).
    sigma : float or Tensor, shape (G, C), optional
        Fixes sigma; its prior is then a constant and left out.
    coding : {'reference', 'symmetric'}
        Whether every logit against the last isoform has a field of its own, or every isoform: then
        ``nu`` has the covariance ``(I + 11') / 2`` over the logits, and so has a normal prior.

    Returns
    -------
    Tensor, shape (G, S, P)
        The counts.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        On input that is not legal.

    Notes
    -----
    Sites, each with log-probability (G,), that sum to ``maths.density.log_joint`` and the log
    priors: ``beta``, ``bias_eta``; ``sigma``, or ``sigma_sq`` with ``sigma`` deterministic under
    the inverse gamma prior, or ``sigma`` deterministic where it is fixed; ``theta``,
    ``theta_logit`` (deterministic), ``nu``, ``eta`` (deterministic), ``counts``.

    Examples
    --------
    >>> from pyro import poutine
    >>> from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
    >>> half = torch.full((1, 1), 0.5, dtype=torch.float64)
    >>> values = {"beta": torch.zeros(1, 0, 1), "bias_eta": torch.zeros(1, 1)}
    >>> values |= {"theta": half, "nu": torch.zeros(1, 2, 1, dtype=torch.float64)}
    >>> program = poutine.condition(multinomial_glmm, data=values)
    >>> counts = torch.tensor([[2, 1], [0, 0]])
    >>> trace = poutine.trace(program).get_trace(counts, None, DenseKernel(torch.eye(2)), sigma=1.0)
    >>> round(trace.log_prob_sum().item(), 6)
    -2.818706
    """
    observed, totals, n_logits = _observation(counts, totals, n_isos)
    n_spots = totals.shape[-1]
    checked = _check_kernel(kernel, n_spots)
    covariates = as_design(design, n_spots)
    n_components = 1 if share_variance else n_logits
    check_coding(coding, share_variance=share_variance, priors=Priors())
    with _gene_plate(totals):
        fixed = _fixed_effects(covariates, n_logits, beta_prior, bias_prior, coding)
        own = Priors(prior or "none", theta_prior).for_gene(checked, n_logits + 1)
        scale, theta = _variances(own, sigma, totals.shape[0], n_components)
        spatial, nugget = field_variances(scale, theta, n_logits)
        nu = pyro.sample("nu", SpatialField(checked, spatial, nugget, coding))
        return _observe(fixed + nu, totals, observed)


def multinomial_glmm_collapsed(
    counts: ArrayLike | Counts | None,
    design: DesignLike | None = None,
    kernel: Kernel | None = None,
    *,
    prior: Prior | None = None,
    theta_prior: ThetaPrior | None = None,
    share_variance: bool = True,
    sigma: Tensor | float | None = None,
    totals: Tensor | None = None,
    n_isos: int | None = None,
    beta_prior: TorchDistribution | None = None,
    bias_prior: TorchDistribution | None = None,
    nugget: Literal["quadrature", "laplace"] = "quadrature",
    smooth: Literal["auto", "ep", "laplace"] = "auto",
    coding: str = "reference",
) -> Tensor:
    """State the GLMM with its random effect integrated out, for any inference of Pyro.

    Parameters
    ----------
    counts, design, kernel, prior, theta_prior, share_variance, sigma, totals, n_isos
        As in ``multinomial_glmm``, and so are ``beta_prior`` and ``bias_prior``.
    nugget, smooth
        How the field is integrated out, see `CollapsedCounts`.
    coding
        As in ``multinomial_glmm``.

    Returns
    -------
    Tensor, shape (G, S, P)
        The counts.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        On input that is not legal.

    Notes
    -----
    The sites of ``multinomial_glmm`` but ``nu`` and ``eta``. Genes are independent, and costs a run
    those of ``CollapsedCounts`` a gene.

    Examples
    --------
    >>> from pyro import poutine
    >>> from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
    >>> half = torch.full((1, 1), 0.5, dtype=torch.float64)
    >>> values = {"beta": torch.zeros(1, 0, 1), "bias_eta": torch.zeros(1, 1), "theta": half}
    >>> program = poutine.condition(multinomial_glmm_collapsed, data=values)
    >>> counts = torch.tensor([[2, 1], [0, 0]])
    >>> trace = poutine.trace(program).get_trace(counts, None, DenseKernel(torch.eye(2)), sigma=1.0)
    >>> round(trace.log_prob_sum().item(), 4)
    -1.1714
    """
    observed, totals, n_logits = _observation(counts, totals, n_isos)
    n_spots = totals.shape[-1]
    checked = _check_kernel(kernel, n_spots)
    covariates = as_design(design, n_spots)
    n_components = 1 if share_variance else n_logits
    check_coding(coding, share_variance=share_variance, priors=Priors())
    with _gene_plate(totals):
        sizes = covariates.shape[1], n_logits
        beta, bias_eta = _coefficient_sites(*sizes, beta_prior, bias_prior, coding)
        own = Priors(prior or "none", theta_prior).for_gene(checked, n_logits + 1)
        scale, theta = _variances(own, sigma, totals.shape[0], n_components)
        fixed = beta, bias_eta, scale, theta
        of_counts = CollapsedCounts(
            checked, totals, covariates, *fixed, nugget=nugget, smooth=smooth, coding=coding
        )
        return pyro.sample("counts", of_counts, obs=observed)


def _observation(
    counts: ArrayLike | Counts | None, totals: ArrayLike | None, n_isos: int | None
) -> tuple[Tensor | None, Tensor, int]:
    """Return counts or None, totals (G,S) and the number of logits."""
    if counts is not None:
        if totals is not None or n_isos is not None:
            raise ValueError("totals and n_isos belong to counts=None, came together with counts")
        data = as_counts(counts)
        return data.values, data.totals, data.n_isos - 1
    if totals is None or n_isos is None:
        raise ValueError("counts=None needs totals and n_isos to draw counts for")
    if n_isos < 2:
        raise ValueError(f"n_isos must be at least 2, came {n_isos}")
    given = torch.as_tensor(totals, dtype=torch.float64)
    if given.dim() not in (1, 2) or not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(
            "totals must be finite and not negative, of shape (n_genes, n_spots) or (n_spots,), "
            f"came shape {tuple(given.shape)}"
        )
    return None, given if given.dim() == 2 else given[None], n_isos - 1


def _check_kernel(kernel: Kernel | None, n_spots: int) -> Kernel:
    """Refuse what is no kernel, and one over other spots."""
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"kernel must be a kernel object such as DenseKernel(V), came {type(kernel).__name__}"
        )
    if kernel.n_spots != n_spots:
        raise ValueError(f"kernel must have the counts' {n_spots} spots, came {kernel.n_spots}")
    return kernel


def _gene_plate(totals: Tensor) -> Any:
    """Make the plate of independent genes."""
    return pyro.plate(GENES, totals.shape[0], dim=-1)


def _fixed_effects(
    covariates: Tensor,  # (S,F)
    n_logits: int,
    beta_prior: TorchDistribution | None,
    bias_prior: TorchDistribution | None,
    coding: str = "reference",
) -> Tensor:  # (*,S,Q)
    """Return X beta + bias_eta and state their sites."""
    beta, bias_eta = _coefficient_sites(
        covariates.shape[1], n_logits, beta_prior, bias_prior, coding
    )
    return covariates @ beta.to(covariates.dtype) + bias_eta[..., None, :]


def _coefficient_sites(
    n_covariates: int,
    n_logits: int,
    beta_prior: TorchDistribution | None,
    bias_prior: TorchDistribution | None,
    coding: str,
) -> tuple[Tensor, Tensor]:  # (*,F,Q), (*,Q)
    """State the sites of beta and bias_eta; without covariates beta is nothing to draw."""
    if n_covariates == 0:
        beta = pyro.deterministic("beta", torch.zeros(0, n_logits), event_dim=2)
    else:
        beta = pyro.sample("beta", _coefficients(beta_prior, (n_covariates, n_logits), coding))
    return beta, pyro.sample("bias_eta", _coefficients(bias_prior, (n_logits,), coding))


def _coefficients(
    prior: TorchDistribution | None, shape: tuple[int, ...], coding: str
) -> TorchDistribution:
    """Make the distribution of coefficients that are one event, flat without a prior."""
    if prior is None:
        return Flat(constraints.real, (), shape)
    if turns(coding, shape[-1] + 1):
        return symmetric_normal(prior, shape)
    return dist.Independent(prior.expand(shape), len(shape))


def _variances(
    own: Priors, fixed: Tensor | float | None, n_genes: int, n_components: int
) -> tuple[Tensor, Tensor]:  # (*,C), (*,C)
    """State the sites of sigma and theta."""
    scale = _scale(own.sigma, fixed, n_genes, n_components)
    of_theta = own.theta.distribution().expand([n_components])
    theta = pyro.sample("theta", dist.Independent(of_theta, 1))
    pyro.deterministic("theta_logit", torch.logit(theta), event_dim=1)
    return scale, theta


def _scale(prior: Prior, fixed: Tensor | float | None, n_genes: int, n_components: int) -> Tensor:
    """Return sigma (*,C): given, or drawn on the variable that its prior is stated on."""
    if fixed is not None:
        given = torch.as_tensor(fixed, dtype=torch.float64)
        if not bool((torch.isfinite(given) & (given >= 0)).all()):
            raise ValueError("sigma must be finite and not negative where it is fixed")
        return pyro.deterministic("sigma", given.expand(n_genes, n_components), event_dim=1)
    each = dist.Independent(prior.distribution().expand([n_components]), 1)
    if prior.variable == "sigma":
        return pyro.sample("sigma", each)
    sigma_sq = pyro.sample("sigma_sq", each)
    return pyro.deterministic("sigma", sigma_sq.sqrt(), event_dim=1)


def _observe(eta: Tensor, totals: Tensor, observed: Tensor | None) -> Tensor:
    """State the last two sites."""
    pyro.deterministic("eta", eta, event_dim=2)
    return pyro.sample("counts", MultinomialLogits(eta, totals), obs=observed)
