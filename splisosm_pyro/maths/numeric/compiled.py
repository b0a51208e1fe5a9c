"""The one way this package compiles a function: numba, cached on disk, without the GIL."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])
# The wrapper for callers in C, which there are none of, would be a tenth of the compilation.
NJIT: Any = numba.njit  # the option of the wrapper is not annotated
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def compiled(function: F) -> F:
    """Compile ``function`` on its first call; the type checker keeps its signature."""
    return cast("F", NJIT(**OPTIONS)(function))


def compiled_sums(function: F) -> F:
    """Likewise; sums may be taken in any order, so that they become vector instructions."""
    free = {"reassoc", "contract"}
    return cast("F", NJIT(fastmath=free, **OPTIONS)(function))
