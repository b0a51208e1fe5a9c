"""Coefficients averaged over the variances, held against a dense grid of both."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.uncertainty import outer_uncertainty
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.genes.average_usage import Parameters
from splisosm_pyro.genes.over_variances import averaged_over_variances
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.simulate import hexagonal_lattice

N_SPOTS = 60
COORDS = hexagonal_lattice(N_SPOTS)[1]
KERNEL = CARKernel.from_coords(COORDS, k=6)
BAND = (COORDS[:, :1] > np.median(COORDS[:, 0])).astype(float)


def fitted(counts, prior="half_normal"):
    """A fit with the band as covariate, and its curvature."""
    options = GLMMOptions.from_configs("marginal_newton", {"nugget": "quadrature", "smooth": "ep"})
    priors = Priors.of(prior, None)
    spec = GLMMSpec(KERNEL, StandardDesign.of(BAND), True, False, priors, options)
    q = counts.shape[1] - 1
    start = {"beta": np.zeros((1, q)), "bias_eta": np.zeros(q)}
    start |= {"sigma": np.ones(1), "theta_logit": np.zeros(1)}
    ended = fit_gene(spec, counts, start, keep_end=True).ended
    return ended, outer_uncertainty(ended)


def plain(ended, outer):
    """The parameters as they were fitted, with their Gaussian."""
    coefficients = ended.at.state.mode.coefficients
    size = coefficients.size
    place = np.append(2 + np.arange(size), 0)
    return Parameters(coefficients, np.exp(ended.at.u[:1]), outer.covariance[np.ix_(place, place)])


def drawn(seed, n_isos=2, depth=4.0, theta=0.7):
    """Counts under a field of sigma 1."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    smooth = KERNEL.sample((n_isos - 1,), generator).numpy().T
    nu = np.sqrt(theta) * smooth + np.sqrt(1 - theta) * rng.normal(size=smooth.shape)
    logits = np.column_stack([nu, np.zeros(N_SPOTS)])
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return rng.multinomial(rng.poisson(depth, N_SPOTS), share).astype(float)


def on_a_grid(ended, n_sigma=9, n_theta=6):
    """Mean and sd of the coefficients over evenly spaced log sigma and theta.

    Given both they are at the maximum of the objective, the curvature by differences.
    """
    objective, step = ended.objective, 1e-3
    mass, means, variances = [], [], []
    for theta in (np.arange(n_theta) + 0.5) / n_theta:
        near = ended.at
        for s in np.linspace(-2.6, 1.4, n_sigma):
            u = np.concatenate([[s, logit(theta)], near.u[2:]])
            for _ in range(3):
                near = objective.evaluate(u, near)
                u = near.u.copy()
                u[2:] += np.linalg.solve(objective.information(near)[2:, 2:], near.gradient[2:])
            ups = [objective.evaluate(near.u + step * e, near) for e in np.eye(u.size)[2:]]
            hessian = np.array([near.gradient[2:] - up.gradient[2:] for up in ups]) / step
            hessian = 0.5 * (hessian + hessian.T)
            assert np.abs(near.gradient[2:]).max() < 0.02
            # the prior is of sigma: s is the Jacobian
            mass.append(near.value + s - 0.5 * np.linalg.slogdet(hessian)[1])
            means.append(near.u[2:])
            variances.append(np.linalg.inv(hessian).diagonal())
    assert objective.space.priors.sigma.variable == "sigma"
    share = np.exp(np.array(mass) - max(mass))
    share /= share.sum()
    mean = share @ np.array(means)
    return mean, np.sqrt(share @ (np.array(variances) + (np.array(means) - mean) ** 2))


@pytest.mark.parametrize(("seed", "n_isos"), [(0, 2), (2, 3)])
def test_draws_are_those_of_a_dense_grid(seed, n_isos):
    ended, outer = fitted(drawn(seed, n_isos))
    own = averaged_over_variances(ended, outer, plain(ended, outer))
    mean, sd = on_a_grid(ended)
    draws = own.draws(4000)[0].reshape(4000, -1)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.1 * sd.max())
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.06)


def test_a_fit_at_a_bound_of_theta_is_averaged_over_the_others():
    found = [fitted(drawn(seed, theta=0.5, depth=1.0)) for seed in range(4)]
    ended, outer = next((e, o) for e, o in found if expit(e.at.u[1]) < 1e-3)
    own = averaged_over_variances(ended, outer, plain(ended, outer))
    wide, narrow = (one.draws(1000)[0][:, 0, 0].std() for one in (own, plain(ended, outer)))
    assert wide > 1.05 * narrow


def test_the_estimate_stays_where_it_was_fitted():
    ended, outer = fitted(drawn(3))
    own = averaged_over_variances(ended, outer, plain(ended, outer))
    for ours, expected in zip(own.at_estimate(), plain(ended, outer).at_estimate(), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_variances_that_stay_leave_the_parameters_as_they_are():
    ended, outer = fitted(drawn(4))
    own = plain(ended, outer)
    space = replace(ended.objective.space, white=True)
    held = replace(ended, objective=replace(ended.objective, space=space))
    assert averaged_over_variances(held, outer, own) is own
