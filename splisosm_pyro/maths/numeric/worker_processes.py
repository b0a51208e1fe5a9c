"""Worker processes of this machine: Ctrl-C is for the process that asked, and they end with it.

One that was killed cannot tell its workers, and a worker that waits for its next batch holds both
ends of the pipe that it waits at. So each begins by watching for its parent.
"""

import os
import signal
import threading
import time
from functools import cache
from typing import Any

from joblib.parallel import LokyBackend, get_active_backend

# Seconds after which a worker sees that the process that asked for its work is gone.
PULSE = 1.0


def on_this_machine() -> bool:
    """Return whether joblib's workers are processes here, not those of a cluster."""
    backend, _ = get_active_backend()
    return bool(type(backend).__module__ == LokyBackend.__module__)


def worker_options() -> dict[str, Any]:
    """Return what ``joblib.Parallel`` is to be called with, so that its workers begin as told here.

    Nothing for a cluster, which looks after its own.
    """
    return {"initializer": begin, "initargs": (os.getpid(),)} if on_this_machine() else {}


def begin(parent: int) -> None:
    """Begin a worker, before its first batch."""
    leave_interrupts_to(parent)
    end_with(parent)


def leave_interrupts_to(owner: int) -> None:
    """Ignore Ctrl-C, unless this process is ``owner``: it ends its workers."""
    if os.getpid() != owner and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def end_with(parent: int) -> None:
    """End this process when ``parent`` is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PULSE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
