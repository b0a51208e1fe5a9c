"""Counts with the field integrated out: the engine's value, exact slopes, generic Pyro on top."""

import re
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from torch.autograd.functional import jacobian

import splisosm_pyro.collapsed
from splisosm_pyro import CollapsedCounts, MultinomGLMM, simulate_tissue
from splisosm_pyro.fit.marginal.conditional_mode import ModeError
from splisosm_pyro.generative import multinomial_glmm_collapsed
from splisosm_pyro.maths.priors import HalfNormalPrior
from splisosm_pyro.posterior.density.priors import PosteriorPriors


def tissue_of(n_isos, n_genes=2, n_spots=37):
    """Few genes on few spots, two layers."""
    return simulate_tissue(
        n_spots=n_spots, n_genes=n_genes, n_isos=n_isos, n_layers=2, depth=3.0, sigma=1.0, seed=1
    )


def parameters(n_genes, n_logits, n_components, batch=(), seed=0):
    """beta, bias_eta, sigma, theta of one covariate."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: torch.from_numpy(rng.normal(size=(*batch, n_genes, *shape)))  # noqa: E731
    scale = draw(n_components)
    return draw(1, n_logits), draw(n_logits), scale.exp(), torch.sigmoid(draw(n_components))


def distribution(tissue, *own, **options):
    """The distribution over a tissue's genes."""
    return CollapsedCounts(tissue.kernel, tissue.counts.sum(-1), tissue.design, *own, **options)


@pytest.mark.parametrize(("n_isos", "n_components"), [(2, 1), (3, 1), (3, 2), (4, 1)])
def test_value_and_slopes_are_those_of_the_engine(n_isos, n_components):
    tissue, own = tissue_of(n_isos), parameters(2, n_isos - 1, n_components)
    value = distribution(tissue, *own).log_prob(tissue.counts)
    smooth = "ep" if n_isos < 4 else "laplace"
    model = MultinomGLMM(
        share_variance=n_components == 1,
        fitting_method="marginal_newton",
        fitting_configs={"nugget": "quadrature", "smooth": smooth},
    )
    model.setup_data(tissue.counts, tissue.kernel, tissue.design)
    names = ("beta", "bias_eta", "sigma", "theta_logit")
    given = (*own[:3], torch.logit(own[3]))
    model.update_params_from_dict(dict(zip(names, given, strict=True)))
    torch.testing.assert_close(value, model.log_marginal().detach(), rtol=1e-12, atol=1e-9)
    slopes = jacobian(
        lambda *given: distribution(tissue, *given).log_prob(tissue.counts).sum(), own
    )
    for i, slope in enumerate(slopes):
        for place in np.ndindex(*own[i].shape):
            sides = []
            for sign in (1.0, -1.0):
                moved = [part.clone() for part in own]
                moved[i][place] += sign * 1e-4
                sides.append(distribution(tissue, *moved).log_prob(tissue.counts).sum())
            difference = float(sides[0] - sides[1]) / 2e-4
            assert float(slope[place]) == pytest.approx(difference, rel=1e-5, abs=1e-5)


def test_without_a_smooth_part_it_is_the_integral_of_each_spot():
    """theta = 0: an integral over one logit a spot, by a fine sum."""
    tissue, (beta, bias, sigma, _) = tissue_of(2), parameters(2, 1, 1)
    value = distribution(tissue, beta, bias, sigma, torch.zeros_like(sigma)).log_prob(tissue.counts)
    z = torch.linspace(-9.0, 9.0, 2001, dtype=torch.float64)
    fixed = (tissue.design @ beta + bias[:, None])[..., 0]
    eta = fixed[..., None] + sigma[..., None] * z
    of_counts = dist.Binomial(tissue.counts.sum(-1)[..., None], logits=eta, validate_args=False)
    log_lik = of_counts.log_prob(tissue.counts[..., :1])
    spots = torch.logsumexp(log_lik - 0.5 * z**2, -1) - torch.logsumexp(-0.5 * z**2, -1)
    torch.testing.assert_close(value, spots.sum(-1), rtol=1e-8, atol=1e-8)


def test_batches_are_their_entries():
    """Particles by genes, parameters shared over genes, one gene without an axis."""
    tissue, own = tissue_of(2), parameters(2, 1, 1, batch=(3,))
    many = distribution(tissue, *own)
    assert many.batch_shape == (3, 2)
    value = many.log_prob(tissue.counts)
    for particle in range(3):
        one = distribution(tissue, *(part[particle] for part in own)).log_prob(tissue.counts)
        torch.testing.assert_close(value[particle], one, rtol=1e-12, atol=1e-10)
    shared = distribution(tissue, own[0][0, 0], own[1][0, 0], own[2][0, 0], own[3][0, 0])
    alone = CollapsedCounts(
        tissue.kernel, tissue.counts.sum(-1)[0], tissue.design, *(part[0, 0] for part in own)
    )
    assert alone.batch_shape == ()
    first = alone.log_prob(tissue.counts[0])
    torch.testing.assert_close(shared.log_prob(tissue.counts)[0], first, rtol=1e-12, atol=1e-10)
    wide = alone.expand((2,)).log_prob(tissue.counts[:1])
    torch.testing.assert_close(wide, first.expand(2), rtol=1e-12, atol=1e-10)


def test_draws_have_the_totals_and_the_mean_usage():
    tissue = tissue_of(3, n_spots=61)
    own = (torch.zeros(1, 2), torch.tensor([0.5, -0.5]), torch.tensor([0.2]), torch.tensor([0.5]))
    own = [part.double() for part in own]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = distribution(tissue, *own).sample((50,))
    assert draws.shape == (50, *tissue.counts.shape)
    torch.testing.assert_close(draws.sum(-1), tissue.counts.sum(-1).double().expand(50, -1, -1))
    share = draws.sum((0, 1, 2)) / draws.sum()
    expected = torch.softmax(torch.tensor([0.5, -0.5, 0.0]), 0).double()
    torch.testing.assert_close(share, expected, rtol=0, atol=0.02)


def test_bounds_are_legal_and_a_place_without_a_mode_is_no_place_to_go(monkeypatch):
    tissue, own = tissue_of(2), parameters(2, 1, 1)
    for sigma, theta in ((0.0, 0.5), (1.0, 0.0), (1.0, 1.0)):
        at = [torch.full_like(own[2], x).requires_grad_() for x in (sigma, theta)]
        value = distribution(tissue, *own[:2], *at).log_prob(tissue.counts)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(part.grad).all() for part in at)

    def none(*_):
        raise ModeError("there is none")

    monkeypatch.setattr(splisosm_pyro.collapsed.Conditional, "of_gene", none)
    beta = own[0].clone().requires_grad_()
    value = distribution(tissue, beta, *own[1:]).log_prob(tissue.counts)
    value.sum().backward()
    assert (value == -torch.inf).all()
    assert not beta.grad.any()


def test_what_is_wrong_is_named():
    tissue, (beta, bias, sigma, theta) = tissue_of(2), parameters(2, 1, 1)
    with pytest.raises(TypeError, match="kernel must be a kernel object, came Tensor"):
        CollapsedCounts(torch.eye(3), tissue.counts.sum(-1), None, beta, bias, sigma, theta)
    with pytest.raises(ValueError, match="totals must have the kernel's 37 spots"):
        CollapsedCounts(tissue.kernel, tissue.counts.sum(-1)[:, 1:], None, beta, bias, sigma, theta)
    with pytest.raises(ValueError, match=r"beta must end in shape \(1, 1\), came \(2, 2, 1\)"):
        distribution(tissue, torch.zeros(2, 2, 1), bias, sigma, theta)
    with pytest.raises(ValueError, match="sigma"):
        distribution(tissue, beta, bias, -sigma, theta)
    with pytest.raises(ValueError, match="counts must sum to the totals"):
        distribution(tissue, beta, bias, sigma, theta).log_prob(tissue.counts + 1.0)
    with pytest.raises(ValueError, match=r"smooth.* must be one of 'laplace', 'ep', came 'exact'"):
        distribution(tissue, beta, bias, sigma, theta, smooth="exact").log_prob(tissue.counts)


# ---- the program under generic Pyro

PRIORS = {"beta_prior": dist.Normal(0.0, 2.0), "bias_prior": dist.Normal(0.0, 2.0)}


def arguments(tissue, **more):
    """What the program is called with."""
    priors = {name: prior.expand([]) for name, prior in PRIORS.items()}
    given = tissue.counts, tissue.design, tissue.kernel
    return given, {"prior": HalfNormalPrior(), **priors, **more}


def test_the_trace_is_the_value_and_the_priors():
    tissue, (beta, bias, sigma, theta) = tissue_of(2), parameters(2, 1, 1)
    values = {"beta": beta, "bias_eta": bias, "sigma": sigma, "theta": theta}
    given, named = arguments(tissue)
    program = poutine.condition(multinomial_glmm_collapsed, data=values)
    trace = poutine.trace(program).get_trace(*given, **named)
    trace.compute_log_prob()
    assert trace.nodes["counts"]["log_prob"].shape == (2,)
    expected = distribution(tissue, beta, bias, sigma, theta).log_prob(tissue.counts).sum()
    normal = dist.Normal(torch.tensor(0.0, dtype=torch.float64), 2.0)
    expected += normal.log_prob(beta).sum() + normal.log_prob(bias).sum()
    expected += dist.HalfNormal(torch.tensor(1.0, dtype=torch.float64)).log_prob(sigma).sum()
    assert float(trace.log_prob_sum()) == pytest.approx(float(expected), abs=1e-8)


def test_predictive_draws_counts():
    tissue = tissue_of(2)
    _, named = arguments(tissue, totals=tissue.counts.sum(-1), n_isos=2)
    predictive = Predictive(multinomial_glmm_collapsed, num_samples=4)
    drawn = predictive(None, tissue.design, tissue.kernel, **named)
    assert drawn["counts"].shape == (4, *tissue.counts.shape)
    assert drawn["sigma"].shape == (4, 2, 1)


@pytest.fixture
def store():
    """Pyro's parameters as they were."""
    kept = pyro.get_param_store().get_state()
    pyro.clear_param_store()
    yield
    pyro.get_param_store().set_state(kept)


@pytest.mark.usefixtures("store")
def test_a_delta_guide_ends_at_our_own_maximum():
    tissue = tissue_of(2, n_genes=1)
    model = MultinomGLMM(
        var_fix_sigma=False,
        var_prior_model="half_normal",
        fitting_method="marginal_newton",
        fitting_configs={"nugget": "quadrature", "smooth": "ep"},
    )
    model.setup_data(tissue.counts, tissue.kernel, tissue.design)
    model.fit(quiet=True)
    start = {"sigma": torch.tensor([[0.8]]), "theta": torch.tensor([[0.4]])}
    start |= {"beta": torch.zeros(1, 1, 1), "bias_eta": torch.zeros(1, 1)}
    given = tissue.counts, tissue.design, tissue.kernel

    def program():
        return multinomial_glmm_collapsed(*given, prior=HalfNormalPrior())

    begin = pyro.infer.autoguide.init_to_value(
        values={name: value.double() for name, value in start.items()}
    )
    guide = AutoDelta(program, init_loc_fn=begin)
    svi = SVI(program, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    losses = [svi.step() for _ in range(100)]
    assert losses[-1] == pytest.approx(-model.log_marginal().item(), abs=0.02)


def test_generic_chains_have_our_own_posterior():
    """NUTS on the program beside the nested posterior, within 4 Monte-Carlo errors."""
    tissue = tissue_of(2, n_genes=1, n_spots=19)
    given = tissue.counts, None, tissue.kernel
    prior = dist.Normal(torch.tensor(0.0, dtype=torch.float64), 2.0)

    def program():
        return multinomial_glmm_collapsed(*given, prior=HalfNormalPrior(), bias_prior=prior)

    with torch.random.fork_rng():
        pyro.set_rng_seed(0)
        kernel = NUTS(program, max_tree_depth=3)
        chain = MCMC(kernel, num_samples=80, warmup_steps=40, disable_progbar=True)
        chain.run()
    drawn = chain.get_samples()
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(tissue.counts, tissue.kernel)
    own = PosteriorPriors(bias_sd=2.0, sigma=HalfNormalPrior())
    ours = model.posterior("nested_laplace", prior=own, seed=0)["posterior"]
    effective = chain.diagnostics()
    for name in ("bias_eta", "sigma", "theta"):
        n_eff = float(effective[name]["n_eff"].min())
        both = ours[name].values.ravel()
        error = both.std() / np.sqrt(n_eff)
        assert n_eff > 8
        assert abs(float(drawn[name].mean()) - both.mean()) < 4 * error, name


def test_the_programs_of_the_page_have_a_density():
    """docs/programs.md as it stands, but for the inference at its end."""
    page = Path(__file__).resolve().parents[1] / "docs" / "programs.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    usual, names = torch.get_default_dtype(), {}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            exec("\n".join(blocks[:-1]), names)
            for program in ("population", "sparse_effects", "one_gene"):
                trace = poutine.trace(names[program]).get_trace()
                assert torch.isfinite(trace.log_prob_sum())
                assert not {"nu", "eta"} & set(trace.nodes)
    finally:
        torch.set_default_dtype(usual)
