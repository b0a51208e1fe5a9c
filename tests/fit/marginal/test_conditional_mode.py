"""The conditional mode: the dense truth, and independence of where and how it was looked for."""

import cases
import numpy as np
import oracles
import pytest
from problems import (
    factorisations,
    kernel_of,
    mode_of,
    pairs_of_case_and_form,
    problem_of,
    truth_of,
    variances_of,
)

from splisosm_pyro.fit.glmm.fit_gene import field_of
from splisosm_pyro.fit.marginal import conditional_mode
from splisosm_pyro.fit.marginal.conditional_mode import (
    ModeError,
    cold_start,
    find_mode,
    point_at,
)
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite


def nu_of(problem, mode, variances):
    state = MarginalState(mode, variances)
    return field_of(problem, Evaluation(np.empty(0), mode.psi, np.empty(0), state))


@pytest.mark.parametrize(("name", "form"), pairs_of_case_and_form())
def test_the_mode_is_that_of_the_dense_problem(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    nu = nu_of(problem, mode_of(problem, case.B(0), variances), variances)
    np.testing.assert_allclose(nu, truth_of(name, form).nu, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", cases.CASES)
def test_the_gradient_of_the_log_posterior_vanishes(name):
    case, kernel = cases.CASES[name], kernel_of(name, "dense")
    for gene in range(case.shape[0]):
        problem, variances = problem_of(case, kernel, gene), variances_of(case, kernel, gene)
        nu = nu_of(problem, mode_of(problem, case.B(gene), variances), variances)
        eta = oracles.linear_predictor(case.B(gene), case.design, len(nu)) + nu
        score, _ = oracles.score_and_information(eta, case.counts[gene])
        for q in range(nu.shape[1]):
            cov = oracles.field_covariance(case.V, case.sigma[gene], case.theta[gene], q)
            gap = score[:, q] - np.linalg.solve(cov, nu[:, q])
            assert np.abs(gap).max() < 1e-8 * max(1.0, np.abs(score).max())


@pytest.mark.parametrize(("name", "form"), pairs_of_case_and_form())
def test_the_state_obeys_its_relations(name, form):
    """``w = V_smooth alpha`` at the occupied spots and ``alpha = D^1/2 h'``."""
    case, kernel = cases.CASES[name], kernel_of(name, form)
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    mode = mode_of(problem, case.B(0), variances)
    there = problem.gene.occupied
    smooth = kernel.dense().numpy() - kernel.residual * np.eye(kernel.n_spots)
    scale = max(1.0, np.abs(mode.alpha).max())
    np.testing.assert_allclose(smooth[np.ix_(there, there)] @ mode.alpha, mode.w, atol=1e-9 * scale)
    np.testing.assert_allclose(mode.alpha, mode.root * mode.terms.score, atol=1e-9 * scale)
    np.testing.assert_array_equal(mode.root, np.sqrt(variances.spatial))


WALK = [(0.5, 0.5), (0.55, 0.5), (0.55, 0.7), (3.0, 0.1), (0.1, 0.999), (1.0, 0.0), (1.0, 1.0)]


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse", "car_dense"])
@pytest.mark.parametrize("name", ["covariates", "empty_spots", "rich", "two_isoforms"])
def test_a_warm_start_ends_where_a_cold_one_does(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    travelled, before = problem_of(case, kernel), None
    for sigma, theta in WALK:
        one = np.ones(1)
        variances = Variances(sigma * one, theta * one, case.shape[2] - 1, kernel.residual)
        here = (variances.spatial, variances.nugget)
        start = cold_start(travelled, case.B(0), *here) if before is None else before
        before = find_mode(travelled, start, *here)
        fresh = problem_of(case, kernel)
        cold = mode_of(fresh, case.B(0), variances)
        np.testing.assert_allclose(
            nu_of(travelled, before, variances), nu_of(fresh, cold, variances), atol=1e-9
        )
        assert before.psi == pytest.approx(cold.psi, rel=1e-12, abs=1e-10)
        warm, new = (m.linearisation.factor.log_det for m in (before, cold))
        assert warm == pytest.approx(new, rel=1e-9, abs=1e-9)


def test_the_old_factor_saves_factorisations_and_changes_nothing(monkeypatch):
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", "dense")
    old = variances_of(case, kernel)
    new = Variances(1.05 * old.sigma, old.theta, old.n_logits)
    ends, made = [], []
    for contraction in (0.01, 0.0):  # with 0 no chord step is ever good enough
        monkeypatch.setattr(conditional_mode, "CONTRACTION", contraction)
        problem = problem_of(case, kernel)
        first = mode_of(problem, case.B(0), old)
        with factorisations() as count:
            ends.append(find_mode(problem, first, new.spatial, new.nugget))
        made.append(len(count))
    assert made[0] == 1  # the one at the mode itself
    assert made[1] > 1
    np.testing.assert_allclose(ends[0].w, ends[1].w, atol=1e-10)
    assert ends[0].psi == pytest.approx(ends[1].psi, rel=1e-13)


@pytest.mark.parametrize("name", ["huge_sigma", "rich", "covariates", "two_isoforms"])
def test_any_start_will_do(name):
    case, kernel = cases.CASES[name], kernel_of(name, "dense")
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    there = problem.gene.occupied
    smooth = case.V[np.ix_(there, there)]
    truth = mode_of(problem, case.B(0), variances)
    for seed, size in ((0, 1.0), (1, 30.0)):
        alpha = np.random.default_rng(seed).normal(0.0, size, truth.alpha.shape)
        here = (variances.spatial, variances.nugget)
        start = point_at(problem, case.B(0), smooth @ alpha, alpha, *here)
        mode = find_mode(problem, start, *here)
        np.testing.assert_allclose(mode.w, truth.w, atol=1e-8)
        assert mode.psi == pytest.approx(truth.psi, rel=1e-12)


@pytest.mark.parametrize("shift", [-15.0, 15.0, 40.0])
@pytest.mark.parametrize("name", ["rich", "all_spatial", "two_isoforms"])
def test_an_intercept_far_from_the_data_needs_halved_steps(name, shift):
    case, kernel = cases.CASES[name], kernel_of(name, "dense")
    B = case.B(0)
    B[-1] += shift
    variances = Variances(np.full(1, 2.0), np.ones(1), case.shape[2] - 1)
    problem = problem_of(case, kernel)
    mode = mode_of(problem, B, variances)
    nu = nu_of(problem, mode, variances)
    score, _ = oracles.score_and_information(case.design @ B[:-1] + B[-1] + nu, case.counts[0])
    np.testing.assert_allclose(4.0 * case.V @ score, nu, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse"])
@pytest.mark.parametrize("name", ["two_isoforms", "covariates", "empty_spots", "all_spatial"])
def test_the_bordered_mode_is_the_joint_maximum(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    free = np.ones(case.B(0).shape, dtype=bool)
    here = (variances.spatial, variances.nugget)
    mode = find_mode(problem, cold_start(problem, case.B(0), *here), *here, free)
    parts = (case.design, case.sigma[0], case.theta[0], kernel.dense().numpy())
    B, nu, value = oracles.joint_maximum(case.counts[0], *parts)
    ours = nu_of(problem, mode, variances)
    np.testing.assert_allclose(mode.coefficients, B, atol=1e-5)
    np.testing.assert_allclose(ours, nu, atol=1e-5)
    reached = oracles.log_joint(case.counts[0], case.design, mode.coefficients, ours, *parts[1:])
    assert reached >= value - 1e-10
    assert reached == pytest.approx(value, abs=1e-8)
    balance = problem.gene.design.T @ mode.terms.score
    assert np.abs(balance).max() < 1e-8


def test_only_the_free_coefficients_move():
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", "dense")
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    free = np.zeros(case.B(0).shape, dtype=bool)
    free[1, 0] = free[3, 1] = True
    here = (variances.spatial, variances.nugget)
    mode = find_mode(problem, cold_start(problem, case.B(0), *here), *here, free)
    balance = problem.gene.design.T @ mode.terms.score
    assert np.abs(balance[free]).max() < 1e-9
    assert np.abs(balance[~free]).min() > 1e-3
    np.testing.assert_array_equal(mode.coefficients[~free], case.B(0)[~free])
    assert (mode.coefficients[free] != case.B(0)[free]).all()


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse"])
def test_a_mode_keeps_its_factor_whatever_is_factorised_afterwards(form):
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", form)
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    mode = mode_of(problem, case.B(0), variances)
    factor = mode.linearisation.factor
    solved, blocks = factor.solve(mode.w), factor.blocks()
    others = [problem.factorise(k * mode.linearisation.precision) for k in (2.0, 3.0, 4.0)]
    np.testing.assert_array_equal(factor.solve(mode.w), solved)
    np.testing.assert_array_equal(factor.all_blocks()[problem.gene.occupied], blocks)
    assert np.abs(others[0].solve(mode.w) - solved).max() > 1e-3 * np.abs(solved).max()


def test_what_is_not_finite_is_an_error():
    case, kernel = cases.CASES["two_isoforms"], kernel_of("two_isoforms", "dense")
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    with pytest.raises(NotPositiveDefinite, match="eigenvalue nan"):
        mode_of(problem, np.full_like(case.B(0), np.nan), variances)
    mode = mode_of(problem, case.B(0), variances)  # and the problem recovers
    np.testing.assert_allclose(
        nu_of(problem, mode, variances), truth_of("two_isoforms").nu, atol=1e-9
    )
    with pytest.raises(ModeError, match="has not been factorised"):
        _ = cold_start(problem, case.B(0), variances.spatial, variances.nugget).linearisation
