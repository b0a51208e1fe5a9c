"""The result of a run: models, AnnData, figures, files that survive and files that do not."""

import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import GeneFits, MultinomGLM, fit_genes
from splisosm_pyro.genes import read_slide
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.result.figures import gene_page, top_genes, top_page, write_figures
from splisosm_pyro.genes.run.fit_genes import fit_slide


@pytest.fixture(scope="module")
def fits(slide):
    short = slide.with_groups([group.take(np.array([0, 1])) for group in slide.groups])
    return fit_slide(short, progress=False)


@pytest.fixture
def saved(fits, tmp_path):
    fits.save(tmp_path / "result")
    return tmp_path / "result"


def test_models_are_at_the_optimum(fits):
    model = fits.model("d")
    row = fits.table.set_index("gene").loc["d"]
    assert model.log_marginal().item() == pytest.approx(row["log_marginal"], rel=1e-10)
    assert model.sigma.item() == pytest.approx(row["sigma"], rel=1e-5)
    assert model.beta[0, 0, 1].item() == pytest.approx(row["beta_region=layer 2_1"], rel=1e-4)
    usage, error = fits.usage(3)
    np.testing.assert_allclose(usage, model.get_isoform_ratio("posterior_mean")[0], rtol=1e-6)
    np.testing.assert_allclose(error, model.ratio_standard_errors()[0].detach(), rtol=1e-4)
    assert "4 genes" in repr(fits)
    shown = fits._repr_html_()
    assert "4 genes" in shown
    assert all(gene in shown for gene in fits.table["gene"])
    with pytest.raises(ValueError, match="there is no gene 'z' among the 4 fitted"):
        fits.model("z")
    with pytest.raises(TypeError, match=r"gene must be a name or a row of the table, came \['c'\]"):
        fits.usage(["c"])


def test_a_model_goes_on_from_where_the_fit_ended(fits):
    """Not from the beginning: its parameters are those of the table, in an evaluation or two."""
    for place, row in fits.table.iterrows():
        model = fits.model(place)
        assert model.diagnose()["epochs"].item() <= 3
        assert model.theta_logit.item() == pytest.approx(fits.params[place]["theta_logit"][0])
        assert model.log_marginal().item() == pytest.approx(row["log_marginal"], abs=1e-8)


@pytest.mark.parametrize("model", ["glmm", "glm"])
def test_usage_kept_by_the_fit_is_that_found_again(slide, tmp_path, monkeypatch, model):
    short = slide.with_groups([group.take(np.array([0])) for group in slide.groups])
    options = RunOptions(keep_usage=True, model=model)
    kept = fit_slide(short, options, progress=False, resume=tmp_path)
    kept.save(tmp_path / "result")
    again = fit_slide(short, options, progress=False, resume=tmp_path)
    found = [replace(kept, kept=()).usage(place) for place in range(2)]
    monkeypatch.setattr(GeneFits, "model", None)  # nothing is found again
    for place, (usage, error) in enumerate(found):
        for own in (kept, again, GeneFits.load(tmp_path / "result")):
            np.testing.assert_allclose(own.usage(place)[0], usage, atol=1e-6)
            np.testing.assert_allclose(own.usage(place)[1], error, rtol=1e-3, atol=1e-6)
            assert np.isnan(own.usage(place, errors=False)[1]).all()


def test_usage_that_does_not_fit_is_refused_before_the_fits(slide, monkeypatch):
    monkeypatch.setattr("splisosm_pyro.genes.run.fit_genes.available_bytes", lambda: 1e3)
    with pytest.raises(ValueError, match=r"keep_usage needs 0\.0 GB of memory, .*: leave it out"):
        fit_slide(slide, RunOptions(keep_usage=True, model="glm"), progress=False)


def test_glm_run(slide):
    fits = fit_slide(replace(slide, covariates=()), RunOptions(model="glm"), progress=False)
    assert type(fits.model("a")) is MultinomGLM
    counts = slide.groups[0].counts[0].sum(0)
    usage, error = fits.usage("a")
    share = counts / counts.sum()
    np.testing.assert_allclose(usage, np.tile(share, (len(usage), 1)), rtol=1e-6)
    # all spots share one binomial
    binomial = np.sqrt(share[0] * share[1] / counts.sum())
    np.testing.assert_allclose(error, np.full_like(usage, binomial), rtol=1e-4)
    assert np.isnan(fits.usage("a", errors=False)[1]).all()


def test_saved_and_loaded(fits, saved):
    again = GeneFits.load(saved)
    for name in ("table", "isoforms", "removed"):
        one, other = getattr(fits, name), getattr(again, name)
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_dtype=len(one) > 0)
    assert again.params == fits.params
    assert again.options == fits.options
    pd.testing.assert_frame_equal(again.slide.design, fits.slide.design, check_exact=True)
    same = fits.model("c").log_marginal().item()
    assert again.model("c").log_marginal().item() == same


def test_options_are_loaded_as_they_were(fits, tmp_path):
    options = RunOptions(sensitivity=(("pc", {"upper": 2.0, "prob": 0.05}),), prior="gamma", k=4)
    replace(fits, options=options).save(tmp_path)
    assert GeneFits.load(tmp_path).options == options


def test_words_stay_words(slide, tmp_path):
    group = slide.groups[0]
    named = replace(group, gene_names=np.array(["NA", "007"]))
    fits = fit_slide(
        replace(slide, groups=(named,), covariates=()), RunOptions(model="glm"), progress=False
    )
    fits.save(tmp_path)
    assert GeneFits.load(tmp_path).table["gene"].tolist() == ["NA", "007"]


def test_no_pickles(saved):
    for path in saved.glob("*.npz"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    assert version == (1, 0)
                    assert not np.lib.format.read_array_header_1_0(file)[2].hasobject


@pytest.mark.parametrize("name", ["table.csv", "isoforms.csv", "fits.npz", "data.npz"])
def test_a_changed_file_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} was changed after it was saved"):
        GeneFits.load(saved)


def test_a_pickle_in_disguise_is_refused_and_does_not_run(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    with zipfile.ZipFile(saved / "fits.npz", "w") as archive:
        archive.writestr("fitted_0.npy", pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"fits\.npz was changed"):
        GeneFits.load(saved)
    # also where the checksums were changed with it, and no code runs
    whole = json.loads((saved / "result.json").read_text())
    whole["content"]["complete"] = False
    (saved / "result.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"result\.json was changed"):
        GeneFits.load(saved)
    assert not (tmp_path / "boom").exists()


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no result: there is no result\.json"):
        GeneFits.load(tmp_path)
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(ValueError, match=r"result\.json was changed"):
        GeneFits.load(tmp_path)


@pytest.fixture
def adata(slide):
    anndata = pytest.importorskip("anndata")
    counts = np.column_stack([slide.groups[0].counts[g] for g in range(2)])
    var = pd.DataFrame({"symbol": ["a", "a", "b", "b"]}, index=["a0", "a1", "b0", "b1"])
    obs = pd.DataFrame({"region": slide.design.iloc[:, 0].map({0: "x/1", 1: "y/2"})})
    obs.index = [f"s{s}" for s in range(61)]
    made = anndata.AnnData(counts, obs=obs, var=var)
    made.layers["counts"] = counts
    made.obsm["spatial"] = slide.coords
    return made


def test_anndata_in_and_out(adata, tmp_path):
    import anndata

    fits = fit_genes(adata, group_iso_by="symbol", covariates=["region"], progress=False)
    assert fits.table["gene"].tolist() == ["a", "b"]
    out = fits.to_anndata(progress=False)
    out.write_h5ad(tmp_path / "out.h5ad")
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert back.obs_names.tolist() == adata.obs_names.tolist()
    assert back.var_names.tolist() == ["a0", "a1", "b0", "b1"]
    np.testing.assert_array_equal(back.layers["counts"].toarray(), adata.layers["counts"])
    usage, error = fits.usage("b")
    np.testing.assert_array_equal(back.layers["usage"][:, 2:], usage)
    np.testing.assert_array_equal(back.layers["usage_se"][:, 2:], error)
    np.testing.assert_array_equal(back.obsm["spatial"], adata.obsm["spatial"])
    assert back.obs["region"].tolist() == adata.obs["region"].tolist()
    graph = fits.kernel.adjacency.toarray()
    np.testing.assert_array_equal(back.obsp["spatial_connectivities"].toarray(), graph)
    assert back.var["sigma"].tolist() == np.repeat(fits.table["sigma"], 2).tolist()
    table = back.uns["splisosm_pyro"]["table"]
    assert table["beta_region=y|2_0"].tolist() == fits.table["beta_region=y/2_0"].tolist()


def test_anndata_graph_library_and_what_is_missing(adata):
    from scipy.sparse import csr_matrix

    adata.obsp["near"] = csr_matrix(np.eye(61, k=1) + np.eye(61, k=-1))
    adata.obs["slide"] = pd.Categorical(["one"] * 61)
    keys = {"group_iso_by": "symbol", "adj_key": "near", "library_key": "slide"}
    fits = fit_genes(adata, model="glm", progress=False, **keys)
    assert fits.kernel.adjacency.nnz == 120
    with pytest.raises(ValueError, match="obsp has no 'far': set adj_key to what it has, 'near'"):
        fit_genes(adata, progress=False, **(keys | {"adj_key": "far"}))
    with pytest.raises(ValueError, match="obs has no 'lib'"):
        fit_genes(adata, progress=False, **(keys | {"library_key": "lib"}))
    with pytest.raises(ValueError, match=r"group_iso_by must name .* it has 'symbol'"):
        fit_genes(adata, progress=False)
    adata.var["own"] = list("abcd")
    with pytest.raises(ValueError, match="belong to 4 genes; set group_iso_by to the column"):
        fit_genes(adata, group_iso_by="own", progress=False)
    adata.obs["same"] = "x"
    with pytest.raises(ValueError, match="must have two levels or more, came 'x' alone"):
        fit_genes(adata, group_iso_by="symbol", covariates=["same"], progress=False)


def test_a_truncated_h5ad_is_one_line(adata, tmp_path):
    adata.write_h5ad(tmp_path / "x.h5ad")
    content = (tmp_path / "x.h5ad").read_bytes()
    (tmp_path / "x.h5ad").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"x\.h5ad is no readable \.h5ad, perhaps truncated"):
        read_slide(tmp_path / "x.h5ad", group_iso_by="symbol")
    (tmp_path / "x.npz").write_bytes(content[:3000])
    with pytest.raises(ValueError, match=r"is not a readable \.npz, or truncated"):
        read_slide(tmp_path / "x.npz")


def test_a_sigma_without_bound_is_no_top_gene(fits):
    first, second = top_genes(fits, 2)
    table = fits.table.copy()
    table.loc[table["gene"] == first, "sigma"] = 50.0
    changed = replace(fits, table=table)
    assert top_genes(changed, 1) == [second]
    assert top_genes(changed, 4)[-1] == first


def test_figures(fits, tmp_path):
    ordered = fits.table.sort_values("sv_p")["gene"].tolist()
    assert top_genes(fits, 2) == ordered[:2]
    page = gene_page(fits, "c")
    maps = [ax for ax in page.axes if ax.collections and ax.get_aspect() == 1.0]
    assert len(maps) == 3 * 4  # isoforms x (reads, observed, fitted, error)
    row = fits.table.set_index("gene").loc["c"]
    title = page.get_suptitle()
    assert f"c: {row['reads']} reads at {row['occupied_spots']} spots" in title
    assert f"sigma {row['sigma']:.2f} (" in title
    if np.isfinite(row["log_sigma_se"]):
        high = row["sigma"] * np.exp(1.96 * row["log_sigma_se"])
        assert f"to {high:.2f})" in title
    fitted = maps[2].collections[0].get_array()
    np.testing.assert_allclose(fitted, fits.usage("c")[0][:, 0])
    assert len(top_page(fits, 2).axes) > 8
    paths = write_figures(fits, tmp_path / "figures", 1)
    assert [path.name for path in paths] == ["top.png", f"01_{ordered[0]}.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
