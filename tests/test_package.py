"""The package around the code: version, lazy names, what the README promises, clean files."""

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest

import splisosm_pyro
from splisosm_pyro.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
SETUP = "python3 -m venv .venv && .venv/bin/pip install -c tests/constraints.txt"
MAIN_JOB = f"{SETUP} . && .venv/bin/python -m splisosm_pyro demo"
TESTS = f"{SETUP} -e '.[test]' && .venv/bin/pytest"
FOLDERS = ("splisosm_pyro", "tests", "docs", "notebooks", ".ci")


def tracked_texts():
    """Text files of the tree, without what tools leave behind."""
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    hidden = {"__pycache__", ".pytest_cache", ".ipynb_checkpoints"}
    for path in files:
        if not hidden & set(path.parts) and path.suffix not in (".pyc", ".nbi", ".nbc", ".png"):
            yield path, path.read_text()


def test_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert (
        project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "splisosm_pyro.__version__"
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+", splisosm_pyro.__version__)
    assert f"## [{splisosm_pyro.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()
    cited = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {splisosm_pyro.__version__}" in cited
    try:
        installed = metadata.version("splisosm-pyro")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed")
    assert installed == splisosm_pyro.__version__


def test_readme_has_its_two_commands_on_the_first_screen():
    lines = (ROOT / "README.md").read_text().splitlines()[:40]
    assert MAIN_JOB in lines
    assert TESTS in lines


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text().replace("pip install -q", "pip install")
    assert [part for part in TESTS.split(" && ") if part not in script] == []


def blocks(page, language):
    """The blocks of code of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which the lines of the first page were followed to the table, as they stand."""
    folder = tmp_path_factory.mktemp("start")
    make, _ = blocks("docs/start_here.md", "python")
    (fit,) = (block for block in blocks("docs/start_here.md", "sh") if " fit " in block)
    words = shlex.split(fit.replace("\\\n", " "))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(make, "start_here.md", "exec"), {})
        assert main([*words[words.index("splisosm_pyro") + 1 :], "--quiet"]) == 0
    return folder


def test_first_page_leads_to_a_figure(followed, monkeypatch):
    monkeypatch.chdir(followed)
    table = pd.read_csv("results/table.csv")
    named = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/start_here.md").read_text(), re.M)
    columns = re.findall(r"`([a-z_0-9]+)`", " ".join(named))
    assert len(columns) > 10
    assert set(columns) <= set(table)
    assert Path("results/figures/top.png").is_file()
    names = {}
    exec(compile(blocks("docs/start_here.md", "python")[1], "start_here.md", "exec"), names)
    assert names["usage"].shape == (400, 2)
    assert names["slide"].shape[0] == 400
    assert Path("volcano.png").is_file()


def test_readmes_lines_lead_to_a_table_and_a_figure(followed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slide = ad.read_h5ad(followed / "slide.h5ad")
    slide[:, slide.var["gene_symbol"].isin(["gene 3", "gene 4", "gene 5"])].write_h5ad("slide.h5ad")
    (lines,) = blocks("README.md", "python")
    exec(compile(lines, "README.md", "exec"), {})
    assert {"sv_q", "du_region_q", "sigma", "theta"} <= set(pd.read_csv("results/table.csv"))
    assert Path("volcano.png").stat().st_size > 1000


def listed():
    """The names on the page of the API, with what they are."""
    for name in re.findall(r"^ +(splisosm_pyro[\w.]+)$", (ROOT / "docs/api.md").read_text(), re.M):
        home, _, last = name.rpartition(".")
        yield name, getattr(importlib.import_module(home), last)


def test_every_public_name_is_on_the_page_of_the_api_with_an_example():
    found = dict(listed())
    assert {f"splisosm_pyro.{name}" for name in splisosm_pyro.__all__} <= {
        *found,
        "splisosm_pyro.CollapsedCounts",  # stands there with two of its methods
        *(f"splisosm_pyro.{name.rpartition('.')[2]}" for name in found),
    }
    for room in ("genes", "model", "posterior", "studies"):
        assert set(importlib.import_module(f"splisosm_pyro.{room}").__all__) <= {
            name.rpartition(".")[2] for name in found
        }
    modules = {name for name, what in found.items() if inspect.ismodule(what)}
    assert modules == {"splisosm_pyro.guides", "splisosm_pyro.maths.priors"}
    without = {n for n, what in found.items() if n not in modules and ">>>" not in what.__doc__}
    # what stands under splisosm's own pipeline runs with splisosm alone
    assert {name for name in without if ".compat." not in name} == set()


def test_constraints_are_exact_and_name_no_place():
    lines = (ROOT / "tests" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["test"], *extras["docs"]]
    names = {re.split(r"[<>=]", need)[0] for need in wanted}
    assert names <= {pin.split("==")[0] for pin in pins}


def test_public_names_are_lazy_and_all_there():
    code = (
        "import sys, splisosm_pyro\n"
        "assert not {'torch', 'pyro', 'numba', 'pandas'} & set(sys.modules)\n"
        "assert set(splisosm_pyro.__all__) <= set(dir(splisosm_pyro))\n"
        "from splisosm_pyro import *\n"
        "from splisosm_pyro.model import MultinomGLMM as home\n"
        "assert MultinomGLMM is home is splisosm_pyro.MultinomGLMM\n"
        "assert callable(simulate_tissue) and callable(get_cov_sp)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = splisosm_pyro.nonsense


def test_types_are_shipped():
    assert (ROOT / "splisosm_pyro" / "py.typed").is_file()
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_tree_names_no_machine():
    slash = "/"
    places = [slash + name + slash for name in ("work", "root", "home", "farm", "Users")]
    found = [
        f"{path.relative_to(ROOT)}: {place}"
        for path, text in tracked_texts()
        for place in places
        if place in text
    ]
    assert found == []


def test_library_does_not_print():
    allowed = {"__main__.py", "command_differential.py"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "splisosm_pyro").rglob("*.py")
        if path.name not in allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert found == []
