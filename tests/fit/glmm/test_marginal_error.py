"""The certificate of the log marginal: its weights in closed form, its seeds, its limits."""

import cases
import numpy as np
import pytest
from problems import integrated, kernel_of, mode_of, problem_of, variances_of

from splisosm_pyro.fit.glmm.marginal_error import (
    Conditional,
    MarginalError,
    gene_generator,
    log_weights,
    marginal_error,
)
from splisosm_pyro.fit.marginal.laplace import log_marginal
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.spot.integrated import QuadratureNugget


def conditional(name, form, nugget, variances=None):
    case, kernel = cases.CASES[name], kernel_of(name, form)
    problem = (integrated if nugget == "quadrature" else problem_of)(case, kernel)
    variances = variances_of(case, kernel) if variances is None else variances
    return Conditional(problem, mode_of(problem, case.B(0), variances), variances)


@pytest.mark.parametrize("nugget", ["laplace", "quadrature"])
@pytest.mark.parametrize("form", ["dense", "car_sparse", "car_dense"])
@pytest.mark.parametrize("name", ["two_isoforms", "empty_spots"])
def test_log_weights_are_the_target_over_the_proposal(name, form, nugget):
    """Both densities at the occupied spots written out, with the prior's covariance there."""
    at = conditional(name, form, nugget)
    mode, occupied = at.mode, at.problem.gene.occupied
    factor, n_logits = mode.linearisation.factor, at.variances.n_logits
    noise = np.random.default_rng(0).normal(size=(factor.n_noise, 3))
    draws = factor.sample(noise)
    V = kernel_of(name, form).dense().numpy()[np.ix_(occupied, occupied)]
    prior = np.kron(V, np.eye(n_logits))
    images = factor.sample(np.eye(factor.n_noise)).reshape(len(prior), -1)
    posterior = images @ images.T
    exact = QuadratureNugget(at.problem.gene.counts)

    def log_normal(x, cov):  # without the constant that both share
        return -0.5 * (np.linalg.slogdet(cov)[1] + x @ np.linalg.solve(cov, x))

    for side, sign in enumerate((1.0, -1.0)):
        for i in range(3):
            delta = sign * draws[:, :, i]
            value = exact.evaluate(mode.terms.x + mode.root * delta, at.variances.nugget).value
            target = value + log_normal((mode.w + delta).ravel(), prior)
            target -= log_marginal(at.problem, mode) - at.problem.gene.log_coefficient
            expected = target - log_normal(delta.ravel(), posterior)
            found = log_weights(at, noise)[side, i]
            assert found == pytest.approx(expected, abs=1e-7)


def test_without_a_smooth_part_the_correction_is_exact():
    variances = Variances(np.full(1, 1.3), np.zeros(1), 1)
    both = [
        conditional("two_isoforms", "dense", kind, variances) for kind in ("laplace", "quadrature")
    ]
    values = [log_marginal(at.problem, at.mode) for at in both]
    errors = [marginal_error(at, 100, np.random.default_rng(0)) for at in both]
    assert errors[0].correction == pytest.approx(values[1] - values[0], abs=1e-9)
    assert abs(errors[0].correction) > 0.01
    assert errors[1].correction == pytest.approx(0.0, abs=1e-9)
    for error in errors:
        assert error.standard_error < 1e-9
        assert error.pareto_k == -np.inf


def test_forms_of_one_kernel_agree_within_their_errors():
    errors = []
    for form in ("car_sparse", "car_dense"):
        rng = np.random.default_rng(1)
        errors.append(marginal_error(conditional("two_isoforms", form, "quadrature"), 2000, rng))
    gap = abs(errors[0].correction - errors[1].correction)
    assert 0.0 < gap < 4 * np.hypot(*(e.standard_error for e in errors))


def test_the_summary_of_weights():
    weights = np.exp(np.random.default_rng(2).normal(0.0, 0.5, size=(2, 5000)))
    error = MarginalError.from_log_weights(np.log(weights) - 700.0)
    assert error.correction == pytest.approx(np.log(weights.mean()) - 700.0, abs=1e-12)
    pairs = weights.mean(0)
    expected = pairs.std(ddof=1) / np.sqrt(5000) / pairs.mean()
    assert error.standard_error == pytest.approx(expected, rel=1e-12)
    assert error.pareto_k < 0.5
    heavy = np.random.default_rng(3).exponential(size=(2, 5000)) / 0.8  # Pareto of shape 1 / 0.8
    assert MarginalError.from_log_weights(heavy).pareto_k > 0.7


def test_a_gene_draws_by_its_own_counts():
    counts = cases.CASES["batch"].counts
    draws = [gene_generator(0, one).normal() for one in counts]
    assert len(set(draws)) == 5
    assert gene_generator(0, counts[2].copy()).normal() == draws[2]
    assert gene_generator(1, counts[2]).normal() != draws[2]
