"""Laws of every prior: SciPy's density, mass 1 in every variable, gradients, draws, conversions."""

import math
import re
from itertools import pairwise

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from cases import car_correlation, lattice
from scipy import integrate, stats

from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.priors import (
    PRIORS,
    BetaPrior,
    CoefficientPriors,
    ExponentialPrior,
    FlatPrior,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    InvGammaPrior,
    LogitNormalPrior,
    LogNormalPrior,
    NoPrior,
    NormalPrior,
    PCPrior,
    PCTheta,
    PCUsagePrior,
    PoweredPrior,
    PyroPrior,
    StudentTPrior,
    UniformTheta,
    as_coefficient_prior,
    as_theta_prior,
    prior_from_name,
    stated_on,
)
from splisosm_pyro.maths.priors.all_parameters import ModelPriors
from splisosm_pyro.maths.priors.usage_range import unit_fields, usage_ranges

SIGMA = np.array([1e-3, 0.1, 0.7, 1.0, 2.5, 40.0])
COEFFICIENT = np.array([-30.0, -1.3, 0.0, 0.4, 5.0])
THETA = np.array([1e-6, 0.03, 0.5, 0.77, 1.0 - 1e-6])
ADJACENCY = lattice(8, 7)[1]
KERNEL = DenseKernel(car_correlation(ADJACENCY, rho=0.97))  # dense: nothing to compile on import
SCALES = {
    "gamma": (GammaPrior(2.5, 1.7), stats.gamma(2.5, scale=1 / 1.7)),
    "inv_gamma": (InvGammaPrior(3.0, 0.5), stats.invgamma(3.0, scale=0.5)),
    "half_normal": (HalfNormalPrior(0.7), stats.halfnorm(scale=0.7)),
    "half_cauchy": (HalfTPrior(1.0, 0.4), stats.halfcauchy(scale=0.4)),
    "exponential": (ExponentialPrior(3.0), stats.expon(scale=1 / 3)),
    "pc": (PCPrior(2.0, 0.05), stats.expon(scale=-2.0 / math.log(0.05))),
    "log_normal": (LogNormalPrior(1.3, 0.6), stats.lognorm(0.6, scale=1.3)),
    "pyro_log_normal": (
        PyroPrior(dist.LogNormal(0.3, 0.6)),
        stats.lognorm(0.6, scale=math.exp(0.3)),
    ),
    "weibull": (
        PyroPrior(dist.Weibull(torch.tensor(1.2), torch.tensor(1.7)), on="sigma_sq"),
        stats.weibull_min(np.float32(1.7), scale=np.float32(1.2)),
    ),
    "uniform": (PyroPrior(dist.Uniform(0.0, 3.0)), stats.uniform(0.0, 3.0)),
}
MORE = [HalfTPrior(3.0, 1.3), PCUsagePrior(0.4, 0.1).for_gene(KERNEL, 3)]
ALL_SCALES = [prior for prior, _ in SCALES.values()] + MORE
SMOOTH = [prior for prior in ALL_SCALES if prior.name != "Uniform"]
COEFFICIENTS = [NormalPrior(1.4, 0.3), StudentTPrior(3.0, 2.0, -0.4), StudentTPrior(1.0, 0.5)]
THETAS = [
    BetaPrior(2.0, 3.0),
    BetaPrior(0.6, 1.5),
    PCTheta(0.5, 0.3).for_gene(KERNEL, 2),
    LogitNormalPrior(0.7, 1.2),
]


def within(prior, variable):
    """The density of a variable as a function of it."""
    to_sigma = {"sigma": lambda x: x, "sigma_sq": np.sqrt, "log_sigma": np.exp}[variable]
    return lambda x: math.exp(float(stated_on(prior, variable).value(np.array([to_sigma(x)]))[0]))


def own_value(prior, sigma):
    return {"sigma": sigma, "sigma_sq": sigma**2}[prior.variable]


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_prior_has_scipys_density_of_its_variable(name):
    prior, truth = SCALES[name]
    theirs = truth.logpdf(own_value(prior, SIGMA))
    tolerance = 2e-7 if name in ("pyro_log_normal", "weibull") else 1e-12  # Pyro's come in float32
    np.testing.assert_allclose(prior.value(SIGMA), theirs, rtol=tolerance, atol=tolerance)


def test_the_half_t_is_twice_the_t():
    theirs = stats.t(3.0, scale=1.3).logpdf(SIGMA) + math.log(2.0)
    np.testing.assert_allclose(HalfTPrior(3.0, 1.3).value(SIGMA), theirs, rtol=1e-12)


@pytest.mark.parametrize("variable", ["sigma", "sigma_sq", "log_sigma"])
@pytest.mark.parametrize("prior", ALL_SCALES, ids=lambda p: p.name)
def test_a_scale_prior_has_mass_one_in_every_variable(prior, variable):
    density = within(prior, variable)
    power = {"sigma": 1.0, "sigma_sq": 2.0, "log_sigma": None}[variable]
    pieces = [*np.arange(-44.0, 45.0, 2.0), math.log(3.0)]  # of log sigma; a uniform ends at 3

    def over_log_sigma(t):  # the measure of the variable, written in log sigma
        if power is None:
            return density(t)
        return density(math.exp(power * t)) * power * math.exp(power * t)

    mass = sum(integrate.quad(over_log_sigma, a, b)[0] for a, b in pairwise(sorted(pieces)))
    assert mass == pytest.approx(1.0, abs=2e-7)


@pytest.mark.parametrize("variable", ["sigma", "sigma_sq", "log_sigma"])
@pytest.mark.parametrize("prior", SMOOTH, ids=lambda p: p.name)
def test_gradients_are_those_of_log_prob_in_log_sigma(prior, variable):
    prior = stated_on(prior, variable)
    log_sigma = torch.tensor(np.log(SIGMA), requires_grad=True)
    (slope,) = torch.autograd.grad(prior.log_prob(torch.exp(log_sigma)).sum(), log_sigma)
    np.testing.assert_allclose(prior.gradient(SIGMA), slope.numpy(), rtol=1e-11, atol=1e-12)


def differences(kind, params, at, name):
    """Central difference of the gradient in a parameter."""
    step = 1e-5 * params[name]
    up, down = (kind(**{**params, name: params[name] + s * step}) for s in (1, -1))
    return (up.gradient(at) - down.gradient(at)) / (2 * step)


CLOSED = [p for p in ALL_SCALES if type(p) in PRIORS.values() and p.name != "pc_usage"]


@pytest.mark.parametrize(
    ("prior", "at"),
    [(p, SIGMA) for p in CLOSED]
    + [(p, COEFFICIENT) for p in COEFFICIENTS]
    + [(p, THETA) for p in THETAS[:2]],
    ids=lambda v: getattr(v, "words", ""),
)
def test_derivatives_in_the_priors_own_parameters(prior, at):
    found = prior.parameter_gradients(at)
    params = {k: v for k, v in prior.params.items() if v != 0.0}
    assert set(params) <= set(found) == set(prior.params)
    for name in params:
        slow = differences(type(prior), prior.params, at, name)
        np.testing.assert_allclose(found[name], slow, rtol=1e-6, atol=1e-9)


def test_derivatives_in_the_parameters_of_a_pyro_distribution():
    prior = PyroPrior(dist.Gamma(torch.tensor(2.0), torch.tensor(0.5)), on="sigma")
    found, closed = (
        prior.parameter_gradients(SIGMA),
        GammaPrior(2.0, 0.5).parameter_gradients(SIGMA),
    )
    np.testing.assert_allclose(found["concentration"], closed["alpha"], rtol=1e-12)
    np.testing.assert_allclose(found["rate"], closed["beta"], rtol=1e-12)


@pytest.mark.parametrize("prior", [*ALL_SCALES, *COEFFICIENTS, *THETAS], ids=lambda p: p.words)
def test_the_pyro_distribution_has_the_same_density_and_draws_of_it(prior):
    own = prior.distribution()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = own.sample((4000,)).to(torch.float64)
    if prior.variable == "sigma_sq":
        at, value = drawn.sqrt(), drawn
    else:
        at = value = drawn
    np.testing.assert_allclose(
        own.log_prob(value).numpy(), prior.value(at.numpy()), rtol=1e-9, atol=1e-9
    )
    # exp(-log p) averages to the length of an interval that holds every draw with its mass
    low, high = np.quantile(value.numpy(), [0.1, 0.9])
    inside = (value.numpy() > low) & (value.numpy() < high)
    length = np.where(inside, np.exp(-prior.value(at.numpy())), 0.0).mean()
    assert length == pytest.approx(high - low, rel=0.06)


@pytest.mark.parametrize("variable", ["sigma", "sigma_sq", "log_sigma"])
def test_restated_distributions_have_the_restated_density(variable):
    prior = stated_on(GammaPrior(2.0, 1.0), variable)
    value = {"sigma": SIGMA, "sigma_sq": SIGMA**2, "log_sigma": np.log(SIGMA)}[variable]
    theirs = prior.distribution().log_prob(torch.tensor(value)).numpy()
    np.testing.assert_allclose(prior.value(SIGMA), theirs, rtol=1e-9)


def test_restating_twice_is_restating_once_and_no_prior_stays_none():
    there = stated_on(stated_on(InvGammaPrior(), "log_sigma"), "sigma_sq")
    assert there == InvGammaPrior()
    assert stated_on(NoPrior(), "log_sigma") == NoPrior()


@pytest.mark.parametrize("prior", COEFFICIENTS, ids=lambda p: p.words)
def test_coefficient_priors(prior):
    kind = stats.norm if prior.name == "normal" else stats.t
    args = () if prior.name == "normal" else (prior.df,)
    truth = kind(*args, loc=prior.loc, scale=prior.scale)
    np.testing.assert_allclose(prior.value(COEFFICIENT), truth.logpdf(COEFFICIENT), rtol=1e-11)
    at = torch.tensor(COEFFICIENT, requires_grad=True)
    (slope,) = torch.autograd.grad(prior.log_prob(at).sum(), at)
    np.testing.assert_allclose(prior.gradient(COEFFICIENT), slope.numpy(), rtol=1e-11)
    h = 1e-4
    centre = np.array([prior.loc - h, prior.loc + h])
    curvature = -float(np.diff(prior.gradient(centre))[0]) / (2 * h)
    assert prior.precision == pytest.approx(curvature, rel=1e-6)


def test_coefficients_of_both_kinds_together():
    B = np.array([[0.3, -1.0], [2.0, 0.5]])
    both = CoefficientPriors(NormalPrior(2.0), StudentTPrior(4.0, 1.0))
    truth = stats.norm(0, 2).logpdf(B[0]).sum() + stats.t(4.0).logpdf(B[1]).sum()
    assert float(both.value(B)) == pytest.approx(truth, rel=1e-12)
    traced = both.log_prob(torch.tensor(B[:1]), torch.tensor(B[1]))
    assert float(traced) == pytest.approx(truth, rel=1e-12)
    np.testing.assert_allclose(both.gradient(B)[0], -B[0] / 4.0)
    assert both.proper == (True, True)
    assert CoefficientPriors().flat
    assert float(CoefficientPriors().value(B)) == 0.0


@pytest.mark.parametrize("prior", THETAS, ids=lambda p: p.words)
def test_theta_priors(prior):
    density = lambda t: math.exp(float(prior.value(np.array([t]))[0]))  # noqa: E731
    pieces = [0.0, 1e-8, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0 - 1e-6, 1.0]
    mass = sum(integrate.quad(density, a, b)[0] for a, b in pairwise(pieces))
    assert mass == pytest.approx(1.0, abs=1e-4 if prior == THETAS[1] else 1e-7)
    logit = torch.tensor(np.log(THETA / (1 - THETA)), requires_grad=True)
    (slope,) = torch.autograd.grad(prior.log_prob(torch.sigmoid(logit)).sum(), logit)
    np.testing.assert_allclose(prior.gradient(THETA), slope.numpy(), rtol=1e-8, atol=1e-12)


def test_the_pc_prior_of_theta_is_that_of_the_eigenvalues():
    prior, eigenvalues = THETAS[2], np.linalg.eigvalsh(KERNEL.dense().numpy())

    def distance(theta):
        return math.sqrt(-np.log(1.0 - theta + theta * eigenvalues).sum())

    for theta in (0.02, 0.3, 0.5, 0.8, 0.98):
        step = 1e-5
        slope = (distance(theta + step) - distance(theta - step)) / (2 * step)
        log_p = math.log(prior.rate * slope) - prior.rate * distance(theta)
        log_p -= math.log(-math.expm1(-prior.rate * distance(1.0)))
        assert float(prior.value(np.array([theta]))[0]) == pytest.approx(log_p, abs=1e-4)
    above = integrate.quad(lambda t: math.exp(prior.value(np.array([t]))[0]), 0.5, 1.0)[0]
    assert above == pytest.approx(0.3, abs=1e-6)


def test_the_pc_prior_of_theta_knows_its_reach():
    with pytest.raises(ValueError, match=r"prob of the pc prior of theta must be below 0\.\d+"):
        PCTheta(0.5, 0.95).for_gene(KERNEL, 2)
    with pytest.raises(ValueError, match="regular and not the identity"):
        PCTheta().for_gene(DenseKernel(torch.eye(5, dtype=torch.float64)), 2)
    with pytest.raises(ValueError, match="only for a kernel"):
        PCTheta().value(THETA)


@pytest.mark.parametrize(("n_isos", "r", "a"), [(2, 0.5, 0.05), (3, 0.3, 0.2), (5, 0.6, 0.1)])
def test_the_usage_prior_says_what_it_was_asked(n_isos, r, a):
    """Fresh draws from sigma, theta and the field: the usage ranges over more than r as often."""
    prior = PCUsagePrior(r, a).for_gene(KERNEL, n_isos)
    n = 6000
    fields = unit_fields(KERNEL, n_isos - 1, n, seed=5)
    sigma = np.random.default_rng(6).exponential(1.0 / prior.rate, n)
    ranges = usage_ranges(sigma[:, None, None] * fields).max(axis=1)
    error = math.sqrt(a * (1 - a) / n)
    assert abs((ranges > r).mean() - a) < 3.5 * error + 0.03 * a
    assert prior.params == {"usage_range": r, "prob": a, "coverage": 1.0}


def test_the_conversion_does_not_see_the_form_of_the_kernel():
    sparse = CARKernel.from_adjacency(ADJACENCY, rho=0.97)
    for prior, tolerance in ((PCTheta(0.5, 0.3), 1e-8), (PCUsagePrior(0.4, 0.1), 0.03)):
        ours, dense = (prior.for_gene(kernel, 3).rate for kernel in (sparse, KERNEL))
        assert ours == pytest.approx(dense, rel=tolerance)  # of usage by other draws


def test_the_usage_prior_is_converted_once_and_only_where_it_can_be():
    prior = PCUsagePrior(0.5, 0.05)
    assert prior.for_gene(KERNEL, 2) == prior.for_gene(KERNEL, 2)
    assert prior.for_gene(KERNEL, 2).rate != prior.for_gene(KERNEL, 3).rate
    narrow = PCUsagePrior(0.5, 0.05, coverage=0.9).for_gene(KERNEL, 2)
    assert narrow.rate < prior.for_gene(KERNEL, 2).rate  # a larger sigma for a narrower range
    with pytest.raises(ValueError, match="only for a kernel"):
        prior.value(SIGMA)
    with pytest.raises(ValueError, match=r"passed in \d+ % of the draws on 1 spots, came 0.999"):
        PCUsagePrior(0.99, 0.999).for_gene(DenseKernel(torch.eye(1, dtype=torch.float64)), 2)


def test_a_spot_that_is_alone_is_as_two_that_know_nothing_of_each_other():
    one, two = (DenseKernel(torch.eye(n, dtype=torch.float64)) for n in (1, 2))
    rates = [PCUsagePrior(0.5, 0.2).for_gene(kernel, 3).rate for kernel in (one, two)]
    assert rates[0] == pytest.approx(rates[1], rel=0.2)  # by 400 draws


def test_powers_of_priors():
    half = PoweredPrior(GammaPrior(2.0, 0.3), 0.5)
    np.testing.assert_allclose(half.value(SIGMA), 0.5 * GammaPrior(2.0, 0.3).value(SIGMA))
    np.testing.assert_allclose(half.gradient(SIGMA), 0.5 * GammaPrior(2.0, 0.3).gradient(SIGMA))
    with pytest.raises(ValueError, match="not normalised"):
        half.distribution()


def test_all_priors_of_a_model():
    priors = ModelPriors(("pc", {"upper": 1.0}), "pc", ("normal", {"scale": 1.0}), "student_t")
    assert priors.sigma == PCPrior(1.0, 0.05)
    assert priors.theta == PCTheta()
    assert priors.coefficients == CoefficientPriors(NormalPrior(1.0), StudentTPrior())
    plain = ModelPriors()
    assert (plain.sigma, plain.theta) == (NoPrior(), UniformTheta())
    assert plain.coefficients.flat
    assert ModelPriors.of("gamma", {"beta": 1.0}).sigma == GammaPrior(2.0, 1.0)
    assert ModelPriors.of(dist.HalfNormal(1.0)).sigma.name == "HalfNormal"


@pytest.mark.parametrize("sigma", ["gamma", "inv_gamma", "none"])
def test_all_priors_are_one_sum_with_its_slopes(sigma):
    priors = ModelPriors(sigma, BetaPrior(2.0, 3.0), "normal", "student_t")
    u, B = np.array([[-0.4, 0.3], [0.2, -1.1]]), np.array([[[0.3, -1.0], [2.0, 0.5]]] * 2)

    def at(u):
        return np.exp(u[:, :1]), 1.0 / (1.0 + np.exp(-u[:, 1:])), B

    parts = priors.by_name(B, at(u)[1], at(u)[0])
    assert list(parts) == ["beta", "bias_eta", "theta", priors.sigma.variable]
    tensors = [torch.tensor(x) for x in (*at(u)[:2], B[:, :1], B[:, 1])]
    np.testing.assert_allclose(priors.value(*at(u)), sum(parts.values()), rtol=1e-13)
    np.testing.assert_allclose(priors.value(*at(u)), priors.log_prob(*tensors), rtol=1e-13)

    def of_u(u):
        return priors.value(*at(u)) + priors.log_jacobian(at(u)[1], at(u)[0])

    for found, whole in (
        (priors.slopes, lambda u: priors.value(*at(u))),
        (priors.slopes_in_u, of_u),
    ):
        for k, slope in enumerate(found(*at(u))[:2]):
            step = 1e-5 * np.eye(2)[k]
            slow = (whole(u + step) - whole(u - step)) / 2e-5
            np.testing.assert_allclose(slope[:, 0], slow, rtol=1e-6, atol=1e-8)


def test_draws_of_all_priors_have_their_laws():
    priors = ModelPriors("inv_gamma", BetaPrior(2.0, 3.0), "normal", "student_t")
    drawn = priors.sample(4000, (2, 1), 1, np.random.default_rng(0))
    laws = (
        (drawn["sigma"][:, 0] ** 2, stats.invgamma(3.0, scale=0.5)),
        (drawn["theta"][:, 0], stats.beta(2.0, 3.0)),
        (drawn["coefficients"][:, 0, 0], stats.norm(0.0, 10.0)),
        (drawn["coefficients"][:, 1, 0], stats.t(3.0, scale=2.5)),
    )
    for values, law in laws:
        assert stats.kstest(values, law.cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: prior_from_name("half_norml"), ValueError, "did you mean 'half_normal'?"),
        (lambda: prior_from_name("pc", {"uper": 1}), ValueError, "did you mean 'upper'?"),
        (lambda: PCPrior(1.0, 1.0), ValueError, "['prob'] of 'pc' must be below 1, came 1.0"),
        (lambda: PCUsagePrior(1.5), ValueError, "must be below 1, came 1.5"),
        (lambda: HalfTPrior(scale=-1.0), ValueError, "must be positive and finite, came -1"),
        (lambda: PyroPrior("half"), TypeError, "must be a Pyro distribution, came str"),
        (lambda: PyroPrior(dist.Normal(0.0, 1.0)), ValueError, "no mass below 0, came Normal"),
        (lambda: PyroPrior(dist.Gamma(1.0, 1.0), on="theta"), ValueError, "came 'theta'"),
        (lambda: PyroPrior(dist.Gamma(torch.ones(2), 1.0)), ValueError, "came batch (2,)"),
        (lambda: stated_on(GammaPrior(), "tau"), ValueError, "came 'tau'"),
        (lambda: as_theta_prior("betta"), ValueError, "did you mean 'beta'?"),
        (lambda: as_theta_prior(3), TypeError, "came int"),
        (lambda: as_coefficient_prior("gaussian"), ValueError, "came 'gaussian'"),
        (lambda: as_coefficient_prior(("normal", {"sd": 1})), ValueError, "came 'sd'"),
        (lambda: NormalPrior(loc=math.inf), ValueError, "loc of 'normal' must be finite"),
        (lambda: PoweredPrior(GammaPrior(), -1.0), ValueError, "not negative, came -1"),
        (lambda: ModelPriors("gama"), ValueError, "did you mean 'gamma'?"),
        (lambda: ModelPriors.of(ModelPriors(), {"alpha": 1.0}), ValueError, "name of a prior"),
        (lambda: prior_from_name(GammaPrior(), {"alpha": 1.0}), ValueError, "came with a prior"),
    ],
)
def test_bad_priors_name_what_is_wrong(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_the_flat_prior_of_coefficients_is_nothing():
    assert not FlatPrior().proper
    assert FlatPrior().precision == 0.0
    np.testing.assert_array_equal(FlatPrior().value(COEFFICIENT), np.zeros(5))


def test_the_command_line_knows_every_prior():
    from splisosm_pyro.command_options import PRIOR_NAMES

    assert tuple(PRIORS) == PRIOR_NAMES
