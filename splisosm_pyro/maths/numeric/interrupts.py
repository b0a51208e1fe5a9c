"""Ctrl-C while compiled code runs: never lost, and never taken for a failure of the work.

Python raises KeyboardInterrupt wherever it happens to be. On the way into or out of a compiled
function that is inside numba, which drops it or turns it into a SystemError.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """Raise what an interrupt's handler raised, at the end of the block at the latest.

    The handler in force stays the one that answers; where it raises nothing, or is not Python's,
    or in other threads than the main one, nothing changes.

    Examples
    --------
    >>> before = signal.signal(signal.SIGINT, signal.default_int_handler)
    >>> try:
    ...     with interrupts_heard():
    ...         try:
    ...             signal.raise_signal(signal.SIGINT)
    ...         except KeyboardInterrupt:
    ...             pass  # as numba may do
    ... except KeyboardInterrupt:
    ...     print("heard")
    heard
    >>> _ = signal.signal(signal.SIGINT, before)
    """
    own = signal.getsignal(signal.SIGINT)
    if not callable(own) or threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[BaseException] = []

    def answer(number: int, frame: FrameType | None) -> None:
        try:
            own(number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    except BaseException as error:
        if raised and error not in raised:
            raise raised[0] from error
        raise
    finally:
        signal.signal(signal.SIGINT, own)
    if raised:
        raise raised[0]
