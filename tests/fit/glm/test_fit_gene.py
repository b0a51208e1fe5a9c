"""The GLM of one gene against SciPy, gold values, closed forms and its own invariances."""

import cases
import numpy as np
import oracles
import pytest
from scipy.special import gammaln

from splisosm_pyro.fit.glm.fit_gene import fit_glm, fit_glms, one_by_one
from splisosm_pyro.fit.glm.newton_iwls import fused_pass, log_coefficient, newton_ascent, tabulate
from splisosm_pyro.fit.glm.reduced_problem import DesignRows, reduce_gene
from splisosm_pyro.fit.options import GLMOptions

METHODS = {
    "iwls": GLMOptions.from_configs("iwls"),
    "newton": GLMOptions.from_configs("newton"),
    "lbfgs": GLMOptions.from_configs("gd"),
    "adam": GLMOptions.from_configs("gd", {"optim": "adam"}),
    "sgd": GLMOptions.from_configs("gd", {"optim": "sgd"}),
}
SOLVERS = ("iwls", "newton", "lbfgs")  # those that reach a boundary quickly
OWN_ROWS = np.empty(0, dtype=np.intp)
INSIDE = ("two_isoforms", "three_isoforms", "five_isoforms", "covariates", "rich", "fractional")


def table_of(rows, counts):
    """The table of ``rows`` (n, K) and ``counts`` (n, P)."""
    return tabulate(np.ascontiguousarray(rows.T), np.ascontiguousarray(counts.T))


def draw(seed, n_spots=60, n_isos=3, n_factors=2, depth=3.0, effect=0.5):
    """Counts from the model, design."""
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(n_spots, n_factors))
    eta = design @ rng.normal(scale=effect, size=(n_factors, n_isos - 1))
    ratio = oracles.softmax_ratio(eta)
    return rng.multinomial(rng.poisson(depth, n_spots), ratio).astype(float), design


def supremum(counts, group):
    """Supremum of the log-likelihood with free usage in each group, multinomial coefficient too."""
    value = (gammaln(counts.sum(1) + 1) - gammaln(counts + 1).sum(1)).sum()
    for g in np.unique(group):
        sums = counts[group == g].sum(0)
        sums = sums[sums > 0]
        value += (sums * np.log(sums / sums.sum())).sum()
    return value


def full_design(design):
    return np.column_stack([design, np.ones(len(design))])


def ratios(fit, design):
    return oracles.softmax_ratio(full_design(design) @ fit.B)


# ---- the maximum


@pytest.mark.parametrize("case", cases.some(*INSIDE), ids=str)
def test_every_method_reaches_the_maximum_that_scipy_finds(case):
    B, value = oracles.glm_maximum(case.counts[0], case.design)
    for options in METHODS.values():
        fit = fit_glm(case.counts[0], case.design, options)
        assert (fit.status, fit.reason) == ("converged", "")
        assert fit.log_lik == pytest.approx(value, rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(fit.B, B, atol=1e-5)


@pytest.mark.parametrize("case", cases.some(*INSIDE, "empty_spots"), ids=str)
def test_certificate_is_that_of_the_returned_point(case):
    counts, design = case.counts[0], case.design
    fit = fit_glm(counts, design)
    eta = oracles.linear_predictor(fit.B, design, len(counts))
    score, blocks = oracles.score_and_information(eta, counts)
    rows = full_design(design)
    assert fit.log_lik == pytest.approx(oracles.log_lik(eta, counts), rel=1e-12)
    information = np.einsum(
        "sk,sl,sqr->kqlr", rows, rows, blocks.reshape(len(rows), *eta.shape[1:], -1)
    )
    information = information.reshape(fit.B.size, fit.B.size)
    np.testing.assert_allclose(
        fit.information, information, rtol=1e-9, atol=1e-9 * information.max()
    )
    errors = np.sqrt(np.diag(np.linalg.inv(information))).reshape(fit.B.shape)
    np.testing.assert_allclose(fit.standard_errors, errors, rtol=1e-8)
    assert fit.min_eigenvalue == pytest.approx(np.linalg.eigvalsh(information)[0], rel=1e-7)
    # the same score up to the rounding of sums of this size
    assert np.linalg.norm(rows.T @ score) == pytest.approx(
        fit.gradient_norm, abs=1e-9 * counts.sum()
    )
    assert fit.gradient_norm < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_gold(gold, method):
    for name in gold.names():
        c = gold.load(name)
        fit = fit_glm(c.Y.astype(float), c.X, METHODS[method])
        free = c.glm["free"].astype(bool)
        assert fit.log_lik == pytest.approx(c.glm["loglik"], rel=1e-8)
        np.testing.assert_allclose(fit.B, c.glm["B"], atol=1e-5)
        np.testing.assert_allclose(fit.standard_errors[free], c.glm["se"][free], atol=1e-5)
        np.testing.assert_array_equal(fit.fixed, ~free)


def test_intercept_only_is_the_pooled_ratio():
    counts, _ = draw(3)
    fit = fit_glm(counts, np.zeros((len(counts), 0)))
    sums = counts.sum(0)
    np.testing.assert_allclose(fit.B, np.log(sums[:-1] / sums[-1])[None], rtol=1e-13)
    np.testing.assert_allclose(
        fit.standard_errors**2, (1 / sums[:-1] + 1 / sums[-1])[None], rtol=1e-12
    )


def test_iwls_and_newton_are_the_same_ascent():
    counts, design = draw(4)
    paths = [fit_glm(counts, design, METHODS[m], keep_path=True).path for m in ("iwls", "newton")]
    np.testing.assert_allclose(*paths, rtol=1e-10, atol=1e-12)


def test_damping_and_epochs_are_obeyed():
    counts, design = draw(5)
    damped = GLMOptions.from_configs("newton", {"lr": 0.1, "max_epochs": 3})
    fit = fit_glm(counts, design, damped, keep_path=True)
    full = fit_glm(counts, design, keep_path=True)
    start = np.zeros_like(fit.B)
    start[-1] = np.log(counts.sum(0)[:-1] / counts.sum(0)[-1])
    np.testing.assert_allclose(fit.path[0] - start, 0.1 * (full.path[0] - start), atol=1e-12)
    assert (fit.status, fit.epochs) == ("max_epochs", 3)
    assert "raise max_epochs" in fit.reason
    assert (np.diff(fit.values) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_goes_on_from_a_start(method):
    counts, design = draw(6)
    whole = fit_glm(counts, design, METHODS[method])
    again = fit_glm(counts, design, METHODS[method], start=whole.B)
    assert again.epochs < whole.epochs
    assert again.log_lik >= whole.log_lik - 1e-10


@pytest.mark.parametrize("size", [30.0, 1e3, 1e6])
@pytest.mark.parametrize("method", SOLVERS)
def test_a_far_start_does_no_harm(method, size):
    counts, design = draw(7)
    start = size * np.array([[1.0, -1.0], [0.5, 0.0], [-1.0, 1.0]])
    fit = fit_glm(counts, design, METHODS[method], start=start)
    np.testing.assert_allclose(fit.B, fit_glm(counts, design).B, atol=1e-6)


@pytest.mark.parametrize("least_squares", [False, True])
def test_a_step_that_overshoots_is_halved(least_squares):
    counts, design = draw(7, n_isos=2, n_factors=1)
    table = table_of(full_design(design), counts)
    start = np.array([[4.0], [-3.0]])
    score, information = np.empty((2, 1)), np.empty((2, 2))
    first = fused_pass(table, start, score, information)
    step = np.linalg.solve(information, score)
    assert fused_pass(table, start + step, score, information) < first
    stopped, value, values, path, coef, *_ = newton_ascent(
        table, start, least_squares, 1.0, 1e-10, False, 100, 1
    )
    assert stopped
    assert value == values[-1]
    np.testing.assert_array_equal(coef, path[-1])
    assert values[0] > first
    assert (np.diff(values) > -1e-10).all()
    np.testing.assert_allclose(path[-1], fit_glm(counts, design).B, atol=1e-8)


# ---- the pass and the reductions


def test_pass_against_loops():
    counts, design = draw(8, n_isos=4)
    rows = full_design(design)
    coef = np.random.default_rng(0).normal(size=(3, 3))
    score, information = np.empty((3, 3)), np.empty((9, 9))
    value = fused_pass(table_of(rows, counts), coef, score, information)
    eta = rows @ coef
    residual, blocks = oracles.score_and_information(eta, counts)
    assert value + log_coefficient(counts) == pytest.approx(oracles.log_lik(eta, counts), rel=1e-13)
    np.testing.assert_allclose(score, rows.T @ residual, rtol=1e-11, atol=1e-11)
    expected = np.einsum("sk,sl,sqr->kqlr", rows, rows, blocks.reshape(len(rows), 3, 3))
    np.testing.assert_allclose(information, expected.reshape(9, 9), rtol=1e-11, atol=1e-11)


def test_log_coefficient_of_small_large_and_fractional_counts():
    counts = np.array([[0.0, 0, 0], [1, 0, 0], [3, 254, 1], [1e6, 2, 0], [0.3, 1.7, 255.5]])
    expected = (gammaln(counts.sum(1) + 1) - gammaln(counts + 1).sum(1)).sum()
    # lgamma of a million is known to 1e-9
    assert log_coefficient(counts) == pytest.approx(expected, abs=3e-9)
    assert log_coefficient(counts[:3]) == pytest.approx(
        np.log(258 * 257 * 256 * 255 / 6), rel=1e-13
    )


def test_pooling_equal_rows_changes_nothing():
    rng = np.random.default_rng(9)
    design = np.eye(4)[rng.integers(0, 4, 80)][:, 1:]
    counts = rng.poisson(0.8, (80, 3)).astype(float)
    pooled = DesignRows.from_design(design)
    plain = DesignRows(np.ascontiguousarray(design), OWN_ROWS)
    assert pooled.rows.shape == (4, 3)
    a, b = fit_glm(counts, pooled), fit_glm(counts, plain)
    np.testing.assert_allclose(a.B, b.B, atol=1e-11)
    np.testing.assert_allclose(a.standard_errors, b.standard_errors, rtol=1e-10)
    assert a.log_lik == pytest.approx(b.log_lik, rel=1e-13)


def test_continuous_covariates_are_not_pooled():
    assert not DesignRows.from_design(draw(10)[1]).place.size


@pytest.mark.parametrize("nearly_dependent", [False, True])
def test_reduced_rows_are_orthonormal_over_reads(nearly_dependent):
    counts, design = draw(11, n_factors=4)
    if nearly_dependent:
        design = design[:, :1] + 1e-6 * design
    else:
        design = design * [1.0, 1e4, 1e-3, 1.0] + [0, 5e4, 1, 0]
    problem = reduce_gene(counts, design, OWN_ROWS)
    rows, totals = problem.table.rows, problem.table.totals
    np.testing.assert_allclose(rows * totals @ rows.T / totals.sum(), np.eye(5), atol=1e-9)
    held = full_design(design)[counts.sum(1) > 0]
    np.testing.assert_allclose(rows.T @ problem.from_design, held, rtol=1e-9, atol=1e-9)


# ---- invariance


def test_permuting_spots_changes_nothing():
    counts, design = draw(12)
    order = np.random.default_rng(0).permutation(len(counts))
    a, b = fit_glm(counts, design), fit_glm(counts[order], design[order])
    np.testing.assert_allclose(a.B, b.B, atol=1e-11)


def test_empty_spots_change_nothing():
    counts, design = draw(13)
    more = np.vstack([counts, np.zeros((20, 3))])
    wide = np.vstack([design, 1e3 * np.ones((20, 2))])
    a, b = fit_glm(counts, design), fit_glm(more, wide)
    np.testing.assert_array_equal(a.B, b.B)
    assert a.log_lik == b.log_lik


def company(grouped, seed=0):
    """Genes of every kind: inside, separated, parts of which never occur, one without counts."""
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(60, 2))
    if grouped:
        design = np.eye(3)[np.arange(60) % 3, 1:]
    counts = rng.poisson(1.5, (9, 60, 3)).astype(float)
    high = design[:, 0] > 0
    counts[1, high, 0] = 0.0
    counts[2, high, 1:] = counts[2, ~high, 0] = 0.0
    counts[3] = 0.0
    counts[4, :, 1] = 0.0
    counts[5, :, 2] = 0.0
    counts[6, high] = 0.0  # a covariate without spots, if grouped
    counts[7, :, :2] = 0.0
    return counts, design


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_gene_does_not_depend_on_its_company(method, grouped, begun):
    counts, design = company(grouped)
    starts = np.random.default_rng(1).normal(size=(9, 3, 2)) if begun else None

    def fit(genes):
        own = starts[genes] if begun else None
        return fit_glms(counts[genes], design, METHODS[method], starts=own, keep_path=True)

    get = one_by_one(fit, 9, block=4)
    for gene in (0, 4, 8, 5, 1, 2, 3, 6, 7):
        (alone,), together = fit(slice(gene, gene + 1)), get(gene)
        for name, value in (vars(alone) | vars(alone.unknown)).items():
            if name != "unknown":
                owner = together.unknown if name in vars(alone.unknown) else together
                np.testing.assert_array_equal(getattr(owner, name), value)


def test_a_block_that_breaks_leaves_its_genes_to_themselves():
    def fit(genes):
        if genes.start <= 2 < genes.stop:
            raise np.linalg.LinAlgError("a test broke it")
        return [f"gene {genes.start}"] * (genes.stop - genes.start)

    get = one_by_one(fit, 5, block=4)
    assert [get(gene) for gene in (0, 1, 3, 4)] == [f"gene {g}" for g in (0, 1, 3, 4)]
    with pytest.raises(np.linalg.LinAlgError):
        get(2)


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [0, 2, 1]])
def test_ratios_do_not_depend_on_the_reference(order):
    counts, design = draw(14)
    a, b = fit_glm(counts, design), fit_glm(counts[:, order], design)
    np.testing.assert_allclose(ratios(a, design)[:, order], ratios(b, design), atol=1e-10)
    assert a.log_lik == pytest.approx(b.log_lik, rel=1e-13)


def test_moving_and_scaling_covariates_moves_the_coefficients_only():
    counts, design = draw(15)
    scale, shift = np.array([1e3, 1e-3]), np.array([2e4, -5.0])
    a, b = fit_glm(counts, design), fit_glm(counts, design * scale + shift)
    np.testing.assert_allclose(b.B[:-1] * scale[:, None], a.B[:-1], atol=1e-9)
    np.testing.assert_allclose(
        b.standard_errors[:-1] * scale[:, None], a.standard_errors[:-1], rtol=1e-7
    )
    assert a.log_lik == pytest.approx(b.log_lik, rel=1e-12)


# ---- the limits


@pytest.mark.parametrize("method", METHODS)
def test_no_counts(method):
    fit = fit_glm(np.zeros((5, 3)), np.arange(5.0)[:, None], METHODS[method])
    assert fit.status == "no counts"
    assert fit.log_lik == 0.0
    assert not fit.B.any()
    assert np.isinf(fit.standard_errors).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("absent", [(0,), (1,), (0, 1), (2,), (0, 2), (1, 2)])
def test_isoforms_that_never_occur(method, absent):
    counts, design = draw(16)
    counts[:, absent] = 0.0
    fit = fit_glm(counts, design, METHODS[method])
    present = [p for p in range(3) if p not in absent]
    rest = fit_glm(counts[:, present], design).log_lik if len(present) > 1 else 0.0
    assert fit.status == "boundary"
    assert all(f"isoform {p}" in fit.reason for p in absent)
    assert fit.log_lik == pytest.approx(rest, abs=1e-6)
    eta = full_design(design) @ fit.B
    assert oracles.log_lik(eta, counts) == pytest.approx(fit.log_lik, abs=1e-9)
    assert np.isfinite(fit.B).all()
    np.testing.assert_array_equal(np.isinf(fit.standard_errors), fit.fixed)
    for p in absent:
        if p < 2:
            np.testing.assert_array_equal(fit.B[:, p], [0.0, 0.0, -40.0])
    if 2 in absent:
        column = [p for p in present if not fit.B[:-1, p].any()]
        assert 40.0 in fit.B[-1, column]


GROUPS = np.repeat([0, 1, 2], 20)


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-3])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("isoform", [0, 2])
def test_separation_by_a_category(method, scale, centred, isoform):
    rng = np.random.default_rng(17)
    counts = rng.poisson([2.0, 3.0, 2.0], (60, 3)) * scale
    counts[GROUPS == 1, isoform] = 0.0
    design = np.eye(3)[GROUPS][:, 1:] - (1 / 3 if centred else 0.0)
    fit = fit_glm(counts, design, METHODS[method], names=["second", "third"])
    assert fit.status == "boundary"
    assert f"covariate 'second' separates isoform {isoform}:" in fit.reason
    best = supremum(counts, GROUPS)
    assert fit.log_lik == pytest.approx(best, abs=2e-6)
    assert np.isfinite(fit.B).all()
    running = [0, 1] if isoform == 2 else [0]
    expected = np.zeros((3, 2), dtype=bool)
    expected[0, running] = True
    expected[2, running] = centred
    np.testing.assert_array_equal(fit.fixed, expected)
    np.testing.assert_array_equal(np.isinf(fit.standard_errors), expected)
    assert fit.held.sum() == 1
    assert not (fit.held & ~fit.fixed).any()


def test_only_isoforms_that_vanish_are_named():
    rng = np.random.default_rng(23)
    counts = rng.poisson(1.0, (60, 4)).astype(float)
    counts[GROUPS == 1, 2] = 0.0
    design = np.column_stack([np.eye(3)[GROUPS][:, 1:], rng.normal(size=60)])
    reason = fit_glm(counts, design).reason
    assert reason.startswith("covariate 0 separates isoform 2: ")


def test_standard_errors_beside_a_separation_are_those_without_the_separated_group():
    rng = np.random.default_rng(18)
    counts = rng.poisson(2.0, (60, 2)).astype(float)
    counts[GROUPS == 1, 0] = 0.0
    design = np.eye(3)[GROUPS][:, 1:]
    fit = fit_glm(counts, design)
    rest = fit_glm(counts[GROUPS != 1], design[GROUPS != 1][:, 1:])
    np.testing.assert_allclose(fit.standard_errors[1:], rest.standard_errors, rtol=1e-6)
    np.testing.assert_allclose(fit.B[1:], rest.B, atol=1e-8)


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("gap", [1.0, 1e-3])
def test_complete_separation_by_a_continuous_covariate(method, gap):
    rng = np.random.default_rng(19)
    x = rng.uniform(0, 1, (40, 1)) + gap / 2
    design = np.vstack([x, -x])
    counts = np.zeros((80, 2))
    counts[:40, 0] = counts[40:, 1] = rng.integers(1, 5, 40)
    fit = fit_glm(counts, design, METHODS[method])
    assert fit.status == "boundary"
    assert "covariate 0 separates isoforms 0, 1" in fit.reason
    assert fit.log_lik == pytest.approx(0.0, abs=1e-6)
    assert np.isinf(fit.standard_errors[0]).all()


def test_a_steep_but_finite_effect_is_not_called_a_boundary():
    x = np.array([-10.0, -9, -8, -7, 1, -1, 7, 8, 9, 10])[:, None]
    counts = np.zeros((10, 2))
    counts[:5, 0] = counts[5:, 1] = 30.0  # one crossed pair keeps the slope finite
    fit = fit_glm(counts, x)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.B, oracles.glm_maximum(counts, x)[0], atol=1e-4)


@pytest.mark.parametrize("method", SOLVERS)
def test_covariates_that_say_nothing_on_the_occupied_spots(method):
    counts, design = draw(20, n_factors=1)
    twin = design.copy()
    twin[0] += 1.0
    level = np.zeros_like(design)
    level[0] = 1.0
    counts[0] = 0.0
    fit = fit_glm(counts, np.hstack([design, twin, level]), METHODS[method])
    alone = fit_glm(counts, design)
    assert fit.status == "boundary"
    assert "covariate 1 is constant or a linear combination" in fit.reason
    assert "covariate 2 is constant or a linear combination" in fit.reason
    assert not fit.B[1:3].any()
    np.testing.assert_allclose(fit.B[[0, 3]], alone.B, atol=1e-6)
    np.testing.assert_allclose(fit.standard_errors[3], alone.standard_errors[1], rtol=1e-6)
    assert np.isinf(fit.standard_errors[:3]).all()  # the twin may have what the first has
    assert fit.log_lik == pytest.approx(alone.log_lik, abs=1e-9)


@pytest.mark.parametrize("spot", [[3.0, 1.0, 2.0], [3.0, 0.0, 2.0], [0.0, 4.0, 0.0]])
def test_one_occupied_spot(spot):
    counts = np.zeros((6, 3))
    counts[2] = spot
    design = np.random.default_rng(0).normal(size=(6, 2))
    fit = fit_glm(counts, design)
    assert fit.status == "boundary"
    assert fit.log_lik == pytest.approx(supremum(counts, np.zeros(6)), abs=1e-9)
    np.testing.assert_allclose(ratios(fit, design)[2], np.array(spot) / sum(spot), atol=1e-12)
    assert not np.isnan(fit.standard_errors).any()


def test_totals_of_a_million():
    rng = np.random.default_rng(21)
    design = rng.normal(size=(50, 2))
    ratio = oracles.softmax_ratio(design @ rng.normal(scale=0.3, size=(2, 2)))
    counts = rng.multinomial(10**6, ratio).astype(float)
    fits = {m: fit_glm(counts, design, METHODS[m]) for m in SOLVERS}
    assert {f.status for f in fits.values()} == {"converged"}
    for fit in fits.values():
        np.testing.assert_allclose(fit.B, fits["newton"].B, atol=1e-7)
    assert fits["newton"].gradient_norm < 1e-4  # of scores of size 1e7


def test_stalling_is_not_called_convergence():
    counts, design = draw(22, effect=2.0)
    lazy = GLMOptions.from_configs("gd", {"optim": "adam", "lr": 1e-9, "patience": 1, "tol": 1e-5})
    fit = fit_glm(counts, design, lazy)
    assert fit.status == "failed: stalled below the optimum"
    assert "nats are left" in fit.reason


@pytest.mark.parametrize("seed", range(12))
def test_random_sparse_genes_are_settled_and_agree_between_methods(seed):
    rng = np.random.default_rng(100 + seed)
    n_isos = int(rng.integers(2, 5))
    design = np.column_stack([np.eye(3)[rng.integers(0, 3, 30)][:, 1:], rng.normal(size=30)])
    counts = rng.poisson(0.15, (30, n_isos)).astype(float)
    fits = [fit_glm(counts, design, METHODS[m]) for m in SOLVERS]
    assert {str(f.status) for f in fits} <= {"converged", "boundary", "no counts"}
    values = [f.log_lik for f in fits]
    np.testing.assert_allclose(values, max(values), atol=1e-6)
    for fit in fits:
        assert np.isfinite(fit.B).all()
        assert not np.isnan(fit.standard_errors).any()
        np.testing.assert_array_equal(fit.fixed, fits[0].fixed)
