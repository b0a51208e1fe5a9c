import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import CARKernel, MultinomGLM, MultinomGLMM, simulate_tissue
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.hypotheses.many import false_discovery_rates
from splisosm_pyro.hypotheses.spatial import spatial_score_test

TISSUE = simulate_tissue(90, 4, 2, design="none", depth=1.5, theta=0.8, sigma=1.2, seed=3)
COUNTS = TISSUE.counts.numpy().astype(float)
COUNTS[2, :, 1] = 0.0  # one isoform alone
X = np.random.default_rng(0).normal(size=(90, 1))


def glmm(**options):
    model = MultinomGLMM(**options)
    model.setup_data(COUNTS, corr_sp=TISSUE.kernel, design_mtx=X)
    return model


def glm():
    model = MultinomGLM()
    model.setup_data(COUNTS, design_mtx=X)
    return model


def test_space_is_tested_gene_by_gene_and_what_cannot_be_does_not_count():
    table, design = glmm().test_spatial(), StandardDesign.of(X)
    truth = [spatial_score_test(one, design, TISSUE.kernel) for one in COUNTS]
    assert list(table) == ["statistic", "p", "q", "reason"]
    np.testing.assert_array_equal(table["p"], [one.p for one in truth])
    np.testing.assert_array_equal(table["q"], false_discovery_rates(table["p"].to_numpy()))
    assert table["reason"].tolist() == ["", "", "all reads are of one isoform", ""]
    assert table.loc[2, ["statistic", "p", "q"]].isna().all()


def test_a_glm_takes_the_covariance_from_the_call_and_a_glmm_may():
    pd.testing.assert_frame_equal(glm().test_spatial(TISSUE.kernel), glmm().test_spatial())
    other = CARKernel.from_coords(TISSUE.coords, k=4, rho=0.9)
    a, b = glm().test_spatial(other), glmm().test_spatial(other.dense())
    np.testing.assert_allclose(a["p"], b["p"], rtol=1e-7)
    with pytest.raises(ValueError, match="corr_sp must be given"):
        glm().test_spatial()


def test_covariates_are_tested_given_the_field_whatever_the_model_fits_by():
    layers = pd.Series(TISSUE.layers)
    asked = pd.DataFrame({"layer": layers, "x": TISSUE.coords[:, 0], "again": 3 * X[:, 0] - 1})
    table = glmm().test_covariates(asked, refit_below=1.0)
    assert table["gene"].tolist() == np.repeat(range(4), 3).tolist()
    assert table["covariate"].tolist() == ["layer", "x", "again"] * 4
    tested = table[table["reason"] == ""]
    assert tested["gene"].unique().tolist() == [0, 1, 3]
    assert tested["df"].tolist() == [4, 1] * 3
    assert (tested["kind"] == "likelihood ratio").all()
    again = table[table["covariate"] == "again"]
    assert again["p"].isna().all()
    x = table[table["covariate"] == "x"]
    np.testing.assert_array_equal(x["q"], false_discovery_rates(x["p"].to_numpy()))
    marginal = glmm(var_fix_sigma=False, fitting_method="marginal_newton")
    marginal.fitting_configs |= {"nugget": "quadrature", "smooth": "ep"}
    pd.testing.assert_frame_equal(marginal.test_covariates(asked, refit_below=1.0), table)


def test_tests_leave_the_model_as_it_was():
    model = glmm()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.test_covariates(TISSUE.coords)
    model.test_spatial()
    assert model.status == []
    assert all((value == before[name]).all() for name, value in model.named_parameters())


def test_without_a_field_a_glmm_is_a_glm():
    asked = {"place": TISSUE.coords, "x": TISSUE.coords[:, 0]}
    one = glmm().test_covariates(asked, spatial=False)
    pd.testing.assert_frame_equal(one, glm().test_covariates(asked))
    assert one["df"].tolist()[:2] == [2, 1]


BAD = {
    "'x'.*constant": {"x": np.ones(90)},
    "'x'.*finite": {"x": np.append(np.nan, np.arange(89.0))},
    "'x'.*n_spots": {"x": np.arange(7.0)},
    "'x'.*gap": {"x": np.array(["a", None] * 45, dtype=object)},
    "shape": np.arange(90.0),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_covariates_are_named(words):
    with pytest.raises(ValueError, match=words):
        glm().test_covariates(BAD[words])


def test_bad_thresholds_are_named():
    with pytest.raises(ValueError, match="refit_below"):
        glm().test_covariates(X, refit_below=2.0)
