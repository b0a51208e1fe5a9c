"""The one way this package compiles a function: numba, cached on disk, without the GIL."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile ``function`` on its first call; the type checker keeps its signature."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_sums(function: F) -> F:
    """Likewise; sums may be taken in any order, so that they become vector instructions."""
    free = {"reassoc", "contract"}
    compiler = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=free)
    return cast("F", compiler(function))
