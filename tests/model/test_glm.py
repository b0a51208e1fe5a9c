"""MultinomGLM as a model: its likelihood, its state, batches of genes, and bad input."""

import warnings

import cases
import numpy as np
import oracles
import pandas as pd
import pytest
import torch

from splisosm_pyro.fit.glm.fit_gene import fit_glms
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.model import MultinomGLM

METHODS = ("iwls", "newton", "gd")


def fitted(counts, design=None, method="iwls", **configs):
    model = MultinomGLM(method, configs)
    model.setup_data(counts, design)
    model.fit(quiet=True)
    return model


def batch(seed, n_genes=6, n_spots=40, n_isos=3, n_factors=2, depth=2.0):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(n_spots, n_factors))
    beta = rng.normal(scale=0.5, size=(n_genes, n_factors, n_isos - 1))
    ratio = np.stack([oracles.softmax_ratio(design @ b) for b in beta])
    totals = rng.poisson(depth, (n_genes, n_spots))
    return torch.from_numpy(rng.multinomial(totals, ratio)), torch.from_numpy(design)


# ---- likelihood and ratios


@pytest.mark.parametrize("case", cases.some("batch", "two_isoforms", "five_isoforms"), ids=str)
def test_forward_and_ratios_against_loops(case):
    model = MultinomGLM()
    model.setup_data(case.counts, case.design)
    model.update_params_from_dict({"beta": case.beta, "bias_eta": case.bias_eta})
    values, ratios = model(), model.get_isoform_ratio()
    for g in range(case.shape[0]):
        eta = oracles.linear_predictor(case.B(g), case.design, case.shape[1])
        assert values[g].item() == pytest.approx(oracles.log_lik(eta, case.counts[g]), rel=1e-12)
        np.testing.assert_allclose(ratios[g].detach(), oracles.softmax_ratio(eta), atol=1e-14)


def test_forward_differentiates_to_the_score():
    counts, design = batch(1)
    model = fitted(counts, design)
    assert max(g.abs().max() for g in torch.autograd.grad(model().sum(), model.parameters())) < 1e-9
    with torch.no_grad():
        model.bias_eta += 0.1
    gradient = torch.autograd.grad(model().sum(), model.bias_eta)[0]
    residual = counts.double() - counts.sum(-1, keepdim=True) * model.get_isoform_ratio()
    torch.testing.assert_close(gradient, residual.sum(1)[:, :-1].detach())


@pytest.mark.parametrize("method", METHODS)
def test_fit_is_the_maximum_of_forward(method):
    counts, design = batch(2)
    model = fitted(counts, design, method)
    assert model.status == ["converged"] * 6
    np.testing.assert_allclose(model.diagnose()["log_lik"], model().detach(), rtol=1e-12)
    for g in range(6):
        B, value = oracles.glm_maximum(counts[g].double().numpy(), design.numpy())
        assert model()[g].item() == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(model.beta[g].detach(), B[:-1], atol=1e-5)
        np.testing.assert_allclose(model.bias_eta[g].detach(), B[-1], atol=1e-5)


def test_standard_errors_are_those_of_the_hessian_of_forward():
    counts, design = batch(3, n_genes=1)
    model = fitted(counts, design)

    def value(beta, bias_eta):
        return torch.func.functional_call(model, {"beta": beta, "bias_eta": bias_eta}, ())[0]

    blocks = torch.autograd.functional.hessian(value, tuple(p.detach() for p in model.parameters()))
    hessian = torch.cat(
        [
            torch.cat([b.reshape(r, -1) for b in row], 1)
            for row, r in zip(blocks, (4, 2), strict=True)
        ]
    )
    errors = torch.linalg.inv(-hessian).diagonal().sqrt()
    ours = torch.cat([e.reshape(-1) for e in model.standard_errors().values()])
    torch.testing.assert_close(ours, errors, rtol=1e-8, atol=0)


# ---- genes do not touch each other


@pytest.mark.parametrize("method", METHODS)
def test_a_gene_alone_in_a_batch_and_in_any_order(method):
    counts, design = batch(4, n_genes=50, depth=0.5)
    counts[7] = 0
    counts[9, :, 0] = 0
    whole = fitted(counts, design, method)
    order = torch.from_numpy(np.random.default_rng(0).permutation(50))
    shuffled = fitted(counts[order], design, method)
    assert torch.equal(shuffled.beta, whole.beta[order])
    assert torch.equal(shuffled.bias_eta, whole.bias_eta[order])
    for g in (0, 7, 9, 31):
        alone = fitted(counts[g], design, method)
        assert torch.equal(alone.beta[0], whole.beta[g])
        assert torch.equal(
            alone.standard_errors()["bias_eta"][0], whole.standard_errors()["bias_eta"][g]
        )
        assert alone.status[0] == whole.status[g]


def test_limits_are_handled_per_gene():
    counts, design = batch(5)
    clean = fitted(counts, design)
    counts = counts.clone()
    counts[1] = 0
    counts[2, :, 1] = 0
    counts[3, :, 2] = 0
    counts[4, 1:] = 0
    counts[4, 0] = torch.tensor([2, 1, 1])
    model = fitted(counts, design)
    assert model.status == [
        "converged",
        "no counts",
        "boundary",
        "boundary",
        "boundary",
        "converged",
    ]
    for g in (0, 5):
        assert torch.equal(model.beta[g], clean.beta[g])
    reasons = model.diagnose()["reason"]
    assert "isoform 1 never occurs" in reasons[2]
    assert "the reference, isoform 2, never occurs" in reasons[3]
    assert "'covariate_0'" in reasons[4]
    for values in (model.beta, model.bias_eta, model(), model.get_isoform_ratio()):
        assert bool(torch.isfinite(values).all())
    assert not any(bool(e.isnan().any()) for e in model.standard_errors().values())
    assert bool(model.logger.convergence.all())
    assert model()[1].item() == 0.0


def test_a_gene_that_breaks_does_not_take_the_others_along(monkeypatch):
    counts, design = batch(6)
    clean = fitted(counts, design)

    def breaking(some_counts, *args, **kwargs):
        if (some_counts == counts[2].double().numpy()).all(axis=(1, 2)).any():
            raise FloatingPointError("a test broke it")
        return fit_glms(some_counts, *args, **kwargs)

    monkeypatch.setattr("splisosm_pyro.model.glm.fit_glms", breaking)
    model = fitted(counts, design)
    assert model.status[2] == "failed: FloatingPointError: a test broke it"
    assert not model.beta[2].any()
    assert torch.isinf(model.standard_errors()["beta"][2]).all()
    assert model.logger.convergence.tolist() == [True, True, False, True, True, True]
    others = [0, 1, 3, 4, 5]
    assert torch.equal(model.beta[others], clean.beta[others])
    assert "1 failed" in str(model)


# ---- input forms


def test_every_form_of_counts_gives_the_same_fit():
    counts, design = batch(7)
    reference = fitted(counts, design)
    flat = counts[0]
    for form in (counts.numpy(), counts.double(), counts.int(), counts.numpy().astype(np.uint16)):
        model = fitted(form, design.numpy())
        assert torch.equal(model.beta, reference.beta)
        assert model.beta.dtype == torch.float64
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        compressed = flat.double().to_sparse_csr()
    for form in (flat.to_sparse(), compressed, counts.to_sparse()):
        model = fitted(form, design)
        torch.testing.assert_close(model.beta[0], reference.beta[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_have_the_dtype_of_the_counts(dtype):
    counts, design = batch(8)
    exact = fitted(counts, design)
    model = fitted(counts.to(dtype), design)
    outputs = (model.beta, model.bias_eta, model(), model.get_isoform_ratio())
    assert {o.dtype for o in (*outputs, *model.standard_errors().values())} == {dtype}
    torch.testing.assert_close(model.beta, exact.beta.to(dtype), rtol=0, atol=0)


def test_fractional_counts_warn_once():
    counts, design = batch(9)
    with pytest.warns(SplisosmWarning, match="fractional") as record:
        model = fitted(counts.double() * 0.5, design)
    assert len(record) == 1
    torch.testing.assert_close(model.beta, fitted(counts, design).beta, rtol=0, atol=1e-9)


def test_covariate_names_of_a_frame_reach_the_reason():
    layer = np.repeat([0.0, 1.0], 20)
    counts = np.ones((40, 2))
    counts[20:, 0] = 0.0
    model = fitted(counts, pd.DataFrame({"layer": layer}))
    assert "covariate 'layer' separates isoform 0" in model.diagnose()["reason"][0]


def test_the_model_keeps_its_own_copy_of_the_data():
    counts, design = batch(10)
    counts, design = counts.double(), design.clone()
    model = MultinomGLM()
    model.setup_data(counts, design)
    before = model().clone()
    counts.zero_()
    design.zero_()
    assert torch.equal(model(), before)


# ---- state


def test_a_second_fit_goes_on():
    counts, design = batch(11)
    model = fitted(counts, design, "newton", max_epochs=1, lr=0.5)
    first = model.logger.best_loss
    assert set(model.status) == {"max_epochs"}
    model.fit(quiet=True)
    second = model.logger.best_loss
    assert bool((second < first).all())
    twice = fitted(counts, design, "newton", max_epochs=2, lr=0.5)
    torch.testing.assert_close(model.beta, twice.beta, rtol=1e-10, atol=1e-12)


def test_new_data_forget_the_old_fit():
    counts, design = batch(12)
    model = fitted(counts, design)
    model.setup_data(counts[:2])
    assert (model.status, model.logger, model.fitting_time) == ([], None, 0.0)
    assert model.beta.shape == (2, 0, 2)
    assert not model.bias_eta.any()


def test_clone_is_independent():
    counts, design = batch(13)
    model = fitted(counts, design)
    twin = model.clone()
    assert type(twin) is MultinomGLM
    assert torch.equal(twin(), model())
    assert twin.status == model.status
    kept = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        twin.beta += 1.0
    twin.fitting_configs["lr"] = 0.5
    twin.setup_data(counts[:1])
    assert model.n_genes == 6
    assert model.fitting_configs["lr"] == 1.0
    for name, value in model.named_parameters():
        assert torch.equal(value, kept[name])


def test_state_dict_round_trip():
    counts, design = batch(14)
    model = fitted(counts, design)
    assert list(model.state_dict()) == ["beta", "bias_eta"]
    fresh = MultinomGLM()
    fresh.setup_data(counts, design)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(), model())


def test_to_another_dtype():
    counts, design = batch(15)
    model = fitted(counts, design).to(torch.float32)
    assert model().dtype == torch.float32
    model.fit(quiet=True)
    assert model.beta.dtype == torch.float32
    assert set(model.status) == {"converged"}


def test_update_params():
    counts, design = batch(16)
    model = fitted(counts, design)
    old = {name: value.detach().clone() for name, value in model.named_parameters()}
    new = torch.ones(6, 2, dtype=torch.float32)
    model.update_params_from_dict({"bias_eta": new})
    assert torch.equal(model.bias_eta.detach(), new.double())
    assert torch.equal(model.beta.detach(), old["beta"])
    assert isinstance(model.bias_eta, torch.nn.Parameter)


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        (
            {"gamma": torch.zeros(6, 2)},
            ValueError,
            "'gamma', but the model's parameters are 'beta'",
        ),
        ({"beta": torch.zeros(6, 2)}, ValueError, r"shape \(6, 2, 2\), came \(6, 2\)"),
        ({"beta": torch.full((6, 2, 2), torch.nan)}, ValueError, "must be finite"),
        ({"beta": "zeros"}, TypeError, "numeric tensor or array"),
        ([torch.zeros(6, 2)], TypeError, "must be a dict of tensors, came list"),
    ],
)
def test_a_bad_update_changes_nothing(params, kind, words):
    counts, design = batch(17)
    model = fitted(counts, design)
    old = [value.detach().clone() for value in model.parameters()]
    if isinstance(params, dict):
        params = {"bias_eta": torch.zeros(6, 2), **params}
    with pytest.raises(kind, match=words):
        model.update_params_from_dict(params)
    assert all(torch.equal(a, b) for a, b in zip(old, model.parameters(), strict=True))


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"counts": -np.ones((4, 2))}, ValueError, "counts"),
        ({"counts": np.ones((4, 2, 2, 2))}, ValueError, "counts must have shape"),
        (
            {"counts": np.ones((4, 1))},
            NotImplementedError,
            "counts must have at least two isoforms",
        ),
        ({"counts": np.ones((4, 2), dtype=bool)}, TypeError, "counts"),
        ({"counts": np.ones((4, 2)), "design_mtx": np.ones((3, 1))}, ValueError, "design_mtx"),
        (
            {"counts": np.ones((4, 2)), "design_mtx": np.ones((4, 1)), "strict": True},
            ValueError,
            "constant",
        ),
        ({"counts": np.ones((4, 2)), "strict": 1}, TypeError, "strict must be True or False"),
        ({"counts": np.ones((4, 2)), "device": "tpu"}, ValueError, "device"),
    ],
)
def test_a_bad_setup_leaves_the_model_as_it_was(arguments, kind, words):
    counts, design = batch(18)
    model = fitted(counts, design)
    before, status = model().clone(), model.status
    with pytest.raises(kind, match=words):
        model.setup_data(**arguments)
    assert torch.equal(model(), before)
    assert model.status is status
    assert (model.n_genes, model.n_factors) == (6, 2)


def test_nothing_works_before_setup_data():
    model = MultinomGLM()
    for call in (model.fit, model.forward, model.get_isoform_ratio):
        with pytest.raises(ValueError, match="call setup_data"):
            call()
    with pytest.raises(ValueError, match="call setup_data"):
        model.update_params_from_dict({})
    model.setup_data(np.ones((4, 2)))
    for call in (model.diagnose, model.standard_errors):
        with pytest.raises(ValueError, match="not fitted yet"):
            call()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fitting_method": "irls"}, "fitting_method must be one of 'iwls', 'newton', 'gd'"),
        ({"fitting_configs": {"max_epoch": 3}}, "did you mean 'max_epochs'"),
        ({"fitting_configs": {"optim": "rmsprop"}}, "'adam', 'sgd', 'lbfgs'"),
    ],
)
def test_bad_options(arguments, words):
    with pytest.raises(ValueError, match=words):
        MultinomGLM(**arguments)


def test_all_real_genes_are_settled(real_data):
    data = np.load(real_data / "sit_mob_ont_isoforms.npz")
    model = fitted(data["counts"], data["region_onehot"][:, :4].astype(float))
    table = model.diagnose()
    assert set(table["status"]) == {"converged", "boundary"}
    assert (table["gradient_norm"] < 1e-6).all()
    assert (table["reason"][table["status"] == "boundary"] != "").all()
    assert bool(torch.isfinite(model()).all())
