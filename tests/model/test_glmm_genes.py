"""Genes of a batch do not touch each other, and legal but odd genes are handled one by one."""

import warnings

import cases
import numpy as np
import pytest
import torch
from problems import kernel_of

from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.model import MultinomGLMM

METHODS = ("marginal_newton", "joint_newton")


@pytest.fixture(scope="module")
def many():
    """20 genes at 19 spots, some of them odd."""
    case = cases.make("many", 31, n_genes=20, n_spots=19, n_isos=3, n_factors=1, depth=3.0)
    case.counts[7] = 0.0
    case.counts[9, :, 0] = 0.0
    case.counts[11, :, 2] = 0.0
    case.counts[13, 1:] = 0.0
    case.counts[13, 0] = [2.0, 1.0, 0.0]
    return case


@pytest.fixture(scope="module")
def kernel(many):
    return CARKernel.from_coords(many.coords, k=4, rho=0.9)


def fitted(counts, kernel, design=None, method="marginal_newton", **arguments):
    model = MultinomGLMM(fitting_method=method, **arguments)
    model.setup_data(counts, kernel, design)
    model.fit(quiet=True)
    return model


FREE = {"var_fix_sigma": False, "var_prior_model": "gamma"}


@pytest.fixture(scope="module")
def whole(many, kernel):
    return {method: fitted(many.counts, kernel, many.design, method, **FREE) for method in METHODS}


def assert_same(one, genes, other, others):
    for name, value in one.named_parameters():
        twin = dict(other.named_parameters())[name][others]
        torch.testing.assert_close(value[genes], twin, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(one()[genes], other()[others], rtol=1e-8, atol=1e-8)
    assert [one.status[g] for g in genes] == [other.status[g] for g in others]


@pytest.mark.parametrize("method", METHODS)
def test_a_gene_alone_is_the_gene_in_the_batch(method, many, kernel, whole):
    for g in (0, 7, 9, 11, 13, 17):
        alone = fitted(many.counts[g], kernel, many.design, method, **FREE)
        assert_same(alone, [0], whole[method], [g])
    errors = fitted(many.counts[[17]], kernel, many.design, method, **FREE).standard_errors()
    for name, value in whole[method].standard_errors().items():
        torch.testing.assert_close(errors[name][0], value[17], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_genes_does_not_matter(method, many, kernel, whole):
    order = np.random.default_rng(0).permutation(20)
    shuffled = fitted(many.counts[order], kernel, many.design, method, **FREE)
    assert_same(shuffled, list(range(20)), whole[method], order.tolist())


@pytest.mark.parametrize("method", METHODS)
def test_permuted_spots_permute_the_field(method, many, whole):
    order = np.random.default_rng(1).permutation(19)
    kernel = CARKernel.from_coords(many.coords[order], k=4, rho=0.9)
    turned = fitted(many.counts[:6, order], kernel, many.design[order], method, **FREE)
    model = whole[method]
    torch.testing.assert_close(turned(), model()[:6], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(turned.nu, model.nu[:6][:, order], rtol=0, atol=2e-5)
    for name in ("beta", "bias_eta", "sigma"):
        ours, theirs = (getattr(m, name)[:6] for m in (turned, model))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    ratio = model.get_isoform_ratio()[:6][:, order]
    torch.testing.assert_close(turned.get_isoform_ratio(), ratio, rtol=0, atol=1e-5)


def test_odd_genes_have_their_status_and_finite_numbers(whole):
    for method, model in whole.items():
        reasons = model.diagnose()["reason"]
        assert model.status[7] == "no counts"
        assert model.status[9] == model.status[11] == "boundary"
        assert "isoform 0 never occurs" in reasons[9]
        assert "the reference, isoform 2, never occurs" in reasons[11]
        assert {model.status[13], *model.status[14:]} <= {"converged", "boundary"}
        outputs = [*model.parameters(), model(), model.get_isoform_ratio(), model.var_total()]
        assert all(bool(torch.isfinite(value).all()) for value in outputs), method
        errors = [*model.standard_errors().values(), model.ratio_standard_errors()]
        assert not any(bool(error.isnan().any()) for error in errors)
        assert (model.diagnose()["gradient_norm"] < 1e-3).all()
        assert bool(model.logger.convergence.all())
        assert not model.nu[7].any()


@pytest.mark.parametrize("method", METHODS)
def test_a_gene_that_breaks_does_not_take_the_others_along(method, monkeypatch, many, kernel):
    clean = fitted(many.counts[:4], kernel, many.design, method, **FREE)

    def breaking(spec, counts, start, **more):
        if np.array_equal(counts, many.counts[1]):
            raise FloatingPointError("a test broke it")
        return fit_gene(spec, counts, start, **more)

    monkeypatch.setattr("splisosm_pyro.model.glmm.fit_gene", breaking)
    model = fitted(many.counts[:4], kernel, many.design, method, **FREE)
    assert model.status[1] == "failed: FloatingPointError: a test broke it"
    assert model.logger.convergence.tolist() == [True, False, True, True]
    assert not model.beta[1].any()
    assert bool(torch.isfinite(model()).all())
    assert all(bool(torch.isfinite(value).all()) for value in model.parameters())
    assert all(bool(torch.isinf(e[1]).all()) for e in model.standard_errors().values())
    assert "1 failed" in str(model)
    others = [0, 2, 3]
    assert_same(model, others, clean, others)
    monkeypatch.undo()
    model.fit(quiet=True)  # and it can be fitted again
    assert not model.status[1].startswith("failed")
    torch.testing.assert_close(model()[1], clean()[1], rtol=0, atol=1e-4)


# ---- legal but odd input


def test_a_covariate_that_separates_is_named():
    rng = np.random.default_rng(2)
    group = np.repeat([0.0, 1.0], 10)
    counts = rng.poisson(4.0, size=(1, 20, 2)).astype(float)
    counts[0, 10:, 0] = 0.0
    kernel = CARKernel.from_coords(rng.uniform(size=(20, 2)), k=4, rho=0.9)
    for method in METHODS:
        model = fitted(counts, kernel, group[:, None], method)
        assert model.status == ["boundary"]
        assert "'covariate_0' separates isoform 0" in model.diagnose()["reason"][0]
        assert all(bool(torch.isfinite(value).all()) for value in model.parameters())
        value = model().detach()
        model.update_params_from_dict({"beta": model.beta.detach() - 5.0})  # towards the supremum
        assert (model() < value + 1e-4).all()


@pytest.mark.parametrize("method", METHODS)
def test_totals_of_a_million(method):
    case = cases.make("deep", 32, n_genes=2, n_spots=19, n_isos=3, depth=1e6)
    model = fitted(case.counts, case.V, None, method)
    assert set(model.status) <= {"converged", "boundary"}
    assert (model.diagnose()["gradient_norm"] < 1e-3).all()
    share = torch.from_numpy(case.counts / case.counts.sum(-1, keepdims=True))
    torch.testing.assert_close(model.get_isoform_ratio().detach(), share, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_occupied_spot(method):
    counts = np.zeros((1, 9, 3))
    counts[0, 4] = [2.0, 1.0, 3.0]
    coords = np.random.default_rng(3).uniform(size=(9, 2))
    model = fitted(counts, CARKernel.from_coords(coords, k=3), None, method, **FREE)
    assert model.status[0] in {"converged", "boundary"}
    assert all(bool(torch.isfinite(value).all()) for value in model.parameters())
    share = model.get_isoform_ratio()[0, 4].detach()
    # the determinant of the Laplace value moves the optimum a little
    torch.testing.assert_close(share, torch.tensor([2.0, 1.0, 3.0]).double() / 6, rtol=0, atol=0.05)


def test_fractional_counts_warn_once():
    case = cases.CASES["fractional"]
    with pytest.warns(SplisosmWarning, match="fractional") as record:
        model = fitted(case.counts, kernel_of("fractional", "dense"))
    assert len(record) == 1
    assert model.status[0] in {"converged", "boundary"}


def test_every_form_of_counts_gives_the_same_fit(many, kernel):
    counts = torch.from_numpy(many.counts[:3]).long()
    reference = fitted(counts, kernel, many.design)
    assert reference.nu.dtype == torch.float64
    for form in (counts.numpy(), counts.double(), counts.int(), counts.numpy().astype(np.uint16)):
        assert_same(fitted(form, kernel, many.design), [0, 1, 2], reference, [0, 1, 2])
    assert_same(fitted(counts.to_sparse(), kernel, many.design), [0], reference, [0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        compressed = counts[0].double().to_sparse_csr()
    assert_same(fitted(compressed, kernel, many.design), [0], reference, [0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_have_the_dtype_of_the_counts(dtype, method, many, kernel):
    counts = torch.from_numpy(many.counts[:3])
    exact = fitted(counts, kernel, many.design, method)
    model = fitted(counts.to(dtype), kernel, torch.from_numpy(many.design), method)
    outputs = [*model.parameters(), model(), model.log_joint(), model.log_marginal()]
    outputs += [model.get_isoform_ratio(), model.var_total(), model.var_sp_prop()]
    outputs += [*model.standard_errors().values(), model.ratio_standard_errors()]
    assert {value.dtype for value in outputs} == {dtype}
    torch.testing.assert_close(model.nu, exact.nu.to(dtype), rtol=0, atol=1e-4)
    assert model.status == exact.status
