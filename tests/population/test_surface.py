"""The likelihood of sigma and theta between the places where it is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from splisosm_pyro import simulate_tissue
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.starting_values import starting_values
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.maths.axes import as_counts
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.priors import Priors, prior_from_name
from splisosm_pyro.population.grid import GRID
from splisosm_pyro.population.surface import MOST, Surface, surface_of_fit
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import ATTENUATION


def spec_of(tissue, columns=None, smooth="ep"):
    n_spots = len(tissue.coords)
    return GLMMSpec(
        kernel=CARKernel.from_coords(tissue.coords, k=6),
        design=StandardDesign.of(np.zeros((n_spots, 0)) if columns is None else columns),
        share_variance=True,
        fix_sigma=False,
        priors=Priors(prior_from_name("half_normal")),
        options=GLMMOptions.from_configs(
            "marginal_newton", {"nugget": "quadrature", "smooth": smooth}
        ),
        coding="symmetric",
    )


def fitted(spec, counts):
    begin = starting_values(as_counts(counts[None]), spec.design.columns.shape[1], 1, "uniform")
    start = {name: value[0].numpy() for name, value in begin.items()}
    return fit_gene(spec, counts, start, keep_end=True)


@pytest.fixture(scope="module")
def tissue():
    return simulate_tissue(n_spots=60, n_genes=2, n_isos=2, depth=4.0, design="none", seed=1)


def marginal(spec, counts, b, log_sigma, theta):
    """The log marginal at one intercept b of the averaged ratios."""
    sigma = np.exp(log_sigma)
    params = {
        "beta": np.zeros((0, 1)),
        "bias_eta": np.array([b * np.sqrt(1.0 + ATTENUATION * sigma**2)]),
        "sigma": np.array([sigma]),
        "theta_logit": np.array([logit(theta)]),
    }
    flat = replace(spec.of_gene(counts), priors=Priors.of("none", None))
    return flat.evaluation_at(counts, params, np.ones((1, 1), dtype=bool)).at.value


def integrated(spec, counts, log_sigma, theta, n=61):
    """The same with b integrated out by a dense sum."""
    b = np.linspace(-3.0, 3.0, n)
    values = [marginal(spec, counts, one, log_sigma, theta) for one in b]
    return np.logaddexp.reduce(values) + np.log(b[1] - b[0])


def test_it_is_the_marginal_with_coefficients_integrated_out(tissue):
    counts, spec = tissue.counts[0].numpy(), spec_of(tissue)
    values = GRID.log_likelihood(surface_of_fit(fitted(spec, counts).ended))
    nothing = integrated(spec, counts, np.log(1e-4), 0.5)
    near = np.flatnonzero(values[: GRID.inside] > values.max() - 6.0)
    for place in np.random.default_rng(0).choice(near, 6, replace=False):
        truth = integrated(spec, counts, GRID.log_sigma[place], GRID.theta[place]) - nothing
        assert values[place] == pytest.approx(truth, abs=0.05)


def test_below_the_lowest_row_it_goes_to_that_without_a_field(tissue):
    counts, spec = tissue.counts[0].numpy(), spec_of(tissue)
    values = GRID.log_likelihood(surface_of_fit(fitted(spec, counts).ended))
    assert values[-1] == 0.0
    lowest = values[: GRID.inside].reshape(GRID.log_sigmas.size, -1)[0]
    np.testing.assert_allclose(lowest, 0.0, atol=0.02)


def test_a_far_row_is_ruled_out(tissue):
    counts, spec = tissue.counts[0].numpy(), spec_of(tissue)
    surface = surface_of_fit(fitted(spec, counts).ended)
    top = surface.values.max()
    assert surface.log_sigma[-1] == MOST or surface.values[-1].max() < top - 12.0
    assert (np.diff(surface.log_sigma) > 0.0).all()


def test_it_goes_through_json(tissue):
    surface = surface_of_fit(fitted(spec_of(tissue), tissue.counts[1].numpy()).ended)
    back = Surface.unpacked(json.loads(json.dumps(surface.packed())))
    for name in ("log_sigma", "values", "coefficients", "covariance", "free"):
        np.testing.assert_array_equal(getattr(back, name), getattr(surface, name))


def test_the_order_of_isoforms_decides_nothing():
    tissue = simulate_tissue(n_spots=40, n_genes=1, n_isos=3, depth=3.0, design="none", seed=2)
    counts, spec = tissue.counts[0].numpy(), spec_of(tissue)
    values = [
        GRID.log_likelihood(surface_of_fit(fitted(spec, counts[:, order]).ended))
        for order in ([0, 1, 2], [2, 0, 1])
    ]
    np.testing.assert_allclose(values[0], values[1], atol=1e-4)


def test_a_coefficient_that_is_held_is_no_part_of_it(tissue):
    level = (np.arange(60) < 6).astype(float)
    counts = tissue.counts[0].numpy().copy()
    counts[level > 0, 1] = 0.0  # one isoform alone at the level
    surface = surface_of_fit(fitted(spec_of(tissue, level[:, None]), counts).ended)
    assert surface.free.ravel().tolist() == [0.0, 1.0]
    assert surface.covariance.shape[-1] == 1


def test_another_objective_is_refused(tissue):
    spec = replace(spec_of(tissue), options=GLMMOptions.from_configs("joint_newton", {}))
    spec = replace(spec, priors=Priors.of("none", None))
    with pytest.raises(ValueError, match="needs a marginal objective"):
        surface_of_fit(fitted(spec, tissue.counts[0].numpy()).ended)
