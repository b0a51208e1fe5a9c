import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splisosm_pyro.maths.numeric.worker_processes import PULSE, leave_interrupts_to

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
# A process that starts a worker, says the worker's number, and waits to be killed.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()  # the worker watches
print(child.pid, flush=True)
child.wait()
"""
WORKER = """
import os, time
from splisosm_pyro.maths.numeric.worker_processes import begin, end_with
begin(os.getppid())
end_with(os.getppid())  # one watcher, however often it is asked for
print("ready", flush=True)
time.sleep(120)
"""
# Killed as soon as its workers are there, in the middle of what they are told first.
KILLED_AT_ONCE = """
import os, signal, sys, threading, time
from pathlib import Path
from joblib import Parallel, delayed
from splisosm_pyro.maths.numeric.worker_processes import worker_options

def of_joblib(pid):
    return b"loky" in Path(f"/proc/{pid}/cmdline").read_bytes()

def started():
    return [pid for task in os.listdir("/proc/self/task")
            for pid in Path(f"/proc/self/task/{task}/children").read_text().split()]

def kill_soon():
    while sum(map(of_joblib, own := started())) < 3:  # two workers and what tracks their semaphores
        time.sleep(0.01)
    print(*own, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill_soon, daemon=True).start()
with Parallel(n_jobs=2, **worker_options()) as pool:
    pool(delayed(time.sleep)(0.01) for _ in range(100_000))
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pids, seconds=60.0):
    """Whether all have ended in time."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(alive, pids))


@needs_proc
def test_a_worker_ends_with_the_process_that_asked():
    command = [sys.executable, "-c", PARENT, WORKER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENV) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(1.5 * PULSE)
        assert alive(worker)  # it stays while it is needed
        parent.kill()
    assert gone([worker])


@needs_proc
def test_nothing_is_left_of_a_process_that_was_killed_while_its_workers_began():
    command = [sys.executable, "-c", KILLED_AT_ONCE]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV
    ) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert parent.wait(60) == -signal.SIGKILL
    assert len(workers) >= 3
    assert gone(workers)
    shared = Path("/dev/shm")
    assert not [*shared.glob(f"*loky-{parent.pid}-*"), *shared.glob(f"*folder_{parent.pid}_*")]


def test_a_worker_whose_asker_was_gone_before_it_began_ends():
    """Such a process has another parent by then."""
    code = (
        "import os, time\n"
        "from splisosm_pyro.maths.numeric.worker_processes import begin\n"
        "begin(os.getpid() + 1)\n"
        "time.sleep(120)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env=ENV, timeout=100).returncode == 1


def test_the_process_that_asked_keeps_its_own_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    leave_interrupts_to(os.getpid())
    assert signal.getsignal(signal.SIGINT) is before
