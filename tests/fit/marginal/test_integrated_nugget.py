"""The marginal with the nugget integrated out, against integrals that share no code with it."""

from functools import cache

import cases
import nugget_truths as truths
import numpy as np
import oracles
import pytest
from problems import FORMS as FORMS_OF
from problems import (
    central,
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
    marginal_error,
)
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import field_posterior
from splisosm_pyro.fit.marginal.laplace import log_marginal, marginal_gradient
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.priors import Priors

FORMS = ("dense", "low_rank", "car_sparse", "car_dense")


def offset_of(case, gene=0):
    return oracles.linear_predictor(case.B(gene), case.design, case.shape[1])


def value_of(problem, B, variances):
    return log_marginal(problem, mode_of(problem, B, variances))


# ---- theta = 0: spot by spot


def white_case(n_isos, sigma):
    name = f"white{n_isos}"
    return cases.make(name, 31, n_isos=n_isos, n_factors=1, depth=1.5, theta=0.0, sigma=sigma)


def white_truth(case, sigma):
    rule = truths.hermite(400) if case.shape[2] == 2 else truths.plane(401, 12.0)
    return truths.white_noise(case.counts[0], offset_of(case), sigma, *rule)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("n_isos", [2, 3])
def test_white_noise_is_integrated_exactly(n_isos, sigma):
    case = white_case(n_isos, sigma)
    truth = white_truth(case, sigma)
    variances = Variances(np.full(1, sigma), np.zeros(1), n_isos - 1)
    problem = integrated(case, DenseKernel(case.V))
    mode = mode_of(problem, case.B(0), variances)
    assert log_marginal(problem, mode) == pytest.approx(truth.value, rel=1e-8)
    if sigma > 0.5:
        laplace = value_of(problem_of(case, DenseKernel(case.V)), case.B(0), variances)
        assert abs(laplace - truth.value) > 1e-3


@pytest.mark.parametrize("n_isos", [2, 3])
def test_nu_is_the_posterior_mean_where_the_field_is_white(n_isos):
    case = white_case(n_isos, 1.2)
    truth = white_truth(case, 1.2)
    objective, u = objective_of(case, DenseKernel(case.V), problem=integrated)
    u[:2] = np.log(1.2), -40.0
    at = objective.evaluate(u)
    np.testing.assert_allclose(field_of(objective.problem, at), truth.mean, atol=1e-7)
    design = np.column_stack([case.design, np.ones(case.shape[1])])
    posterior = field_posterior(objective, at, design)
    np.testing.assert_allclose(posterior.eta - offset_of(case), truth.mean, atol=1e-7)
    np.testing.assert_allclose(posterior.covariance, truth.covariance, atol=1e-7)
    conditional = Conditional(objective.problem, at.state.mode, at.state.variances)
    np.testing.assert_allclose(conditional.usage(design).mean, truth.ratio, atol=1e-6)


# ---- the limits where Laplace's nugget is right


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["two_isoforms", "empty_spots", "five_isoforms"])
def test_without_a_nugget_it_is_laplace(name, form):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    given = variances_of(case, kernel)
    variances = Variances(given.sigma, np.ones_like(given.sigma), given.n_logits)  # no residual
    both = []
    for problem in (integrated(case, kernel), problem_of(case, kernel)):
        mode = mode_of(problem, case.B(0), variances)
        gradient = marginal_gradient(problem, mode)
        both.append((log_marginal(problem, mode), gradient.coefficients, gradient.log_spatial))
    assert both[0][0] == pytest.approx(both[1][0], abs=1e-9)
    for ours, theirs in zip(both[0][1:], both[1][1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)


@pytest.mark.parametrize("theta", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("n_isos", [2, 3])
def test_laplace_lacks_a_term_of_stirling_where_counts_are_rich(n_isos, theta):
    """A spot's own Laplace error is ``(sum_p 1 / y_p - 1 / m) / 12`` to first order, whatever T."""
    variances, gaps = Variances(np.full(1, 0.8), np.full(1, theta), n_isos - 1), []
    for depth in (1e3, 1e4, 1e5):
        case = cases.make("rich", 14, n_isos=n_isos, depth=depth)
        kernel, counts = DenseKernel(case.V), case.counts[0]
        ours = value_of(integrated(case, kernel), case.B(0), variances)
        laplace = value_of(problem_of(case, kernel), case.B(0), variances)
        missing = ((1 / counts).sum(1) - 1 / counts.sum(1)).sum() / 12
        assert ours - laplace == pytest.approx(missing, rel=200 / depth + 1e-3)
        gaps.append(ours - laplace)
    assert gaps[0] > 1e-3
    assert gaps[2] < 1e-3


# ---- the gradient


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["two_isoforms", "empty_spots", "five_isoforms"])
def test_the_gradient_in_all_outer_unknowns(name, form):
    case = cases.CASES[name]
    objective, u = objective_of(case, kernel_of(name, form), problem=integrated)
    at = objective.evaluate(u)
    slopes = [central(lambda v: objective.value(v, at)[0], u, i) for i in range(u.size)]
    scale = max(1.0, np.abs(at.gradient).max())
    np.testing.assert_allclose(at.gradient, slopes, rtol=1e-6, atol=1e-6 * scale)


# ---- few counts, against importance sampling

MODERATE = [(1.0, 0.3), (1.0, 0.4), (1.5, 0.5)]


@cache
def sparse_case(sigma, theta):
    return cases.make("sparse", 5, n_spots=30, n_isos=2, depth=1.5, sigma=sigma, theta=theta)


@cache
def sampled(sigma, theta):
    case = sparse_case(sigma, theta)
    return truths.sample(case.counts[0], offset_of(case), sigma, theta, case.V)


@pytest.mark.parametrize(("sigma", "theta"), MODERATE)
def test_the_error_is_a_fifth_of_that_of_laplace_at_most(sigma, theta):
    case, truth = sparse_case(sigma, theta), sampled(sigma, theta)
    kernel = DenseKernel(case.V)
    variances = variances_of(case, kernel)
    ours = value_of(integrated(case, kernel), case.B(0), variances) - truth.value
    laplace = value_of(problem_of(case, kernel), case.B(0), variances) - truth.value
    assert truth.standard_error < 0.005
    assert abs(laplace) > 0.05
    assert abs(ours) + 3 * truth.standard_error < abs(laplace) / 5


@pytest.mark.parametrize("nugget", ["quadrature", "laplace"])
@pytest.mark.parametrize(("sigma", "theta"), MODERATE)
def test_the_certificate_finds_the_error(sigma, theta, nugget):
    case, truth = sparse_case(sigma, theta), sampled(sigma, theta)
    kernel = DenseKernel(case.V)
    make = integrated if nugget == "quadrature" else problem_of
    problem, variances = make(case, kernel), variances_of(case, kernel)
    mode = mode_of(problem, case.B(0), variances)
    error = marginal_error(
        Conditional(problem, mode, variances), 4000, gene_generator(0, case.counts[0])
    )
    lacks = truth.value - log_marginal(problem, mode)
    assert error.standard_error < 0.01
    assert abs(error.correction - lacks) < 4 * (error.standard_error + truth.standard_error)
    assert error.pareto_k < 0.7


@pytest.mark.parametrize(("sigma", "theta"), MODERATE)
def test_nu_and_the_mean_ratios_are_near_their_posterior_means(sigma, theta):
    case, truth = sparse_case(sigma, theta), sampled(sigma, theta)
    far = []
    for make in (integrated, problem_of):
        problem, variances = (
            make(case, DenseKernel(case.V)),
            variances_of(case, DenseKernel(case.V)),
        )
        mode = mode_of(problem, case.B(0), variances)
        smooth = (mode.root * problem.kernel.smooth(mode.alpha, problem.gene.occupied))[:, 0]
        smooth[problem.gene.occupied] += variances.nugget[0] * mode.terms.score[:, 0]
        far.append(np.sqrt(np.mean((smooth - truth.nu) ** 2)))
        ratio = Conditional(problem, mode, variances).usage(np.ones((30, 1))).mean
        far.append(np.abs(ratio - truth.ratio).max())
    assert far[0] < 0.6 * far[2]
    assert far[1] < 0.02


# ---- whole fits


@pytest.mark.parametrize("form", ["dense", "car_sparse"])
@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
def test_fits_of_any_number_of_isoforms(n_logits, form):
    """Each ends where its own objective is highest, not where the other's is."""
    case = cases.make("fit", 42, n_spots=40, n_isos=n_logits + 1, depth=3.0, sigma=1.2, theta=0.6)
    start = {
        "beta": np.zeros((0, n_logits)),
        "bias_eta": np.zeros(n_logits),
        "nu": np.zeros((40, n_logits)),
        "sigma": np.ones(1),
        "theta_logit": np.full(1, -3.0),
    }
    fits, values = [], []
    specs = []
    for nugget in ("quadrature", "laplace"):
        options = GLMMOptions.from_configs("marginal_newton", {"nugget": nugget})
        spec = GLMMSpec(
            FORMS_OF[form](case), StandardDesign.of(case.design), True, False, Priors(), options
        )
        fit = fit_gene(spec, case.counts[0], start)
        assert fit.status in ("converged", "boundary")
        assert fit.gradient_norm < 1e-3
        fits.append(fit)
        specs.append(spec)
    for spec in specs:
        at = [Conditional.of_gene(spec, case.counts[0], end.params) for end in fits]
        values.append([log_marginal(one.problem, one.mode) for one in at])
    values = np.array(values)
    np.testing.assert_allclose(values.diagonal(), [fit.value for fit in fits], atol=1e-8)
    assert (values.diagonal() >= values[:, ::-1].diagonal() - 1e-8).all()
