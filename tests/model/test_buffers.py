"""What is read of a model beside its parameters, and the dtype of all of it."""

import numpy as np
import pytest
import torch

from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.utils import get_cov_sp

G, S, P, F = 2, 23, 3, 2
COUNTS = torch.randint(0, 6, (G, S, P), generator=torch.Generator().manual_seed(0))
COORDS = torch.rand(S, 2, generator=torch.Generator().manual_seed(1))
DESIGN = torch.randn(S, F, generator=torch.Generator().manual_seed(2))
V = get_cov_sp(COORDS, k=4, rho=0.9)


def glmm(**arguments):
    model = MultinomGLMM()
    model.setup_data(COUNTS, **({"corr_sp": V, "design_mtx": DESIGN} | arguments))
    return model


def test_data_are_read_under_their_documented_names():
    model = glmm()
    assert model.device == torch.device("cpu")
    torch.testing.assert_close(model.counts, COUNTS.float())
    torch.testing.assert_close(model.X_spot, DESIGN[None])
    torch.testing.assert_close(model.corr_sp, V)
    values, vectors = model.corr_sp_eigvals, model.corr_sp_eigvecs
    torch.testing.assert_close(vectors * values @ vectors.T, V, rtol=0, atol=1e-5)
    model.counts[:] = 0  # a copy
    assert bool(model.counts.any())


def test_eigenpairs_are_read_as_they_were_given():
    values, vectors = (part.flip(-1)[..., :7] for part in torch.linalg.eigh(V.double()))
    model = glmm(corr_sp=None, corr_sp_eigvals=values, corr_sp_eigvecs=vectors)
    torch.testing.assert_close(model.corr_sp_eigvals.sort().values, values.sort().values.float())
    assert model.corr_sp_eigvecs.shape == (S, 7)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="counts"):
        _ = MultinomGLM().counts
    model = MultinomGLM()
    model.setup_data(COUNTS)
    with pytest.raises(AttributeError, match="corr_sp"):
        _ = model.corr_sp


def test_convergence_and_best_parameters():
    model = MultinomGLM()
    model.setup_data(COUNTS)
    assert model.convergence.tolist() == [False, False]
    model.fit(quiet=True)
    assert model.convergence.tolist() == [True, True]
    assert torch.equal(model.best_params["bias_eta"], model.bias_eta.detach())
    assert set(model.best_params) == {"beta", "bias_eta"}


def test_outputs_have_no_gradient():
    model = glmm()
    for value in (model.get_isoform_ratio(), model.var_total(), model.var_sp_prop()):
        assert not value.requires_grad
    assert model().requires_grad


@pytest.mark.parametrize(
    ("counts", "design", "expected"),
    [
        (COUNTS, None, torch.get_default_dtype()),
        (COUNTS, DESIGN, torch.float32),
        (COUNTS, DESIGN.double(), torch.float64),
        (COUNTS.numpy(), DESIGN.numpy().astype(np.float64), torch.float64),
        (COUNTS, DESIGN.round().int(), torch.get_default_dtype()),
        (COUNTS.double(), DESIGN, torch.float64),
        (COUNTS.float(), DESIGN.double(), torch.float32),
    ],
)
def test_the_dtype_is_that_of_counts_or_design_or_the_default(counts, design, expected):
    model = MultinomGLM()
    model.setup_data(counts, design)
    model.fit(quiet=True)
    outputs = (model.beta, model(), model.get_isoform_ratio(), model.X_spot)
    assert {value.dtype for value in outputs} == {expected}


def test_a_design_with_a_leading_axis():
    flat, leading = glmm(), glmm(design_mtx=DESIGN[None])
    assert leading.n_factors == F
    assert torch.equal(flat.X_spot, leading.X_spot)
    with pytest.raises(ValueError, match=r"came \(2, 23, 2\)"):
        glmm(design_mtx=torch.stack([DESIGN, DESIGN]))


@pytest.mark.parametrize("fix", [True, False])
@pytest.mark.parametrize("method", ["joint_gd", "joint_newton", "marginal_gd", "marginal_newton"])
@pytest.mark.parametrize("white", [torch.eye(S), get_cov_sp(COORDS, k=4, rho=0.0)])
def test_a_covariance_without_space_fails_no_gene(method, fix, white):
    model = MultinomGLMM(var_fix_sigma=fix, fitting_method=method)
    model.setup_data(COUNTS, white)
    model.fit(quiet=True)
    assert set(model.status) <= {"converged", "boundary"}
    assert bool(model.get_isoform_ratio().isfinite().all())
