"""The Pyro programs: one density by three routes, draws that fit it, and generic Pyro on top."""

import math
import re

import numpy as np
import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from kernels import KERNELS, eta_of, tensor
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, init_to_value

from splisosm_pyro.generative import multinomial_glm, multinomial_glmm
from splisosm_pyro.maths.axes import as_counts
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.density.joint import log_joint
from splisosm_pyro.maths.priors import GammaPrior, InvGammaPrior, NoPrior, Priors

PRIORS = {prior.name: prior for prior in (NoPrior(), GammaPrior(), InvGammaPrior())}
FIXED = ["beta", "bias_eta"]
FIELD = ["theta", "theta_logit", "nu", "eta", "counts"]

# fractional counts warn once; that is tested elsewhere
pytestmark = pytest.mark.filterwarnings("ignore:counts holds fractional numbers")


# Any two of a case, a kernel and a prior meet in one.
TRIPLES = [
    pytest.param(case, kernel, list(PRIORS.values())[(i + j) % 3], id=f"{name}-{kernel}")
    for i, (name, case) in enumerate(CASES.items())
    for j, kernel in enumerate(KERNELS)
    if not (kernel == "low_rank" and case.shape[1] == 1)  # no rank below one spot
]


def site_values(case, scale_site="sigma"):
    """The case's point as values of sites."""
    values = {name: tensor(getattr(case, name)) for name in ("beta", "bias_eta", "theta", "nu")}
    if scale_site is not None:
        values[scale_site] = (
            tensor(case.sigma) if scale_site == "sigma" else tensor(case.sigma) ** 2
        )
    return values


def glmm_trace(case, kernel, prior=None, **kwargs):
    """Trace of the program at the case's point."""
    prior = prior or NoPrior()
    scale_site = None if "sigma" in kwargs else prior.variable
    program = poutine.condition(multinomial_glmm, data=site_values(case, scale_site))
    arguments = {"prior": prior, "share_variance": case.share_variance} | kwargs
    trace = poutine.trace(program).get_trace(
        tensor(case.counts), tensor(case.design), kernel, **arguments
    )
    trace.compute_log_prob()
    return trace


def log_prob(trace):
    """Sum over sites, gene by gene."""
    return sum(
        site["log_prob"]
        for site in trace.nodes.values()
        if site["type"] == "sample" and "log_prob" in site and site["name"] != "genes"
    )


def three_routes(case, kernel, prior, trace):
    """log_joint and the loop-written truth beside the trace, each (G,)."""
    ours = log_joint(
        tensor(case.counts), eta_of(case), tensor(case.nu), tensor(case.sigma),
        tensor(case.theta), kernel,
    )  # fmt: skip
    parameters = (tensor(getattr(case, name)) for name in ("sigma", "theta", "beta", "bias_eta"))
    ours = ours + Priors(prior).log_prob(*parameters)
    V = kernel.dense().numpy()
    loops = [
        oracles.log_joint(
            case.counts[g], case.design, case.B(g), case.nu[g], case.sigma[g], case.theta[g], V,
            prior.name,
        )
        for g in range(case.shape[0])
    ]  # fmt: skip
    return log_prob(trace).numpy(), ours.numpy(), np.array(loops)


# --- one density, three routes ---


@pytest.mark.parametrize(("case", "kernel", "prior"), TRIPLES)
def test_trace_log_joint_and_loops_agree_gene_by_gene(case, kernel, prior):
    kernel = KERNELS[kernel](case)
    traced, ours, loops = three_routes(case, kernel, prior, glmm_trace(case, kernel, prior))
    assert traced.shape == (case.shape[0],)
    np.testing.assert_allclose(traced, ours, rtol=1e-10)
    np.testing.assert_allclose(ours, loops, rtol=1e-10)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_with_fixed_sigma_its_prior_is_left_out(case):
    kernel = DenseKernel(case.V)
    trace = glmm_trace(case, kernel, GammaPrior(), sigma=tensor(case.sigma))
    traced, ours, loops = three_routes(case, kernel, NoPrior(), trace)
    np.testing.assert_allclose(traced, ours, rtol=1e-10)
    np.testing.assert_allclose(ours, loops, rtol=1e-10)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_glm_is_the_loop(case):
    values = {name: tensor(getattr(case, name)) for name in FIXED}
    program = poutine.condition(multinomial_glm, data=values)
    trace = poutine.trace(program).get_trace(tensor(case.counts), tensor(case.design))
    trace.compute_log_prob()
    loops = [
        oracles.log_lik(oracles.linear_predictor(case.B(g), case.design, case.shape[1]), counts)
        for g, counts in enumerate(case.counts)
    ]
    np.testing.assert_allclose(log_prob(trace).numpy(), loops, rtol=1e-10)
    sites = [name for name, site in trace.nodes.items() if site["type"] == "sample"]
    assert sites == ["genes", *FIXED, "eta", "counts"]


@pytest.mark.parametrize(
    ("prior", "fixed", "scale"),
    [
        (NoPrior(), False, ["sigma"]),
        (GammaPrior(), False, ["sigma"]),
        (InvGammaPrior(), False, ["sigma_sq", "sigma"]),
        (GammaPrior(), True, ["sigma"]),
    ],
)
def test_sites_their_order_shapes_and_values(prior, fixed, scale):
    case = CASES["batch"]
    kwargs = {"sigma": tensor(case.sigma)} if fixed else {}
    trace = glmm_trace(case, DenseKernel(case.V), prior, **kwargs)
    sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and n != "genes"}
    assert list(sites) == [*FIXED, *scale, *FIELD]
    assert all(site["log_prob"].shape == (5,) for site in sites.values())
    torch.testing.assert_close(sites["sigma"]["value"], tensor(case.sigma))
    torch.testing.assert_close(sites["theta_logit"]["value"], torch.logit(tensor(case.theta)))
    torch.testing.assert_close(sites["eta"]["value"], eta_of(case))
    assert torch.equal(sites["counts"]["value"], tensor(case.counts))
    observed = [name for name, site in sites.items() if site["infer"].get("was_observed")]
    assert observed in ([], ["counts"])
    nothing = ["beta", "bias_eta", "theta", "theta_logit", "eta"]
    nothing += ["sigma"] if fixed or prior.name != "gamma" else []
    for name in nothing:
        assert torch.equal(sites[name]["log_prob"].double(), torch.zeros(5).double()), name


def test_counts_checked_beforehand_give_the_same_density():
    case = CASES["batch"]
    values = site_values(case)
    program = poutine.condition(multinomial_glmm, data=values)
    kernel = DenseKernel(case.V)
    traces = [
        poutine.trace(program).get_trace(counts, case.design, kernel, share_variance=False)
        for counts in (case.counts, as_counts(case.counts))
    ]
    assert traces[0].log_prob_sum() == traces[1].log_prob_sum()


# --- draws ---


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("prior", [GammaPrior(5.0, 4.0), InvGammaPrior(6.0, 5.0)], ids=repr)
def test_the_whole_program_draws_from_its_priors(prior):
    n_genes = 4000
    normal = dist.Normal(tensor(0.0), tensor(0.5))
    trace = poutine.trace(multinomial_glmm).get_trace(
        None,
        np.array([[0.0], [1.0]]),
        DenseKernel(np.array([[1.0, 0.6], [0.6, 1.0]])),
        prior=prior,
        totals=torch.full((n_genes, 2), 12.0),
        n_isos=3,
        beta_prior=normal,
        bias_prior=normal,
    )
    values = {name: trace.nodes[name]["value"] for name in (*FIXED, "sigma", *FIELD)}
    assert values["counts"].shape == (n_genes, 2, 3)
    assert bool((values["counts"].sum(-1) == 12).all())
    drawn = values["sigma"] if prior.variable == "sigma" else values["sigma"] ** 2
    theirs = prior.distribution()
    error = (theirs.variance / n_genes).sqrt()
    assert abs(drawn.mean() - theirs.mean) < 5 * error
    assert abs(values["theta"].mean() - 0.5) < 5 * (1 / 12 / n_genes) ** 0.5
    # nu over its scale, given theta: correlation 0.6 theta
    z = values["nu"] / values["sigma"][:, None]
    assert abs((z[:, 0] * z[:, 1]).mean() - 0.3) < 5 * (1.2 / n_genes) ** 0.5
    fixed = tensor([[[0.0]], [[1.0]]])[:, 0] @ values["beta"] + values["bias_eta"][:, None]
    torch.testing.assert_close(values["eta"], fixed + values["nu"])


# --- generic Pyro ---


def test_svi_with_autodelta_ends_at_the_joint_mode():
    """Generic Pyro on the program against SciPy on the oracle, at fixed sigma and theta."""
    case = CASES["two_isoforms"]
    kernel = DenseKernel(case.V)
    sigma, theta = tensor([[0.8]]), tensor([[0.4]])
    B, nu, value = oracles.joint_maximum(
        case.counts[0], case.design, sigma[0].numpy(), theta[0].numpy(), case.V
    )
    program = poutine.condition(multinomial_glmm, data={"theta": theta})
    arguments = (as_counts(case.counts), tensor(case.design), kernel)
    start = {
        "beta": torch.zeros(1, 1, 1),
        "bias_eta": torch.zeros(1, 1),
        "nu": torch.zeros(1, 13, 1),
    }
    start = {name: tensor(zeros) for name, zeros in start.items()}
    with pyro.get_param_store().scope():
        guide = AutoDelta(program, init_loc_fn=init_to_value(values=start))
        optimiser = pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.99})
        svi = SVI(program, guide, optimiser, Trace_ELBO())
        for _ in range(800):
            loss = svi.step(*arguments, sigma=sigma)
        found = guide.median()
    assert math.isclose(-loss, value, rel_tol=1e-9)
    np.testing.assert_allclose(found["nu"][0].detach(), nu, atol=1e-4)
    np.testing.assert_allclose(found["beta"][0].detach(), B[:-1], atol=1e-4)
    np.testing.assert_allclose(found["bias_eta"][0].detach(), B[-1], atol=1e-4)


# --- bad input ---

COUNTS = CASES["two_isoforms"].counts


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"kernel": None},
            TypeError,
            "kernel must be a kernel object such as DenseKernel(V), came NoneType",
        ),
        ({"kernel": np.eye(13)}, TypeError, "came ndarray"),
        (
            {"kernel": DenseKernel(np.eye(4))},
            ValueError,
            "kernel must have the counts' 13 spots, came 4",
        ),
        ({"sigma": -1.0}, ValueError, "sigma must be finite and not negative where it is fixed"),
        ({"sigma": math.nan}, ValueError, "sigma must be finite"),
        ({"design": np.ones((3, 1))}, ValueError, "design_mtx must have shape"),
        ({"counts": -COUNTS}, ValueError, "counts must be finite and not negative"),
        ({"counts": None}, ValueError, "counts=None needs totals and n_isos"),
        ({"totals": torch.ones(13)}, ValueError, "totals and n_isos belong to counts=None"),
        (
            {"counts": None, "totals": torch.ones(13), "n_isos": 1},
            ValueError,
            "n_isos must be at least 2, came 1",
        ),
        (
            {"counts": None, "totals": -torch.ones(13), "n_isos": 2},
            ValueError,
            "totals must be finite and not negative",
        ),
        (
            {"counts": None, "totals": torch.ones(1, 1, 13), "n_isos": 2},
            ValueError,
            "came shape (1, 1, 13)",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    case = CASES["two_isoforms"]
    given = {"counts": COUNTS, "design": case.design, "kernel": DenseKernel(case.V)} | arguments
    program = poutine.condition(multinomial_glmm, data=site_values(case))
    with pytest.raises(error, match=re.escape(message)):
        program(**given)
