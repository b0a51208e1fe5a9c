"""The fitted usage in AnnData: nothing of the user's is lost, ours is found by name."""

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import GeneFits, fit_genes
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.neighbours import mutual_neighbours

anndata = pytest.importorskip("anndata")
S = 24
RNG = np.random.default_rng(8)
NAMES = ["a0", "b0", "other", "a1", "b1"]
LATER = {"group_iso_by": "symbol", "model": "glm", "progress": False}


def made():
    """Two genes of two isoforms and one of one; layers, images and columns called like ours."""
    var = pd.DataFrame({"symbol": ["a", "b", "c", "a", "b"], "mean_usage": "theirs"}, index=NAMES)
    obs = pd.DataFrame({"region": list("xy") * 12, "size": RNG.random(S)})
    obs.index = [f"s{s}" for s in range(S)]
    adata = anndata.AnnData(RNG.poisson(3.0, (S, 5)).astype(np.float32), obs=obs, var=var)
    adata.layers["counts"] = adata.X.copy()
    adata.layers["usage"] = 7.0 + adata.X
    adata.obsm["spatial"] = RNG.random((S, 2))
    adata.obsm["pca"] = RNG.random((S, 3))
    adata.obsp["spatial_connectivities"] = np.eye(S)
    adata.uns["spatial"] = {"lib": {"images": {"hires": RNG.random((4, 4, 3))}}}
    adata.raw = adata
    return adata


@pytest.fixture(scope="module")
def given():
    return made()


@pytest.fixture(scope="module")
def fits(given):
    return fit_genes(given, covariates=["region"], **LATER)


def same(one, other):
    """Everything of the first is in the second as it was."""
    np.testing.assert_array_equal(one.X, other.X)
    for table in ("obs", "var"):
        own = getattr(one, table)
        pd.testing.assert_frame_equal(own, getattr(other, table)[list(own)])
    for part in ("layers", "obsm", "obsp"):
        for name, values in getattr(one, part).items():
            np.testing.assert_array_equal(values, getattr(other, part)[name])
    images = [adata.uns["spatial"]["lib"]["images"]["hires"] for adata in (one, other)]
    np.testing.assert_array_equal(*images)
    assert other.raw is not None


def test_nothing_of_the_users_is_lost(given, fits, tmp_path):
    before = given.copy()
    out = fits.to_anndata(given, progress=False)
    same(before, given)
    assert list(given.layers) == list(before.layers)
    same(given, out)
    usage = fits.usage("b")[0]
    own = out[:, ["b0", "b1"]]
    np.testing.assert_array_equal(own.layers["splisosm_pyro_usage"], usage)
    assert np.isnan(out[:, "other"].layers["splisosm_pyro_usage"]).all()
    assert out.var["status"].tolist() == ["converged"] * 2 + [""] + ["converged"] * 2
    assert out.var.loc["b1", "splisosm_pyro_mean_usage"] == pytest.approx(usage[:, 1].mean())
    graph = out.obsp["splisosm_pyro_spatial_connectivities"].toarray()
    np.testing.assert_array_equal(graph, mutual_neighbours(given.obsm["spatial"], 6).toarray())
    assert len(out.uns["splisosm_pyro"]["table"]) == 2
    out.write_h5ad(tmp_path / "out.h5ad")
    again = fits.to_anndata(anndata.read_h5ad(tmp_path / "out.h5ad"), progress=False)
    assert set(again.layers) == set(out.layers)
    assert list(again.var) == list(out.var)
    np.testing.assert_array_equal(again.layers["usage"], out.layers["usage"])


def test_in_place_in_another_order_and_gene_by_gene(given, fits):
    order = RNG.permutation(S)
    other = given[order][:, ::-1].copy()
    del other.layers["usage"]
    assert fits.to_anndata(other, genes="a", inplace=True, progress=False) is other
    assert np.isnan(other[:, "b0"].layers["usage"]).all()
    fits.to_anndata(other, genes=["b"], inplace=True, progress=False)
    assert "splisosm_pyro_usage" not in other.layers
    for gene in "ab":
        layer = other[:, [f"{gene}0", f"{gene}1"]].layers["usage"]
        np.testing.assert_array_equal(layer, fits.usage(gene)[0][order])
    row, column = other.obsp["splisosm_pyro_spatial_connectivities"].nonzero()
    neighbours = mutual_neighbours(given.obsm["spatial"], 6)
    assert neighbours.toarray()[order[row], order[column]].all()
    assert neighbours.nnz == len(row)


def test_some_genes_alone_and_those_that_are_not_there(fits):
    assert fits.to_anndata(genes="b", progress=False).var_names.tolist() == ["b0", "b1"]
    both = fits.to_anndata(genes=["b", "a", "b"], progress=False)
    assert both.var["gene"].tolist() == ["b", "b", "a", "a"]
    np.testing.assert_array_equal(both[:, ["a0", "a1"]].layers["usage"], fits.usage("a")[0])
    with pytest.raises(ValueError, match="there is no gene 'z'"):
        fits.to_anndata(genes=["z"])
    with pytest.raises(ValueError, match="genes must name at least one gene, came none"):
        fits.to_anndata(genes=[])


def test_files_on_disk_come_into_memory(given, fits, tmp_path):
    given.write_h5ad(tmp_path / "x.h5ad")
    backed = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    same(given, fits.to_anndata(backed, progress=False))
    with pytest.raises(ValueError, match=r"inplace must be False where .* backed by a file"):
        fits.to_anndata(backed, inplace=True, progress=False)
    backed.file.close()


def test_what_does_not_fit_is_one_sentence(given, fits):
    other = given.copy()
    other.obs_names = [f"t{s}" for s in range(S)]
    with pytest.raises(ValueError, match=r"24 of 24 are not in obs_names \(s0, s1, s2, ...\)"):
        fits.to_anndata(other, progress=False)
    other = given.copy()
    other.var_names = list("vwxyz")
    with pytest.raises(ValueError, match=r"none of a0, a1, b0, \.\.\. is in var_names"):
        fits.to_anndata(other, progress=False)
    with pytest.warns(SplisosmWarning, match=r"1 of 4 isoforms of the fit .* \(a0\): they are not"):
        fits.to_anndata(given[:, 1:], progress=False)
    with pytest.raises(TypeError, match="adata must be an AnnData, came dict"):
        fits.to_anndata({}, progress=False)
    with pytest.raises(ValueError, match="inplace must come with adata"):
        fits.to_anndata(inplace=True)


def test_spots_beyond_those_that_were_fitted(given):
    part = fit_genes(given[:20].copy(), **LATER)
    out = part.to_anndata(given, progress=False)
    layer = out[:, ["a0", "a1"]].layers["splisosm_pyro_usage"]
    np.testing.assert_array_equal(layer[:20], part.usage("a")[0])
    assert np.isnan(layer[20:]).all()


def test_a_covariate_called_like_the_slides(given):
    adata = given.copy()
    adata.obs["library"] = np.where(np.arange(S) % 3, "prepA", "prepB")
    adata.obs["slide"] = ["s1"] * 12 + ["s2"] * 12
    fits = fit_genes(adata, covariates=["library", "slide"], library_key="slide", **LATER)
    obs = fits.to_anndata(progress=False).obs
    assert list(obs) == ["library", "slide"]
    for name in obs:
        assert obs[name].astype(str).tolist() == adata.obs[name].tolist()


def test_arrays_into_an_anndata(given):
    counts = np.asarray(given.X)[:, [0, 3]][None]
    column = pd.DataFrame({"dose": np.arange(float(S)), "size": 1.0 * (np.arange(S) > 4)})
    fits = fit_genes(
        counts,
        coords=given.obsm["pca"],
        iso_names=[["a0", "a1"]],
        covariates=column,
        model="glm",
        progress=False,
    )
    out = fits.to_anndata(given, progress=False)
    same(given, out)
    assert out.obs["dose"].tolist() == column["dose"].tolist()
    assert not np.isnan(out[:, "a1"].layers["splisosm_pyro_usage"]).any()


def test_a_saved_result_knows_what_its_slides_are_called(given, tmp_path):
    adata = given.copy()
    adata.obs["slide"] = ["s1"] * 12 + ["s2"] * 12
    fit_genes(adata, library_key="slide", **LATER).save(tmp_path)
    assert list(GeneFits.load(tmp_path).to_anndata(progress=False).obs) == ["slide"]
