"""Columns of all levels and constant ones: fitted as without the last of them, said once."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from splisosm_pyro import simulate_tissue
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.model import MultinomGLM, MultinomGLMM

S = 40
TISSUE = simulate_tissue(n_spots=S, n_genes=2, n_isos=3, depth=8.0, sigma=0.8, theta=0.6, seed=3)
X = np.random.default_rng(0).normal(size=S)
LEVELS = np.eye(3)[np.arange(S) % 3]
ALL = pd.DataFrame(np.column_stack([LEVELS, X, np.full(S, 2.0)]), columns=[*"abc", "x", "one"])
KEPT, LEFT_OUT = [0, 1, 3], [2, 4]
WITHOUT = ALL[["a", "b", "x"]]
MARGINAL = {"fitting_method": "marginal_newton", "var_fix_sigma": False}


def fitted(kind, design, options):
    model = kind(**options)
    kernel = {"corr_sp": TISSUE.kernel} if kind is MultinomGLMM else {}
    model.setup_data(TISSUE.counts.double(), design_mtx=design, **kernel)
    model.fit(quiet=True)
    return model


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MultinomGLM, {}),
        (MultinomGLM, {"fitting_method": "gd"}),
        (MultinomGLMM, {}),
        (MultinomGLMM, MARGINAL),
        (MultinomGLMM, MARGINAL | {"coding": "symmetric"}),
    ],
)
def test_fitted_as_without_the_last_of_them(kind, options):
    with pytest.warns(SplisosmWarning) as said:
        whole = fitted(kind, ALL, options)
    assert len(said) == 1
    assert said[0].filename == __file__
    part = fitted(kind, WITHOUT, options)
    torch.testing.assert_close(whole(), part(), rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.beta[:, KEPT], part.beta, rtol=0, atol=1e-9)
    assert bool((whole.beta[:, LEFT_OUT] == 0).all())
    errors, without = whole.standard_errors(), part.standard_errors()
    torch.testing.assert_close(errors["beta"][:, KEPT], without["beta"], rtol=1e-7, atol=0)
    assert bool(errors["beta"][:, LEFT_OUT].isinf().all())
    torch.testing.assert_close(errors["bias_eta"], without["bias_eta"], rtol=1e-7, atol=0)
    assert whole.status == part.status
    assert whole.diagnose()["reason"].tolist() == part.diagnose()["reason"].tolist()
    torch.testing.assert_close(whole.get_isoform_ratio(), part.get_isoform_ratio())


def test_the_warning_says_which_and_how():
    with pytest.warns(SplisosmWarning) as said:
        MultinomGLM().setup_data(TISSUE.counts, ALL)
    words = str(said[0].message)
    for part in ("'one' is constant", "'c' is a linear combination", "'a', 'b'", "strict=True"):
        assert part in words
    assert "'x'" not in words


def test_it_is_refused_where_it_shall_be():
    for kind, kernel in ((MultinomGLM, ()), (MultinomGLMM, (TISSUE.kernel,))):
        for design in (ALL, ALL[list("abc")]):
            with pytest.raises(ValueError, match=r"constant|linear combination"):
                kind().setup_data(TISSUE.counts, *kernel, design_mtx=design, strict=True)
        kind().setup_data(TISSUE.counts, *kernel, design_mtx=WITHOUT, strict=True)


def test_the_design_stays_the_users():
    with pytest.warns(SplisosmWarning):
        model = fitted(MultinomGLM, ALL, {})
    np.testing.assert_array_equal(model.X_spot[0].numpy(), ALL.to_numpy())
    assert model.n_factors == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error", SplisosmWarning)
        model.fit(quiet=True)
        table = model.test_covariates(TISSUE.coords)
    part = fitted(MultinomGLM, WITHOUT, {}).test_covariates(TISSUE.coords)
    np.testing.assert_allclose(table["p"], part["p"], rtol=1e-6)
