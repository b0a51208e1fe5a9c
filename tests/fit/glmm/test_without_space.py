"""The comparison without space: theta stays at 0 and everything else reaches its maximum."""

import cases
import numpy as np
import pytest

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.without_space import fit_white_noise
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel
from splisosm_pyro.maths.priors import Priors


def spec_of(case, V, method="marginal_newton", nugget="quadrature"):
    options = GLMMOptions.from_configs(method, {"nugget": nugget})
    return GLMMSpec(DenseKernel(V), StandardDesign.of(case.design), True, False, Priors(), options)


def start_of(case):
    Q, F = case.shape[2] - 1, case.design.shape[1]
    return {
        "beta": np.zeros((F, Q)),
        "bias_eta": np.zeros(Q),
        "nu": np.zeros((case.shape[1], Q)),
        "sigma": np.ones(1),
        "theta_logit": np.full(1, -3.0),
    }


@pytest.mark.parametrize("nugget", ["laplace", "quadrature"])
def test_theta_stays_at_zero_and_the_rest_is_the_fit_with_an_identity(nugget):
    """With V = I the field is white whatever theta, so the whole fit reaches the same value."""
    case = cases.make("white", 3, n_spots=60, n_isos=2, n_factors=1, depth=5.0, sigma=1.2)
    start = start_of(case)
    alone = fit_white_noise(spec_of(case, case.V, nugget=nugget), case.counts[0], start)
    assert alone.params["theta_logit"][0] == -15.0
    assert "theta -> 0" in alone.reason
    assert alone.gradient_norm < 1e-3
    assert alone.params["sigma"][0] > 0.3
    other = fit_white_noise(spec_of(case, np.eye(60), nugget=nugget), case.counts[0], start)
    assert alone.value == pytest.approx(other.value, abs=1e-4)
    space = fit_gene(spec_of(case, case.V, nugget=nugget), case.counts[0], start)
    assert space.value >= alone.value - 1e-8


def test_joint_methods_are_refused():
    case = cases.CASES["two_isoforms"]
    spec = spec_of(case, case.V, method="joint_newton", nugget="laplace")
    with pytest.raises(ValueError, match="method must be a marginal one, came 'joint_newton'"):
        fit_white_noise(spec, case.counts[0], start_of(case))
