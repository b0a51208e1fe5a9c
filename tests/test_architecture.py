"""The house: imports go downwards only, in no circle, and functions and files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "splisosm_pyro"
# A unit is a folder or a file directly in the package; it imports itself and units of lower floors.
FLOORS = {
    "maths": 1,
    "fit": 2,
    "generative": 2,
    "guides": 3,
    "simulate": 3,
    "posterior": 4,
    "utils": 5,
    "model": 5,
    "plots": 5,
    "studies": 6,
    "genes": 7,
    "demo": 8,
    "__init__": 9,
    "__main__": 10,
}
MAX_FUNCTION = 60  # lines of code, without the docstring
MAX_FILE = 400


def module_name(path):
    """splisosm_pyro/maths/covariance/car.py -> maths.car; a folder's __init__ is the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def unit(module):
    return module.split(".")[0]


def resolve(dotted, modules):
    """The longest module name that a dotted name starts with."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in modules:
            return ".".join(parts[:end])
    return "__init__"  # a name of the package itself


def imported(tree, modules, module="__init__", is_package=True):
    """Modules of the package that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative
                here = [] if module == "__init__" else module.split(".")
                keep = len(here) - node.level + (1 if is_package else 0)
                base = ".".join(["splisosm_pyro", *here[:keep], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            if name == "splisosm_pyro" or name.startswith("splisosm_pyro."):
                inside = name.removeprefix("splisosm_pyro").removeprefix(".")
                found.add(resolve(inside, modules) if inside else "__init__")
    return found


def type_checking_removed(tree):
    """The tree without what stands under ``if TYPE_CHECKING``, which never runs."""

    class Remove(ast.NodeTransformer):
        def visit_If(self, node):
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return [self.visit(child) for child in node.orelse] or ast.Pass()
            return self.generic_visit(node)

    return Remove().visit(tree)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def upward(module, imports):
    """The imports that do not go downwards."""
    floor = FLOORS[unit(module)]
    return sorted(
        other for other in imports if unit(other) != unit(module) and FLOORS[unit(other)] >= floor
    )


def functions(tree):
    """Functions and methods with their number of lines, the docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                lines -= docstring.end_lineno - docstring.lineno + 1
            yield node.name, lines


def circle(graph):
    """A circle of a directed graph, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        for other in sorted(graph[node]):
            if found := visit(other):
                return found
        path.pop()
        done.add(node)
        return None

    return next((found for node in sorted(graph) if (found := visit(node))), None)


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_has_a_floor_and_imports_downwards(module):
    assert unit(module) in FLOORS, f"{module}: give {unit(module)} a floor"
    path = SOURCES[module]
    imports = imported(parse(path), SOURCES, module, path.name == "__init__.py")
    assert upward(module, imports) == []


def test_no_circle_of_imports():
    graph = {}
    for module, path in SOURCES.items():
        tree = type_checking_removed(parse(path))
        graph[module] = imported(tree, SOURCES, module, path.name == "__init__.py") - {module}
    assert circle(graph) is None


@pytest.mark.parametrize("module", SOURCES)
def test_functions_and_files_are_small(module):
    path = SOURCES[module]
    long = {name: lines for name, lines in functions(parse(path)) if lines > MAX_FUNCTION}
    assert long == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE


def test_maths_needs_no_program_of_pyro():
    """Solvers compose the density without Pyro: only the files of distributions import it."""
    users = set()
    for module, path in SOURCES.items():
        roots = set()
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add(node.module.split(".")[0])
        if "pyro" in roots and unit(module) in ("maths", "fit"):
            users.add(module)
    assert {user for user in users if not user.startswith("maths.priors")} == {
        "maths.density.pyro_distributions"
    }


# --- the checks themselves can fail ---


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("maths.car", "from splisosm_pyro.fit import mode", ["fit.mode"]),
        ("maths.car", "def f():\n    import splisosm_pyro.model.glm", ["model.glm"]),
        ("maths.car", "from ..generative import multinomial_glm", ["generative"]),
        ("fit.mode", "from splisosm_pyro.generative import multinomial_glm", ["generative"]),
        ("fit.mode", "from splisosm_pyro import generative", ["generative"]),
        ("model.glm", "from splisosm_pyro import __version__", ["__init__"]),
        ("model.glm", "from splisosm_pyro.maths import car\nfrom .base import Base", []),
        ("__main__", "import splisosm_pyro.genes\nimport numpy", []),
    ],
)
def test_upward_imports_are_found(module, code, expected):
    modules = ["maths.car", "fit", "fit.mode", "model", "model.glm", "model.base", "generative"]
    modules += ["genes", "__main__", "__init__"]
    assert upward(module, imported(ast.parse(code), modules, module, is_package=False)) == expected


def test_circles_and_long_functions_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    code = 'def f():\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n'
    assert list(functions(ast.parse(code))) == [("f", 3)]
