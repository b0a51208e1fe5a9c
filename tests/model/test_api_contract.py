"""The documented API, name for name: signatures, defaults, attributes, shapes, examples."""

import inspect

import pytest
import torch

from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.utils import get_cov_sp

REQUIRED = inspect.Parameter.empty
FIT = {
    "store_param_history": False,
    "verbose": False,
    "quiet": False,
    "random_seed": None,
    "diagnose": None,
}
SIGNATURES = {
    MultinomGLM: {
        "__init__": {"fitting_method": "iwls", "fitting_configs": None},
        "setup_data": {"counts": REQUIRED, "design_mtx": None, "device": "cpu", "strict": False},
        "fit": FIT,
        "clone": {},
        "forward": {},
        "get_isoform_ratio": {},
        "update_params_from_dict": {"params": REQUIRED},
    },
    MultinomGLMM: {
        "__init__": {
            "share_variance": True,
            "var_fix_sigma": True,
            "var_prior_model": "none",
            "var_prior_model_params": None,
            "init_ratio": "uniform",
            "fitting_method": "joint_gd",
            "fitting_configs": None,
            "coding": "reference",
        },
        "setup_data": {
            "counts": REQUIRED,
            "corr_sp": None,
            "design_mtx": None,
            "device": "cpu",
            "corr_sp_eigvals": None,
            "corr_sp_eigvecs": None,
            "strict": False,
        },
        "fit": FIT,
        "clone": {},
        "forward": {},
        "get_isoform_ratio": {"kind": "at_nu"},
        "update_params_from_dict": {"params": REQUIRED},
        "var_sp_prop": {},
        "var_total": {},
        "log_joint": {},
        "log_marginal": {"nugget": None, "smooth": None},
        "log_marginal_error": {"draws": 400, "seed": 0},
        "standard_errors": {},
        "diagnose": {"marginal_error": False, "posterior": None},
    },
}
CALLS = [(kind, name) for kind, table in SIGNATURES.items() for name in table]


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self"}


@pytest.mark.parametrize(("kind", "name"), CALLS, ids=[f"{k.__name__}.{n}" for k, n in CALLS])
def test_signature(kind, name):
    found, expected = defaults(getattr(kind, name)), SIGNATURES[kind][name]
    assert list(found.items()) == list(expected.items())  # order matters: they are positional
    parameters = inspect.signature(getattr(kind, name)).parameters.values()
    by_name_alone = {p.name for p in parameters if p.kind is not p.POSITIONAL_OR_KEYWORD}
    assert by_name_alone <= {"posterior", "coding", "strict"}  # nothing that is documented


def test_bases_as_documented():
    assert [base.__name__ for base in MultinomGLM.__bases__] == ["BaseModel", "Module"]
    assert [b.__name__ for b in MultinomGLMM.__bases__] == ["MultinomGLM", "BaseModel", "Module"]
    assert issubclass(MultinomGLMM, torch.nn.Module)


def test_get_cov_sp_signature():
    assert defaults(get_cov_sp) == {"coords": REQUIRED, "k": 4, "rho": 0.99}


# ---- attributes

METHODS = {
    MultinomGLM: ("iwls", "newton", "gd"),
    MultinomGLMM: ("joint_gd", "joint_newton", "marginal_gd", "marginal_newton"),
}
CONFIG_KEYS = {"lr", "optim", "tol", "max_epochs", "patience"}
PRIOR_PARAMS = {
    "none": {},
    "gamma": {"alpha": 2.0, "beta": 0.3},
    "inv_gamma": {"alpha": 3, "beta": 0.5},
}


@pytest.mark.parametrize("kind", METHODS)
def test_every_documented_method_and_key_is_taken(kind):
    for method in METHODS[kind]:
        for optim in ("adam", "sgd", "lbfgs"):
            given = {"lr": 0.3, "optim": optim, "tol": 1e-3, "max_epochs": 7, "patience": 2}
            model = kind(fitting_method=method, fitting_configs={**given, "tol_relative": True})
            assert model.fitting_method == method
            assert given.items() <= model.fitting_configs.items()
            assert model.fitting_configs["tol_relative"] is True
        assert set(kind(fitting_method=method).fitting_configs) >= CONFIG_KEYS
    model = MultinomGLMM(fitting_method="marginal_newton", fitting_configs={"update_nu_every_k": 3})
    assert model.fitting_configs["update_nu_every_k"] == 3


def test_attributes_of_the_glmm():
    model = MultinomGLMM(False, False, "gamma", {"beta": 1.5}, "observed", "marginal_gd")
    assert model.share_variance is False
    assert model.var_fix_sigma is False
    assert model.var_prior_model == "gamma"
    assert model.var_prior_model_params == {"alpha": 2.0, "beta": 1.5}
    assert model.init_ratio == "observed"
    assert model.fitting_method == "marginal_gd"
    assert (model.n_genes, model.n_spots, model.n_isos, model.n_factors) == (0, 0, 0, None)
    assert model.fitting_time == 0.0
    for name, params in PRIOR_PARAMS.items():
        assert MultinomGLMM(var_prior_model=name).var_prior_model_params == params


# ---- shapes with S, P, F distinct primes

G, S, P, F = 2, 31, 7, 3


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("method", METHODS[MultinomGLMM])
def test_shapes(method, share):
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(0, 5, (G, S, P), generator=generator)
    design = torch.randn(S, F, generator=generator)
    coords = torch.rand(S, 2, generator=generator)
    model = MultinomGLMM(share_variance=share, fitting_method=method)
    model.setup_data(counts, get_cov_sp(coords, k=4, rho=0.9), design)
    model.fit(quiet=True)
    Q, C = P - 1, 1 if share else P - 1
    shapes = {
        "beta": (G, F, Q),
        "bias_eta": (G, Q),
        "nu": (G, S, Q),
        "sigma": (G, C),
        "theta_logit": (G, C),
    }
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == shapes
    assert list(model.state_dict()) == list(shapes)
    assert model.get_isoform_ratio().shape == (G, S, P)
    assert model.var_total().shape == model.var_sp_prop().shape == (G, C)
    for values in (model(), model.log_joint(), model.log_marginal()):
        assert values.shape == (G,)
    assert {n: tuple(e.shape) for n, e in model.standard_errors().items()} == {
        "beta": (G, F, Q),
        "bias_eta": (G, Q),
        "log_sigma": (G, C),
        "theta_logit": (G, C),
    }
    assert model.ratio_standard_errors().shape == (G, S, P)
    assert len(model.diagnose()) == len(model.status) == G
    assert (model.n_genes, model.n_spots, model.n_isos, model.n_factors) == (G, S, P, F)


# ---- the two examples of the documentation, but for the import line


def test_the_example_of_the_glm(seeded, capsys):
    counts = torch.randint(0, 10, (5, 100, 3))
    model = MultinomGLM(fitting_method="iwls")
    model.setup_data(counts, design_mtx=None)
    model.fit()
    print(model)
    assert "MultinomGLM" in capsys.readouterr().out
    assert model.get_isoform_ratio().shape == (5, 100, 3)
    assert model.beta.shape == (5, 0, 2)
    assert model.bias_eta.shape == (5, 2)


def test_the_example_of_the_glmm(seeded, capsys):
    counts = torch.randint(0, 10, (5, 100, 3))
    coords = torch.rand(100, 2)
    K_sp = get_cov_sp(coords, k=4, rho=0.9)
    model = MultinomGLMM(fitting_method="joint_gd")
    model.setup_data(counts, corr_sp=K_sp, design_mtx=None)
    model.fit()
    print(model)
    assert "MultinomGLMM" in capsys.readouterr().out
    assert K_sp.shape == (100, 100)
    assert K_sp.dtype == torch.float32
    assert model.get_isoform_ratio().shape == (5, 100, 3)
    assert model.beta.shape == (5, 0, 2)
    assert model.bias_eta.shape == (5, 2)
    assert model.nu.shape == (5, 100, 2)
    assert model.sigma.shape == (5, 1)
    assert model.theta_logit.shape == (5, 1)
    assert set(model.status) <= {"converged", "boundary"}
