"""The joint density's profile over the variances: dense truth and gradient."""

import cases
import numpy as np
import oracles
import pytest
from problems import central, kernel_of, problem_of

from splisosm_pyro.fit.glmm.fit_gene import field_of
from splisosm_pyro.fit.glmm.joint_objective import JointObjective, log_joint
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.maths.priors import Priors

FORMS = ["dense", "low_rank", "car_sparse"]


def joint_of(name, form, gene=0, *, fix_sigma=False, prior=None, free=True):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    B, sigma = case.B(gene), case.sigma[gene]
    space = OuterSpace(
        n_components=sigma.size,
        fixed_sigma=sigma if fix_sigma else None,
        free=np.zeros(B.shape, dtype=bool),
        coefficients=B,
        priors=Priors(prior or "none"),
        back=np.eye(len(B)),
        residual=kernel.residual,
        sigma_floor=0.1,
    )
    objective = JointObjective(problem_of(case, kernel, gene), space, np.full(B.shape, free))
    theta = np.clip(case.theta[gene], 0.02, 0.98)
    return case, kernel, objective, space.start(B, sigma, np.log(theta / (1 - theta)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["two_isoforms", "covariates", "empty_spots", "batch"])
def test_the_value_is_the_dense_log_joint_at_its_own_parameters(name, form):
    for gene in range(cases.CASES[name].shape[0]):
        case, kernel, objective, u = joint_of(name, form, gene)
        at = objective.evaluate(u)
        mode, variances = at.state.mode, at.state.variances
        nu = field_of(objective.problem, at)
        here = (mode.coefficients, nu, variances.sigma, variances.theta, kernel.dense().numpy())
        truth = oracles.log_joint(case.counts[gene], case.design, *here)
        assert at.value == pytest.approx(truth, rel=1e-10)
        assert log_joint(objective.problem, at.state) == at.value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["two_isoforms", "covariates"])
def test_nothing_around_the_mode_is_higher(name, form):
    case, kernel, objective, u = joint_of(name, form)
    at = objective.evaluate(u)
    mode, variances = at.state.mode, at.state.variances
    nu, V = field_of(objective.problem, at), kernel.dense().numpy()
    there = (variances.sigma, variances.theta, V)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(5):
            B = mode.coefficients + size * rng.normal(size=mode.coefficients.shape)
            moved = nu + size * rng.normal(size=nu.shape)
            beside = oracles.log_joint(case.counts[0], case.design, B, moved, *there)
            assert beside < at.value + 1e-12 * abs(at.value)


@pytest.mark.parametrize("fix_sigma", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["two_isoforms", "covariates", "empty_spots"])
def test_the_gradient_in_the_variances(name, form, fix_sigma):
    prior = "inv_gamma"
    _, _, objective, u = joint_of(name, form, fix_sigma=fix_sigma, prior=prior)
    exact = objective.evaluate(u).gradient
    assert exact.size == u.size == (2 - fix_sigma) * objective.space.n_components
    slopes = [central(lambda v: objective.value(v, None)[0], u, i) for i in range(u.size)]
    np.testing.assert_allclose(exact, slopes, rtol=1e-6, atol=1e-6)


def test_coefficients_that_are_held_stay():
    case, _, objective, u = joint_of("covariates", "dense", free=False)
    at = objective.evaluate(u)
    np.testing.assert_array_equal(at.state.mode.coefficients, case.B(0))
    loose = joint_of("covariates", "dense")[2].evaluate(u)
    assert loose.value > at.value + 1e-3


def test_a_value_near_another_is_the_value_from_nothing():
    _, _, objective, u = joint_of("covariates", "car_sparse")
    at = objective.evaluate(u)
    for size in (0.01, 1.0):
        fresh = joint_of("covariates", "car_sparse")[2].value(u + size, None)[0]
        assert objective.value(u + size, at)[0] == pytest.approx(fresh, rel=1e-12)


def test_the_prior_is_added_once():
    _, _, flat, u = joint_of("covariates", "dense")
    sigma = flat.space.unpack(u)[1].sigma
    for name in ("gamma", "inv_gamma"):
        _, _, objective, _ = joint_of("covariates", "dense", prior=name)
        gain = objective.evaluate(u).value - flat.evaluate(u).value
        assert gain == pytest.approx(oracles.log_prior(name, sigma), rel=1e-9)
