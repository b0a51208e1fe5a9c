"""The one way this package compiles a function: numba, cached on disk, without the GIL.

Numba looks at a function's own file to tell whether what it kept on disk is still true, not at what
that file imports. So a cache folder is named by a digest of the file and of everything in the
package that it imports, to the last: code that changed is compiled anew, and so is what calls it.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])
# The wrapper for callers in C, which there are none of, would be a tenth of the compilation.
NJIT: Any = numba.njit  # the option of the wrapper is not annotated, nor are numba's settings
SETTINGS: Any = numba.config
OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
ROOT = Path(__file__).resolve().parents[2]
IMPORT = re.compile(rf"^\s*from {ROOT.name}\.([\w.]+) import", re.MULTILINE)


def compiled(function: F) -> F:
    """Compile ``function`` on its first call; the type checker keeps its signature."""
    return cast("F", _compile(function))


def compiled_sums(function: F) -> F:
    """Likewise; sums may be taken in any order, so that they become vector instructions."""
    return cast("F", _compile(function, fastmath={"reassoc", "contract"}))


def inlined(function: F) -> F:
    """Write ``function`` out where compiled code calls it: one that has a caller or two.

    It is not compiled by itself, and its callers have no copy of it to optimise once more.
    """
    return cast("F", _compile(function, inline="always"))


def _compile(function: F, **more: Any) -> Any:
    """Compile with a cache on disk where there is a place for one, else for this process alone."""
    folder = _cache_folder(Path(function.__code__.co_filename))
    if folder is not None:
        with _numba_caches_in(folder):
            try:
                return NJIT(cache=True, **OPTIONS, **more)(function)
            except RuntimeError:  # numba's word for a folder that it cannot write
                pass
    return NJIT(**OPTIONS, **more)(function)


@contextmanager
def _numba_caches_in(folder: Path) -> Iterator[None]:
    """Let functions that are made meanwhile keep their compiled code in ``folder``."""
    before = SETTINGS.CACHE_DIR
    SETTINGS.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        SETTINGS.CACHE_DIR = before


@cache
def _cache_folder(file: Path) -> Path | None:
    """Return where the compiled functions of ``file`` are kept; None if nothing can be written.

    Numba's own setting (``NUMBA_CACHE_DIR``) wins over a place beside the file, that over the
    user's cache.
    """
    name = f"compiled-{digest_of_sources(file)}"
    chosen = SETTINGS.CACHE_DIR
    places = [Path(chosen)] if chosen else [file.parent / "__pycache__", Path("~/.cache/numba")]
    for place in places:
        try:
            folder = place.expanduser() / name
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: there is no home
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


def missing_on_disk(function: Callable[..., object]) -> bool:
    """Return whether a compiled function could be kept on disk and is not, for any arguments."""
    plain: Any = getattr(function, "py_func", None)
    if plain is None:  # numba is told not to compile
        return False
    file = Path(plain.__code__.co_filename)
    folder = _cache_folder(file)
    kept = f"{file.stem}.{plain.__name__}-*.nbi"
    return folder is not None and next(folder.rglob(kept), None) is None


@cache
def digest_of_sources(file: Path) -> str:
    """Return a digest of a file and of all that it imports from this package, directly or not."""
    found, left = set[Path](), [file]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += _imports(one)
    digest = hashlib.blake2b(digest_size=8)
    for one in sorted(found):
        digest.update(one.read_bytes())
    return digest.hexdigest()


@cache
def _imports(file: Path) -> list[Path]:
    """Return the package's files that a file imports; of a folder, all of its own."""
    files: list[Path] = []
    for name in IMPORT.findall(file.read_text(encoding="utf-8")):
        path = ROOT.joinpath(*name.split("."))
        files += path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return files
