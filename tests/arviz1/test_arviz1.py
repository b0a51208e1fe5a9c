"""The container and the checks of chains under ArviZ 1.x: real trees, real files, real figures.

Runs in an environment without PyTorch, where the package itself cannot be imported: the modules are
loaded from their files. ``POSTERIOR_FILE`` names a posterior that ``write_posterior.py`` wrote
under the other ArviZ. Under ArviZ 0.x everything here is skipped.
"""

import importlib.util
import os
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

FOLDER = Path(__file__).resolve().parents[2] / "splisosm_pyro" / "posterior"


@pytest.fixture(scope="module")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
    if arviz.__version__.startswith("0."):
        pytest.skip("this is ArviZ 0.x")
    return arviz


def load(name):
    """A module of the package by its file, with the one name it takes from its floor below.

    What it takes from files of the package that need the standard library alone is found.
    """
    arrays = types.ModuleType("splisosm_pyro.maths.numeric.arrays")
    arrays.FloatArray = np.ndarray
    parents = ("splisosm_pyro", "splisosm_pyro.maths", "splisosm_pyro.maths.numeric")
    stubs = {parent: types.ModuleType(parent) for parent in parents}
    stubs["splisosm_pyro"].__path__ = [str(FOLDER.parent)]
    for folder in (FOLDER, FOLDER / "arviz"):  # their files, not what their packages import
        package = ".".join(folder.relative_to(FOLDER.parents[1]).parts)
        stubs[package] = types.ModuleType(package)
        stubs[package].__path__ = [str(folder)]
    stubs[arrays.__name__] = arrays
    before = {key: sys.modules.get(key) for key in stubs}
    sys.modules.update(stubs)
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module
    finally:
        for key, old in before.items():
            del sys.modules[key]
            if old is not None:
                sys.modules[key] = old


@pytest.fixture(scope="module")
def tree(az):
    """Four chains of two genes, as a tree."""
    rng = np.random.default_rng(0)
    dims = ("chain", "draw", "gene")
    sigma = rng.gamma(3.0, size=(4, 200, 2))
    groups = {
        "posterior": xr.Dataset(
            {"sigma": (dims, sigma)}, {"gene": ["a", "b"]}, attrs={"method": "nuts"}
        ),
        "log_prior": xr.Dataset({"sigma": (dims, -sigma)}, {"gene": ["a", "b"]}),
        "log_likelihood": xr.Dataset(
            {"counts": ((*dims, "spot"), rng.normal(size=(4, 200, 2, 3)))}, {"gene": ["a", "b"]}
        ),
    }
    return load("arviz/container").to_container(groups)


def test_a_tree_is_made_saved_and_read_back(tree, tmp_path):
    assert isinstance(tree, xr.DataTree)
    path = tmp_path / "posterior.nc"
    tree.to_netcdf(path)
    again = load("arviz/container").read_posterior(path)
    assert isinstance(again, xr.DataTree)
    for name in ("posterior", "log_prior", "log_likelihood"):
        xr.testing.assert_identical(again[name].to_dataset(), tree[name].to_dataset())


def test_arviz_takes_the_tree(az, tree):
    summary = az.summary(tree, var_names=["sigma"])
    assert list(summary.index) == ["sigma[a]", "sigma[b]"]
    assert float(az.rhat(tree)["sigma"].max()) < 1.05
    for group in ("prior", "likelihood"):  # as studies/sensitivity/power_scaling.py asks for it
        sensitivity = az.psense(tree, group=group, alphas=(0.8, 1.25))
        assert np.isfinite(sensitivity["sigma"].values).all()


def test_the_check_of_chains_reads_this_arviz(az):
    check = load("draws/chain_check").ChainCheck
    draws = np.random.default_rng(0).normal(size=(4, 300, 2))
    assert check.of(draws, 0).trusted
    assert "R-hat" in check.of(draws + np.arange(4.0)[:, None, None], 0).words()


def test_a_posterior_of_the_other_arviz(az):
    path = os.environ.get("POSTERIOR_FILE")
    if path is None:
        pytest.skip("POSTERIOR_FILE names no posterior")
    tree = load("arviz/container").read_posterior(path)
    assert tree["posterior"]["gene"].values.tolist() == ["Myl6", "Plp1"]
    assert tree["sample_stats"].attrs["method"] == "laplace"
    summary = az.summary(tree, var_names=["sigma", "theta"])
    assert len(summary) == 4
    assert np.isfinite(az.psense(tree, var_names=["sigma"])["sigma"].values).all()
    tree.to_netcdf(path + ".tree")  # read_posterior.py reads it under the other ArviZ again


def test_leave_one_out_densities_are_compared(az):
    make = load("arviz/elpd").to_elpd_data
    rng = np.random.default_rng(0)
    worse = rng.normal(-2.0, 0.3, 30)
    both = {
        name: make(values, np.full(30, 0.1), range(30), 1.5, warning=False)
        for name, values in (("worse", worse), ("better", worse + 0.5))
    }
    assert both["better"].kind == "loo"
    assert both["better"].elpd == pytest.approx(worse.sum() + 15.0)
    assert list(az.compare(both).index) == ["better", "worse"]
    assert "30 observations" in str(both["worse"])
