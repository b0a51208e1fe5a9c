"""Pages and notebooks as they are committed: links, examples, outputs."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    """Links of a page that lead nowhere: no such file, or no such heading."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+:", target):
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
    text = "[a](#no-heading) [b](nothing.md) [c](LICENSE#x) `[d](code)` [e](https://a) [f](LICENSE)"
    assert broken_links(page, text) == ["#no-heading", "nothing.md", "LICENSE#x"]


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
