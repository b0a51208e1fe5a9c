"""MultinomGLMM with the smooth part by expectation propagation, as a user meets it."""

import cases
import numpy as np
import pytest
import torch

from splisosm_pyro.model import MultinomGLMM


@pytest.fixture(scope="module")
def fitted():
    case = cases.make("ep", 5, n_genes=2, n_spots=90, n_isos=2, depth=2.0, sigma=1.5, theta=0.9)
    model = MultinomGLMM(
        var_fix_sigma=False,
        var_prior_model="gamma",
        fitting_method="marginal_newton",
        fitting_configs={"smooth": "ep"},
    )
    model.setup_data(case.counts, case.V)
    model.fit(quiet=True)
    return model


def test_it_fits_to_its_own_maximum(fitted):
    assert fitted.fitting_configs["nugget"] == "quadrature"
    table = fitted.diagnose(marginal_error=True)
    assert set(table["status"]) <= {"converged", "boundary"}
    assert (table["gradient_norm"] < 1e-4).all()
    value = fitted.log_marginal()
    torch.testing.assert_close(value.detach(), fitted.forward().detach(), rtol=0, atol=1e-9)
    assert (table["marginal_correction"].abs() < 0.01 + 3 * table["marginal_standard_error"]).all()
    laplace = fitted.log_marginal(smooth="laplace").detach()
    assert (value.detach() - laplace > 0.02).any()
    assert torch.equal(fitted.log_marginal("quadrature", "ep").detach(), value.detach())


def test_the_gradient_of_log_marginal(fitted):
    slopes = torch.autograd.grad(fitted.log_marginal().sum(), [fitted.sigma, fitted.theta_logit])
    step, model = 1e-3, fitted.clone()
    for name, slope in zip(("sigma", "theta_logit"), slopes, strict=True):
        ends = []
        for sign in (1, -1):
            moved = getattr(fitted, name).detach() + sign * step
            model.update_params_from_dict({name: moved})
            ends.append(model.log_marginal().detach())
        model.update_params_from_dict({name: getattr(fitted, name).detach()})
        torch.testing.assert_close(slope[:, 0], (ends[0] - ends[1]) / (2 * step), rtol=0, atol=1e-5)


def test_errors_and_ratios_are_finite(fitted):
    errors = fitted.standard_errors()
    assert torch.isfinite(errors["bias_eta"]).all()
    assert torch.isfinite(fitted.ratio_standard_errors()).all()
    mean = fitted.get_isoform_ratio("posterior_mean")
    np.testing.assert_allclose(mean.sum(-1), 1.0, atol=1e-12)


def test_what_is_not_legal(fitted):
    with pytest.raises(ValueError, match="smooth must be one of 'laplace', 'ep', came 'eps'"):
        fitted.log_marginal(smooth="eps")
    with pytest.raises(ValueError, match="'ep' integrates the nugget as well"):
        fitted.log_marginal(nugget="laplace", smooth="ep")
