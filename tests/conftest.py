"""How tests are run; optional data beside the project or where an environment variable says."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

# Programs, not tests, that import what the extras `docs` and `bench` install.
collect_ignore = ["run_notebooks.py", "benchmarks/nugget_reference.py"]
# From the bottom floor up, first what compiles longest: workers begin with different functions, and
# later files find them all on disk.
ORDER = ("maths/spot", "maths/sparse_cholesky", "fit/glm", "maths", "fit", "posterior", "model")
FOLDERS = [Path(__file__).parent / part for part in ORDER]
# A worker a core, so a thread a worker; set before anything reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    """Import ArviZ once: on its first import of a day it writes a file, for which workers race."""
    if config.getoption("numprocesses", None):
        subprocess.run([sys.executable, "-W", "ignore", "-c", "import arviz"], check=True)


def pytest_collection_modifyitems(items):
    """Bring the files into their order."""

    def place(item):
        places = (i for i, folder in enumerate(FOLDERS) if item.path.is_relative_to(folder))
        return next(places, len(FOLDERS))

    items.sort(key=place)


def shared_folder():
    """The folder of real data and gold cases; it may not exist."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("SPLISOSM_PYRO_SHARED", beside))


@pytest.fixture(scope="session")
def shared():
    """The optional folder; tests that ask for it are skipped where it is missing."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip("optional data folder not found; SPLISOSM_PYRO_SHARED names one")
    return folder


@pytest.fixture(scope="session")
def real_data(shared):
    """The folder of real data."""
    folder = shared / "data"
    if not folder.is_dir():
        pytest.skip("optional real data not found")
    return folder


class Gold:
    """The gold cases' own loader, quiet about the files it leaves to the garbage collector."""

    def __init__(self, path):
        spec = importlib.util.spec_from_file_location("gold", path)
        self._module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)

    def names(self):
        return self._module.names()

    def load(self, name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            return self._module.load(name)


@pytest.fixture(scope="session")
def gold(shared):
    """The loader of the gold cases: ``gold.names()``, ``gold.load(name)``."""
    path = shared / "reference" / "gold" / "gold.py"
    if not path.is_file():
        pytest.skip("optional gold cases not found")
    return Gold(path)


@pytest.fixture
def seeded():
    """Pyro draws from the global generator; put it back."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
