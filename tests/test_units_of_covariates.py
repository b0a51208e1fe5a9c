"""``x = m + s z`` is the model of ``z``: no public number depends on a covariate's units or origin.

Columns are whole sixteenths and units powers of two, so that ``x`` holds all that ``z`` does. What
is in the user's units is compared as ``beta s`` and ``bias_eta + m beta``, the intercept at z = 0.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from splisosm_pyro import ModelPriors, MultinomGLM, MultinomGLMM, fit_genes, simulate_tissue
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.maths.priors import NormalPrior
from splisosm_pyro.model import gaussian_fits
from splisosm_pyro.posterior import PosteriorPriors
from splisosm_pyro.studies import compare_loo, heldout_log_lik, prior_sensitivity

S = 48
TISSUE = simulate_tissue(S, 2, 2, depth=6.0, sigma=1.0, theta=0.7, design="none", seed=3)
COUNTS = TISSUE.counts.numpy()
RNG = np.random.default_rng(0)
LEVEL = RNG.integers(0, 3, size=S)
NUMBERS = np.clip(np.round(16 * RNG.normal(size=(S, 2))) / 16, -4, 4)
# two numbers, the indicators of two levels of three
Z = np.column_stack([NUMBERS, LEVEL == 1, LEVEL == 2]).astype(float)
# (m, s) of every column
WAYS = {
    "tiny units": ([0.0] * 4, [2.0**-27, 1.0, 2.0**-27, 1.0]),
    "huge units": ([0.0] * 4, [2.0**27, 2.0**-5, 1.0, 2.0**27]),
    "a year, pixels": ([2020.0, 15000.0, 1.0, -3.0], [1.0, 4096.0, 2.0, 0.5]),
    "far": ([1e6, -1e6, 1e6, 0.0], [1.0, 2.0**10, 16.0, 1.0]),
    "hardly varying": ([5000.0, 1e6, 0.0, 0.0], [2.0**-6, 2.0**-4, 1.0, 1.0]),
}
AS_IT_IS = ([0.0] * 4, [1.0] * 4)
FEW = {"draws": 25, "chains": 2, "seed": 4}


@dataclass(frozen=True)
class Way:
    """The units that some columns are in."""

    m: np.ndarray
    s: np.ndarray

    @classmethod
    def of(cls, way):
        return cls(*map(np.array, way))

    @property
    def x(self):
        return self.m + self.s * Z

    def fitted(self, kind, **arguments):
        """A fitted model of these columns."""
        model = kind(**arguments)
        spatial = {"corr_sp": TISSUE.kernel} if kind is MultinomGLMM else {}
        model.setup_data(COUNTS, design_mtx=self.x, **spatial)
        model.fit(quiet=True)
        return model

    def standard(self, beta, bias):
        """Coefficients (*, F, Q) and (*, Q) as those of ``z``."""
        return {
            "beta": beta * self.s[:, None],
            "at z = 0": bias + np.einsum("f,...fq", self.m, beta),
        }


def assert_same(found, truth, *, rtol=1e-8, atol=1e-8):
    assert set(found) == set(truth)
    for name, value in found.items():
        np.testing.assert_allclose(value, truth[name], rtol=rtol, atol=atol, err_msg=name)


def numbers_of(model, way):
    """All that a fitted model says, in the units of ``z``."""
    own = {name: value.detach().numpy() for name, value in model.named_parameters()}
    errors = {name: value.numpy() for name, value in model.standard_errors().items()}
    found = way.standard(own.pop("beta"), own.pop("bias_eta")) | own
    found["se of beta"] = errors.pop("beta") * way.s[:, None]
    if not way.m.any():
        found["se of bias_eta"] = errors["bias_eta"]
    del errors["bias_eta"]
    found |= {f"se of {name}": value for name, value in errors.items()}
    found |= {"forward": model.forward().detach(), "usage": model.get_isoform_ratio().detach()}
    table = model.diagnose()
    found |= {name: table[name] for name in ("min_eigenvalue", "epochs", table.columns[-1])}
    if isinstance(model, MultinomGLMM):
        found["se of usage"] = model.ratio_standard_errors()
    return found, list(model.status), list(table["reason"])


MODELS = {
    "glm": (MultinomGLM, {}),
    "quadrature, ep": (MultinomGLMM, {"fitting_configs": {"smooth": "ep"}}),
    "laplace": (MultinomGLMM, {}),
    "joint": (MultinomGLMM, {"fitting_method": "joint_newton"}),
}
MARGINAL = {"fitting_method": "marginal_newton", "var_fix_sigma": False}


def fitted(name, way):
    kind, arguments = MODELS[name]
    return way.fitted(kind, **(MARGINAL if kind is MultinomGLMM else {}) | arguments)


@pytest.fixture(scope="module")
def plain():
    """The models of z itself."""
    return {name: fitted(name, Way.of(AS_IT_IS)) for name in MODELS}


@pytest.mark.parametrize("units", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_fit_does_not_depend_on_units(name, units, plain):
    way = Way.of(WAYS[units])
    found, *words = numbers_of(fitted(name, way), way)
    truth, *expected = numbers_of(plain[name], Way.of(AS_IT_IS))
    assert words == expected
    if way.m.any():
        del truth["se of bias_eta"]
    assert_same(found, truth)


def test_the_error_of_the_intercept_is_that_at_x_0(plain):
    """Of a combination of coefficients: by the curvature of the objective in the user's units."""
    model, way = fitted("glm", Way.of(WAYS["a year, pixels"])), Way.of(WAYS["a year, pixels"])
    information = torch.from_numpy(np.zeros((5, 5)))
    ratio = plain["glm"].get_isoform_ratio().detach()[0, :, 0].numpy()
    rows = np.column_stack([Z, np.ones(S)])
    information = (rows * (COUNTS[0].sum(1) * ratio * (1 - ratio))[:, None]).T @ rows
    at_zero = np.append(-way.m / way.s, 1.0)  # z where x is 0
    expected = np.sqrt(at_zero @ np.linalg.inv(information) @ at_zero)
    assert model.standard_errors()["bias_eta"][0, 0].item() == pytest.approx(expected, rel=1e-8)


def test_the_gradient_at_parameters_is_that_of_the_users_units(plain):
    way = Way.of(WAYS["a year, pixels"])
    slopes = []
    for own, model in ((Way.of(AS_IT_IS), plain["laplace"]), (way, fitted("laplace", way))):
        beta = np.full((2, 4, 1), 0.1) / own.s[:, None]
        bias = 0.2 - np.einsum("f,gfq->gq", own.m, beta)
        model = model.clone()
        model.update_params_from_dict({"beta": beta, "bias_eta": bias})
        value = model.log_marginal()
        value.sum().backward()
        slopes.append((value.detach(), model.beta.grad.numpy(), model.bias_eta.grad.numpy()))
    (truth, by_beta, by_bias), (value, by_x, by_x_bias) = slopes
    np.testing.assert_allclose(value, truth, rtol=1e-10)
    np.testing.assert_allclose(by_x_bias, by_bias, rtol=1e-8)
    expected = by_beta * way.s[:, None] + way.m[:, None] * by_bias[:, None]
    np.testing.assert_allclose(by_x, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("method", "units"),
    [
        ("laplace", "tiny units"),
        ("nested_laplace", "far"),
        ("marginal_nuts", "a year, pixels"),
        ("nuts", "far"),
    ],
)
def test_a_posterior_does_not_depend_on_units(method, units, plain):
    few = FEW | ({"warmup": 20, "draws": 10, "chains": 1} if "nuts" in method else {})
    found = []
    for own, model in ((Way.of(AS_IT_IS), plain["laplace"]), (Way.of(WAYS[units]), None)):
        model = model or fitted("laplace", own)
        more = {"genes": [0], "nugget": "laplace", "predictive": method == "laplace"}
        drawn = model.posterior(method, **more, **few)
        posterior, stats = drawn["posterior"], drawn["sample_stats"]
        numbers = own.standard(posterior["beta"].values, posterior["bias_eta"].values)
        numbers |= {name: posterior[name].values for name in ("sigma", "theta", "eta")}
        numbers |= {f"log prior of {k}": v.values for k, v in drawn["log_prior"].items()}
        numbers |= {name: stats[name].values for name in ("khat", "lp", "r_hat") if name in stats}
        if method == "laplace":
            numbers["prior of beta"] = drawn["prior"]["beta"].values * own.s[:, None]
        found.append((numbers, stats["status"].values.tolist()))
    (truth, status), (same, words) = found
    assert words == status
    assert_same(same, truth, rtol=1e-6, atol=1e-6)


def test_guides_are_in_the_users_units(plain):
    way = Way.of(WAYS["a year, pixels"])
    (truth,), (found,) = (
        gaussian_fits(model, [0]) for model in (plain["laplace"], fitted("laplace", way))
    )
    there = np.diag(np.concatenate([[1.0, 1.0], way.s, [1.0]]))
    there[-1, 2:-1] = way.m
    np.testing.assert_allclose(there @ found.mean.numpy(), truth.mean, rtol=1e-7, atol=1e-7)
    root = there @ found.root.numpy()
    covariance = (truth.root @ truth.root.T).numpy()
    np.testing.assert_allclose(root @ root.T, covariance, rtol=1e-6, atol=1e-7)
    assert bool((found.root.triu(1) == 0).all())
    moved = found.response.numpy() @ np.linalg.inv(there)
    np.testing.assert_allclose(moved, truth.response, rtol=1e-6, atol=1e-6)


def test_scores_do_not_depend_on_units(plain):
    way = Way.of(WAYS["far"])
    pairs = [(plain[name], fitted(name, way)) for name in ("glm", "laplace")]
    for truth, found in pairs:
        for outer in ("one_step", "plug_in"):
            tables = [model.loo(outer=outer).table for model in (truth, found)]
            pd.testing.assert_frame_equal(*tables, rtol=1e-7)
    for score in (
        lambda model: heldout_log_lik(model, k=2).table,
        lambda model: compare_loo(model, "plug_in").table,
    ):
        pd.testing.assert_frame_equal(*map(score, pairs[1]), rtol=1e-7)


@pytest.mark.parametrize("how", ["local", "refit"])
def test_sensitivity_does_not_depend_on_units(how, plain):
    way = Way.of(WAYS["a year, pixels"])
    tables = []
    for own, model in ((Way.of(AS_IT_IS), plain["laplace"]), (way, fitted("laplace", way))):
        dataset, table = prior_sensitivity(model, ["gamma", "half_normal"], how=how, genes=[0])
        sigma = table[~table["parameter"].isin(["beta", "bias_eta"])].reset_index(drop=True)
        names = [n for n in ("beta", "beta_se", "d_beta", "usage", "d_usage") if n in dataset]
        scale = {"usage": 1.0, "d_usage": 1.0}
        values = [dataset[n].values * scale.get(n, own.s[:, None]) for n in names]
        tables.append((sigma, values))
    (truth, numbers), (found, same) = tables
    pd.testing.assert_frame_equal(found, truth, rtol=1e-7)
    for ours, expected in zip(same, numbers, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("model", ["glm", "glmm"])
def test_tables_of_many_genes_do_not_depend_on_units(model):
    words = np.array(["a", "b", "c"])[LEVEL]
    tables = []
    for m, s in ((0.0, 1.0), (15000.0, 4096.0), (1e6, 2.0**-4)):
        covariates = pd.DataFrame({"x": m + s * Z[:, 0], "level": words})
        arguments = {"coords": TISSUE.coords, "progress": False, "model": model}
        fits = fit_genes(COUNTS, covariates=covariates, **arguments)
        table = fits.table.drop(columns=["seconds", "bias_eta_0_se"]).set_index("gene")
        table["bias_eta_0"] += m * table["beta_x_0"]
        table[["beta_x_0", "beta_x_0_se"]] *= s
        tables.append((table, fits.isoforms))
    for table, isoforms in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0][0], rtol=1e-7, atol=1e-7)
        pd.testing.assert_frame_equal(isoforms, tables[0][1], rtol=1e-7, atol=1e-7)


def test_a_prior_in_the_users_units_is_the_same_belief_in_any():
    """Normal(0, t / s) of beta is Normal(0, t) of beta s; that of bias_eta is about x = 0."""
    fits = []
    for scale, prior in ((1.0, 0.5), (2.0**6, 0.5 / 2.0**6)):
        priors = ModelPriors("gamma", beta=NormalPrior(prior), bias=NormalPrior(0.3))
        way = Way.of(([0.0] * 4, scale * np.ones(4)))
        fits.append(
            numbers_of(way.fitted(MultinomGLMM, var_prior_model=priors, **MARGINAL), way)[0]
        )
    shift = -4 * np.log(2.0**6)  # of the density of beta
    for name in ("forward", "log_marginal"):
        fits[0][name] = fits[0][name] - shift
    assert_same(fits[1], fits[0], rtol=1e-7)


def test_a_fit_with_priors_of_shifted_covariates_is_a_maximum_in_the_users_units():
    way = Way.of(([3.0, -20.0, 0.0, 5.0], [2.0, 0.5, 1.0, 1.0]))
    priors = ModelPriors("gamma", beta=NormalPrior(0.4), bias=NormalPrior(1.0, 0.5))
    model = way.fitted(MultinomGLMM, var_prior_model=priors, **MARGINAL)
    value = model.log_marginal()
    value.sum().backward()
    assert model.beta.grad.abs().max() < 1e-3
    assert model.bias_eta.grad.abs().max() < 1e-4
    priors = ModelPriors("gamma", beta=NormalPrior(0.4), bias=NormalPrior(3.0, 0.5))
    other = way.fitted(MultinomGLMM, var_prior_model=priors, **MARGINAL)
    assert (other.bias_eta - model.bias_eta).abs().max() > 0.1


def test_a_standardised_prior_means_the_same_in_any_units():
    beta = NormalPrior(0.3, standardised=True)
    priors = ModelPriors("gamma", beta=beta, bias=NormalPrior(0.5, standardised=True))
    model = {"var_prior_model": priors, **MARGINAL}
    found = []
    for own in (Way.of(AS_IT_IS), Way.of(WAYS["a year, pixels"])):
        numbers, *words = numbers_of(own.fitted(MultinomGLMM, **model), own)
        numbers.pop("se of bias_eta", None)
        found.append((numbers, words))
    assert found[0][1] == found[1][1]
    assert_same(found[1][0], found[0][0])


def test_the_log_joint_with_a_standardised_prior_is_that_of_the_programs_parameters():
    own = {"beta": NormalPrior(0.3, standardised=True), "bias": NormalPrior(2.0)}
    way = Way.of(WAYS["a year, pixels"])
    model = way.fitted(MultinomGLMM, var_prior_model=ModelPriors("gamma", **own), **MARGINAL)
    flat = way.fitted(MultinomGLMM, var_prior_model="gamma", **MARGINAL)
    flat.update_params_from_dict({k: v.detach() for k, v in model.named_parameters()})
    design = StandardDesign.of(way.x)
    effect = model.beta.detach().numpy() * design.scale[:, None]
    added = NormalPrior(0.3).value(effect).sum((1, 2))
    added += NormalPrior(2.0).value(model.bias_eta.detach().numpy()).sum(1)
    for of in ("log_joint", "log_marginal"):
        apart = (getattr(model, of)() - getattr(flat, of)()).detach().numpy()
        np.testing.assert_allclose(apart, added, rtol=1e-7)


def test_explicit_priors_of_a_posterior_are_in_the_users_units_and_the_default_is_not(plain):
    assert PosteriorPriors().beta.standardised
    assert PosteriorPriors().bias.standardised
    assert not PosteriorPriors(beta_sd=10.0).beta.standardised
    drawn = plain["laplace"].posterior("laplace", **FEW, prior=PosteriorPriors(beta_sd=1e-3))
    assert float(np.abs(drawn["posterior"]["beta"]).max()) < 0.01


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_dependent_and_constant_columns_are_told_in_any_units(unit, shift):
    origin = shift * unit
    dependent = np.column_stack([NUMBERS, origin + unit * (NUMBERS @ [2.0, -1.0])])
    for columns, message in (
        (dependent, "linearly independent"),
        (np.full((S, 1), origin + unit), "is constant"),
    ):
        with pytest.raises(ValueError, match=message):
            MultinomGLM().setup_data(COUNTS, design_mtx=columns, strict=True)
    MultinomGLM().setup_data(
        COUNTS, design_mtx=np.column_stack([Z, origin + unit * RNG.normal(size=S)])
    )


def test_no_covariate_is_no_column():
    design = StandardDesign.of(np.zeros((7, 0)))
    assert design.back.tolist() == design.there.tolist() == [[1.0]]
    assert design.with_intercept.tolist() == [[1.0]] * 7


@pytest.mark.parametrize("name", ["glm", "laplace"])
@pytest.mark.parametrize("units", [([0.0] * 4, [1.0] * 4), ([7.0, 2.0, 3.0, 5.0], [2.0] * 4)])
def test_what_is_not_known_stays_so_in_any_units(name, units):
    """The effect of a level where an isoform never occurs; that of the other level is known."""
    counts = COUNTS.copy()
    counts[:, LEVEL == 1, 0] = 0.0
    way = Way.of(units)
    kind, arguments = MODELS[name]
    model = kind(**(MARGINAL if kind is MultinomGLMM else {}) | arguments)
    spatial = {"corr_sp": TISSUE.kernel} if kind is MultinomGLMM else {}
    model.setup_data(counts, design_mtx=way.x, **spatial)
    model.fit(quiet=True)
    errors = model.standard_errors()
    known = torch.isfinite(errors["beta"])[:, :, 0]
    assert known.tolist() == [[True, True, False, True]] * 2
    # where the indicator is 0 at x = 0, the intercept is that of another level
    assert bool(torch.isfinite(errors["bias_eta"]).all()) == (not way.m.any())
