"""Sphinx: pages in MyST markdown, notebooks with their committed outputs, API from docstrings."""

import re
import shutil
from pathlib import Path

from splisosm_pyro import __version__

project = "splisosm_pyro"
author = "the authors of splisosm_pyro"
copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"splisosm_pyro {version}"
html_show_copyright = False
html_copy_source = False

# Notebooks are executed by tests/run_notebooks.py; the pages show the outputs of their full form.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings give types with shapes and units
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "options_class"}
numpydoc_show_class_members = False

nitpicky = True

MOVED = ("benchmarks", "nugget_tables", "nugget_depth", "nugget_small", "nugget_real")


def copy_notebooks(app, _config):
    """Bring the notebooks, which lie beside this folder, into it."""
    here = Path(app.srcdir)
    shutil.rmtree(here / "notebooks", ignore_errors=True)
    shutil.copytree(here.parent / "notebooks", here / "notebooks")


def link_copies(_app, _docname, source):
    """Lead links to notebooks, right in the tree as it is committed, to their copies."""
    source[0] = source[0].replace("](../notebooks/", "](notebooks/")


def escape_stars(_app, _what, _name, _obj, _options, lines):
    """Keep the star of a shape such as (*, Q) from opening an emphasis."""
    lines[:] = [re.sub(r"(?<=[( ])\*(?=[,)])", r"\\*", line) for line in lines]


def leave_word(app, exception):
    """Lead the addresses that pages had before they moved to where they are."""
    if exception or app.builder.format != "html":
        return
    for name in MOVED:
        goal = f"measurements/{name}.html"
        text = f'<meta http-equiv="refresh" content="0; url={goal}"><a href="{goal}">{goal}</a>'
        (Path(app.outdir) / f"{name}.html").write_text(f"<!DOCTYPE html>{text}", encoding="utf-8")


def setup(app):
    """Connect them."""
    app.connect("autodoc-process-docstring", escape_stars, priority=100)
    app.connect("config-inited", copy_notebooks)
    app.connect("source-read", link_copies)
    app.connect("build-finished", leave_word)
