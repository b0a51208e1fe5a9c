"""``diagnose(posterior=...)``: the posterior's own checks beside the fit's certificates."""

import cases
import numpy as np
import pytest

from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.posterior import diagnose

BATCH = cases.CASES["batch"]
DRAWS = {"draws": 20, "chains": 2}


@pytest.fixture(scope="module")
def fitted():
    model = MultinomGLMM(
        BATCH.share_variance, var_fix_sigma=False, fitting_method="marginal_newton"
    )
    model.setup_data(BATCH.counts, BATCH.V)
    model.fit(quiet=True)
    return model


@pytest.fixture(scope="module")
def some(fitted):
    """Draws of two genes, the later one first."""
    return fitted.posterior("laplace", **DRAWS, genes=[2, 0], nugget="laplace")


def test_rows_by_place(fitted, some):
    table, own = fitted.diagnose(posterior=some), diagnose(some)
    assert list(table.columns[: len(fitted.diagnose().columns)]) == list(fitted.diagnose().columns)
    assert table["posterior_khat"][[2, 0]].tolist() == own["khat"].tolist()
    assert own["khat"].iloc[0] != own["khat"].iloc[1]
    assert table["posterior_method"].isna().tolist() == [False, True, False, True, True]


def test_names_in_the_order_of_the_model(fitted):
    names = {"gene": list("abcde")}
    named = fitted.posterior("laplace", **DRAWS, nugget="laplace", names=names)
    table = fitted.diagnose(posterior=named)
    assert np.array_equal(table["posterior_khat"], diagnose(named)["khat"])
    assert list(table.index) == list(range(5))


def test_other_genes_are_refused(fitted):
    names = {"gene": list("abcde")}
    named = fitted.posterior("laplace", **DRAWS, genes=[1], nugget="laplace", names=names)
    with pytest.raises(ValueError, match=r"posterior must have the model's 5 genes.*1 genes: b$"):
        fitted.diagnose(posterior=named)
    with pytest.raises(ValueError, match="posterior must have a group sample_stats"):
        fitted.diagnose(posterior={})


def test_a_glm_takes_one_too():
    model = MultinomGLM()
    model.setup_data(BATCH.counts, BATCH.design)
    model.fit(quiet=True)
    table = model.diagnose(posterior=model.posterior("laplace", **DRAWS))
    assert set(table["posterior_method"]) == {"laplace"}
    assert {"posterior_r_hat", "posterior_divergences", "posterior_remedy"} <= set(table.columns)
