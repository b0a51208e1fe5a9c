"""Expectation propagation for the smooth part, against integrals that share no code with it."""

from dataclasses import replace
from functools import cache

import cases
import nugget_truths as truths
import numpy as np
import oracles
import pytest
from problems import FORMS as FORMS_OF
from problems import (
    central,
    factorisations,
    integrated,
    kernel_of,
    mode_of,
    objective_of,
    problem_of,
    variances_of,
)

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import field_of, fit_gene
from splisosm_pyro.fit.glmm.marginal_error import (
    Conditional,
    gene_generator,
    log_weights,
    marginal_error,
)
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import field_posterior
from splisosm_pyro.fit.marginal.conditional_mode import ModeError
from splisosm_pyro.fit.marginal.expectation_propagation import ROUGH_TOLERANCE, SITE_TOLERANCE
from splisosm_pyro.fit.marginal.laplace import log_marginal
from splisosm_pyro.fit.marginal.smooth_part import SMOOTH_PARTS, MarginalState
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.priors import Priors

FORMS = ("dense", "low_rank", "car_sparse")
EP = SMOOTH_PARTS["ep"]


def settled(case, kernel, variances, smooth="ep", gene=0):
    """A case's gene at its own coefficients, the smooth part integrated out."""
    problem, part = integrated(case, kernel, gene), SMOOTH_PARTS[smooth]
    start = part.start(problem, case.B(gene), variances, None)
    return Conditional(problem, part.settle(problem, start, variances), variances)


def value_of(at):
    return log_marginal(at.problem, at.mode)


def offset_of(case, gene=0):
    return oracles.linear_predictor(case.B(gene), case.design, case.shape[1])


# ---- where nothing is approximated


@pytest.mark.parametrize("n_isos", [2, 3])
def test_white_noise_is_integrated_exactly(n_isos):
    case = cases.make("white", 31, n_isos=n_isos, n_factors=1, depth=1.5, theta=0.0, sigma=1.4)
    rule = truths.hermite(400) if n_isos == 2 else truths.plane(401, 12.0)
    truth = truths.white_noise(case.counts[0], offset_of(case), 1.4, *rule)
    at = settled(case, DenseKernel(case.V), Variances(np.full(1, 1.4), np.zeros(1), n_isos - 1))
    assert value_of(at) == pytest.approx(truth.value, rel=1e-8)
    found = at.variances.nugget * at.mode.terms.score
    np.testing.assert_allclose(found, truth.mean[at.problem.gene.occupied], atol=2e-7)


@pytest.mark.parametrize("theta", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("n_isos", [2, 3])
def test_one_spot_is_integrated_exactly(n_isos, theta):
    """A single site has no neighbour to be wrong about: smooth and white are one Gaussian."""
    case = cases.make("one", 6, n_spots=1, n_isos=n_isos, depth=3.0)
    variances = Variances(np.full(1, 1.7), np.array([theta]), n_isos - 1)
    at = settled(case, DenseKernel(case.V), variances)
    rule = truths.hermite(400) if n_isos == 2 else truths.plane(401, 12.0)
    truth = truths.white_noise(case.counts[0], offset_of(case), 1.7, *rule)
    assert value_of(at) == pytest.approx(truth.value, rel=1e-8)
    mean = at.mode.root * at.mode.w + at.variances.nugget * at.mode.terms.score
    np.testing.assert_allclose(mean, truth.mean, atol=1e-6)
    laplace = settled(case, DenseKernel(case.V), variances, "laplace")
    assert abs(value_of(laplace) - truth.value) > 3e-4


def test_laplace_comes_nearer_in_proportion_to_the_reads():
    """The smooth part's Laplace error falls with the reads of a spot, as one over them."""
    gaps = []
    for depth in (30.0, 300.0, 3000.0):
        case = cases.make("rich", 14, n_isos=2, depth=depth)
        kernel, variances = DenseKernel(case.V), Variances(np.full(1, 0.8), np.ones(1), 1)
        parts = [value_of(settled(case, kernel, variances, smooth)) for smooth in ("ep", "laplace")]
        gaps.append(abs(parts[0] - parts[1]))
    assert 0.02 < gaps[0] < 0.1
    assert gaps[1] < gaps[0] / 4
    assert gaps[2] < gaps[1] / 6


@pytest.mark.parametrize("name", ["two_isoforms", "empty_spots", "five_isoforms"])
def test_the_forms_of_a_kernel_agree(name):
    case, values = cases.CASES[name], []
    for form in ("car_sparse", "car_dense"):
        kernel = kernel_of(name, form)
        values.append(value_of(settled(case, kernel, variances_of(case, kernel))))
    assert values[0] == pytest.approx(values[1], abs=1e-8)


# ---- the gradient


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["two_isoforms", "empty_spots", "all_spatial", "huge_sigma"])
def test_the_gradient_in_all_outer_unknowns(name, form):
    case = cases.CASES[name]
    objective, u = objective_of(case, kernel_of(name, form), problem=integrated)
    objective = replace(objective, smooth=EP)
    at = objective.evaluate(u)
    slopes = [central(lambda v: objective.value(v, at)[0], u, i, 1e-2) for i in range(u.size)]
    scale = max(1.0, np.abs(at.gradient).max())
    np.testing.assert_allclose(at.gradient, slopes, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("name", ["two_isoforms", "three_isoforms"])
def test_the_response_of_the_field_is_that_of_its_mean(name):
    case = cases.CASES[name]
    objective, u = objective_of(case, kernel_of(name, "dense"), problem=integrated)
    objective = replace(objective, smooth=EP)
    at = objective.evaluate(u)
    design = np.column_stack([case.design, np.ones(case.shape[1])])
    posterior = field_posterior(objective, at, design)
    eta = design @ case.B(0) + field_of(objective.problem, at)
    np.testing.assert_allclose(posterior.eta, eta, atol=1e-6)

    def eta_at(v):
        there = objective.evaluate(v)
        coefficients = there.state.mode.coefficients
        return design @ coefficients + field_of(objective.problem, there)

    for i in range(u.size):
        slope = central(eta_at, u, i)
        np.testing.assert_allclose(posterior.response[:, :, i], slope, atol=5e-4)


@pytest.mark.parametrize("name", ["two_isoforms", "three_isoforms"])
def test_a_rough_point_has_nearly_the_value_and_all_of_the_gradient(name):
    case = cases.CASES[name]
    objective, u = objective_of(case, kernel_of(name, "dense"), problem=integrated)
    fine = replace(objective, smooth=EP)
    rough = replace(fine, smooth=EP.for_search())
    at = fine.evaluate(u)
    there, again = (way.evaluate(u + 0.1, at) for way in (fine, rough))
    assert again.value == pytest.approx(there.value, abs=1e-8)
    np.testing.assert_allclose(again.gradient, there.gradient, atol=3e-6)
    state = rough.value(u + 0.1, at)[1]
    assert SITE_TOLERANCE < state.mode.residual <= ROUGH_TOLERANCE
    assert again.state.mode.residual <= SITE_TOLERANCE


def test_without_a_smooth_part_the_sites_follow_at_once():
    case, kernel = cases.CASES["two_isoforms"], kernel_of("two_isoforms", "dense")
    problem = integrated(case, kernel)
    first, second = (Variances(np.full(1, sigma), np.zeros(1), 1) for sigma in (1.0, 1.6))
    mode = EP.settle(problem, EP.start(problem, case.B(0), first, None), first)
    start = EP.start(problem, case.B(0) + 0.3, second, MarginalState(mode, first))
    with factorisations() as count:
        assert EP.settle(problem, start, second).residual < 1e-12
    assert len(count) == 1


# ---- few counts, against importance sampling

MODERATE = [(0.7, 0.3), (0.7, 0.9), (1.0, 0.6), (1.5, 0.3), (1.5, 0.9)]


@cache
def sparse_case(sigma, theta):
    return cases.make("sparse", 5, n_spots=30, n_isos=2, depth=1.5, sigma=sigma, theta=theta)


@cache
def sampled(sigma, theta):
    case = sparse_case(sigma, theta)
    return truths.sample(case.counts[0], offset_of(case), sigma, theta, case.V, draws=16_000)


@pytest.mark.parametrize(("sigma", "theta"), MODERATE)
def test_the_error_is_a_tenth_of_that_of_laplace_at_most(sigma, theta):
    case, truth = sparse_case(sigma, theta), sampled(sigma, theta)
    kernel = DenseKernel(case.V)
    ours = value_of(settled(case, kernel, variances_of(case, kernel))) - truth.value
    documented, variances = problem_of(case, kernel), variances_of(case, kernel)
    laplace = log_marginal(documented, mode_of(documented, case.B(0), variances)) - truth.value
    assert truth.standard_error < 0.003
    assert abs(ours) < 0.002 + 3 * truth.standard_error
    assert abs(ours) < abs(laplace) / 10 + 3 * truth.standard_error
    assert abs(laplace) > 0.05


@pytest.mark.parametrize(("sigma", "theta"), [(1.0, 0.6), (1.5, 0.9)])
def test_the_field_and_the_ratios_are_posterior_means(sigma, theta):
    case, truth = sparse_case(sigma, theta), sampled(sigma, theta)
    kernel, far = DenseKernel(case.V), []
    for smooth in ("ep", "laplace"):
        at = settled(case, kernel, variances_of(case, kernel), smooth)
        nu = (at.mode.root * kernel.smooth(at.mode.alpha, at.problem.gene.occupied))[:, 0]
        nu[at.problem.gene.occupied] += at.variances.nugget[0] * at.mode.terms.score[:, 0]
        far.append(np.abs(nu - truth.nu).max())
        ratio = at.usage(np.ones((30, 1))).mean
        far.append(np.abs(ratio - truth.ratio).max())
    assert far[0] < 0.25 * far[2]
    assert far[1] < 0.006


def test_the_weights_are_the_target_over_the_proposal():
    case, kernel = cases.CASES["two_isoforms"], kernel_of("two_isoforms", "dense")
    at = settled(case, kernel, variances_of(case, kernel))
    mode, spots = at.mode, at.problem.spots
    factor = mode.linearisation.factor
    noise = np.random.default_rng(0).normal(size=(factor.n_noise, 2))
    images = factor.sample(np.eye(factor.n_noise))[:, 0]
    prior, posterior = kernel.dense().numpy(), images @ images.T

    def log_normal(x, cov):  # without the constant that both share
        return -0.5 * (np.linalg.slogdet(cov)[1] + x @ np.linalg.solve(cov, x))

    for i in range(2):
        delta = factor.sample(noise)[:, 0, i]
        value = spots.evaluate(mode.terms.x + mode.root * delta[:, None], at.variances.nugget).value
        target = value + log_normal(mode.w[:, 0] + delta, prior)
        target -= value_of(at) - at.problem.gene.log_coefficient
        expected = target - log_normal(delta, posterior)
        assert log_weights(at, noise)[0, i] == pytest.approx(expected, abs=1e-7)


def test_the_certificate_finds_next_to_nothing_left():
    case = sparse_case(1.5, 0.6)
    kernel = DenseKernel(case.V)
    corrections = []
    for smooth in ("ep", "laplace"):
        at = settled(case, kernel, variances_of(case, kernel), smooth)
        error = marginal_error(at, 8000, gene_generator(0, case.counts[0]))
        corrections.append(abs(error.correction))
        assert error.pareto_k < 0.7
    assert corrections[0] < 0.004
    assert corrections[1] > 0.02


# ---- whole fits


@pytest.mark.parametrize("form", ["dense", "car_sparse"])
@pytest.mark.parametrize("n_logits", [1, 2])
def test_fits_end_at_their_own_maximum(n_logits, form):
    case = cases.make("fit", 42, n_spots=40, n_isos=n_logits + 1, depth=3.0, sigma=1.2, theta=0.6)
    start = {
        "beta": np.zeros((0, n_logits)),
        "bias_eta": np.zeros(n_logits),
        "nu": np.zeros((40, n_logits)),
        "sigma": np.ones(1),
        "theta_logit": np.full(1, -3.0),
    }
    ends, specs = [], []
    for smooth in ("ep", "laplace"):
        configs = {"smooth": smooth, "nugget": "quadrature"}
        options = GLMMOptions.from_configs("marginal_newton", configs)
        spec = GLMMSpec(
            FORMS_OF[form](case), StandardDesign.of(case.design), True, False, Priors(), options
        )
        fit = fit_gene(spec, case.counts[0], start)
        assert fit.status in ("converged", "boundary")
        assert fit.gradient_norm < 1e-3
        ends.append(fit)
        specs.append(spec)
    values = np.array(
        [
            [value_of(Conditional.of_gene(spec, case.counts[0], end.params)) for end in ends]
            for spec in specs
        ]
    )
    np.testing.assert_allclose(values.diagonal(), [end.value for end in ends], atol=1e-8)
    assert (values.diagonal() >= values[:, ::-1].diagonal() - 1e-8).all()


def test_sites_that_do_not_settle_are_an_error(monkeypatch):
    case, kernel = cases.CASES["two_isoforms"], kernel_of("two_isoforms", "dense")
    monkeypatch.setattr("splisosm_pyro.fit.marginal.expectation_propagation.MAX_SWEEPS", 1)
    with pytest.raises(ModeError, match="did not settle in 1 sweeps"):
        settled(case, kernel, variances_of(case, kernel))


def test_a_place_without_a_fixed_point_is_no_place_to_go(monkeypatch):
    case = cases.CASES["two_isoforms"]
    objective, u = objective_of(case, kernel_of("two_isoforms", "dense"), problem=integrated)
    objective = replace(objective, smooth=EP)
    at = objective.evaluate(u)
    monkeypatch.setattr("splisosm_pyro.fit.marginal.expectation_propagation.MAX_SWEEPS", 1)
    value, state = objective.value(u + 0.5, at)
    assert value == -np.inf
    with pytest.raises(ModeError):
        objective.gradient(u + 0.5, state)
    with pytest.raises(ModeError):
        objective.value(u + 0.5, None)


def test_it_goes_with_the_integrated_nugget_alone():
    assert GLMMOptions.from_configs("marginal_gd", {"smooth": "ep"}).nugget == "quadrature"
    with pytest.raises(ValueError, match=r"expected fitting_configs\['nugget'\] = 'quadrature'"):
        GLMMOptions.from_configs("marginal_gd", {"smooth": "ep", "nugget": "laplace"})
