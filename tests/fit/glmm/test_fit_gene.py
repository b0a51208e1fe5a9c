"""Fits of one gene: optimum certificates, and that every method ends at the same optimum."""

from functools import cache

import cases
import numpy as np
import oracles
import pytest
from problems import kernel_of

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.result import Status
from splisosm_pyro.maths.priors import Priors

NAMES = ["two_isoforms", "covariates", "batch", "empty_spots", "rich", "white_noise"]


def spec_of(name, method, *, form="dense", fix=True, prior="none", **configs):
    case = cases.CASES[name]
    return GLMMSpec(
        kernel=kernel_of(name, form),
        design=StandardDesign.of(case.design),
        share_variance=case.share_variance,
        fix_sigma=fix,
        priors=Priors(prior),
        options=GLMMOptions.from_configs(method, configs),
    )


def start_of(case, sigma=0.6):
    n_components, n_logits = case.sigma.shape[1], case.shape[2] - 1
    return {
        "beta": np.zeros((case.design.shape[1], n_logits)),
        "bias_eta": np.zeros(n_logits),
        "nu": np.zeros((case.shape[1], n_logits)),
        "sigma": np.full(n_components, sigma),
        "theta_logit": np.full(n_components, -3.0),
    }


def fit(name, method="marginal_newton", *, start=None, warm=False, keep_path=False, **more):
    case = cases.CASES[name]
    spec = spec_of(name, method, **more)
    begin = start_of(case) if start is None else start
    return fit_gene(spec, case.counts[0], begin, warm=warm, keep_path=keep_path)


def dense_marginal(name, params, *, form="dense", prior="none"):
    """The dense objective at parameters, prior included."""
    case = cases.CASES[name]
    sigma, theta = params["sigma"], 1 / (1 + np.exp(-params["theta_logit"]))
    B = np.vstack([params["beta"], params["bias_eta"]])
    V = kernel_of(name, form).dense().numpy()
    truth = oracles.log_marginal(case.counts[0], case.design, B, sigma, theta, V)
    return truth.value + oracles.log_prior(prior, sigma), truth.nu


def dense_joint(name, params, *, prior="none"):
    case = cases.CASES[name]
    theta = 1 / (1 + np.exp(-params["theta_logit"]))
    B = np.vstack([params["beta"], params["bias_eta"]])
    here = (B, params["nu"], params["sigma"], theta, case.V, prior)
    return oracles.log_joint(case.counts[0], case.design, *here)


def moved_inside(params, rng, size, *, fix):
    """A random feasible step: theta_logit within its bounds, sigma too if it is free."""
    out = {name: value + size * rng.normal(size=value.shape) for name, value in params.items()}
    out["theta_logit"] = out["theta_logit"].clip(-15.0, 15.0)
    factor = np.exp(size * rng.normal(size=params["sigma"].shape))
    out["sigma"] = params["sigma"] if fix else (params["sigma"] * factor).clip(1e-4, 50.0)
    return out


# ---- the marginal optimum


@pytest.mark.parametrize(
    ("name", "prior", "fix"),
    [
        (name, prior, (i + j) % 2 == 0)
        for i, name in enumerate(NAMES)
        for j, prior in enumerate(("none", "gamma", "inv_gamma"))
    ],
)
def test_the_marginal_fit_is_an_optimum_of_the_dense_objective(name, fix, prior):
    end = fit(name, fix=fix, prior=prior)
    assert end.status in (Status.CONVERGED, Status.BOUNDARY)
    assert end.objective == "log_marginal"
    assert end.gradient_norm < 1e-3
    value, nu = dense_marginal(name, end.params, prior=prior)
    assert end.value == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(end.params["nu"], nu, atol=1e-6)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.03, 0.5):
        for _ in range(4):
            beside = moved_inside(end.params, rng, size, fix=fix)
            assert dense_marginal(name, beside, prior=prior)[0] < value + 1e-7


@pytest.mark.parametrize("form", ["full_rank", "low_rank", "car_sparse", "car_dense"])
def test_every_form_of_the_kernel_gives_the_fit_of_its_dense_form(form):
    end = fit("covariates", form=form, fix=False, prior="gamma")
    value, nu = dense_marginal("covariates", end.params, form=form, prior="gamma")
    assert end.value == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(end.params["nu"], nu, atol=1e-6)
    rng = np.random.default_rng(1)
    for _ in range(6):
        beside = moved_inside(end.params, rng, 0.05, fix=False)
        assert dense_marginal("covariates", beside, form=form, prior="gamma")[0] < value + 1e-7


OTHER_WAYS = [
    ("marginal_gd", {}),
    ("marginal_gd", {"optim": "adam"}),
    ("marginal_newton", {"update_nu_every_k": 2}),
    ("marginal_newton", {"update_nu_every_k": 5}),
]


@cache
def best(name, fix):
    return fit(name, fix=fix, prior="gamma")


@pytest.mark.parametrize(
    ("name", "way", "fix"),
    [
        (name, way, (i + j) % 2 == 0)
        for i, name in enumerate(("two_isoforms", "batch", "white_noise"))
        for j, way in enumerate(OTHER_WAYS)
    ],
)
def test_all_marginal_methods_end_at_the_same_optimum(name, way, fix):
    method, configs = way
    other = fit(name, method, fix=fix, prior="gamma", **configs)
    assert other.value == pytest.approx(best(name, fix).value, abs=1e-5)
    assert other.status == best(name, fix).status
    for key in ("beta", "bias_eta", "sigma", "nu"):
        np.testing.assert_allclose(other.params[key], best(name, fix).params[key], atol=1e-2)


def test_sgd_ends_at_the_same_optimum():
    slow = fit("two_isoforms", "marginal_gd", fix=False, prior="gamma", optim="sgd")
    assert slow.value == pytest.approx(best("two_isoforms", False).value, abs=1e-5)


@pytest.mark.parametrize("every", [2, 5])
def test_a_field_that_is_updated_seldom_is_up_to_date_at_the_end(every):
    end = fit("covariates", fix=False, prior="gamma", update_nu_every_k=every)
    value, nu = dense_marginal("covariates", end.params, prior="gamma")
    assert end.value == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(end.params["nu"], nu, atol=1e-6)


def test_sigma_stays_where_it_starts_if_it_is_fixed():
    case = cases.CASES["covariates"]
    for method in ("marginal_newton", "joint_newton"):
        start = {**start_of(case), "sigma": np.array([0.3, 0.7])}
        end = fit("covariates", method, start=start)
        np.testing.assert_allclose(end.params["sigma"], [0.3, 0.7], rtol=1e-14)


# ---- the joint optimum


@pytest.mark.parametrize("name", NAMES)
def test_the_joint_fit_at_fixed_sigma_is_an_optimum_of_the_dense_density(name):
    end = fit(name, "joint_newton")
    assert end.objective == "log_joint"
    assert end.status in (Status.CONVERGED, Status.BOUNDARY)
    assert end.gradient_norm < 1e-3
    value = dense_joint(name, end.params)
    assert end.value == pytest.approx(value, rel=1e-10)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.03, 0.5):
        for _ in range(4):
            assert dense_joint(name, moved_inside(end.params, rng, size, fix=True)) < value + 1e-9
    theta = 1 / (1 + np.exp(-end.params["theta_logit"]))
    case = cases.CASES[name]
    here = (end.params["sigma"], theta, case.V)
    assert value >= oracles.joint_maximum(case.counts[0], case.design, *here)[2] - 1e-8


@pytest.mark.parametrize(
    ("name", "optim", "fix"),
    [
        (name, optim, (i + j) % 2 == 0)
        for i, name in enumerate(NAMES)
        for j, optim in enumerate(("lbfgs", "adam"))
    ],
)
def test_the_joint_methods_end_at_the_same_optimum(name, optim, fix):
    newton = fit(name, "joint_newton", fix=fix, prior="inv_gamma")
    other = fit(name, "joint_gd", fix=fix, prior="inv_gamma", optim=optim)
    # Adam goes to and fro by more than it promises, and where it is stopped hangs on rounding
    near = {"lbfgs": 1e-7, "adam": 1e-5}[optim]
    assert other.value == pytest.approx(newton.value, abs=near)


@pytest.mark.parametrize("name", ["two_isoforms", "covariates", "white_noise"])
def test_the_joint_density_with_free_sigma_ends_at_its_floor_and_says_so(name):
    end = fit(name, "joint_gd", fix=False)
    assert end.status == Status.BOUNDARY
    np.testing.assert_allclose(end.params["sigma"], 0.1, rtol=1e-12)
    assert "at its floor 0.1" in end.reason
    assert "marginal_newton" in end.reason


# ---- status and course


def test_the_ends_of_theta_are_named():
    white = fit("white_noise")
    assert white.status == Status.BOUNDARY
    assert white.reason == "theta -> 0: the field is white noise"
    spatial = fit("covariates", form="dense")
    assert "theta of logit 0 -> 1: all of the field's variance is spatial" in spatial.reason
    flat = fit("two_isoforms", fix=False)
    assert flat.reason.startswith("sigma -> 0: no more variation than the covariates explain")


def test_few_epochs_are_not_convergence():
    end = fit("covariates", fix=False, max_epochs=2)
    assert end.status == Status.MAX_EPOCHS
    assert end.reason.endswith("raise max_epochs")
    assert all(np.isfinite(value).all() for value in end.params.values())
    assert end.value < fit("covariates", fix=False).value


@pytest.mark.parametrize("method", ["marginal_newton", "marginal_gd", "joint_newton", "joint_gd"])
def test_the_path_ends_at_the_fit(method):
    end = fit("covariates", method, fix=False, prior="gamma", keep_path=True)
    assert len(end.values) == end.epochs == len(end.params_path)
    assert end.values[-1] == end.value == end.values.max()
    for name, value in end.params_path[-1].items():
        np.testing.assert_array_equal(value, end.params[name])
    dense = (
        dense_joint if method.startswith("joint") else lambda *a, **k: dense_marginal(*a, **k)[0]
    )
    for value, params in zip(end.values, end.params_path, strict=True):
        assert value == pytest.approx(dense("covariates", params, prior="gamma"), rel=1e-9)


@pytest.mark.parametrize("method", ["marginal_newton", "marginal_gd", "joint_newton", "joint_gd"])
@pytest.mark.parametrize("name", ["covariates", "two_isoforms", "rich"])
def test_a_warm_fit_goes_on_from_where_the_first_ended(name, method):
    for fix in (True, False):
        first = fit(name, method, fix=fix, prior="gamma")
        again = fit(name, method, fix=fix, prior="gamma", start=first.params, warm=True)
        assert again.epochs <= 4
        assert again.value >= first.value - 1e-9
        assert again.status in (Status.CONVERGED, Status.BOUNDARY)
    halted = fit(name, method, fix=False, prior="gamma", max_epochs=1)
    full = fit(name, method, fix=False, prior="gamma", start=halted.params, warm=True)
    assert full.value >= halted.value


# ---- odd genes


def test_a_gene_without_counts_is_left_where_it_was():
    case = cases.CASES["covariates"]
    start = start_of(case)
    empty = np.zeros_like(case.counts[0])
    for method in ("marginal_newton", "joint_newton"):
        spec = spec_of("covariates", method, prior="gamma")
        end = fit_gene(spec, empty, start)
        assert end.status == Status.NO_COUNTS
        assert end.epochs == 0
        np.testing.assert_array_equal(end.params["sigma"], start["sigma"])
        np.testing.assert_array_equal(end.params["theta_logit"], start["theta_logit"])
        assert not end.params["nu"].any()
        theta = 1 / (1 + np.exp(-start["theta_logit"]))
        prior = oracles.log_prior("gamma", start["sigma"])
        here = (np.vstack([start["beta"], start["bias_eta"]]), start["nu"])
        there = (start["sigma"], theta, case.V, "gamma")
        joint = oracles.log_joint(empty, case.design, *here, *there)
        assert end.value == pytest.approx(prior if method[0] == "m" else joint, rel=1e-10)


def without(case, isoform):
    absent = case.counts[0].copy()
    absent[:, isoform] = 0.0
    return absent


@pytest.mark.parametrize("isoform", [0, 1, 2])
@pytest.mark.parametrize("method", ["marginal_newton", "joint_newton"])
def test_an_isoform_that_never_occurs_comes_within_1e_4_nats(method, isoform):
    """Its logit 20 further out, at the same parameters, gains no more than that."""
    case = cases.CASES["covariates"]
    absent, start = without(case, isoform), start_of(case)
    end = fit_gene(spec_of("covariates", method), absent, start)
    assert end.status == Status.BOUNDARY
    assert f"isoform {isoform}" in end.reason
    assert all(np.isfinite(value).all() for value in end.params.values())
    B = np.vstack([end.params["beta"], end.params["bias_eta"]])
    B[-1, slice(None) if isoform == 2 else isoform] += 20.0 if isoform == 2 else -20.0
    there = (end.params["sigma"], 1 / (1 + np.exp(-end.params["theta_logit"])), case.V)
    if method == "joint_newton":
        beyond = oracles.log_joint(absent, case.design, B, end.params["nu"], *there)
    else:
        beyond = oracles.log_marginal(absent, case.design, B, *there).value
    assert beyond < end.value + 1e-4


@pytest.mark.parametrize("isoform", [0, 1])
def test_an_isoform_that_never_occurs_costs_nothing(isoform):
    """The value is that of the gene without it, where the variance is shared."""
    case = cases.CASES["three_isoforms"]
    spec = spec_of("three_isoforms", "marginal_newton")
    absent, start = without(case, isoform), start_of(case)
    whole = fit_gene(spec, absent, start)
    narrow = {**start, "nu": start["nu"][:, :1], "bias_eta": np.zeros(1), "beta": np.zeros((0, 1))}
    part = fit_gene(spec, np.delete(absent, isoform, axis=1), narrow)
    assert whole.value == pytest.approx(part.value, abs=1e-4)
    assert whole.value < part.value + 1e-9
