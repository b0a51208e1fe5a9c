"""Gold cases: points, optima and standard errors that other programs computed (optional data)."""

import numpy as np
import pytest
import torch

from splisosm_pyro.model import MultinomGLM, MultinomGLMM

CLOSE = 1e-5  # nats


@pytest.fixture(
    scope="module", params=["c01_n30_P3_rich", "c03_n100_P3_sparse", "c08_n100_P3_zeroiso"]
)
def case(request, gold):
    if request.param not in gold.names():
        pytest.skip("this gold case is not there")
    return gold.load(request.param)


def model_of(case, **arguments):
    model = MultinomGLMM(**arguments)
    model.setup_data(case.Y, corr_sp=case.V, design_mtx=case.X if case.F else None)
    return model


def components(values, share):
    """Gold files hold one value a logit; the model has one where the variance is shared."""
    values = np.atleast_1d(values)
    return (values[:1] if share else np.broadcast_to(values, (2,)))[None]


def put(model, B, sigma, theta_logit, nu=None):
    share = model.share_variance
    params = {
        "beta": B[None, :-1],
        "bias_eta": B[None, -1],
        "sigma": components(sigma, share),
        "theta_logit": components(theta_logit, share),
    }
    model.update_params_from_dict({**params, **({} if nu is None else {"nu": nu[None]})})


def test_the_values_at_the_points(case):
    assert len(case.points) == 7
    for point in case.points:
        here = (point["B"], point["sigma"], point["logit_theta"])
        marginal = model_of(case, share_variance=False, fitting_method="marginal_gd")
        put(marginal, *here)
        assert marginal().item() == pytest.approx(float(point["laplace"]), rel=1e-8)
        if np.min(point["sigma"]) >= 0.1:  # below, the floor of the joint methods is in force
            joint = model_of(case, share_variance=False, fitting_method="joint_gd")
            put(joint, *here, point["nu"])
            assert joint().item() == pytest.approx(float(point["log_joint_at_mode"]), rel=1e-8)
            put(joint, *here, np.zeros_like(point["nu"]))
            assert joint().item() == pytest.approx(float(point["log_joint_at_nu0"]), rel=1e-8)


def test_the_glm(case):
    for method in ("iwls", "newton"):
        model = MultinomGLM(fitting_method=method)
        model.setup_data(case.Y, case.X if case.F else None)
        model.fit(quiet=True)
        free = np.asarray(case.glm["free"], dtype=bool).reshape(case.glm["B"].shape)
        fixed = bool(case.fixB)
        assert model.status == ["boundary" if fixed else "converged"]
        tolerance = {"abs": 1e-5} if fixed else {"rel": 1e-8}
        assert model().item() == pytest.approx(float(case.glm["loglik"]), **tolerance)
        B = torch.cat([model.beta[0], model.bias_eta]).detach().numpy()
        errors = torch.cat(
            list(model.standard_errors()[n].reshape(-1, 2) for n in ("beta", "bias_eta"))
        )
        np.testing.assert_allclose(B[free], case.glm["B"][free], atol=1e-5)
        np.testing.assert_allclose(
            errors.numpy()[free], case.glm["se"].reshape(B.shape)[free], atol=1e-5
        )


def fit_like(case, gold_fit, method, **more):
    sigma = gold_fit["sigma_fixed"]
    model = model_of(
        case,
        share_variance=bool(gold_fit["shared"]),
        var_fix_sigma=sigma is not None,
        fitting_method=method,
        **more,
    )
    if sigma is not None:
        model.update_params_from_dict({"sigma": torch.full_like(model.sigma, float(sigma))})
    model.fit(quiet=True)
    assert model.status[0] in {"converged", "boundary"}
    assert (model.diagnose()["gradient_norm"] < 1e-3).all()
    assert all(bool(torch.isfinite(value).all()) for value in model.parameters())
    return model


@pytest.mark.parametrize("method", ["marginal_newton", "marginal_gd"])
def test_every_marginal_optimum(case, method):
    assert len(case.fits) == 10
    for key, truth in case.fits.items():
        if method == "marginal_gd" and not truth["shared"]:
            continue
        model = fit_like(case, truth, method, var_prior_model=truth["prior"])
        assert model().item() == pytest.approx(float(truth["value"]), abs=2 * CLOSE), key
        # the files are right to 1e-7 inside and 2e-5 at a bound; never below them by more than
        assert model().item() >= float(truth["value"]) - CLOSE, key
        if len(truth["at_bound"]) == 0 and not case.fixB:
            np.testing.assert_allclose(
                model.sigma.detach()[0],
                components(truth["sigma"], model.share_variance)[0],
                atol=2e-4,
            )
            np.testing.assert_allclose(
                model.var_sp_prop()[0],
                components(truth["theta"], model.share_variance)[0],
                atol=1e-3,
            )
            np.testing.assert_allclose(model.beta[0].detach(), truth["B"][:-1], atol=1e-4)
            np.testing.assert_allclose(model.nu[0].detach(), truth["nu"], atol=1e-3)


@pytest.mark.parametrize("method", ["joint_newton", "joint_gd"])
def test_every_joint_optimum(case, method):
    assert len(case.joint) == 6
    for key, truth in case.joint.items():
        model = fit_like(case, truth, method)
        assert model().item() == pytest.approx(float(truth["value"]), abs=2 * CLOSE), key
        assert model().item() >= float(truth["value"]) - CLOSE, key
