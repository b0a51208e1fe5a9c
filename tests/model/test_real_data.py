"""A handful of real genes, fitted to their certificates (optional data)."""

import numpy as np
import pytest
import torch

from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.model import MultinomGLM, MultinomGLMM

KNOWN = ("Myl6", "Rps24", "Plp1", "Ccnc")
SETTLED = {"converged", "boundary"}


@pytest.fixture(scope="module")
def slide(real_data):
    path = real_data / "sit_mob_ont_isoforms.npz"
    if not path.is_file():
        pytest.skip("this slide is not there")
    with np.load(path) as data:
        names = data["gene_names"].tolist()
        known = [names.index(name) for name in KNOWN if name in names]
        picks = sorted({*known, 0, 100, 333})
        return {
            "counts": data["counts"][picks].astype(float),
            "counts_3": data["counts_3"][:1].astype(float),
            "names": [names[g] for g in picks],
            "region": data["region_onehot"][:, :4].astype(float),
            "kernel": CARKernel.from_coords(data["coords"], k=6, rho=0.99),
        }


def assert_certified(model):
    table = model.diagnose()
    assert set(table["status"]) <= SETTLED
    assert (table["gradient_norm"] < 1e-3).all()
    assert (table["reason"][table["status"] == "boundary"] != "").all()
    np.testing.assert_allclose(table[model.objective], model().detach(), rtol=1e-9)
    outputs = [*model.parameters(), model.get_isoform_ratio()]
    assert all(bool(torch.isfinite(value).all()) for value in outputs)
    errors = [*model.standard_errors().values(), model.ratio_standard_errors()]
    assert not any(bool(error.isnan().any()) for error in errors)


@pytest.mark.parametrize("fix", [True, False])
def test_two_isoforms_by_the_marginal(slide, fix):
    model = MultinomGLMM(var_fix_sigma=fix, fitting_method="marginal_newton")
    model.setup_data(slide["counts"], slide["kernel"])
    model.fit(quiet=True)
    assert_certified(model)
    if not fix:
        flat = MultinomGLM()
        flat.setup_data(slide["counts"])
        flat.fit(quiet=True)
        gain = (model() - flat()).detach()
        assert (gain > -1e-6).all()  # the GLM is the limit of sigma -> 0
        assert gain[slide["names"].index("Myl6")] > 5.0


def test_two_isoforms_with_layers_by_the_joint(slide):
    model = MultinomGLMM(fitting_method="joint_newton")
    model.setup_data(slide["counts"][:3], slide["kernel"], slide["region"])
    model.fit(quiet=True)
    assert_certified(model)


def test_three_isoforms_with_separate_variances(slide):
    model = MultinomGLMM(False, False, "gamma", fitting_method="marginal_newton")
    model.setup_data(slide["counts_3"], slide["kernel"])
    model.fit(quiet=True)
    assert_certified(model)
