"""How much memory a run takes, told before it starts."""

from pathlib import Path

import numpy as np

from splisosm_pyro.genes.slide import Slide
from splisosm_pyro.maths.car import CARKernel
from splisosm_pyro.maths.sparse_kernel import STORED_SPOTS
from splisosm_pyro.maths.sparse_system import prefer_dense

# A process with torch, numba and SciPy imported, measured.
PROCESS_BYTES = 450e6
# Matrices of one dense system at a time: covariance, workspace, inverse, and two in between.
DENSE_MATRICES = 5
MEMINFO = Path("/proc/meminfo")
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def bytes_per_worker(slide: Slide, kernel: CARKernel) -> float:
    """Predict the largest amount that one worker needs.

    The process itself, the kernel's factor, and the largest system of any gene: sparse (the factor
    of S Q unknowns) or dense (matrices of n Q, n its occupied spots), as the kernel will choose.
    """
    symbolic = kernel._field.symbolic
    stored = kernel.n_spots <= STORED_SPOTS
    fixed = 8.0 * (3.0 * symbolic.n_panel + (kernel.n_spots**2 if stored else 0))
    largest = 0.0
    for group in slide.groups:
        n_logits = group.iso_names.shape[1] - 1
        occupied = int((group.counts.sum(axis=2) > 0).sum(axis=1).max(initial=0))
        if prefer_dense(symbolic, occupied, n_logits, stored):
            need = DENSE_MATRICES * 8.0 * (occupied * n_logits) ** 2 + 8.0 * occupied**2
        else:
            need = 3.0 * 8.0 * symbolic.n_panel * n_logits**2
        need += 40.0 * 8.0 * kernel.n_spots * n_logits**2
        largest = max(largest, need)
    return PROCESS_BYTES + fixed + largest


def available_bytes() -> float | None:
    """Return what the machine, or the container around this process, has left; None if unknown."""
    found = []
    if MEMINFO.is_file():
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(1024.0 * float(lines["MemAvailable"].split()[0]))
    for limit, used in CGROUPS:
        if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
            found.append(float(limit.read_text()) - float(used.read_text()))
    return min(found) if found else None


def check_memory(slide: Slide, kernel: CARKernel, n_workers: int) -> float:
    """Return the bytes that a run will need beside the counts, or raise if there are not as many.

    Parameters
    ----------
    slide : Slide
    kernel : CARKernel
    n_workers : int
        Processes; with 1 the work is done in this one.

    Raises
    ------
    ValueError
        With what is needed, what there is, and how many workers would fit.
    """
    each = bytes_per_worker(slide, kernel)
    needed = n_workers * each if n_workers > 1 else each - PROCESS_BYTES
    free = available_bytes()
    if free is None or needed <= free:
        return needed
    fitting = int(np.floor(free / each))
    advice = f"n_jobs={fitting} would fit" if fitting >= 1 else "use a machine with more memory"
    raise ValueError(
        f"n_jobs={n_workers} needs about {needed / 1e9:.1f} GB of memory "
        f"({each / 1e9:.1f} GB a worker), {free / 1e9:.1f} GB are available: {advice}"
    )
