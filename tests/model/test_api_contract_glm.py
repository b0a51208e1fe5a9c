"""Names, defaults, shapes and behaviour of the documented MultinomGLM."""

import inspect

import pytest
import torch

from splisosm_pyro.fit.options import COMMON_KEYS
from splisosm_pyro.model import MultinomGLM


@pytest.fixture
def counts():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 10, (5, 100, 3), generator=generator)


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self"}


def test_signatures():
    none = inspect.Parameter.empty
    assert defaults(MultinomGLM) == {"fitting_method": "iwls", "fitting_configs": None}
    assert defaults(MultinomGLM.setup_data) == {
        "counts": none,
        "design_mtx": None,
        "device": "cpu",
        "strict": False,
    }
    assert defaults(MultinomGLM.fit) == {
        "store_param_history": False,
        "verbose": False,
        "quiet": False,
        "random_seed": None,
        "diagnose": None,
    }
    assert list(defaults(MultinomGLM.update_params_from_dict)) == ["params"]
    for name in ("clone", "forward", "get_isoform_ratio"):
        assert defaults(getattr(MultinomGLM, name)) == {}


def test_bases():
    assert [base.__name__ for base in MultinomGLM.__bases__] == ["BaseModel", "Module"]
    assert issubclass(MultinomGLM, torch.nn.Module)


def test_documented_example(counts, capsys):
    model = MultinomGLM(fitting_method="iwls")
    model.setup_data(counts, design_mtx=None)
    assert model.fit() is None
    print(model)
    assert "MultinomGLM" in capsys.readouterr().out
    assert model.get_isoform_ratio().shape == (5, 100, 3)
    assert model.beta.shape == (5, 0, 2)
    assert model.bias_eta.shape == (5, 2)


def test_attributes(counts):
    model = MultinomGLM()
    assert model.n_factors is None
    assert model.fitting_time == 0.0
    model.setup_data(counts, torch.arange(100.0)[:, None])
    assert (model.n_genes, model.n_spots, model.n_isos, model.n_factors) == (5, 100, 3, 1)
    assert model.fitting_method == "iwls"
    assert set(model.fitting_configs) == set(COMMON_KEYS)
    model.fit(quiet=True)
    assert model.fitting_time > 0


def test_a_single_gene_has_a_gene_axis(counts):
    model = MultinomGLM()
    model.setup_data(counts[0])
    model.fit(quiet=True)
    assert model.bias_eta.shape == (1, 2)
    assert model.forward().shape == (1,)


@pytest.mark.parametrize("method", ["iwls", "newton", "gd"])
def test_shapes_with_distinct_primes(method):
    generator = torch.Generator().manual_seed(1)
    model = MultinomGLM(fitting_method=method)
    model.setup_data(
        torch.randint(0, 5, (2, 31, 7), generator=generator),
        torch.randn(31, 3, generator=generator),
    )
    model.fit(quiet=True)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == {
        "beta": (2, 3, 6),
        "bias_eta": (2, 6),
    }
    assert {n: tuple(e.shape) for n, e in model.standard_errors().items()} == {
        "beta": (2, 3, 6),
        "bias_eta": (2, 6),
    }
    assert model.get_isoform_ratio().shape == (2, 31, 7)
    assert list(model.diagnose().columns) == [
        "status",
        "reason",
        "gradient_norm",
        "min_eigenvalue",
        "epochs",
        "log_lik",
    ]


def test_logger(counts):
    model = MultinomGLM(fitting_method="gd")
    model.setup_data(counts.double())
    model.fit(quiet=True)
    log = model.logger
    assert log.loss_history.shape == (int(log.epoch.max()), 5)
    for values in (log.best_loss, log.best_epoch, log.convergence, log.epoch):
        assert values.shape == (5,)
    assert bool(log.convergence.all())
    torch.testing.assert_close(log.best_loss, log.loss_history.min(0).values)
    rows = log.loss_history.gather(0, log.best_epoch[None])[0]
    torch.testing.assert_close(rows, log.best_loss)
    torch.testing.assert_close(log.best_loss, -model.forward().detach())


def test_param_history(counts):
    model = MultinomGLM(fitting_method="newton")
    model.setup_data(counts.double(), torch.linspace(-1, 1, 100)[:, None])
    history = model.fit(store_param_history=True, quiet=True)
    assert list(history) == ["loss", "params"]
    n_epochs = len(model.logger.loss_history)
    assert len(history["loss"]) == len(history["params"]) == n_epochs
    assert n_epochs > 1
    for loss, params in zip(history["loss"], history["params"], strict=True):
        assert set(params) == {"beta", "bias_eta"}
        twin = model.clone()
        twin.update_params_from_dict(params)
        torch.testing.assert_close(-twin.forward().detach(), loss)
    torch.testing.assert_close(history["params"][-1]["beta"], model.beta.detach())
    assert model.logger.get_params_iter() is history
    model.fit(quiet=True)
    assert model.logger.get_params_iter() is None


def test_diagnose_keyword_is_deprecated(counts):
    model = MultinomGLM()
    model.setup_data(counts)
    with pytest.warns(DeprecationWarning, match="store_param_history"):
        history = model.fit(quiet=True, diagnose=True)
    assert set(history) == {"loss", "params"}
    with pytest.warns(DeprecationWarning, match="store_param_history"):
        assert model.fit(quiet=True, diagnose=False) is None


def test_quiet_and_verbose(counts, capfd, caplog):
    model = MultinomGLM()
    model.setup_data(counts)
    model.fit(quiet=True, verbose=True)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert not caplog.records
    model.fit()
    captured = capfd.readouterr()
    assert "5/5" in captured.err
    assert captured.out == ""
    model.fit(verbose=True)
    assert [r.message[:6] for r in caplog.records] == [f"gene {g}" for g in range(5)]


def test_random_seed_leaves_the_global_generator(counts):
    model = MultinomGLM()
    model.setup_data(counts)
    before = torch.get_rng_state()
    model.fit(quiet=True, random_seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TypeError, match="random_seed must be an int or None, came str"):
        model.fit(quiet=True, random_seed="7")


def test_print_before_and_after(counts):
    model = MultinomGLM(fitting_method="newton")
    assert "none yet, call setup_data" in str(model)
    model.setup_data(counts)
    assert "5 genes x 100 spots x 3 isoforms, 0 covariates" in str(model)
    assert "none yet, call fit" in str(model)
    model.fit(quiet=True)
    assert "5 converged" in str(model)
    assert " s;" in str(model)
    assert repr(model) == str(model)
