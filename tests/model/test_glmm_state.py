"""State of a MultinomGLMM, words, guards, and every bad input with its message."""

import cases
import numpy as np
import pytest
import torch

from splisosm_pyro.model import MultinomGLMM


@pytest.fixture(scope="module")
def batch():
    return cases.CASES["batch"]


@pytest.fixture(scope="module")
def fresh(batch):
    """Make a fitted model; the fit is done once."""
    first = MultinomGLMM(fitting_method="marginal_newton")
    first.setup_data(batch.counts, batch.V, batch.design)
    first.fit(quiet=True)
    return first.clone


def values_of(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_untouched(model, before):
    now = values_of(model)
    assert list(now) == list(before)
    assert all(torch.equal(now[name], before[name]) for name in now)


# ---- state


def test_state_dict_round_trip(batch, fresh):
    model = fresh()
    other = MultinomGLMM(fitting_method="marginal_newton")
    other.setup_data(batch.counts, batch.V, batch.design)
    assert not torch.equal(other(), model())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(), model())
    assert torch.equal(other.get_isoform_ratio(), model.get_isoform_ratio())


def test_clone_is_independent(batch, fresh):
    model = fresh()
    before, configs = values_of(model), dict(model.fitting_configs)
    twin = model.clone()
    assert type(twin) is MultinomGLMM
    assert torch.equal(twin(), model())
    assert twin.status == model.status
    with torch.no_grad():
        for value in twin.parameters():
            value += 1.0
    twin.fitting_configs["lr"] = 0.5
    twin.status.append("x")
    twin.setup_data(batch.counts[:1], batch.V)
    twin.fit(quiet=True)
    assert_untouched(model, before)
    assert model.fitting_configs == configs
    assert (model.n_genes, len(model.status)) == (5, 5)
    unready = MultinomGLMM().clone()
    assert unready.n_genes == 0


def test_update_params_from_dict(fresh):
    model = fresh()
    before = values_of(model)
    new = torch.full((5, 2), 0.25)
    model.update_params_from_dict({"bias_eta": new, "nu": np.ones((5, 11, 2))})
    assert torch.equal(model.bias_eta.detach(), new.double())
    assert (model.nu == 1.0).all()
    for name in ("beta", "sigma", "theta_logit"):
        assert torch.equal(getattr(model, name).detach(), before[name])
    assert isinstance(model.nu, torch.nn.Parameter)


def test_a_read_only_array_will_do(fresh):
    model, value = fresh(), np.ones((5, 2))
    value.setflags(write=False)
    model.update_params_from_dict({"bias_eta": value})
    assert (model.bias_eta == 1.0).all()


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ({"theta": np.ones((5, 1))}, ValueError, "'theta', but the model's parameters are 'beta'"),
        ({"nu": np.ones((5, 2, 11))}, ValueError, r"shape \(5, 11, 2\), came \(5, 2, 11\)"),
        ({"sigma": np.full((5, 1), np.inf)}, ValueError, "must be finite"),
        ({"sigma": "0.3"}, TypeError, "numeric tensor or array"),
        ([1.0], TypeError, "must be a dict of tensors, came list"),
    ],
)
def test_a_bad_update_changes_nothing(params, kind, words, fresh):
    model = fresh()
    before = values_of(model)
    if isinstance(params, dict):
        params = {"bias_eta": np.zeros((5, 2)), **params}
    with pytest.raises(kind, match=words):
        model.update_params_from_dict(params)
    assert_untouched(model, before)


def test_new_data_forget_the_old_fit(batch, fresh):
    model = fresh()
    model.setup_data(batch.counts[:2], batch.V)
    assert (model.status, model.logger, model.fitting_time) == ([], None, 0.0)
    assert model.nu.shape == (2, 11, 2)
    assert (model.theta_logit == -3.0).all()
    with pytest.raises(ValueError, match="not fitted yet"):
        model.standard_errors()


def test_to_another_dtype(fresh):
    model = fresh().to(torch.float32)
    assert {v.dtype for v in (model(), model.nu, model.log_joint())} == {torch.float32}
    model.fit(quiet=True)
    assert model.nu.dtype == torch.float32
    assert set(model.status) <= {"converged", "boundary"}


def test_the_model_keeps_its_own_copy_of_the_data(batch):
    counts, V, design = batch.counts.copy(), batch.V.copy(), batch.design.copy()
    model = MultinomGLMM()
    model.setup_data(counts, V, design)
    before = model().detach().clone(), model.log_marginal().detach().clone()
    for array in (counts, V, design):
        array[:] = 0.0
    assert torch.equal(model(), before[0])
    assert torch.equal(model.log_marginal(), before[1])


# ---- words and guards


def test_print(batch, fresh):
    model = MultinomGLMM()
    assert str(model).startswith("MultinomGLMM(fitting_method='joint_gd')")
    assert "none yet, call setup_data" in str(model)
    model.setup_data(batch.counts, batch.V, batch.design)
    assert "5 genes x 11 spots x 3 isoforms, 2 covariates" in str(model)
    assert "none yet, call fit" in str(model)
    done = fresh()
    assert "5 boundary" in str(done) or "converged" in str(done)
    assert repr(done) == str(done)


def test_nothing_works_before_setup_data():
    model = MultinomGLMM()
    calls = (model.fit, model.forward, model.get_isoform_ratio, model.var_total, model.var_sp_prop)
    for call in (*calls, model.log_joint, model.log_marginal):
        with pytest.raises(ValueError, match="call setup_data"):
            call()
    with pytest.raises(ValueError, match="call setup_data"):
        model.update_params_from_dict({})
    model.setup_data(np.ones((4, 2)), np.eye(4))
    for call in (model.diagnose, model.standard_errors, model.ratio_standard_errors):
        with pytest.raises(ValueError, match="not fitted yet"):
            call()


def test_diagnose_keyword_is_deprecated(fresh):
    model = fresh()
    with pytest.warns(DeprecationWarning, match="store_param_history"):
        history = model.fit(quiet=True, diagnose=True)
    assert set(history) == {"loss", "params"}
    with pytest.warns(DeprecationWarning, match="store_param_history"):
        assert model.fit(quiet=True, diagnose=False) is None


def test_random_seed_leaves_the_global_generators(fresh):
    model = fresh()
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model.fit(quiet=True, random_seed=7)
    model.standard_errors()
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_quiet_and_verbose(fresh, capfd, caplog):
    model = fresh()
    model.fit(quiet=True, verbose=True)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert not caplog.records
    model.fit(verbose=True)
    captured = capfd.readouterr()
    assert "5/5" in captured.err
    assert captured.out == ""
    assert [r.message[:6] for r in caplog.records] == [f"gene {g}" for g in range(5)]


def test_logger(fresh):
    model = fresh()
    model.fit(quiet=True)
    log = model.logger
    assert log.loss_history.shape == (int(log.epoch.max()), 5)
    for values in (log.best_loss, log.best_epoch, log.convergence, log.epoch):
        assert values.shape == (5,)
    assert bool(log.convergence.all())
    rows = log.loss_history.gather(0, log.best_epoch[None])[0]
    torch.testing.assert_close(rows, log.best_loss)


# ---- bad input


def changed(V, row, column, value):
    out = V.copy()
    out[row, column] = value
    return out


def with_covariate(batch, column):
    return np.column_stack([batch.design, column])


VALUES, VECTORS = np.linalg.eigh(cases.CASES["batch"].V)
INDEFINITE = (VECTORS * np.r_[-0.5, VALUES[1:]]) @ VECTORS.T
BAD = {
    "negative counts": (
        {"counts": lambda b: -b.counts},
        ValueError,
        "counts must be finite and not negative",
    ),
    "NaN counts": ({"counts": lambda b: b.counts * np.nan}, ValueError, "counts .*came nan"),
    "infinite counts": ({"counts": lambda b: b.counts + np.inf}, ValueError, "counts .*came inf"),
    "rank of counts": (
        {"counts": lambda b: b.counts[0, 0]},
        ValueError,
        r"counts must have shape .*came \(3,\)",
    ),
    "bool counts": (
        {"counts": lambda b: b.counts > 0},
        TypeError,
        "counts must have an integer or floating dtype, came bool",
    ),
    "complex counts": (
        {"counts": lambda b: torch.from_numpy(b.counts + 0j)},
        TypeError,
        "counts .*came complex128",
    ),
    "list counts": (
        {"counts": lambda b: b.counts.tolist()},
        TypeError,
        "counts must be a torch tensor or a numpy array, came list",
    ),
    "zero genes": ({"counts": lambda b: b.counts[:0]}, ValueError, "counts .*came zero genes"),
    "zero spots": ({"counts": lambda b: b.counts[:, :0]}, ValueError, "counts .*came zero spots"),
    "one isoform": (
        {"counts": lambda b: b.counts[..., :1]},
        NotImplementedError,
        "at least two isoforms, came one",
    ),
    "rows of design": (
        {"design_mtx": lambda b: b.design[:7]},
        ValueError,
        r"design_mtx must have shape .*\(11, n_factors\), came \(7, 2\)",
    ),
    "NaN design": (
        {"design_mtx": lambda b: with_covariate(b, np.full(11, np.nan))},
        ValueError,
        "design_mtx must be finite.*'covariate_2'",
    ),
    "constant column": (
        {
            "design_mtx": lambda b: with_covariate(b, np.full(11, 2.0)),
            "strict": lambda b: True,
        },
        ValueError,
        "column 'covariate_2' is constant",
    ),
    "dependent columns": (
        {
            "design_mtx": lambda b: with_covariate(b, b.design @ [2.0, -1.0]),
            "strict": lambda b: True,
        },
        ValueError,
        "linearly independent columns.*'covariate_",
    ),
    "V not square": (
        {"corr_sp": lambda b: b.V[:, :9]},
        ValueError,
        r"corr_sp must be square.*came \(11, 9\)",
    ),
    "V of another size": (
        {"corr_sp": lambda b: b.V[:9, :9]},
        ValueError,
        "corr_sp must have as many spots as counts, 11, came 9",
    ),
    "V not symmetric": (
        {"corr_sp": lambda b: changed(b.V, 2, 5, 0.9)},
        ValueError,
        "corr_sp must be symmetric",
    ),
    "V with NaN": (
        {"corr_sp": lambda b: changed(b.V, 2, 2, np.nan)},
        ValueError,
        "corr_sp must be finite",
    ),
    "V indefinite": (
        {"corr_sp": lambda b: INDEFINITE},
        ValueError,
        "corr_sp must be positive semi-definite",
    ),
    "no V": ({"corr_sp": lambda b: None}, ValueError, "expected corr_sp, or corr_sp_eigvals"),
    "one part of the pairs": (
        {"corr_sp": lambda b: None, "corr_sp_eigvals": lambda b: VALUES},
        ValueError,
        "one of the eigenpairs' two parts",
    ),
    "shapes of the pairs": (
        {
            "corr_sp": lambda b: None,
            "corr_sp_eigvals": lambda b: VALUES[:4],
            "corr_sp_eigvecs": lambda b: VECTORS,
        },
        ValueError,
        r"must have shapes \(rank,\) and \(n_spots, rank\), came \(4,\) and \(11, 11\)",
    ),
    "not orthonormal": (
        {
            "corr_sp": lambda b: None,
            "corr_sp_eigvals": lambda b: VALUES,
            "corr_sp_eigvecs": lambda b: 1.1 * VECTORS,
        },
        ValueError,
        "corr_sp_eigvecs must have orthonormal columns",
    ),
    "negative eigenvalue": (
        {
            "corr_sp": lambda b: None,
            "corr_sp_eigvals": lambda b: VALUES - 1.0,
            "corr_sp_eigvecs": lambda b: VECTORS,
        },
        ValueError,
        "corr_sp_eigvals must not be negative",
    ),
    "unknown device": (
        {"device": lambda b: "tpu"},
        ValueError,
        "device must be one of .*came 'tpu'",
    ),
    "absent device": ({"device": lambda b: "cuda:99"}, ValueError, "device 'cuda:99' is not there"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_leave_the_model_as_it_was(name, batch, fresh):
    wrong, kind, words = BAD[name]
    model = fresh()
    before, status, objective = values_of(model), model.status, model().detach()
    arguments = {"counts": batch.counts, "corr_sp": batch.V, "design_mtx": batch.design}
    arguments.update({key: make(batch) for key, make in wrong.items()})
    with pytest.raises(kind, match=words):
        model.setup_data(**arguments)
    assert_untouched(model, before)
    assert torch.equal(model(), objective)
    assert model.status is status
    assert (model.n_genes, model.n_spots, model.n_isos, model.n_factors) == (5, 11, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"fitting_method": "joint"}, ValueError, "fitting_method must be one of 'joint_gd'"),
        ({"fitting_configs": {"max_epoch": 3}}, ValueError, "did you mean 'max_epochs'"),
        ({"fitting_configs": {"optim": "rmsprop"}}, ValueError, "'adam', 'sgd', 'lbfgs'"),
        ({"fitting_configs": {"lr": -1.0}}, ValueError, "finite number above 0, came -1"),
        ({"fitting_configs": {"update_nu_every_k": 0}}, ValueError, "update_nu_every_k"),
        ({"fitting_configs": [("lr", 1.0)]}, TypeError, "must be a dict or None, came list"),
        ({"init_ratio": "zero"}, ValueError, "init_ratio must be one of 'observed', 'uniform'"),
        ({"share_variance": 1}, TypeError, "share_variance must be True or False, came 1"),
        ({"var_fix_sigma": "yes"}, TypeError, "var_fix_sigma must be True or False"),
        ({"var_prior_model": "normal"}, ValueError, "var_prior_model must be one of"),
        (
            {"var_prior_model": "gamma", "var_prior_model_params": {"alpha": 0.0}},
            ValueError,
            r"var_prior_model_params\['alpha'\] of 'gamma' must be positive and finite, came 0",
        ),
        (
            {"var_prior_model": "inv_gamma", "var_prior_model_params": {"rate": 1.0}},
            ValueError,
            "must have keys in",
        ),
    ],
)
def test_bad_arguments(arguments, kind, words):
    with pytest.raises(kind, match=words):
        MultinomGLMM(**arguments)
