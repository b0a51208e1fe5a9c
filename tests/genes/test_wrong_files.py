"""Files that are wrong, from Python and from the command line: one line that says what to do."""

import errno
import os
import warnings

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import GeneFits, fit_genes
from splisosm_pyro.__main__ import main
from splisosm_pyro.genes.data import anndata_counts
from splisosm_pyro.genes.run.records import NAME
from splisosm_pyro.maths.axes import SplisosmWarning

anndata = pytest.importorskip("anndata")
S = 19


@pytest.fixture
def adata():
    """Two genes of two isoforms, one of one; regions and ages."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(2.0, (S, 5)).astype(float)
    var = pd.DataFrame({"gene_symbol": list("aabbc")}, index=["a0", "a1", "b0", "b1", "c0"])
    obs = pd.DataFrame({"region": list("xyz") * 6 + ["x"], "age": rng.random(S)})
    obs.index = [f"s{s}" for s in range(S)]
    made = anndata.AnnData(counts.copy(), obs=obs, var=var)
    made.layers["counts"] = counts
    made.obsm["spatial"] = rng.random((S, 2))
    return made


@pytest.fixture
def fit(adata, tmp_path, capsys):
    """Change the file, run the command line; return the exit code and what it said."""

    def run(change=lambda adata: None, *options, out="results"):
        changed = change(adata)
        path = tmp_path / "x.h5ad"
        (adata if changed is None else changed).write_h5ad(path)
        options = ("--model", "glm", "--figures", "0", "--quiet", *options)
        with warnings.catch_warnings():
            warnings.simplefilter("always", SplisosmWarning)
            code = main(["fit", str(path), "--out", str(tmp_path / out), *map(str, options)])
        said = capsys.readouterr()
        return code, said.err, said.out

    return run


def place(adata, value):
    adata.obsm["spatial"][3:5] = value


def count(adata, value):
    adata.layers["counts"][2, 3] = value


def column(name, values):
    def change(adata):
        adata.obs[name] = values

    return change


WRONG = [
    (None, {"layer": "raw"}, "no layer 'raw': set layer to 'counts', or to 'X'"),
    (None, {"group_iso_by": "gene"}, "var has no 'gene': set group_iso_by to .* 'gene_symbol'"),
    (None, {"spatial_key": "xy"}, "obsm has no 'xy': set spatial_key to what it has, 'spatial'"),
    (None, {"library_key": "slide"}, "obs has no 'slide': set library_key to .*'region', 'age'"),
    (None, {"adj_key": "graph"}, "obsp has no 'graph': set adj_key to what it has, nothing"),
    (
        lambda adata: place(adata, np.nan),
        {},
        r"'spatial'\] must be finite, .* at 2 of 19 spots \(s3, s4\): remove these spots",
    ),
    (
        lambda adata: adata.var.__setitem__("gene_symbol", list("abcde")),
        {},
        "the 5 isoforms belong to 5 genes; set group_iso_by to the column with the gene",
    ),
    (
        lambda adata: adata.var.__setitem__("gene_symbol", ["", " ", "nan", "NA", "None"]),
        {},
        "'gene_symbol'] must name genes, came none: set group_iso_by",
    ),
    (
        lambda adata: count(adata, -1.0),
        {},
        "came -1.0 for isoform b1 of gene b .spot 2.: choose the layer with the raw counts",
    ),
    (lambda adata: count(adata, np.nan), {}, "came nan for isoform b1 .* choose the layer"),
    (
        lambda adata: adata.layers.__setitem__("counts", 0 * adata.layers["counts"]),
        {},
        "all counts are 0: choose the layer with the raw counts",
    ),
    (lambda adata: adata[:0].copy(), {}, "there is no spot left"),
    (None, {"min_counts": 1e9}, "no gene is left: 2 with fewer than 1e.09 reads, 1 with one iso"),
    (column("one", "x"), {"covariates": ["one"]}, "'one' must have two levels .* leave it out"),
    (column("one", 3.0), {"covariates": ["one"]}, "'one' must differ between spots, came 3 at all"),
    (
        column("name", [f"n{s}" for s in range(S)]),
        {"covariates": ["name"]},
        "'name' must have fewer levels than there are spots, came one a spot: leave it out",
    ),
    (
        column("gap", pd.Categorical([None, *"xy" * 9])),
        {"covariates": ["gap"]},
        "'gap' must have a value at every spot, 1 of 19 lack it: remove these spots, or fill",
    ),
    (
        column("gap", [np.nan, *range(S - 1)]),
        {"covariates": ["gap"]},
        "'gap' must have a value at every spot, 1 of 19 lack it",
    ),
    (
        lambda adata: adata.obsm.__setitem__("all", np.eye(2)[np.arange(S) % 2]),
        {"covariates": ["all"]},
        "covariates must have linearly independent columns, .*: column 'all=1' is a linear",
    ),
    (None, {"covariates": ["size"]}, "covariate 'size' is neither in obs nor in obsm; they have"),
    (None, {"covariates": ["age", "age"]}, "must name each covariate once, came 'age' twice"),
]


def as_options(given):
    """The options of the command line for arguments of ``fit_genes``."""
    for name, value in given.items():
        yield f"--{name.replace('_', '-')}"
        yield ",".join(value) if isinstance(value, list) else value


@pytest.mark.parametrize(("change", "given", "message"), WRONG)
def test_one_line_says_what_to_do(adata, fit, tmp_path, change, given, message):
    code, said, _ = fit(change or (lambda adata: None), *as_options(given))
    assert code == 2
    assert said.startswith("splisosm_pyro fit: error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "results").exists()
    with pytest.raises(ValueError, match=message):
        fit_genes(tmp_path / "x.h5ad", progress=False, **given)
    source = anndata.read_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(ValueError, match=message) as found:
        fit_genes(source, progress=False, **({"group_iso_by": "gene_symbol"} | given))
    assert " ".join(str(found.value).split()) in said


def test_words_for_counts(adata):
    adata.layers["counts"] = adata.layers["counts"].astype(str)
    with pytest.raises(ValueError, match=r"counts must be numbers, came .*: choose the layer with"):
        fit_genes(adata, group_iso_by="gene_symbol", progress=False)


def test_places_taken_twice_are_named(fit):
    code, said, _ = fit(lambda adata: place(adata, 0.5))
    assert code == 0
    assert "warning: 2 spots share their place with another (s3, s4): " in said
    assert "remove them, give library_key if" in said
    assert said.count("\n") == 1


def test_what_is_left_out_is_counted(fit):
    code, said, out = fit()
    assert (code, said) == (0, "")
    assert "left out: 1 with one isoform only" in out


def test_no_whole_numbers_are_a_warning(fit):
    code, said, _ = fit(lambda adata: adata.layers.__setitem__("counts", np.log1p(adata.X)))
    assert code == 0
    assert "2 genes have counts that are no whole numbers" in said


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_file(adata, tmp_path, capsys, size):
    adata.write_h5ad(tmp_path / "x.h5ad")
    os.truncate(tmp_path / "x.h5ad", size)
    with pytest.raises(OSError, match="perhaps truncated: download or write it again"):
        fit_genes(tmp_path / "x.h5ad", progress=False)
    assert main(["fit", str(tmp_path / "x.h5ad"), "--out", str(tmp_path / "r"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "x.h5ad is no readable .h5ad, perhaps truncated" in said
    assert said.count("\n") == 1


def test_results_of_other_data_or_options(fit):
    assert fit()[0] == 0
    code, said, _ = fit(lambda adata: count(adata, 9.0), "--resume")
    assert code == 2
    assert "belongs to a run on other data: begin in another folder" in said
    code, said, _ = fit(lambda adata: None, "--resume", "--k", 4)
    assert code == 2
    assert "other data" in said or "k was 6, now 4" in said


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk(fit, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", full)
    code, said, _ = fit()
    assert code == 2
    assert "No space left on device" in said
    assert "what was finished before is safe: make room and resume" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    code, said, _ = fit(lambda adata: None, "--resume")
    assert code == 2
    assert "every gene is safe in records.jsonl: make room and run again with --resume" in said
    monkeypatch.undo()
    before = (tmp_path / "results" / NAME).read_bytes()
    assert fit(lambda adata: None, "--resume")[0] == 0
    assert (tmp_path / "results" / NAME).read_bytes() == before  # nothing was done again
    assert len(GeneFits.load(tmp_path / "results").table) == 2


def test_counts_larger_than_the_memory(adata, monkeypatch):
    monkeypatch.setattr(anndata_counts, "available_bytes", lambda: 100.0)
    with pytest.raises(ValueError, match=r"the counts need .* GB .*: fit part of the genes"):
        fit_genes(adata, group_iso_by="gene_symbol", progress=False)
