"""The documented covariance from coordinates."""

import inspect

import numpy as np
import pytest
import torch
from cases import car_correlation, lattice

from splisosm_pyro.utils import get_cov_sp


def test_the_documented_defaults():
    parameters = inspect.signature(get_cov_sp).parameters
    assert list(parameters) == ["coords", "k", "rho"]
    assert (parameters["k"].default, parameters["rho"].default) == (4, 0.99)


def mutual(coords, k):
    """Mutual k nearest neighbours without ties; a spot on its own gets a self loop."""
    gaps = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    near = gaps <= np.sort(gaps, axis=1)[:, [k]]
    graph = (near & near.T & (gaps > 0)).astype(float)
    return graph + np.diag(graph.sum(axis=1) == 0)


def test_it_is_the_correlation_of_its_definition():
    coords = np.random.default_rng(0).uniform(size=(40, 2))
    np.testing.assert_allclose(
        get_cov_sp(coords), car_correlation(mutual(coords, 4), 0.99), rtol=1e-11, atol=1e-14
    )
    np.testing.assert_allclose(
        get_cov_sp(coords, k=2, rho=0.3),
        car_correlation(mutual(coords, 2), 0.3),
        rtol=1e-11,
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (np.int32, torch.float64),
        (np.uint8, torch.float64),
    ],
)
def test_arrays_become_tensors_of_their_floating_dtype(came, goes):
    coords = lattice(3, 4)[0]
    ours = get_cov_sp(coords.astype(came))
    assert isinstance(ours, torch.Tensor)
    assert ours.dtype == goes
    assert torch.equal(ours, get_cov_sp(coords).to(goes))


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.float16, torch.float16),
        (torch.int64, torch.float64),
    ],
)
def test_tensors_keep_their_floating_dtype(came, goes):
    coords = torch.from_numpy(lattice(3, 4)[0])
    ours = get_cov_sp(coords.to(came))
    assert isinstance(ours, torch.Tensor)
    assert ours.dtype == goes
    assert torch.equal(ours, get_cov_sp(coords).to(goes))


def test_the_example_of_the_documentation():
    coords = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    cov = get_cov_sp(coords, k=4, rho=0.9)
    assert cov.shape == (100, 100)
    assert cov.dtype == torch.float32
    assert torch.equal(cov, cov.T)
    assert torch.equal(cov.diagonal(), torch.ones(100))
    assert torch.linalg.eigvalsh(cov.double()).min() > 0


@pytest.mark.parametrize("rho", [-0.5, 1.0])
def test_rho_out_of_range(rho):
    with pytest.raises(ValueError, match="rho must be in"):
        get_cov_sp(np.zeros((3, 2)), rho=rho)


def test_coordinates_that_are_not_finite():
    with pytest.raises(ValueError, match="coords must be finite, came nan"):
        get_cov_sp(torch.tensor([[0.0, 1.0], [float("nan"), 2.0]]))
