import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splisosm_pyro.genes.run.workers import PULSE

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
from splisosm_pyro.genes.run.workers import end_with
end_with(os.getppid())
end_with(os.getppid())  # one watcher, however many batches
print("ready", flush=True)
time.sleep(120)
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from /proc")
def test_a_worker_ends_with_the_process_that_asked():
    command = [sys.executable, "-c", PARENT, WORKER]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(1.5 * PULSE)
        assert alive(worker)  # it stays while it is needed
        parent.kill()
    deadline = time.monotonic() + 60
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


def test_a_worker_whose_asker_was_gone_before_its_first_batch_ends():
    """Such a process has another parent by then."""
    code = (
        "import os, time\n"
        "from splisosm_pyro.genes.run.workers import fit_batch\n"
        "class Gone:\n"
        "    def prepared(self):\n"
        "        time.sleep(120)\n"
        "fit_batch(Gone(), [], os.getpid() + 1, local=True)\n"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=100).returncode == 1
