"""Where results go: what cannot be written is said before anything is fitted."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import GeneFits, fit_genes
from splisosm_pyro.__main__ import main
from splisosm_pyro.genes.result.figures import write_figures
from splisosm_pyro.genes.run import workers
from splisosm_pyro.genes.run.records import NAME, Records
from splisosm_pyro.paths import check_file, check_folder, file_name
from splisosm_pyro.posterior import read_posterior

RNG = np.random.default_rng(0)
GIVEN = {"coords": RNG.random((12, 2)), "model": "glm", "progress": False}
COUNTS = RNG.poisson(3.0, (3, 12, 2))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder that is home and where the process is, with a file of counts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", counts=COUNTS, coords=GIVEN["coords"])
    return tmp_path


@pytest.fixture
def fitted(monkeypatch):
    """The genes that have been fitted."""
    names, own = [], workers.fit_one
    fit = lambda prepared, gene: (names.append(gene.name), own(prepared, gene))[1]  # noqa: E731
    monkeypatch.setattr(workers, "fit_one", fit)
    return names


def run(*argv):
    return main(["fit", "x.npz", "--quiet", "--model", "glm", *map(str, argv)])


@pytest.mark.parametrize(
    ("out", "complaint"),
    [
        ("folder.csv", "--out: folder.csv is a folder; give the name of a file in it"),
        ("/proc/x.csv", "--out: /proc/x.csv cannot be written: "),
        ("/proc/x", "--out: /proc/x cannot be written: "),
        (300 * "a" + ".csv", "cannot be written: File name too long"),
        (300 * "a", "cannot be written: File name too long"),
        ("~no-such-user/x.csv", "~no-such-user/x.csv: there is no home of such a user"),
        ("nowhere/x.csv", "--out: there is no folder nowhere"),
        ("x.npz", "--out: x.npz is no folder; give one, or a name that ends in .csv"),
        ("x.npz/results", "--out: x.npz/results cannot be written: Not a directory"),
        ("x.tsv", "--out must be a folder or a name that ends in .csv, came 'x.tsv'"),
        ("taken", "--out: taken/table.csv is a folder"),
        ("drawn", "--out: drawn/figures is no folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_first_fit(home, fitted, capsys, out, complaint):
    for folder in ("folder.csv", "taken/table.csv", "drawn"):
        (home / folder).mkdir(parents=True)
    (home / "drawn" / "figures").touch()
    before = sorted(home.rglob("*"))
    assert run("--out", out) == 2
    assert complaint in capsys.readouterr().err
    assert fitted == []
    assert sorted(home.rglob("*")) == before


def test_a_check_leaves_things_as_they_are(tmp_path):
    check_folder(tmp_path / "a" / "b", "out")
    check_file(tmp_path / "x.csv", "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.csv").write_text("kept")
    check_file(tmp_path / "x.csv", "out")
    assert (tmp_path / "x.csv").read_text() == "kept"


def test_home_is_home_everywhere(home):
    assert main(["fit", "~/x.npz", "--out", "~/x.csv", "--model", "glm", "--quiet"]) == 0
    assert run("--out", "~/deep/results", "--figures", 0) == 0
    assert len(pd.read_csv(home / "x.csv")) == 3
    fits = GeneFits.load("~/deep/results")
    fits.save("~/again")
    assert len(fit_genes("~/x.npz", model="glm", progress=False, resume="~/run").table) == 3
    assert write_figures(fits, "~/figures", 1)[0] == home / "figures" / "top.png"
    fits.model(0).posterior("laplace", draws=10, chains=1).to_netcdf(home / "posterior.nc")
    assert read_posterior("~/posterior.nc").posterior.sizes["draw"] == 10
    found = {"x.npz", "x.csv", "deep", "again", "run", "figures", "posterior.nc"}
    assert {path.name for path in home.iterdir()} - {".cache"} == found


def test_names_of_files_are_cut(home):
    long = "é" * 200
    fits = fit_genes(COUNTS[:2], gene_names=[long, "a/b\n"], **GIVEN)
    names = [path.name for path in write_figures(fits, home, 2)]
    assert {name[3:] for name in names[1:]} == {60 * "é" + ".png", "a_b_.png"}
    assert file_name("HLA-A.1") == "HLA-A.1"


@pytest.mark.parametrize("change", [shutil.rmtree, lambda path: path.rename(path.parent / "moved")])
def test_a_folder_that_goes_during_a_run_is_an_error(home, monkeypatch, capsys, change):
    append = Records.append

    def gone(self, outcomes):
        append(self, outcomes)
        if Path("results").exists():
            change(Path("results"))

    monkeypatch.setattr(Records, "append", gone)
    assert run("--out", "results", "--batch-size", 1) == 2
    assert "results/records.jsonl was deleted or moved during the run" in capsys.readouterr().err
    assert not os.path.exists("results")
    if os.path.exists("moved"):
        monkeypatch.undo()
        os.chdir(home)
        assert (home / "moved" / NAME).read_bytes().count(b"\n") == 2
        assert run("--out", "moved", "--resume", "--figures", 0) == 0
        assert len(GeneFits.load("moved").table) == 3


def test_a_table_that_cannot_be_written_after_all_is_kept(home, monkeypatch, capsys):
    write = pd.DataFrame.to_csv

    def lost(self, path, **more):
        if isinstance(path, Path):
            raise OSError("no such luck")
        return write(self, path, **more)

    monkeypatch.setattr(pd.DataFrame, "to_csv", lost)
    assert run("--out", "x.csv") == 2
    said = capsys.readouterr().err
    kept = said.split("the table is in ")[1].strip()
    assert len(pd.read_csv(kept)) == 3
    os.remove(kept)


def test_a_file_in_the_place_of_a_folder(home):
    fits = fit_genes(COUNTS, **GIVEN)
    for deed in (fits.save, lambda path: write_figures(fits, path), lambda path: Records(path, {})):
        with pytest.raises(NotADirectoryError, match=r"x\.npz must be a folder, came a file"):
            deed("x.npz")
