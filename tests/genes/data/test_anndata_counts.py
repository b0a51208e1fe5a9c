"""Counts of AnnData: files left on disk, `raw`, and where counts are if they are not here."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from splisosm_pyro import fit_genes
from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.read import slide_of
from splisosm_pyro.maths.axes import SplisosmWarning

anndata = pytest.importorskip("anndata")
COUNTS = np.random.default_rng(3).poisson(2.0, (9, 6)).astype(np.float32)
GENES = ["g", "h", "k", "h", "g", "k"]
GLM = {"group_iso_by": "symbol", "model": "glm", "progress": False}


def adata(matrix, n=6):
    var = pd.DataFrame({"symbol": GENES[:n]}, index=[f"i{i}" for i in range(n)])
    obs = pd.DataFrame(index=[f"s{s}" for s in range(9)])
    made = anndata.AnnData(matrix, obs=obs, var=var)
    made.obsm["spatial"] = np.random.default_rng(4).random((9, 2))
    return made


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_files_on_disk_are_read_as_those_in_memory(tmp_path, form):
    adata(form(COUNTS)).write_h5ad(tmp_path / "x.h5ad")
    on_disk = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    (group,) = slide_of(on_disk, SlideKeys("symbol", "X")).groups
    assert group.gene_names.tolist() == ["g", "h", "k"]
    for gene, columns in zip(group.counts, ([0, 4], [1, 3], [2, 5]), strict=True):
        np.testing.assert_array_equal(gene, COUNTS[:, columns])
    on_disk.file.close()


def test_raw_is_read_with_its_own_isoforms(tmp_path):
    made = adata(COUNTS)
    made.raw = made
    made = made[:, :2].copy()
    made.X = np.log1p(made.X)
    made.write_h5ad(tmp_path / "x.h5ad")
    for source in (made, tmp_path / "x.h5ad", anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")):
        (group,) = slide_of(source, SlideKeys("symbol", "raw")).groups
        assert group.gene_names.tolist() == ["g", "h", "k"]
        np.testing.assert_array_equal(group.counts[1], COUNTS[:, [1, 3]])


def test_layers_of_counts_are_offered_by_name():
    made = adata(COUNTS)
    made.raw = made
    made.layers["umi"] = COUNTS
    made.layers["scaled"] = COUNTS - 2.0
    made.X = np.log1p(COUNTS)
    held = r"layer='umi' {} layer='raw' \(adata.raw\)"
    for layer, error in (("scaled", "not negative, .*"), ("empty", "all counts are 0: ")):
        made.layers["empty"] = 0 * COUNTS
        message = f"{error}choose the layer with the raw counts, {held.format('or')}"
        with pytest.raises(ValueError, match=message):
            fit_genes(made, layer=layer, **GLM)
    with pytest.warns(SplisosmWarning, match=f"that the layer holds counts, {held.format('or')}"):
        fit_genes(made, layer="X", **GLM)
    message = (
        f"no layer 'counts': set layer to 'umi', .*; whole numbers are in {held.format('and')}"
    )
    with pytest.raises(ValueError, match=message):
        fit_genes(made, **GLM)


def test_nothing_is_offered_where_there_is_nothing():
    made = adata(COUNTS - 2.0)
    with pytest.raises(ValueError, match=r"choose the layer with the raw counts$"):
        fit_genes(made, layer="X", **GLM)
