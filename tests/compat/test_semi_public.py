"""What splisosm's pipeline asks of a model: held to the documented members and to autograd."""

import pytest
import torch
from torch import nn

from splisosm_pyro import compat, simulate_tissue

G, S, P, F = 2, 19, 3, 2
Q = P - 1
TISSUE = simulate_tissue(n_spots=S, n_genes=G, n_isos=P, depth=6.0, sigma=0.7, theta=0.5, seed=1)
DESIGN = torch.randn(S, F, generator=torch.Generator().manual_seed(2)).double()


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def glmm(kind=compat.MultinomGLMM, **options):
    model = kind(**options)
    model.setup_data(TISSUE.counts.double(), TISSUE.kernel, DESIGN)
    values = {"beta": random(G, F, Q, seed=3), "nu": random(G, S, Q, seed=4)}
    model.update_params_from_dict({**values, "bias_eta": random(G, Q, seed=5)})
    return model


def glm():
    model = compat.MultinomGLM()
    model.setup_data(TISSUE.counts.double(), DESIGN)
    model.update_params_from_dict({"beta": random(G, F, Q, seed=3)})
    return model


def test_marginal_is_that_of_the_documented_class():
    for method in ("joint_gd", "marginal_newton"):
        model = glmm(fitting_method=method)
        assert torch.equal(model._calc_log_prob_marginal(), model.log_marginal())
    null = glmm(compat.NullModel)
    theta_0 = glmm()
    theta_0.update_params_from_dict({"theta_logit": torch.full((G, 1), -30.0)})
    torch.testing.assert_close(
        null._calc_log_prob_marginal(), theta_0.log_marginal(), rtol=1e-8, atol=0
    )


def test_ratios_are_those_of_the_documented_class():
    for model in (glm(), glmm()):
        assert torch.equal(model._alpha(), model.get_isoform_ratio())


@pytest.mark.parametrize("make", [glm, glmm])
def test_hessian_of_fixed_effects_is_autograds(make):
    model = make()
    found = model._get_log_lik_hessian_beta_bias()
    field = model.nu.detach() if hasattr(model, "nu") else torch.zeros(G, S, Q).double()
    rows = torch.cat([DESIGN, torch.ones(S, 1).double()], dim=1)

    def log_lik(flat, gene):  # place q (F+1) + f
        eta = rows @ flat.reshape(Q, F + 1).T + field[gene]
        logits = torch.cat([eta, torch.zeros(S, 1).double()], dim=1)
        return (TISSUE.counts[gene] * torch.log_softmax(logits, -1)).sum()

    for gene in range(G):
        B = torch.cat([model.beta[gene], model.bias_eta[gene][None]]).detach()  # (F+1, Q)
        true = torch.autograd.functional.hessian(lambda b, g=gene: log_lik(b, g), B.T.reshape(-1))
        torch.testing.assert_close(found[gene], true, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [glm, glmm])
def test_a_design_that_is_set_is_in_force_and_the_original_untouched(make):
    model = make()
    wider = model.clone()
    added = random(S, 1, seed=6)
    wider.X_spot = torch.cat([model.X_spot, added[None]], dim=-1)
    wider.beta = nn.Parameter(torch.cat([model.beta, torch.zeros(G, 1, Q).double()], dim=1))
    torch.testing.assert_close(wider.X_spot[0, :, F:], added)
    assert torch.equal(wider._alpha(), model._alpha())
    assert wider._get_log_lik_hessian_beta_bias().shape == (G, Q * (F + 2), Q * (F + 2))
    assert model.X_spot.shape == (1, S, F)
    assert model.n_factors == F
    with torch.no_grad():
        wider.beta[:, F] = 1.0
    assert not torch.equal(wider._alpha(), model._alpha())


def test_state_is_taken_up_by_a_new_model():
    fitted = glmm(fitting_method="marginal_newton")
    fitted.fit(quiet=True)
    other = glmm(fitting_method="marginal_newton")
    other.load_state_dict(fitted.state_dict(), strict=False)
    for name, value in fitted.named_parameters():
        assert torch.equal(dict(other.named_parameters())[name], value)


def test_options_of_the_pipeline_are_none_of_the_fit():
    extra = {"with_design_mtx": True, "from_null": False, "refit_null": True, "batch_size": 5}
    model = compat.FullModel(fitting_configs={"max_epochs": 7, **extra})
    assert model.fitting_configs["max_epochs"] == 7
    assert not set(extra) & set(model.fitting_configs)
    with pytest.raises(ValueError, match="max_epochs"):
        compat.MultinomGLM(fitting_configs={"max_epoch": 7})


def test_null_and_full_models_follow_one_another():
    null = glmm(compat.NullModel, fitting_method="marginal_newton", var_fix_sigma=False)
    null.fit(quiet=True)
    assert bool((null.theta_logit == -torch.inf).all())
    assert bool((null.var_sp_prop() == 0).all())
    full = compat.FullModel.from_trained_null_no_sp_var_model(null)
    assert full.status == []
    assert torch.equal(full.sigma, null.sigma)
    full.fit(quiet=True)
    assert bool((full._calc_log_prob_marginal() > null._calc_log_prob_marginal() - 1e-6).all())
    again = compat.NullModel.from_trained_full_model(full)
    again.fit(quiet=True)
    torch.testing.assert_close(again(), null(), rtol=1e-6, atol=0)
