from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.hypotheses import covariates as tests_of
from splisosm_pyro.hypotheses.refits import covariate_tests, null_at
from splisosm_pyro.hypotheses.white_null import fit_white_null
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.simulate import hexagonal_lattice

N_SPOTS = 80
COORDS = hexagonal_lattice(N_SPOTS)[1]
KERNEL = CARKernel.from_coords(COORDS, k=6)
FITTED = np.random.default_rng(9).normal(size=(N_SPOTS, 1))
OPTIONS = {
    "ep": {"nugget": "quadrature", "smooth": "ep"},
    "laplace": {"nugget": "laplace", "smooth": "laplace"},
}


def covariate_score_test(end, columns):
    """The tests of plain columns (S, k)."""
    return tests_of.covariate_score_test(end, [StandardDesign.of(one) for one in columns])


def white_covariate_score_test(null, columns):
    """The same without a field."""
    return tests_of.white_covariate_score_test(null, [StandardDesign.of(one) for one in columns])


def spec(smooth="ep", design=FITTED):
    """What is fitted."""
    options = GLMMOptions.from_configs("marginal_newton", OPTIONS[smooth])
    priors = Priors.of("none", None)
    return GLMMSpec(KERNEL, StandardDesign.of(design), True, False, priors, options)


def drawn(seed, n_isos=2, effect=0.0, depth=3.0, field=0.6):
    """Counts (S, P) under a field, and a smooth covariate (S, 1) that has an effect."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    smooth = KERNEL.sample((n_isos,), generator).numpy().T
    x, nu = smooth[:, :1], field * smooth[:, 1:] + 0.4 * rng.normal(size=(N_SPOTS, n_isos - 1))
    logits = np.column_stack([0.2 + effect * x + nu, np.zeros(N_SPOTS)])
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return rng.multinomial(rng.poisson(depth, N_SPOTS), share).astype(float), x


def fitted(one, counts):
    """The null's fit, its end kept."""
    q, f = counts.shape[1] - 1, one.design.given.shape[1]
    start = {"beta": np.zeros((f, q)), "bias_eta": np.zeros(q)}
    start |= {"sigma": np.ones(1), "theta_logit": np.zeros(1)}
    return fit_gene(one, counts, start, keep_end=True)


def region():
    """Three regions, two columns."""
    return (np.digitize(COORDS[:, 0], [200.0, 500.0])[:, None] == [1, 2]).astype(float)


@pytest.mark.parametrize("smooth", OPTIONS)
def test_score_is_the_slope_of_the_marginal_and_its_information_the_curvature(smooth):
    counts, x = drawn(1)
    null = fitted(spec(smooth), counts)
    test = covariate_score_test(null.ended, [x])[0]
    wide, h = spec(smooth, np.column_stack([FITTED, x])), 0.02
    profile = []
    for beta in (-h, 0.0, h):
        params = dict(null.params)
        params["beta"] = np.vstack([params["beta"], [[beta]]])
        here = wide.evaluation_at(counts, params, np.zeros((3, 1), dtype=bool))
        profile.append(here.at.value)
    slope = (profile[2] - profile[0]) / (2 * h)
    # the others held, the information is larger than what the test divides by
    curvature = -(profile[2] - 2 * profile[1] + profile[0]) / h**2
    assert slope**2 / curvature < test.statistic * 1.05
    full = fitted(wide, counts)
    ratio = 2 * (full.value - null.value)
    np.testing.assert_allclose(test.statistic, ratio, rtol=0.25, atol=0.05)
    np.testing.assert_allclose(test.p, stats.chi2.sf(test.statistic, 1), rtol=1e-12)


def test_many_are_tested_as_one_by_one_and_units_do_not_matter():
    counts, x = drawn(2, n_isos=3)
    end = fitted(spec(), counts).ended
    rng = np.random.default_rng(0)
    many = [x, region(), *(rng.normal(size=(N_SPOTS, 1)) for _ in range(20))]
    together = covariate_score_test(end, many)
    alone = [covariate_score_test(end, [one])[0] for one in many]
    other_units = covariate_score_test(end, [1e4 * one - 3.0 for one in many])
    for others in (alone, other_units):
        np.testing.assert_allclose(
            [one.statistic for one in others], [one.statistic for one in together], rtol=1e-8
        )
    assert [one.df for one in together[:3]] == [2, 4, 2]


def test_a_factor_does_not_depend_on_its_reference_level():
    counts, _ = drawn(3)
    end, first = fitted(spec(), counts).ended, region()
    other = np.column_stack([1 - first.sum(1), first[:, 1]])
    a, b = covariate_score_test(end, [first, other])
    np.testing.assert_allclose([a.statistic, a.p], [b.statistic, b.p], rtol=1e-8)


def test_what_is_fitted_or_constant_has_a_reason_and_no_p():
    counts, x = drawn(4)
    end = fitted(spec(), counts).ended
    empty = counts.sum(1) == 0
    assert empty.any()
    unseen = empty[:, None].astype(float)
    for test in covariate_score_test(end, [2 * FITTED + 1, unseen, np.ones((N_SPOTS, 1))]):
        assert "constant, or follows from those fitted" in test.reason
        assert np.isnan(test.p)
    half = covariate_score_test(end, [np.column_stack([x, FITTED])])[0]
    alone = covariate_score_test(end, [x])[0]
    assert half.df == 1
    np.testing.assert_allclose(half.statistic, alone.statistic, rtol=1e-8)


def test_likelihood_ratio_where_the_score_is_small_enough():
    counts, x = drawn(5, effect=1.0)
    one, idle = spec(), np.random.default_rng(1).normal(size=(N_SPOTS, 1))
    null = fitted(one, counts)
    asked = [StandardDesign.of(own) for own in (x, idle)]
    found, other = covariate_tests(one.options, null.ended, asked, 0.05)
    full = fitted(spec(design=np.column_stack([FITTED, x])), counts)
    assert (found.kind, other.kind) == ("likelihood ratio", "score")
    np.testing.assert_allclose(found.statistic, 2 * (full.value - null.value), rtol=1e-5)
    assert found.p < 1e-3
    assert found.score_p < 0.05 < other.p


def test_a_joint_fit_is_refused():
    counts, x = drawn(6)
    joint = GLMMOptions.from_configs("joint_newton", {})
    null = fitted(replace(spec(), options=joint, fix_sigma=True), counts)
    with pytest.raises(TypeError, match="marginal method"):
        covariate_score_test(null.ended, [x])


def test_nulls_keep_their_level_under_a_smooth_field_and_without_it_do_not():
    with_field, without = [], []
    for seed in range(40):
        counts, x = drawn(100 + seed, depth=6.0, field=1.5)
        null = fitted(spec(design=np.empty((N_SPOTS, 0))), counts)
        with_field.append(covariate_score_test(null.ended, [x])[0].p)
        white = fit_white_null(counts, StandardDesign.of(np.empty((N_SPOTS, 0))))
        without.append(white_covariate_score_test(white, [x])[0].p)
    share, level = np.mean(np.array(with_field) < 0.2), 0.2
    assert abs(share - level) < 3.5 * np.sqrt(level * (1 - level) / 40)
    assert np.mean(np.array(without) < 0.2) > share + 0.2


@pytest.mark.parametrize("n_isos", [2, 3])
def test_white_null_is_blind_to_which_isoform_is_the_reference(n_isos):
    counts, x = drawn(7, n_isos)
    design = StandardDesign.of(FITTED)
    tests = [
        white_covariate_score_test(fit_white_null(own, design), [x, region()])
        for own in (counts, counts[:, ::-1])
    ]
    for a, b in zip(*tests, strict=True):
        np.testing.assert_allclose([a.statistic, a.df], [b.statistic, b.df], rtol=1e-8)


@pytest.mark.parametrize("smooth", OPTIONS)
def test_a_null_is_rebuilt_where_its_fit_ended(smooth):
    counts, x = drawn(8, n_isos=3)
    null = fitted(spec(smooth), counts)
    again = null_at(spec(smooth), counts, null.params)
    assert again.at.value == pytest.approx(null.value, abs=1e-8)
    a, b = (covariate_score_test(end, [x, region()]) for end in (null.ended, again))
    np.testing.assert_allclose([one.p for one in b], [one.p for one in a], rtol=1e-6)


@pytest.mark.parametrize("smooth", OPTIONS)
def test_estimates_are_those_of_a_fit_with_the_covariate(smooth):
    """A weak effect is a Newton step away, any other is where the fit with it ends."""
    counts, x = drawn(9, effect=0.6)
    one, tested = spec(smooth), StandardDesign.of(x)
    null = fitted(one, counts)
    score, ratio = (covariate_tests(one.options, null.ended, [tested], p)[0] for p in (0.0, 1.0))
    full = fitted(spec(smooth, np.column_stack([x, FITTED])), counts)
    truth = full.ended.at.state.mode.coefficients
    np.testing.assert_allclose(ratio.estimate.coefficients, truth, rtol=0.02, atol=0.01)
    np.testing.assert_allclose(score.estimate.coefficients[0], truth[0], rtol=0.25)
    own, moves = ratio.estimate.covariance, ratio.estimate.moves
    assert own[0, 0] == pytest.approx(score.estimate.covariance[0, 0], rel=0.5)
    assert moves[0, 0, 0] == 1.0
    z = truth[0, 0] / np.sqrt(own[0, 0])
    assert z**2 == pytest.approx(ratio.statistic, rel=0.2)
