"""Pages and notebooks as they are committed: links, examples, outputs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from splisosm_pyro.fit.result import Status
from splisosm_pyro.genes.differential.of_fits import INTERRUPTED
from splisosm_pyro.genes.effects import NOT_DETERMINED
from splisosm_pyro.hypotheses.covariates import NOTHING_LEFT
from splisosm_pyro.hypotheses.spatial import untestable
from splisosm_pyro.posterior.arviz.diagnose import REMEDIES
from splisosm_pyro.studies.sensitivity.mode_shift import CURVATURE

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Not what a build left behind: docs/api/, docs/notebooks/, docs/_build/.
PAGES = [
    *(ROOT / f"{page}.md" for page in ("README", "CHANGELOG", "CONTRIBUTING", "CODE_OF_CONDUCT")),
    *sorted((*DOCS.glob("*.md"), *DOCS.glob("measurements/*.md"))),
]
MOST_WORDS = 1200
LONG_KINDS = ("Reference", "Measurements")
# Addresses outside are held by their form alone: CI may have no network.
ADDRESS = re.compile(r"(https://[\w-]+(\.[\w-]+)+(/[\w./~%#?=&+-]*)?|mailto:[^@\s]+@[^@\s]+)")
DOI = re.compile(r"(?:doi:|doi\.org/)([^\s)\],;]+)")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 500_000
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|opt|tmp|usr|Users|private)/|[A-Z]:\\\\\w")


def name(path):
    return path.name


def prose(text):
    """A page without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S))


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(
        r"^#+\s+(.*?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page, text):
    """Links of a page that lead nowhere: no such file or heading, an address that is none."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+:", target):
            found += [] if ADDRESS.fullmatch(target) else [target]
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text("utf-8"))):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text("utf-8")) == []


def test_broken_links_are_found():
    page = ROOT / "README.md"
    text = "[a](#no-heading) [b](nothing.md) [c](LICENSE#x) `[d](code)` [e](LICENSE)"
    assert broken_links(page, text) == ["#no-heading", "nothing.md", "LICENSE#x"]
    assert broken_links(page, "[a](http://a.org) [b](https://a) [c](https://a.org/b#c)") == [
        "http://a.org",
        "https://a",
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sources_have_the_form_of_a_doi(page):
    found = [doi.rstrip(".") for doi in DOI.findall(page.read_text("utf-8"))]
    assert [doi for doi in found if not re.fullmatch(r"10\.\d{4,5}/\S+", doi)] == []


# --- kinds of pages ---


def kinds():
    """The pages under each caption of the table of contents, as paths below docs/."""
    trees = re.findall(
        r"^```{toctree}\n:caption: (.*?)\n.*?\n\n(.*?)^```",
        (DOCS / "index.md").read_text(),
        re.M | re.S,
    )
    return {caption: pages.split() for caption, pages in trees}


def test_every_page_has_a_place_in_the_contents():
    listed = [page for pages in kinds().values() for page in pages]
    own = [
        page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if DOCS in page.parents
    ]
    notebooks = [f"notebooks/{notebook.stem}" for notebook in NOTEBOOKS]
    assert sorted([*listed, "index"]) == sorted([*own, *notebooks])


def words(text):
    """Count what has a letter or a digit, code and tables included."""
    return len(re.findall(r"\S*\w\S*", text))


def test_pages_are_short_enough_to_be_read_to_the_end():
    lengths = {
        page: words((DOCS / f"{page}.md").read_text("utf-8"))
        for kind, pages in kinds().items()
        if kind not in LONG_KINDS
        for page in pages
        if not page.startswith("notebooks/")
    }
    assert len(lengths) > 10
    assert {page: n for page, n in lengths.items() if n > MOST_WORDS} == {}


def test_page_of_what_can_go_wrong_knows_the_words_of_the_code():
    page = " ".join((DOCS / "what_can_go_wrong.md").read_text("utf-8").split())
    said = [*Status, NOT_DETERMINED, NOTHING_LEFT, CURVATURE, INTERRUPTED, *REMEDIES.values()]
    said += [untestable(*few) for few in too_few_to_test()]
    parts = [part for words in said for part in re.split(r"\d+|, (?:else )?|: ", words) if part]
    assert [part for part in parts if part not in page] == []


def too_few_to_test():
    """Counts and occupied spots of genes that cannot be tested."""
    yield np.zeros((4, 2)), np.array([], dtype=int)
    yield np.ones((4, 1)), np.arange(4)
    yield np.ones((4, 2)), np.arange(2)


# --- notebooks ---


def cells(notebook):
    """Kind, source and outputs of every cell; the text of outputs without pictures."""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        outputs = []
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if "image" not in k}
            outputs.append({**output, "data": data})
        yield cell["cell_type"], "".join(cell["source"]), outputs, cell.get("execution_count")


def unproven(notebook):
    """Cells of prose without an assertion before the next one; title and farewell are free."""
    left, claim = [], None
    for kind, source, _, _ in list(cells(notebook))[1:]:
        if kind == "markdown":
            left += [claim] if claim else []
            claim = source
        elif re.search(r"^\s*(?:assert |np\.testing)", source, re.M):
            claim = None
    return left


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_notebook_is_committed_as_it_ran(notebook):
    assert notebook.stat().st_size <= MAX_BYTES
    runs = [count for kind, _, _, count in cells(notebook) if kind == "code"]
    assert runs == list(range(1, len(runs) + 1))
    for _, source, outputs, _ in cells(notebook):
        assert not [o for o in outputs if o["output_type"] == "error"]
        assert not [o for o in outputs if o.get("name") == "stderr"]
        assert not MACHINE_PATH.search(source + json.dumps(outputs))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_every_claim_is_followed_by_an_assertion(notebook):
    assert unproven(notebook) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_notebook_has_a_small_form_and_figures(notebook):
    text = "".join(source for _, source, _, _ in cells(notebook))
    assert "SPLISOSM_PYRO_SMALL" in text
    assert '"image/png"' in notebook.read_text("utf-8")


def test_machine_paths_are_found():
    assert MACHINE_PATH.search("in {0}home{0}me{0}a.py".format("/"))
    assert not MACHINE_PATH.search("docs/tmp/x and https://a.org/tmp/b")
