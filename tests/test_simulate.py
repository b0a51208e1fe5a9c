"""Simulated tissues: shapes, the law that the counts follow, seeds, errors."""

import numpy as np
import pytest
import torch

from splisosm_pyro.simulate import hexagonal_lattice, simulate_tissue


@pytest.fixture(scope="module")
def tissue():
    return simulate_tissue(n_spots=199, n_genes=11, n_isos=4, n_layers=3, seed=3)


def test_shapes_and_types(tissue):
    assert tissue.coords.shape == tissue.array_coords.shape == (199, 2)
    assert tissue.counts.shape == (11, 199, 4)
    assert tissue.counts.dtype == torch.int64
    assert tissue.design.shape == (199, 2)
    assert tissue.design_names == ("layer 2", "layer 3")
    assert tissue.truth.beta.shape == (11, 2, 3)
    assert tissue.truth.bias_eta.shape == (11, 3)
    assert tissue.truth.sigma.shape == tissue.truth.theta.shape == (11, 1)
    assert tissue.truth.nu.shape == (11, 199, 3)
    assert tissue.truth.ratio.shape == tissue.counts.shape
    assert tissue.kernel.n_spots == 199


def test_design_is_the_layers_without_the_first(tissue):
    for f, name in enumerate(tissue.design_names):
        np.testing.assert_array_equal(tissue.design[:, f], tissue.layers == name)
    sizes = [int((tissue.layers == name).sum()) for name in tissue.layer_names]
    assert max(sizes) - min(sizes) <= 1


def test_rings_lie_around_each_other_and_bands_beside_each_other(tissue):
    middle = (tissue.coords.min(0) + tissue.coords.max(0)) / 2
    radius = np.hypot(*(tissue.coords - middle).T)
    ring = [radius[tissue.layers == name].mean() for name in tissue.layer_names]
    assert ring == sorted(ring, reverse=True)
    bands = simulate_tissue(n_spots=199, n_genes=1, n_layers=3, layout="bands")
    ends = [bands.coords[bands.layers == name, 0].max() for name in bands.layer_names]
    starts = [bands.coords[bands.layers == name, 0].min() for name in bands.layer_names]
    assert all(a <= b for a, b in zip(ends[:-1], starts[1:], strict=True))


def test_ratio_is_the_models_formula(tissue):
    truth = tissue.truth
    eta = torch.einsum("sf,gfq->gsq", tissue.design, truth.beta)
    eta = eta + truth.bias_eta[:, None] + truth.nu
    weight = torch.cat((eta, torch.zeros(11, 199, 1, dtype=torch.float64)), 2).exp()
    torch.testing.assert_close(
        truth.ratio, weight / weight.sum(2, keepdim=True), rtol=1e-12, atol=0
    )


def test_lattice_is_hexagonal():
    array_coords, coords = hexagonal_lattice(400)
    assert ((array_coords.sum(1) - array_coords[0].sum()) % 2 == 0).all()
    assert len({tuple(site) for site in array_coords.tolist()}) == 400
    distance = np.hypot(*(coords[:, None] - coords[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(distance.min(1), 100, rtol=1e-12)
    n_neighbours = (distance < 100.001).sum(1)
    assert n_neighbours.max() == 6
    assert (n_neighbours == 6).mean() > 0.8


def test_default_depth_is_that_of_real_data():
    total = simulate_tissue(n_spots=500, n_genes=1500, n_isos=2, sigma=0, seed=5).counts.sum(2)
    total = total.double()
    assert float((total == 0).double().mean()) == pytest.approx(0.82, abs=0.02)
    assert float(total.mean()) == pytest.approx(0.31, abs=0.05)
    assert float(total.mean(1).median()) == pytest.approx(0.13, abs=0.02)
    assert float((total[total > 0] == 1).double().mean()) == pytest.approx(0.70, abs=0.03)


def test_spots_share_a_library_size_and_genes_are_overdispersed():
    total = simulate_tissue(n_spots=400, n_genes=300, n_isos=2, depth=20, seed=6).counts.sum(2)
    library = total.double().mean(0)
    assert float(library.std() / library.mean()) == pytest.approx(0.55, abs=0.08)
    excess = (total.double() / library).var(1).mean() - (1 / library).mean()
    assert float(excess) == pytest.approx(0.3, abs=0.04)


def test_given_depth_and_totals_win():
    depth = [0.5, 40.0]
    tissue = simulate_tissue(n_spots=800, n_genes=2, depth=depth, seed=1)
    np.testing.assert_allclose(tissue.counts.sum(2).double().mean(1), depth, rtol=0.15)
    totals = np.arange(2 * 30).reshape(2, 30)
    tissue = simulate_tissue(n_spots=30, n_genes=2, totals=totals)
    np.testing.assert_array_equal(tissue.counts.sum(2), totals)


def test_given_parameters_win():
    design = np.linspace(-1, 1, 30)[:, None]
    tissue = simulate_tissue(
        n_spots=30, n_genes=2, design=design, beta=2.0, bias_eta=[1.0, -1.0], sigma=0.0
    )
    np.testing.assert_array_equal(tissue.design, design)
    assert tissue.design_names == ("covariate_0",)
    assert tissue.truth.beta.unique().tolist() == [2.0]
    assert tissue.truth.bias_eta.tolist() == [[1.0, -1.0]] * 2
    assert tissue.truth.nu.abs().max() == 0


def test_counts_have_the_usage_they_are_drawn_from():
    tissue = simulate_tissue(n_spots=40, n_genes=3, totals=200_000, seed=2)
    observed = tissue.counts / tissue.counts.sum(2, keepdim=True)
    # 360 shares, each with a standard error of at most 0.0011
    assert float((observed - tissue.truth.ratio).abs().max()) < 0.006


@pytest.mark.parametrize("theta", [0.0, 0.35, 1.0])
def test_nu_has_its_covariance(theta):
    tissue = simulate_tissue(n_spots=19, n_genes=6000, n_isos=2, sigma=1.5, theta=theta, seed=4)
    nu = tissue.truth.nu[:, :, 0]
    V = tissue.kernel.dense()
    expected = 1.5**2 * (theta * V + (1 - theta) * torch.eye(19))
    # standard error of an entry at most 2.25 sqrt(2 / 6000) = 0.04; 361 entries
    assert float((nu.T @ nu / 6000 - expected).abs().max()) < 0.19


def test_components_of_the_variance():
    tissue = simulate_tissue(
        n_spots=300, n_genes=1, n_isos=3, sigma=[[0.1, 3.0]], theta=[[0.5, 0.0]], seed=9
    )
    assert tissue.truth.sigma.tolist() == [[0.1, 3.0]]
    spread = tissue.truth.nu[0].std(0)
    assert float(spread[0]) < 0.2
    assert float(spread[1]) == pytest.approx(3.0, abs=0.5)


def test_seed_decides_everything_and_nothing_global():
    before_torch, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = simulate_tissue(n_spots=50, n_genes=4, seed=7)
    again = simulate_tissue(n_spots=50, n_genes=4, seed=np.random.default_rng(7))
    other = simulate_tissue(n_spots=50, n_genes=4, seed=8)
    smooth = [simulate_tissue(n_spots=50, n_genes=4, theta=1.0, seed=seed) for seed in (7, 8)]
    assert torch.equal(first.counts, again.counts)
    assert torch.equal(first.truth.nu, again.truth.nu)
    assert not torch.equal(first.counts, other.counts)
    assert not torch.equal(smooth[0].truth.nu, smooth[1].truth.nu)
    assert torch.equal(torch.get_rng_state(), before_torch)
    np.testing.assert_array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_isos": 1}, "n_isos must be a whole number of at least 2, came 1"),
        ({"n_spots": 2.5}, "n_spots must be a whole number"),
        ({"n_genes": 0}, "n_genes must be a whole number of at least 1, came 0"),
        ({"n_layers": 51}, "n_layers must be at most n_spots = 50, came 51"),
        ({"layout": "x"}, "layout must be 'rings' or 'bands', came 'x'"),
        ({"design": "x"}, "design must be 'layers', 'none' or an array, came 'x'"),
        ({"design": np.ones((7, 2))}, r"design must have shape \(50, F\), came \(7, 2\)"),
        ({"theta": 1.1}, r"theta must lie in \[0, 1.0\]"),
        ({"sigma": -1.0}, r"sigma must lie in \[0, inf\]"),
        ({"sigma": np.nan}, r"sigma must lie in \[0, inf\]"),
        ({"depth": -1}, "depth must be finite and not negative"),
        ({"depth": [1.0, 2.0]}, r"depth must broadcast to \(3,\), came shape \(2,\)"),
        ({"totals": [[1.5]]}, "totals must be whole numbers"),
        ({"beta": np.zeros((4, 7))}, r"beta must broadcast to \(3, 4, 2\)"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        simulate_tissue(**{"n_spots": 50, "n_genes": 3, **wrong})
