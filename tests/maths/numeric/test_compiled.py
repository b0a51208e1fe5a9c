"""Compiled code on disk: never older than what it calls, and not needed where none can be kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import splisosm_pyro

PACKAGE = Path(splisosm_pyro.__file__).parent
HEAD = "from splisosm_pyro.maths.numeric.compiled import compiled\n"
# Each calls the next one.
CALLED = HEAD + "\n\n@compiled\ndef one():\n    return 1.0\n"
BETWEEN = "from splisosm_pyro.maths.called import one\n" + HEAD
BETWEEN += "\n\n@compiled\ndef same():\n    return one()\n"
CALLER = "from splisosm_pyro.maths.between import same\n" + HEAD
CALLER += "\n\n@compiled\ndef twice():\n    return 2.0 * same()\n"
RUN = "from splisosm_pyro.maths.caller import twice\n"
RUN += "print(twice(), sum(twice.stats.cache_hits.values()))"
# Numba's own places refuse, as where the package and the home cannot be written.
REFUSE = """
import numba.core.caching as caching

def refuse(self):
    raise OSError("read-only file system")

caching._CacheLocator.ensure_cache_path = refuse
"""


@pytest.fixture
def copy(tmp_path):
    """A package of its own with three compiled functions in three files."""
    package = tmp_path / "splisosm_pyro"
    (package / "maths").mkdir(parents=True)
    shutil.copytree(
        PACKAGE / "maths" / "numeric",
        package / "maths" / "numeric",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (package / "__init__.py").touch()
    (package / "maths" / "__init__.py").touch()
    (package / "maths" / "called.py").write_text(CALLED)
    (package / "maths" / "between.py").write_text(BETWEEN)
    (package / "maths" / "caller.py").write_text(CALLER)
    return tmp_path


def run(folder, code, **more):
    """What a fresh interpreter prints that finds the package in ``folder``."""
    own = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment = {**own, "PYTHONPATH": str(folder), **more}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_changed_callee_leaves_no_old_numbers(copy):
    assert run(copy, RUN) == ["2.0", "0"]
    assert run(copy, RUN) == ["2.0", "1"]  # from disk
    called = copy / "splisosm_pyro" / "maths" / "called.py"
    called.write_text(CALLED.replace("1.0", "5.0"))
    assert run(copy, RUN) == ["10.0", "0"]


@pytest.mark.parametrize("home", ["", "/proc/nohome"])
def test_it_works_where_nothing_can_be_written(copy, home):
    assert run(copy, REFUSE + RUN, HOME=home) == ["2.0", "0"]


def test_whether_a_function_was_compiled_on_this_machine_is_seen_on_disk(copy):
    ask = "from splisosm_pyro.maths.numeric.compiled import missing_on_disk\n"
    ask += "from splisosm_pyro.maths.caller import twice\nprint(missing_on_disk(twice))"
    assert run(copy, ask) == ["True"]
    run(copy, RUN)
    assert run(copy, ask) == ["False"]
    assert run(copy, REFUSE + ask, NUMBA_DISABLE_JIT="1") == ["False"]
