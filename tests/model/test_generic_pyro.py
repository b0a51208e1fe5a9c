"""Generic Pyro on the program ends where the joint methods of the documented class end."""

import math
from functools import cache

import numpy as np
import pyro
import pytest
import torch
from cases import CASES
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, init_to_value

from splisosm_pyro.generative import multinomial_glmm
from splisosm_pyro.maths.axes import as_counts
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.model import MultinomGLMM

STEPS = 1500


@cache
def svi_mode(sigma):
    """Maximise the program's density over beta, bias_eta, nu and theta by Adam."""
    case = CASES["two_isoforms"]
    start = {name: np.zeros_like(getattr(case, name)) for name in ("beta", "bias_eta", "nu")}
    start["theta"] = np.full_like(case.theta, 0.5)
    start = {name: torch.from_numpy(value) for name, value in start.items()}
    arguments = as_counts(case.counts), torch.from_numpy(case.design), DenseKernel(case.V)
    with pyro.get_param_store().scope():
        guide = AutoDelta(multinomial_glmm, init_loc_fn=init_to_value(values=start))
        decay = {"lr": 0.1, "lrd": 0.01 ** (1 / STEPS)}
        svi = SVI(multinomial_glmm, guide, pyro.optim.ClippedAdam(decay), Trace_ELBO())
        for _ in range(STEPS):
            loss = svi.step(*arguments, sigma=torch.full((1, 1), sigma, dtype=torch.float64))
        return -loss, guide.median()


@pytest.mark.parametrize("method", ["joint_gd", "joint_newton"])
def test_svi_finds_the_joint_mode_of_the_class(method):
    """Fixed sigma, theta free: both head for theta = 1, ours to the bound of its search."""
    case = CASES["two_isoforms"]
    model = MultinomGLMM(fitting_method=method)
    model.setup_data(case.counts, corr_sp=DenseKernel(case.V), design_mtx=case.design)
    model.fit(quiet=True)
    value, found = svi_mode(model.sigma.item())  # the same for both methods
    assert model.status == ["boundary"]
    assert found["theta"].item() > 0.99
    assert math.isclose(value, model.log_joint().item(), abs_tol=0.02)
    assert value <= model.log_joint().item() + 1e-3  # beyond our bound lie only 1e-3 nats
    for name in ("beta", "bias_eta", "nu"):
        ours = getattr(model, name).detach()
        np.testing.assert_allclose(found[name].detach(), ours, atol=1e-3)
