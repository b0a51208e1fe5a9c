"""Under symmetric coding no number depends on the order of the isoforms; the density by all routes.

Every isoform has its own field, ``nu_q = u_q - u_P``: the dense oracles build just that.
"""

from itertools import permutations

import numpy as np
import oracles
import pandas as pd
import pytest
import torch
from pyro import poutine

from splisosm_pyro import ModelPriors, MultinomGLMM, fit_genes, simulate_tissue
from splisosm_pyro.generative import multinomial_glmm
from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.priors import NormalPrior, StudentTPrior

S = 24
X = np.random.default_rng(1).normal(size=(S, 1))
TISSUES = {
    P: simulate_tissue(S, 2, P, depth=4.0, sigma=1.3, theta=0.6, design="none", seed=P)
    for P in (2, 3, 4, 6)
}
WEAK = ModelPriors("gamma", beta=NormalPrior(3.0, standardised=True), bias=NormalPrior(2.0))
SURE = ModelPriors("gamma", beta=NormalPrior(3.0), bias=NormalPrior(2.0))
WAYS = {"laplace": {}, "quadrature": {"nugget": "quadrature"}, "ep": {"smooth": "ep"}}


def model_of(P, order=None, *, n_genes=2, coding="symmetric", prior="none", **configs):
    """A model with data, its isoforms in an order."""
    kind = {"fitting_method": "marginal_newton", "var_fix_sigma": False, "var_prior_model": prior}
    model = MultinomGLMM(**kind, fitting_configs=configs, coding=coding)
    order = list(range(P)) if order is None else list(order)
    model.setup_data(TISSUES[P].counts[:n_genes, :, order], TISSUES[P].kernel, X)
    return model


def by_isoform(values, order):
    """Values (..., P) of isoforms in an order, in their first one."""
    return np.asarray(values)[..., np.argsort(order)]


def contrasts_of(values, order):
    """Coefficients (..., Q) against the last isoform, in the first order and centred."""
    whole = by_isoform(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)]), order)
    return whole - whole.mean(axis=-1, keepdims=True)


def numbers_of(model, order):
    """All that a fit says, where the order must not be seen."""
    errors = model.standard_errors()
    params = {name: value.detach().numpy() for name, value in model.named_parameters()}
    return {
        "value": model.diagnose()["log_marginal"].to_numpy(),
        "at the parameters": model.log_marginal().detach().numpy(),
        "sigma": params["sigma"],
        "theta": params["theta_logit"],
        "beta": contrasts_of(params["beta"], order),
        "bias_eta": contrasts_of(params["bias_eta"], order),
        "nu": contrasts_of(params["nu"], order),
        "usage": by_isoform(model.get_isoform_ratio().detach(), order),
        "mean usage": by_isoform(model.get_isoform_ratio("posterior_mean"), order),
        "usage_se": by_isoform(model.ratio_standard_errors(), order),
        "log_sigma_se": errors["log_sigma"].numpy(),
        "theta_logit_se": errors["theta_logit"].numpy(),
    }


def some_orders(P):
    """All orders of few isoforms, some of many: each isoform is the last one at least once."""
    if P < 4:
        return list(permutations(range(P)))
    return [tuple(np.roll(np.arange(P)[::sign], k)) for k in range(P) for sign in (1, -1)][:5]


@pytest.mark.parametrize(
    ("P", "way"),
    [(2, "ep"), (3, "laplace"), (3, "ep"), (4, "quadrature"), (6, "quadrature"), (6, "laplace")],
)
def test_a_fit_does_not_see_the_order_of_the_isoforms(P, way):
    prior = WEAK if way == "quadrature" else "none"
    first = None
    for order in some_orders(P):
        model = model_of(P, order, n_genes=1, prior=prior, **WAYS[way])
        model.fit(quiet=True)
        numbers = numbers_of(model, order)
        first = first or numbers
        for name, value in numbers.items():
            np.testing.assert_allclose(value, first[name], rtol=1e-8, atol=1e-8, err_msg=name)


def test_reference_coding_does_see_it():
    values = []
    for order in ([0, 1, 2], [1, 2, 0]):
        model = model_of(3, order, coding="reference")
        model.fit(quiet=True)
        values.append(model.diagnose()["log_marginal"].to_numpy())
    assert np.abs(values[0] - values[1]).max() > 1e-2


def test_an_isoform_that_never_occurs_may_stand_anywhere():
    P, values = 4, []
    for last in range(P):
        order = [p for p in range(P) if p != last] + [last]
        counts = TISSUES[P].counts[:1].clone()
        counts[:, :, 0] = 0.0
        model = model_of(P, n_genes=1, nugget="quadrature")
        model.setup_data(counts[:, :, order], TISSUES[P].kernel, X)
        model.fit(quiet=True)
        assert model.status == ["boundary"]
        usage = by_isoform(model.get_isoform_ratio().detach(), order)
        assert usage[..., 0].max() < 1e-12
        unknown = torch.isinf(model.standard_errors()["bias_eta"])[0].tolist()
        assert unknown == [order[q] == 0 or order[-1] == 0 for q in range(P - 1)]
        values.append(np.append(usage.ravel(), model.diagnose()["log_marginal"]))
    np.testing.assert_allclose(values, values[0] * np.ones((P, 1)), rtol=1e-8, atol=1e-8)


def test_two_isoforms_have_one_model():
    models = [model_of(2, coding=coding, nugget="quadrature") for coding in CODINGS]
    for model in models:
        model.fit(quiet=True)
    for name, value in models[0].named_parameters():
        assert torch.equal(value, dict(models[1].named_parameters())[name]), name


CODINGS = ("reference", "symmetric")


def at_a_point(P, coding="symmetric", **arguments):
    """A model at parameters that are no optimum, of moderate size."""
    model = model_of(P, coding=coding, **arguments)
    rng = np.random.default_rng(7)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    params = {name: 0.7 * rng.normal(size=shape) for name, shape in shapes.items()}
    params["sigma"] = rng.uniform(0.6, 1.4, shapes["sigma"])
    model.update_params_from_dict(params)
    return model, params


@pytest.mark.parametrize("P", [3, 4])
def test_the_joint_density_by_three_routes(P):
    model, params = at_a_point(P, prior=SURE)
    V = TISSUES[P].kernel.dense()
    priors = {"beta_prior": SURE.beta.distribution(), "bias_prior": SURE.bias.distribution()}
    theta = torch.sigmoid(torch.as_tensor(params["theta_logit"]))
    sites = {name: torch.as_tensor(value) for name, value in params.items()} | {"theta": theta}
    program = poutine.condition(multinomial_glmm, data=sites)
    trace = poutine.trace(program).get_trace(
        TISSUES[P].counts, X, TISSUES[P].kernel,
        prior=model.priors.sigma, coding="symmetric", **priors,
    )  # fmt: skip
    trace.compute_log_prob()
    own = ("beta", "bias_eta", "sigma", "theta", "nu", "counts")
    by_trace = sum(trace.nodes[name]["log_prob"] for name in own)
    found = model.log_joint().detach().numpy()
    np.testing.assert_allclose(found, by_trace.numpy(), rtol=1e-10)
    covariance = np.eye(P - 1) / 2 + 0.5
    for g in range(2):
        B = np.vstack([params["beta"][g], params["bias_eta"][g]])
        sigma, counts = params["sigma"][g], TISSUES[P].counts[g].numpy()
        cov = oracles.dense_field_covariance(V.numpy(), sigma, theta[g].numpy(), P - 1, "symmetric")
        expected = oracles.log_lik(oracles.linear_predictor(B, X, S) + params["nu"][g], counts)
        expected += oracles.mvn_log_density(params["nu"][g].ravel(), cov)
        expected += oracles.log_prior("gamma", sigma)
        expected += oracles.mvn_log_density(B[0], 9.0 * covariance)
        expected += oracles.mvn_log_density(B[1], 4.0 * covariance)
        assert found[g] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("P", [3, 6])
def test_the_laplace_marginal_against_the_dense_one(P):
    model, params = at_a_point(P)
    found, V = model.log_marginal().detach().numpy(), TISSUES[P].kernel.dense().numpy()
    for g in range(2):
        B = np.vstack([params["beta"][g], params["bias_eta"][g]])
        theta = 1 / (1 + np.exp(-params["theta_logit"][g]))
        counts = TISSUES[P].counts[g].numpy()
        own = (counts, X, B, params["sigma"][g], theta, V, "symmetric")
        assert found[g] == pytest.approx(oracles.log_marginal(*own).value, rel=1e-9)


@pytest.mark.parametrize(("P", "way"), [(3, "laplace"), (3, "ep"), (4, "quadrature")])
def test_the_gradient_of_the_marginal_is_that_of_its_value(P, way):
    model, params = at_a_point(P, prior=WEAK, n_genes=1, **WAYS[way])
    model.log_marginal().sum().backward()
    step = 1e-4
    for name in ("beta", "bias_eta", "sigma", "theta_logit"):
        found, expected = dict(model.named_parameters())[name].grad.numpy(), []
        for place in np.ndindex(params[name].shape):
            sides = []
            for sign in (1.0, -1.0):
                moved = params[name].copy()
                moved[place] += sign * step
                model.update_params_from_dict({name: moved})
                sides.append(model.log_marginal().item())
            model.update_params_from_dict(params)
            expected.append((sides[0] - sides[1]) / (2 * step))
        np.testing.assert_allclose(found.ravel(), expected, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_field_of_draws_has_the_covariance_of_its_density(coding):
    V = TISSUES[3].kernel
    fixed = {"sigma": torch.tensor([[1.5]]), "theta": torch.full((1, 1), 0.4)}
    fixed |= {"beta": torch.zeros(1, 0, 2), "bias_eta": torch.zeros(1, 2)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        program = poutine.condition(multinomial_glmm, data=fixed)
        totals = torch.zeros(4000, S)
        fixed = {name: value.expand(4000, *value.shape[1:]) for name, value in fixed.items()}
        program = poutine.condition(multinomial_glmm, data=fixed)
        trace = poutine.trace(program).get_trace(
            None, None, V, totals=totals, n_isos=3, coding=coding
        )
    nu = trace.nodes["nu"]["value"].numpy().reshape(4000, -1)
    one = np.array([1.5]), np.array([0.4])
    expected = oracles.dense_field_covariance(V.dense().numpy(), *one, 2, coding)
    assert np.abs(np.cov(nu.T) - expected).max() < 0.25


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"share_variance": False}, "expected share_variance=True.*came share_variance=False"),
        ({"var_prior_model": ModelPriors(beta=StudentTPrior())}, "normal prior about 0 of beta"),
        ({"var_prior_model": ModelPriors(bias=NormalPrior(1.0, 2.0))}, "about 0 of bias_eta"),
    ],
)
def test_what_symmetric_coding_has_no_meaning_for(arguments, words):
    kind = {"fitting_method": "marginal_newton", "coding": "symmetric"}
    with pytest.raises(ValueError, match=words):
        MultinomGLMM(**kind, **arguments)


def test_an_unknown_coding():
    with pytest.raises(ValueError, match="coding must be one of 'reference', 'symmetric', came"):
        MultinomGLMM(coding="last")


# ---- what is made of a fit


def posterior_numbers(model, order, method):
    """A posterior's draws, isoforms in the first order."""
    drawn = model.posterior(method, draws=30, chains=1, seed=3)
    posterior = drawn.posterior
    return {
        "usage": by_isoform(posterior["isoform_ratio"], order),
        "beta": contrasts_of(posterior["beta"].to_numpy(), order),
        "sigma": posterior["sigma"].to_numpy(),
        "theta": posterior["theta"].to_numpy(),
        "log_likelihood": drawn.log_likelihood["counts"].to_numpy(),
        "log_prior": sum(drawn.log_prior[name].to_numpy() for name in drawn.log_prior.data_vars),
    }


def studied(model, order):
    """Leave-one-out, held-out counts and tests of a fitted model."""
    tests = model.test_covariates({"x": np.arange(S)}, refit_below=1.0)
    return {
        "loo": model.loo().genes[0].pointwise,
        "space": model.test_spatial()["statistic"].to_numpy(),
        "covariate": tests[["statistic", "p", "score_p"]].to_numpy(dtype=float),
    }


@pytest.mark.parametrize("method", ["laplace", "nested_laplace"])
def test_draws_do_not_see_the_order(method):
    first = None
    for order in [(0, 1, 2), (2, 0, 1), (1, 2, 0)]:
        numbers = posterior_numbers(model_of(3, order, n_genes=1, prior="gamma"), order, method)
        first = first or numbers
        for name, value in numbers.items():
            np.testing.assert_allclose(value, first[name], atol=1e-8, err_msg=name)


@pytest.mark.parametrize("P", [3, 4])
def test_studies_do_not_see_the_order(P):
    first = None
    for order in some_orders(P)[:4]:
        model = model_of(P, order, n_genes=1, nugget="quadrature")
        model.fit(quiet=True)
        numbers = studied(model, order)
        first = first or numbers
        for name, value in numbers.items():
            np.testing.assert_allclose(value, first[name], rtol=1e-8, atol=1e-8, err_msg=name)


# ---- runs


def tables_of(P, order):
    """The tables of a run, without what names an isoform by its number."""
    names = [[f"isoform {p}" for p in order]] * 2
    rng = np.random.default_rng(2)
    covariates = pd.DataFrame({"x": X[:, 0], "level": rng.choice(["a", "b"], S)})
    fits = fit_genes(
        TISSUES[P].counts[:, :, list(order)].numpy(), coords=TISSUES[P].coords, iso_names=names,
        covariates=covariates, keep_usage=True, progress=False,
    )  # fmt: skip
    own = fits.table.filter(regex="^(?!beta|bias|usage|isoforms|seconds|reason)")
    by_name = [
        table.drop(columns="number").sort_values(["gene", "isoform"], kind="stable")
        for table in (fits.isoforms, fits.effects)
    ]
    return [own, *(table.reset_index(drop=True) for table in by_name)]


@pytest.mark.parametrize("P", [2, 3, 4])
def test_a_run_does_not_see_the_order(P):
    first = tables_of(P, range(P))
    assert set(first[0]["coding"]) == {"symmetric"}
    for order in some_orders(P)[1:3]:
        for found, expected in zip(tables_of(P, order), first, strict=True):
            pd.testing.assert_frame_equal(found, expected, rtol=1e-8, atol=1e-8)


def test_a_variance_of_each_logit_is_asked_for_with_its_coding():
    counts, coords = TISSUES[3].counts.numpy(), TISSUES[3].coords
    own = {"coords": coords, "share_variance": False, "progress": False}
    with pytest.raises(ValueError, match="coding='reference' for a variance of each logit"):
        fit_genes(counts, **own)
    table = fit_genes(counts, **own, coding="reference", tests=False).table
    assert {"sigma_0", "sigma_1"} <= set(table)
    assert set(table["coding"]) == {"reference"}


def test_simulated_fields_of_isoforms():
    own = {"n_spots": 30, "n_genes": 2, "n_isos": 4, "seed": 5}
    nu = {coding: simulate_tissue(**own, coding=coding).truth.nu for coding in CODINGS}
    by_logit = nu["reference"].numpy()
    root = Turn.of_size(4).matrix
    np.testing.assert_allclose(nu["symmetric"], by_logit @ root.T, atol=1e-12)
    with pytest.raises(ValueError, match="coding must be one of"):
        simulate_tissue(**own, coding="last")
