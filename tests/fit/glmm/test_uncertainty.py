"""Standard errors: the field's posterior by dense inversion, the rest by differences."""

import cases
import numpy as np
import oracles
import pytest
from problems import central, kernel_of, objective_of, pairs_of_case_and_form

from splisosm_pyro.fit.glmm.uncertainty import (
    OuterUncertainty,
    field_posterior,
)
from splisosm_pyro.fit.search.quasi_newton import differenced_hessian


def with_intercept(case):
    return np.column_stack([case.design, np.ones(case.shape[1])])


def posterior_at(objective, u, case):
    return field_posterior(objective, objective.evaluate(u), with_intercept(case))


def truth_at(objective, u, case, kernel):
    B, variances = objective.space.unpack(u)
    V = kernel.dense().numpy()
    here = (B, variances.sigma, variances.theta, V)
    return oracles.log_marginal(case.counts[0], case.design, *here), B


@pytest.mark.parametrize(("name", "form"), pairs_of_case_and_form())
def test_the_field_posterior_is_that_of_the_dense_inversion(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    objective, u = objective_of(case, kernel)
    posterior = posterior_at(objective, u, case)
    truth, B = truth_at(objective, u, case, kernel)
    n_spots, n_logits = truth.nu.shape
    eta = oracles.linear_predictor(B, case.design, n_spots) + truth.nu
    np.testing.assert_allclose(posterior.eta, eta, atol=1e-8)
    blocks = truth.covariance.reshape(n_spots, n_logits, n_spots, n_logits)
    diagonal = np.stack([blocks[s, :, s] for s in range(n_spots)])
    scale = np.abs(diagonal).max()
    np.testing.assert_allclose(posterior.covariance, diagonal, rtol=1e-8, atol=1e-9 * scale)
    assert not posterior.outer_covariance(None).any()


@pytest.mark.parametrize(
    ("name", "form", "fix_sigma"),
    [
        (name, form, (i + j) % 2 == 0)
        for i, name in enumerate(("two_isoforms", "covariates", "empty_spots"))
        for j, form in enumerate(("dense", "low_rank", "car_sparse", "car_dense"))
    ],
)
def test_the_response_to_the_outer_parameters(name, form, fix_sigma):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    objective, u = objective_of(case, kernel, fix_sigma=fix_sigma)
    posterior = posterior_at(objective, u, case)
    assert posterior.response.shape == (*posterior.eta.shape, u.size)
    for i in range(u.size):
        slope = central(lambda v: posterior_at(objective, v, case).eta, u, i)
        np.testing.assert_allclose(posterior.response[..., i], slope, rtol=1e-6, atol=1e-6)


def test_what_the_outer_parameters_add_to_the_covariance():
    case, kernel = cases.CASES["covariates"], kernel_of("covariates", "dense")
    objective, u = objective_of(case, kernel)
    posterior = posterior_at(objective, u, case)
    root = np.random.default_rng(0).normal(size=(u.size, u.size))
    added = posterior.outer_covariance(root @ root.T)
    for s in range(case.shape[1]):
        J = posterior.response[s]
        np.testing.assert_allclose(added[s], J @ root @ root.T @ J.T, rtol=1e-12)


@pytest.mark.parametrize("form", ["dense", "car_sparse"])
@pytest.mark.parametrize("name", ["two_isoforms", "covariates"])
def test_the_outer_hessian_is_that_of_the_value(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    objective, u = objective_of(case, kernel)
    hessian, _ = differenced_hessian(objective, objective.evaluate(u), np.zeros(u.size, dtype=bool))
    fresh, _ = objective_of(case, kernel)
    step = 1e-2
    for i in range(u.size):
        for j in range(i + 1):
            corners = []
            for a in (1, -1):
                for b in (1, -1):
                    v = u.copy()
                    v[i] += a * step
                    v[j] += b * step
                    corners.append(a * b * fresh.value(v, None)[0])
            second = sum(corners) / (4 * step**2)
            assert hessian[i, j] == pytest.approx(-second, rel=2e-3, abs=2e-3)


def test_the_outer_covariance_is_the_inverse_inside_the_bounds():
    root = np.random.default_rng(1).normal(size=(4, 4))
    hessian = root @ root.T + np.eye(4)
    at_bound = np.array([False, True, False, False])
    outer = OuterUncertainty.from_hessian(hessian, at_bound)
    inside = np.delete(np.delete(hessian, 1, 0), 1, 1)
    assert outer.min_eigenvalue == pytest.approx(np.linalg.eigvalsh(inside)[0])
    errors = outer.standard_errors()
    assert errors[1] == np.inf
    np.testing.assert_allclose(errors[[0, 2, 3]], np.sqrt(np.linalg.inv(inside).diagonal()))
    assert not outer.covariance[1].any()
    assert not outer.covariance[:, 1].any()


def test_where_the_curvature_is_wrong_nothing_is_known():
    outer = OuterUncertainty.from_hessian(np.diag([1.0, -2.0]), np.zeros(2, dtype=bool))
    assert outer.covariance is None
    assert outer.min_eigenvalue == -2.0
    np.testing.assert_array_equal(outer.standard_errors(), np.inf)
    nothing = OuterUncertainty.from_hessian(np.eye(2), np.ones(2, dtype=bool))
    assert nothing.min_eigenvalue == np.inf
    np.testing.assert_array_equal(nothing.standard_errors(), np.inf)


def test_what_the_objective_does_not_feel_does_not_spoil_the_rest():
    for noise in (1e-9, -1e-9, 0.0):
        hessian = np.diag([4.0, noise, 9.0])
        hessian[0, 1] = hessian[1, 0] = 1e-9
        outer = OuterUncertainty.from_hessian(hessian, np.zeros(3, dtype=bool))
        np.testing.assert_allclose(outer.standard_errors(), [0.5, np.inf, 1 / 3], rtol=1e-12)
        assert outer.min_eigenvalue == pytest.approx(4.0)
        np.testing.assert_array_equal(outer.known, [True, False, True])
