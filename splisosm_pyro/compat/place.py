"""Puts our classes in the place of splisosm's own, and takes them away again."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from splisosm_pyro.compat.classes import FullModel, MultinomGLM, MultinomGLMM, NullModel

# Where splisosm 1.2 defines what is replaced.
REPLACED: dict[tuple[str, str], Any] = {
    ("splisosm.glmm.glm", "MultinomGLM"): MultinomGLM,
    ("splisosm.glmm.glmm", "MultinomGLMM"): MultinomGLMM,
    ("splisosm.glmm.workers", "IsoFullModel"): FullModel,
    ("splisosm.glmm.workers", "IsoNullNoSpVar"): NullModel,
}
PIPELINE, WORKERS = "splisosm.hyptest.glmm", "splisosm.glmm.workers"
TASKS = ("_fit_model_one_gene", "_fit_null_full_sv_one_gene", "_fit_perm_one_gene")

_taken: list[tuple[ModuleType, str, Any]] = []  # module, name, what stood there


class WorkerTask:
    """A task of the pipeline as a worker process runs it: with our classes in place there too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        install()
        return getattr(importlib.import_module(WORKERS), self.name)(*args, **kwargs)


def install() -> None:
    """Put our classes under ``SplisosmGLMM`` and in ``splisosm.glmm``, in this process.

    Every module of splisosm that has been loaded is searched; worker processes of the pipeline do
    the same. A name that was imported into a script before stays what it was. Done twice, the
    second call does nothing.

    Raises
    ------
    ImportError
        If splisosm is not installed or lacks what 1.2 has.
    """
    if _taken:
        return
    originals = {id(_original(*place)): ours for place, ours in REPLACED.items()}
    pipeline = importlib.import_module(PIPELINE)
    tasks = [(pipeline, name, getattr(pipeline, name), WorkerTask(name)) for name in TASKS]
    found = [
        (module, name, value, originals[id(value)])
        for module in _loaded()
        for name, value in vars(module).items()
        if id(value) in originals
    ]
    for module, name, value, ours in found + tasks:
        setattr(module, name, ours)
        _taken.append((module, name, value))


def uninstall() -> None:
    """Put splisosm's own classes back; without an ``install()`` nothing is done."""
    while _taken:
        setattr(*_taken.pop())


def is_installed() -> bool:
    """Return whether our classes are in place."""
    return bool(_taken)


@contextmanager
def installed() -> Iterator[None]:
    """Have our classes in place for a while, and afterwards what was before."""
    before = is_installed()
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


def _original(module: str, name: str) -> Any:
    """Return what splisosm has under a name."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"compat.install() needs splisosm 1.2 with {module}.{name}, which is not there "
            f"({error}): pip install splisosm==1.2.0"
        ) from error


def _loaded() -> list[ModuleType]:
    """Return the modules of splisosm that have been loaded."""
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "splisosm" and isinstance(module, ModuleType)
    ]
