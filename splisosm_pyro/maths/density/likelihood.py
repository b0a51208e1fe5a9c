"""The multinomial likelihood of isoform counts on the logit scale.

The last isoform is the reference, its logit is 0, so Q = P - 1 logits give P ratios. Everything
here is a pure torch function that broadcasts over leading axes and differentiates.
"""

import torch
from torch import Tensor


def log_ratio(
    eta: Tensor,  # (*,S,Q)
) -> Tensor:  # (*,S,P)
    """Logarithms of the isoform ratios, log softmax([eta, 0]), stable for logits of any size.

    Examples
    --------
    >>> log_ratio(torch.tensor([[0.0, 800.0]])).tolist()
    [[-800.0, 0.0, -800.0]]
    """
    return torch.log_softmax(with_reference(eta), dim=-1)


def isoform_ratio(
    eta: Tensor,  # (*,S,Q)
) -> Tensor:  # (*,S,P)
    """Isoform ratios softmax([eta, 0]); each row sums to 1.

    Examples
    --------
    >>> isoform_ratio(torch.zeros(1, 3)).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return torch.softmax(with_reference(eta), dim=-1)


def with_reference(
    eta: Tensor,  # (*,Q)
) -> Tensor:  # (*,P)
    """Append the reference isoform's logit, 0."""
    return torch.nn.functional.pad(eta, (0, 1))


def log_coefficient(
    counts: Tensor,  # (*,S,P)
) -> Tensor:  # (*,)
    """Multinomial coefficients, sum over spots of log(total! / prod_p count_p!).

    Fractional counts are legal: factorials are gamma functions.

    Examples
    --------
    >>> round(log_coefficient(torch.tensor([[2.0, 1.0], [0.0, 0.0]])).item(), 6)
    1.098612
    """
    return (torch.lgamma(counts.sum(-1) + 1) - torch.lgamma(counts + 1).sum(-1)).sum(-1)


def log_lik(
    eta: Tensor,  # (*,S,Q)
    counts: Tensor,  # (*,S,P)
) -> Tensor:  # (*,)
    """Multinomial log-likelihood given the totals, with the multinomial coefficient, in nats.

    ``sum_s [ log(total_s! / prod_p y_sp!) + sum_p y_sp log softmax([eta_s, 0])_p ]``; a spot
    without counts contributes 0.

    Examples
    --------
    >>> counts = torch.tensor([[2.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    >>> round(log_lik(torch.zeros(2, 1, dtype=torch.float64), counts).item(), 6)
    -0.980829
    """
    return log_coefficient(counts) + (counts * log_ratio(eta)).sum((-1, -2))
