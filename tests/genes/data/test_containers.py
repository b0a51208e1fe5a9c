"""Stores of zarr, and what holds an AnnData: read as the AnnData itself."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.read import read_slide, slide_of

anndata = pytest.importorskip("anndata")
S = 12
KEYS = SlideKeys(group_iso_by="gene")
XY = np.random.default_rng(1).permutation(np.argwhere(np.ones((4, 3)))).astype(float)


def made(placed=True):
    counts = np.random.default_rng(0).poisson(2.0, (S, 4)).astype(float)
    var = pd.DataFrame({"gene": ["a", "a", "b", "b"]}, index=[f"i{i}" for i in range(4)])
    obs = pd.DataFrame({"instance": np.arange(S) + 100}, index=[f"s{i}" for i in range(S)])
    adata = anndata.AnnData(counts, obs=obs, var=var)
    adata.layers["counts"] = counts
    if placed:
        adata.obsm["spatial"] = XY
    return adata


def write(adata, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which version of the format
        adata.write_zarr(path)
    return path


def same(slide):
    own = slide_of(made(), KEYS)
    np.testing.assert_array_equal(slide.coords, own.coords)
    for group, other in zip(slide.groups, own.groups, strict=True):
        np.testing.assert_array_equal(group.counts, other.counts)
    return True


def test_a_store_is_read_as_the_file(tmp_path):
    pytest.importorskip("zarr")
    assert same(read_slide(write(made(), tmp_path / "x.zarr"), group_iso_by="gene"))


def test_a_store_of_spatialdata_gives_its_one_table(tmp_path):
    pytest.importorskip("zarr")
    path = tmp_path / "all.zarr"
    (path / "tables").mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    write(made(), path / "tables" / "table")
    assert same(read_slide(path, group_iso_by="gene"))
    write(made(), path / "tables" / "other")
    with pytest.raises(ValueError, match=r"holds 2 tables: give the path of one, .*other, .*table"):
        read_slide(path, group_iso_by="gene")
    assert same(read_slide(path / "tables" / "other", group_iso_by="gene"))


def test_a_broken_or_missing_store_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_slide(tmp_path / "none.zarr", group_iso_by="gene")
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_text("{")
    with pytest.raises(OSError, match=r"no readable \.zarr"):
        read_slide(tmp_path / "x.zarr", group_iso_by="gene")


@pytest.mark.parametrize("name", ["tables", "mod"])
def test_the_one_table_of_a_container_is_read(name):
    assert same(slide_of(SimpleNamespace(**{name: {"isoforms": made()}}), KEYS))
    several = SimpleNamespace(**{name: {"rna": made(), "isoforms": made()}})
    with pytest.raises(ValueError, match=rf"give one, \.{name}\['rna'\] or \.{name}\['isoforms'\]"):
        slide_of(several, KEYS)
    with pytest.raises(ValueError, match="holds no AnnData"):
        slide_of(SimpleNamespace(**{name: {}}), KEYS)


def test_centres_of_shapes_are_coordinates_by_instance():
    table = made(placed=False)
    table.uns["spatialdata_attrs"] = {"region": "spots", "instance_key": "instance"}
    order = np.random.default_rng(2).permutation(S)
    index = table.obs["instance"].to_numpy()[order]
    x, y = (pd.Series(XY[order, axis], index=index) for axis in (0, 1))
    geometry = SimpleNamespace(centroid=SimpleNamespace(x=x, y=y))
    shapes = {"spots": SimpleNamespace(geometry=geometry, index=index)}
    assert same(slide_of(SimpleNamespace(tables={"t": table}, shapes=shapes), KEYS))
    assert "spatial" not in table.obsm  # the user's own is left alone
