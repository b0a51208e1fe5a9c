"""The multinomial likelihood against loops, SciPy and autograd."""

import math

import numpy as np
import oracles
import pytest
import torch
from cases import CASES
from scipy import stats

from splisosm_pyro.maths.density.likelihood import isoform_ratio, log_coefficient, log_lik


def logits(case):
    return case.design @ case.beta + case.bias_eta[:, None] + case.nu


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_log_lik_is_the_loop(case):
    eta = logits(case)
    ours = log_lik(torch.as_tensor(eta), torch.as_tensor(case.counts))
    loops = [oracles.log_lik(e, y) for e, y in zip(eta, case.counts, strict=True)]
    np.testing.assert_allclose(ours.numpy(), loops, rtol=1e-10, atol=1e-12)


def test_log_lik_is_scipys_multinomial():
    case = CASES["batch"]
    ratio = isoform_ratio(torch.as_tensor(logits(case))).numpy()
    truth = stats.multinomial.logpmf(case.counts, n=case.counts.sum(-1), p=ratio).sum(-1)
    ours = log_lik(torch.as_tensor(logits(case)), torch.as_tensor(case.counts))
    np.testing.assert_allclose(ours.numpy(), truth, rtol=1e-12)


def test_empty_spots_change_nothing():
    eta = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([[3.0, 1.0, 0.0], [0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 9]]).double()
    seen = counts.sum(-1) > 0
    assert log_lik(eta, counts) == log_lik(eta[seen], counts[seen])


def test_probabilities_of_all_tables_of_one_total_sum_to_one():
    eta = torch.tensor([[0.7, -1.3]], dtype=torch.float64)
    tables = [[[a, b, 4 - a - b]] for a in range(5) for b in range(5 - a)]
    logs = log_lik(eta, torch.tensor(tables, dtype=torch.float64))
    assert math.isclose(torch.exp(logs).sum().item(), 1.0, rel_tol=1e-13)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ratios_are_the_loop_and_sum_to_one(case):
    ratio = isoform_ratio(torch.as_tensor(logits(case)))
    loops = np.stack([oracles.softmax_ratio(e) for e in logits(case)])
    np.testing.assert_allclose(ratio.numpy(), loops, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(ratio.sum(-1).numpy(), 1.0, rtol=1e-14)


def test_logits_of_any_size_stay_finite():
    eta = torch.tensor([[800.0, -800.0], [-800.0, -800.0], [0.0, 800.0]], dtype=torch.float64)
    counts = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    # only the last spot pays: 800 nats for its read of the reference, and log 2 for its coefficient
    assert math.isclose(log_lik(eta, counts).item(), math.log(2) - 800.0, rel_tol=1e-14)
    assert bool(torch.isfinite(isoform_ratio(eta)).all())


def test_gradient_is_the_score_and_the_hessian_minus_the_information():
    case = CASES["five_isoforms"]
    eta = torch.as_tensor(logits(case)[0])
    counts = torch.as_tensor(case.counts[0])
    score, information = oracles.score_and_information(eta.numpy(), case.counts[0])
    gradient = torch.autograd.functional.jacobian(lambda x: log_lik(x, counts), eta)
    np.testing.assert_allclose(gradient.numpy(), score, atol=1e-11)
    size = eta.numel()
    hessian = torch.autograd.functional.hessian(lambda x: log_lik(x, counts), eta)
    hessian = hessian.reshape(size, size)
    np.testing.assert_allclose(-hessian.numpy(), oracles.spot_major(information), atol=1e-11)


def test_the_coefficient_is_the_factorials_and_takes_fractions():
    counts = torch.tensor([[2.0, 1.0, 4.0]], dtype=torch.float64)
    assert math.isclose(log_coefficient(counts).item(), math.log(105.0), rel_tol=1e-14)
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    assert math.isclose(log_coefficient(half).item(), -2 * math.lgamma(1.5), rel_tol=1e-14)
