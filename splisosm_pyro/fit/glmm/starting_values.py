"""Where the parameters of the GLMM start."""

import torch
from torch import Tensor

from splisosm_pyro.maths.axes import Counts

INIT_RATIOS = ("observed", "uniform")
THETA_LOGIT_START = -3.0
# The Fano-factor estimate of the variance is kept within these.
VARIANCE_RANGE = (1e-4, 0.9)
RATIO_OFFSET = 1e-5


def starting_values(
    counts: Counts, n_covariates: int, n_components: int, init_ratio: str
) -> dict[str, Tensor]:
    """Return the documented starting values of all parameters, float64."""
    n_logits = counts.n_isos - 1
    nu = torch.zeros(counts.n_genes, counts.n_spots, n_logits, dtype=torch.float64)
    if init_ratio == "observed":
        nu = observed_logits(counts)
    sigma = fano_sigma(counts)[:, None].repeat(1, n_components)
    return {
        "beta": torch.zeros(counts.n_genes, n_covariates, n_logits, dtype=torch.float64),
        "bias_eta": torch.zeros(counts.n_genes, n_logits, dtype=torch.float64),
        "nu": nu,
        "sigma": sigma,
        "theta_logit": torch.full_like(sigma, THETA_LOGIT_START),
    }


def fano_sigma(counts: Counts) -> Tensor:
    """Square root of the mean variance of the isoforms over the mean total, (G,).

    The variance over spots has ddof 1 (a single spot has none); the mean total is 1 at least.
    """
    values = counts.values
    variance = (
        values.var(dim=1, correction=1) if counts.n_spots > 1 else torch.zeros_like(values[:, 0])
    )
    fano = variance.mean(dim=-1) / values.sum(dim=-1).mean(dim=-1).clamp(min=1.0)
    return fano.clamp(*VARIANCE_RANGE).sqrt()


def observed_logits(counts: Counts) -> Tensor:
    """Log ratios of the observed proportions to that of the reference, offset to be finite."""
    totals = counts.values.sum(dim=-1, keepdim=True)
    share = counts.values / (totals + RATIO_OFFSET) + RATIO_OFFSET
    return (share[..., :-1] / share[..., -1:]).log()
