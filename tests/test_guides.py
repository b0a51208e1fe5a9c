"""A point as a Pyro guide."""

import numpy as np
import oracles
import pytest
import torch
from cases import CASES
from kernels import eta_of, tensor
from pyro.infer import Predictive

from splisosm_pyro.generative import multinomial_glm, multinomial_glmm
from splisosm_pyro.guides import map_guide
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.priors import InvGammaPrior

FIXED = ("beta", "bias_eta")


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.usefixtures("seeded")
def test_a_point_as_a_guide_predicts_counts(parallel):
    case = CASES["batch"]
    guide = map_guide(
        {name: tensor(getattr(case, name)) for name in (*FIXED, "sigma", "nu")}
        | {"theta_logit": torch.logit(tensor(case.theta))},
        scale_site="sigma_sq",
    )
    predict = Predictive(
        multinomial_glmm, guide=guide, num_samples=400, parallel=parallel,
        return_sites=("eta", "sigma", "counts"),
    )  # fmt: skip
    totals = tensor(case.counts).sum(-1)
    out = predict(
        None, case.design, DenseKernel(case.V), prior=InvGammaPrior(), share_variance=False,
        totals=totals, n_isos=3,
    )  # fmt: skip
    torch.testing.assert_close(out["eta"], eta_of(case).expand(400, *eta_of(case).shape))
    torch.testing.assert_close(out["sigma"][7].squeeze(), tensor(case.sigma))
    counts = out["counts"].reshape(400, *case.shape)
    assert torch.equal(counts.sum(-1), totals.expand(400, *totals.shape))
    mean = totals.numpy()[..., None] * np.stack([oracles.softmax_ratio(e) for e in eta_of(case)])
    assert (np.abs(counts.numpy().mean(0) - mean) < 5 * np.sqrt(mean / 400) + 1e-2).all()


def test_a_guide_says_what_is_wrong_with_its_point():
    with pytest.raises(ValueError, match=r"point must have names among .*, came 'bias'"):
        map_guide({"bias": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match="point must have one number of genes"):
        map_guide({"beta": torch.zeros(2, 0, 1), "bias_eta": torch.zeros(3, 1)})


@pytest.mark.usefixtures("seeded")
def test_a_glm_point_as_a_guide():
    case = CASES["covariates"]
    guide = map_guide({name: tensor(getattr(case, name)) for name in FIXED})
    predict = Predictive(multinomial_glm, guide=guide, num_samples=2, return_sites=("eta",))
    eta = predict(tensor(case.counts), case.design)["eta"]
    torch.testing.assert_close(eta[1], eta_of(case) - tensor(case.nu))


def test_the_scale_goes_to_the_site_that_the_program_has():
    point = {"sigma": tensor([[2.0]]), "theta_logit": tensor([[0.0]])}
    assert map_guide(point)()["sigma"].tolist() == [[2.0]]
    assert map_guide(point, "sigma_sq")()["sigma_sq"].tolist() == [[4.0]]
    assert list(map_guide(point, None)()) == ["theta"]
    assert map_guide({"sigma_sq": tensor([[9.0]])})()["sigma"].tolist() == [[3.0]]
