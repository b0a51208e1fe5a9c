"""Storage for the factors of a system: they are large, and most are soon replaced by others."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray


class Buffers:
    """A few arrays that factors take in turn.

    A factor asks for its array whenever it needs it. Where another has taken that since, it is
    filled again: a factor is always that of what it was made for, and no more than ``most`` are in
    memory however many are kept.

    Examples
    --------
    >>> class Factor: ...
    >>> one, two, buffers = Factor(), Factor(), Buffers((1,), most=1)
    >>> float(buffers.of(one, lambda array: array.fill(1.0))[0])
    1.0
    >>> float(buffers.of(two, lambda array: array.fill(2.0))[0])
    2.0
    >>> float(buffers.of(one, lambda array: array.fill(1.0))[0])
    1.0
    """

    def __init__(self, shape: tuple[int, ...], most: int = 2) -> None:
        self.shape, self.most = shape, most
        # least recently used first
        self._held: list[tuple[Callable[[], Any], FloatArray]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy without the arrays: the factors fill them when they are used."""
        return Buffers, (self.shape, self.most)

    def of(self, owner: Any, fill: Callable[[FloatArray], None]) -> FloatArray:
        """Return the owner's array, after ``fill`` where it is not in memory."""
        held = self._held
        if held and held[-1][0]() is owner:
            return held[-1][1]
        place = next((i for i, (who, _) in enumerate(held) if who() is owner), None)
        if place is not None:
            held.append(held.pop(place))
            return held[-1][1]
        place = next((i for i, (who, _) in enumerate(held) if who() is None), None)
        if place is None and len(held) == self.most:
            place = 0
        array = np.empty(self.shape) if place is None else held.pop(place)[1]
        fill(array)
        held.append((weakref.ref(owner), array))
        return array
