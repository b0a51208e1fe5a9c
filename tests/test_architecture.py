"""The laws of the house, read from its plan: the table of rooms in ``docs/reading_the_code.md``."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "splisosm_pyro"
PLAN = ROOT / "docs" / "reading_the_code.md"
MAX_FUNCTION = 60  # lines of code, without the docstring
MAX_FILE = 400
MAX_FOLDER = 12  # files, the folder's own __init__ not counted
ALIASES = "maths/numeric/"  # the home of array types
PYRO = ("maths/priors/", "maths/density/pyro_distributions.py")  # below the programs, only these
SOLVERS = ("maths/", "fit/")


def rooms(plan):
    """The rooms of the plan, from the roof down: the paths in the first column, row by row."""
    table = plan.split("## Rooms")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    return [re.findall(r"`([\w/.]+)`", row) for row in rows]


def height(file, plan):
    """How high the room of a file lies: that of the longest path of the plan; None if nowhere."""
    found = {}
    for row, paths in enumerate(reversed(plan)):
        for path in paths:
            inside = file == path or (path.endswith("/") and file.rpartition("/")[0] + "/" == path)
            if inside:
                found[len(path)] = row
    return found[max(found)] if found else None


def modules(package):
    """Dotted name and path from the package of every file; a folder's __init__ is the folder."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package)
        parts = file.parent.parts if file.name == "__init__.py" else file.with_suffix("").parts
        named[".".join([package.name, *parts])] = file.as_posix()
    return named


def imported(tree, named):
    """The files that a module imports anywhere: in functions and for the type checker too."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
            yield from (named[start] for start in [next(filter(named.get, starts), None)] if start)


def functions(tree):
    """Functions and methods with their number of lines, the docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            yield node.name, lines


def roots(tree):
    """The packages that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else node.module.split(".")[0]


def breaches_of_file(file, text, tree):
    """What a file does against the laws, its imports from other rooms aside."""
    if text.count("\n") > MAX_FILE:
        yield f"{file} has more than {MAX_FILE} lines"
    for name, lines in functions(tree):
        if lines > MAX_FUNCTION:
            yield f"{file}: {name} has {lines} lines"
    if not file.startswith(ALIASES) and re.search(r"^\w+(: \w+)? = [\w.|]*NDArray\[", text, re.M):
        yield f"{file} names an array type of its own"
    if "pyro" in set(roots(tree)) and file.startswith(SOLVERS) and not file.startswith(PYRO):
        yield f"{file} needs Pyro"
    if "." in set(roots(tree)):
        yield f"{file} has a relative import"


def breaches_of_imports(graph, plan):
    """Imports that climb, files without a room, circles; a folder's __init__ faces its folder."""
    for file, others in graph.items():
        face = file.endswith("__init__.py")
        if not face and height(file, plan) is None:
            yield f"{file} is in no room of the plan"
            continue
        for other in others:
            if face or other.endswith("__init__.py"):
                folder = (file if face else other).removesuffix("__init__.py")
                if face and not other.startswith(folder):
                    yield f"{file} imports {other}, which is not in its folder"
                continue
            below = height(other, plan)
            if below is not None and below > height(file, plan):
                yield f"{file} imports {other}, which lies higher"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        yield "a circle: " + ", ".join(sorted(set(circle.args[1])))


def breaches(package, page):
    """Every breach of the laws, in words."""
    plan, named = rooms(page), modules(package)
    files = {file: (package / file).read_text(encoding="utf-8") for file in named.values()}
    trees = {file: ast.parse(text) for file, text in files.items()}
    found = [one for file in files for one in breaches_of_file(file, files[file], trees[file])]
    graph = {file: set(imported(tree, named)) - {file} for file, tree in trees.items()}
    found += breaches_of_imports(graph, plan)
    folders = {}
    for file in files:
        if not file.endswith("__init__.py"):
            folders.setdefault(file.rpartition("/")[0], []).append(file)
    found += [
        f"{folder} has {len(f)} files" for folder, f in folders.items() if len(f) > MAX_FOLDER
    ]
    return found


def dead_paths(page, root):
    """Paths of the plan that lead nowhere, and names that are not where the plan has them."""
    found = []
    for path, names in re.findall(r"`([\w/]+(?:/|\.py))(?:: ([\w., ]+))?`", page):
        there = [base / path for base in (root / "splisosm_pyro", root) if (base / path).exists()]
        if not there:
            found.append(path)
        text = there[0].read_text() if names and there else ""
        for name in re.findall(r"\w+", names):
            if not re.search(rf"^\s*(def|class) {name}\b", text, re.M):
                found.append(f"{path}: {name}")
    return sorted(set(found))


def test_the_house_keeps_its_laws_and_its_plan_is_true():
    page = PLAN.read_text(encoding="utf-8")
    assert breaches(PACKAGE, page) == []
    assert dead_paths(page, ROOT) == []


def test_every_breach_is_found(tmp_path):
    page = "## Rooms\n\n| room |\n|---|\n| `model/`, `plots.py` | |\n| `maths/` | |\n\n## `gone/`\n"
    page += "`lost.py: f`"
    house = {
        "__init__.py": "from house.model.glm import GLM",
        "plots.py": "import numpy",
        "model/__init__.py": "from house.maths.car import V",
        "model/glm.py": "from house.maths import car\nfrom house.model.base import Base",
        "model/base.py": "def f():\n    import house.model.glm",
        "model/long.py": 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 60,
        "maths/car.py": "if TYPE_CHECKING:\n    from house.plots import Map\nimport pyro\n",
        "maths/types.py": "Floats = npt.NDArray[np.float64]\nfrom . import car\n",
        "lost.py": "\n" * 401,
    }
    house |= {f"model/m{k}.py": "" for k in range(10)}
    for file, text in house.items():
        path = tmp_path / "house" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert sorted(breaches(tmp_path / "house", page)) == [
        "a circle: model/base.py, model/glm.py",
        "lost.py has more than 400 lines",
        "lost.py is in no room of the plan",
        "maths/car.py imports plots.py, which lies higher",
        "maths/car.py needs Pyro",
        "maths/types.py has a relative import",
        "maths/types.py names an array type of its own",
        "model has 13 files",
        "model/__init__.py imports maths/car.py, which is not in its folder",
        "model/long.py: f has 61 lines",
    ]
    assert dead_paths(page, tmp_path) == [
        *("gone/", "lost.py", "lost.py: f", "maths/", "model/", "plots.py"),
    ]
