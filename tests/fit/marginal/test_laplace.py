"""The log marginal: the dense S Q x S Q computation, and its gradient against differences."""

import math

import cases
import numpy as np
import oracles
import pytest
from problems import (
    central,
    kernel_of,
    mode_of,
    objective_of,
    pairs_of_case_and_form,
    problem_of,
    truth_of,
    variances_of,
)

from splisosm_pyro.fit.glmm.outer_space import RIDGE
from splisosm_pyro.fit.marginal.laplace import follow_mode, log_marginal, marginal_gradient
from splisosm_pyro.fit.marginal.latent_problem import GeneData, LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.spot.laplace import LaplaceNugget


def value_of(problem, B, variances):
    return log_marginal(problem, mode_of(problem, B, variances))


@pytest.mark.parametrize(("name", "form"), pairs_of_case_and_form())
def test_the_value_is_that_of_the_dense_computation(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    for gene in range(case.shape[0]):
        problem, variances = problem_of(case, kernel, gene), variances_of(case, kernel, gene)
        truth = truth_of(name, form, gene)
        assert truth.gradient_norm < 1e-7
        assert value_of(problem, case.B(gene), variances) == pytest.approx(truth.value, rel=1e-9)


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse", "car_dense"])
@pytest.mark.parametrize("theta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_the_limits_of_the_variances_are_ordinary_points(form, theta, sigma):
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", form)
    problem = problem_of(case, kernel)
    variances = Variances(np.array([sigma, 0.5]), np.array([theta, theta]), 2, kernel.residual)
    mode = mode_of(problem, case.B(0), variances)
    V = kernel.dense().numpy()
    here = (case.B(0), variances.sigma, variances.theta, V)
    truth = oracles.log_marginal(case.counts[0], case.design, *here)
    assert log_marginal(problem, mode) == pytest.approx(truth.value, rel=1e-9)
    gradient = marginal_gradient(problem, mode)
    parts = (gradient.coefficients, gradient.log_spatial, gradient.nugget)
    assert all(np.isfinite(part).all() for part in parts)


def test_without_a_field_it_is_the_log_likelihood_of_the_glm():
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", "dense")
    variances = Variances(np.zeros(1), np.full(1, 0.5), 2)
    problem = problem_of(case, kernel)
    mode = mode_of(problem, case.B(0), variances)
    eta = oracles.linear_predictor(case.B(0), case.design, len(case.design))
    assert log_marginal(problem, mode) == pytest.approx(
        oracles.log_lik(eta, case.counts[0]), rel=1e-12
    )
    score, _ = oracles.score_and_information(eta, case.counts[0])
    rows = np.column_stack([case.design, np.ones(len(eta))])
    np.testing.assert_allclose(
        marginal_gradient(problem, mode).coefficients, rows.T @ score, atol=1e-11
    )


def test_the_nugget_derivative_at_theta_one_is_that_from_inside():
    """At T = 0 exactly the derivative in T is the one-sided one."""
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", "dense")
    problem = problem_of(case, kernel)

    def value(nugget):
        sigma = math.sqrt(0.5 + nugget)
        variances = Variances(np.full(1, sigma), np.full(1, 0.5 / sigma**2), 2)
        return value_of(problem, case.B(0), variances)

    at_one = mode_of(problem, case.B(0), Variances(np.full(1, math.sqrt(0.5)), np.ones(1), 2))
    exact = marginal_gradient(problem, at_one).nugget.sum()
    f = [value(1e-3 * k) for k in range(5)]
    slope = (-25 * f[0] + 48 * f[1] - 36 * f[2] + 16 * f[3] - 3 * f[4]) / 12e-3
    assert exact == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(("name", "form"), pairs_of_case_and_form())
def test_the_gradient_in_all_outer_unknowns(name, form):
    case = cases.CASES[name]
    objective, u = objective_of(case, kernel_of(name, form))
    exact = objective.evaluate(u).gradient
    differences = [central(lambda v: objective.value(v, None)[0], u, i) for i in range(u.size)]
    assert exact.shape == (objective.space.size,)
    scale = max(1.0, np.abs(exact).max())
    np.testing.assert_allclose(exact, differences, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("prior", ["gamma", "inv_gamma"])
@pytest.mark.parametrize("fix_sigma", [True, False])
@pytest.mark.parametrize("name", ["batch", "three_isoforms"])
def test_the_gradient_with_a_prior_and_fixed_parameters(name, fix_sigma, prior):
    case, kernel = cases.CASES[name], kernel_of(name, "car_sparse")
    free = np.ones(case.B(0).shape, dtype=bool)
    free[0, 1] = False
    objective, u = objective_of(case, kernel, fix_sigma=fix_sigma, prior=prior, free=free)
    assert u.size == (2 - fix_sigma) * case.sigma.shape[1] + free.sum()
    at = objective.evaluate(u)
    differences = [central(lambda v: objective.value(v, None)[0], u, i) for i in range(u.size)]
    np.testing.assert_allclose(at.gradient, differences, rtol=1e-6, atol=1e-6)
    flat, _ = objective_of(case, kernel, fix_sigma=fix_sigma, free=free)
    gain = at.value - flat.evaluate(u).value
    assert gain == pytest.approx(oracles.log_prior(prior, case.sigma[0]), rel=1e-9)


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse", "car_dense"])
def test_empty_spots_cost_nothing(form):
    """The value is that of the occupied spots alone, with their part of V."""
    case, kernel = cases.CASES["empty_spots"], kernel_of("empty_spots", form)
    there = np.flatnonzero(case.counts[0].sum(1) > 0)
    assert there.size < len(case.V) - 4
    V = kernel.dense().numpy()[np.ix_(there, there)]
    alone = oracles.log_marginal(
        case.counts[0][there], case.design[there], case.B(0), case.sigma[0], case.theta[0], V
    )
    problem, variances = problem_of(case, kernel), variances_of(case, kernel)
    assert len(problem.gene.counts) == there.size
    assert value_of(problem, case.B(0), variances) == pytest.approx(alone.value, rel=1e-9)


def test_the_multinomial_coefficient_is_in_it():
    case, kernel = cases.CASES["fractional"], kernel_of("fractional", "dense")
    problem = problem_of(case, kernel)
    expected = math.fsum(
        math.lgamma(row.sum() + 1) - math.fsum(math.lgamma(y + 1) for y in row)
        for row in case.counts[0]
    )
    assert problem.gene.log_coefficient == pytest.approx(expected, rel=1e-12)


def test_it_does_not_depend_on_which_isoform_is_the_reference_without_a_field():
    """The integral does with a field, since nu belongs to the logits; without, it does not."""
    case, kernel = cases.CASES["three_isoforms"], kernel_of("three_isoforms", "dense")
    variances = Variances(np.zeros(1), np.full(1, 0.5), 2)
    B = case.B(0)
    turned = np.column_stack([-B[:, 0], B[:, 1] - B[:, 0]])  # order 2, 1, 0
    data = GeneData.from_arrays(case.counts[0][:, ::-1], case.design)
    flipped = LatentProblem(data, kernel, LaplaceNugget(data.counts))
    assert value_of(flipped, turned, variances) == pytest.approx(
        value_of(problem_of(case, kernel), B, variances), rel=1e-12
    )


@pytest.mark.parametrize("form", ["dense", "low_rank"])
def test_permuted_spots_give_the_same_value(form):
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", form)
    order = np.random.default_rng(0).permutation(len(case.V))
    dense = kernel.dense().numpy()[np.ix_(order, order)]
    moved = oracles.log_marginal(
        case.counts[0][order], case.design[order], case.B(0), case.sigma[0], case.theta[0], dense
    )
    ours = value_of(problem_of(case, kernel), case.B(0), variances_of(case, kernel))
    assert ours == pytest.approx(moved.value, rel=1e-9)


# ---- the mode followed by its derivative


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse"])
@pytest.mark.parametrize("name", ["two_isoforms", "covariates", "empty_spots"])
def test_the_followed_mode_errs_by_the_square_of_the_move(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    objective, u = objective_of(case, kernel)
    direction = np.random.default_rng(3).normal(size=u.size)
    gaps = []
    for size in (1e-2, 5e-3):
        at = objective.evaluate(u)
        new = u + size * direction
        coefficients, variances = objective.space.unpack(new)
        old = at.state
        moved = follow_mode(
            objective.problem, old.mode, old.gradient, coefficients, old.variances, variances
        )
        truth = objective.value(new, None)[1].mode
        stayed = np.abs(old.mode.w - truth.w).max()
        gaps.append(np.abs(moved.w - truth.w).max())
        assert gaps[-1] < 0.1 * stayed
    assert gaps[0] / gaps[1] == pytest.approx(4.0, rel=0.2)


def test_a_value_near_another_is_the_value_from_nothing():
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", "dense")
    objective, u = objective_of(case, kernel)
    at = objective.evaluate(u)
    for size in (0.01, 0.5, 2.0):
        there = u + size
        near = objective.value(there, at)[0]
        fresh = objective_of(case, kernel)[0].value(there, None)[0]
        assert near == pytest.approx(fresh, abs=1e-9)  # the mode is found to 1e-10 nats
        blind = Evaluation(at.u, at.value, at.gradient, objective.value(u, at)[1])  # no gradient
        assert objective.value(there, blind)[0] == pytest.approx(near, abs=1e-9)


# ---- variances


@pytest.mark.parametrize("residual", [0.0, 0.3])
@pytest.mark.parametrize("n_components", [1, 3])
def test_pull_back_and_directions_are_derivatives(n_components, residual):
    rng = np.random.default_rng(1)
    log_sigma, logit = rng.normal(size=(2, n_components))
    a, b, c = rng.normal(size=(3, 3))

    def made(v):
        return Variances.from_unconstrained(v[:n_components], v[n_components:], 3, residual)

    def value(v):
        d = made(v)
        return a @ np.log(d.spatial) + b @ d.nugget + c @ d.white

    u = np.r_[log_sigma, logit]
    here = made(u)
    exact = np.concatenate(here.pull_back(a, b, c))
    slopes = [central(value, u, i) for i in range(u.size)]
    np.testing.assert_allclose(exact, slopes, rtol=1e-8)
    for component in range(n_components):
        moves = here.directions(component)
        for move, i in zip(moves, (component, n_components + component), strict=True):
            by_log = central(lambda v: np.log(made(v).spatial), u, i)
            by_nugget = central(lambda v: made(v).nugget, u, i)
            np.testing.assert_allclose(move[0], by_log, atol=1e-9)
            np.testing.assert_allclose(move[1], by_nugget, atol=1e-9)


@pytest.mark.parametrize("form", ["dense", "low_rank", "car_sparse"])
@pytest.mark.parametrize("name", ["three_isoforms", "covariates"])
def test_the_first_curvature_is_the_average_information_of_the_working_model(name, form):
    """``1/2 v_i' P v_j`` with ``v_i = dC/du_i a`` and ``P = (C + W^-1)^-1``, densely."""
    case, kernel = cases.CASES[name], kernel_of(name, form)
    objective, u = objective_of(case, kernel)
    at = objective.evaluate(u)
    variances, terms = at.state.variances, at.state.mode.terms
    n_logits, k = variances.n_logits, objective.space.n_variance
    V = kernel.dense().numpy()[np.ix_(*[objective.problem.gene.occupied] * 2)]
    white = np.eye(len(V))
    total = np.zeros((len(V), n_logits, len(V), n_logits))
    pushed = np.zeros((k, len(V), n_logits))
    for q in range(n_logits):
        c = q if variances.sigma.size > 1 else 0
        D, T, theta = variances.spatial[q], variances.white[q], variances.theta[c]
        total[:, q, :, q] = D * V + T * white
        pushed[c, :, q] = 2.0 * total[:, q, :, q] @ terms.score[:, q]
        by_theta = (1.0 - theta) * D * V - theta * T * white
        pushed[k // 2 + c, :, q] = by_theta @ terms.score[:, q]
    for s in range(len(V)):
        total[s, :, s] += np.linalg.inv(terms.neg_hessian[s]) - np.diag(variances.nugget)
    P = np.linalg.inv(total.reshape(len(V) * n_logits, -1))
    pushed = pushed.reshape(k, -1)
    information = objective.information(at)[:k, :k] - RIDGE * np.eye(k)
    np.testing.assert_allclose(information, 0.5 * pushed @ P @ pushed.T, rtol=1e-7, atol=1e-10)
