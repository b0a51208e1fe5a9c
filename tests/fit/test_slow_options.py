"""Old configurations reach the same optimum, and one line says what they cost."""

import logging

import pytest
import torch

from splisosm_pyro import simulate_tissue
from splisosm_pyro.fit.options import GLMMOptions, GLMOptions
from splisosm_pyro.model import MultinomGLM, MultinomGLMM

TISSUE = simulate_tissue(n_spots=30, n_genes=2, n_isos=3, depth=6.0, sigma=0.8, theta=0.6, seed=3)
# The defaults of splisosm 1.2, as they stand in scripts.
OLD = {"lr": 1e-2, "optim": "adam", "tol": 1e-5, "max_epochs": 1000, "patience": 5}


class Fresh(MultinomGLMM):
    """A class of models that has said nothing yet."""


def lines(caplog, kind, method, configs):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "splisosm_pyro"):
        kind(fitting_method=method, fitting_configs=configs)
    return [record.getMessage() for record in caplog.records]


def test_said_once_for_a_class_and_only_where_it_costs(caplog):
    assert lines(caplog, Fresh, "joint_newton", {"optim": "adam"}) == []
    assert lines(caplog, Fresh, "marginal_newton", {"patience": 5, "max_epochs": 500}) == []
    (said,) = lines(caplog, Fresh, "marginal_newton", OLD)
    assert said.startswith("Fresh: fitting_configs 'optim': 'adam'")
    assert "'optim', 'lr' and 'patience' are left out" in said
    assert lines(caplog, Fresh, "marginal_gd", OLD) == []

    class Other(MultinomGLM): ...

    (said,) = lines(caplog, Other, "iwls", {"lr": 0.01})
    assert "'lr': 0.01" in said


@pytest.mark.parametrize("configs", [OLD, {"lr": 1e-2}, {"lr": 0.01, "patience": 5}], ids=str)
@pytest.mark.parametrize("method", ["iwls", "newton", "gd"])
def test_the_glm_reaches_its_optimum(method, configs):
    def fitted(**options):
        model = MultinomGLM(**options)
        model.setup_data(TISSUE.counts.double(), TISSUE.coords)
        model.fit(quiet=True)
        return model

    own, old = fitted(), fitted(fitting_method=method, fitting_configs=configs)
    assert old.status == own.status == ["converged"] * 2
    torch.testing.assert_close(old(), own(), rtol=0, atol=1e-3)


def test_shorter_steps_may_be_more():
    assert GLMOptions.from_configs("iwls", {"lr": 0.01}).max_epochs == 10_000
    assert GLMMOptions.from_configs("marginal_gd", {"lr": 0.1}).max_epochs == 5_000
    assert GLMMOptions.from_configs("marginal_gd", {"lr": 0.1, "max_epochs": 7}).max_epochs == 7
    assert GLMMOptions.from_configs("marginal_gd", {"lr": 5.0}).max_epochs == 500
    assert GLMMOptions.from_configs("marginal_gd", {"lr": 1e-9}).max_epochs == 1_000_000
