"""How much memory a fit takes, told before it starts."""

from pathlib import Path

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.covariance.low_rank import LowRankKernel
from splisosm_pyro.maths.covariance.sparse import STORED_SPOTS, SparseKernel
from splisosm_pyro.maths.covariance.sparse_factor import prefer_dense

# Matrices of one dense system at a time: covariance, two factors, inverse, and two in between.
DENSE_MATRICES = 6
# Panels of one sparse system at a time: two factors, a selected inverse, the fronts in between.
SPARSE_PANELS = 4
# Numbers a spot and pair of logits that the passes over the spots keep.
NUMBERS_A_SPOT = 40
MEMINFO = Path("/proc/meminfo")
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def kernel_bytes(kernel: Kernel) -> float:
    """Predict what a kernel keeps once it has served a gene, beyond what it began with."""
    if not isinstance(kernel, SparseKernel):
        return 0.0
    stored = kernel.n_spots**2 if kernel.n_spots <= STORED_SPOTS else 0
    return 8.0 * (SPARSE_PANELS * kernel.symbolic.n_panel + stored)


def gene_bytes(kernel: Kernel, n_occupied: int, n_logits: int) -> float:
    """Predict the largest amount that the fit of one gene needs beside its kernel.

    The largest system, sparse (the factor of S Q unknowns), low-rank (R Q unknowns) or dense (n Q
    unknowns, n the occupied spots), as the kernel will choose, and what is kept of every spot.

    Examples
    --------
    >>> import torch
    >>> from splisosm_pyro.maths.covariance.dense import DenseKernel
    >>> gene_bytes(DenseKernel(torch.eye(1000)), 500, 2) / 1e6
    51.28
    """
    n_spots = int(kernel.n_spots)
    dense = 8.0 * (DENSE_MATRICES * float(n_occupied * n_logits) ** 2 + n_occupied**2)
    need = 8.0 * NUMBERS_A_SPOT * n_spots * n_logits**2
    if isinstance(kernel, LowRankKernel):
        rank = int(kernel.basis.shape[1])
        return need + 8.0 * (DENSE_MATRICES * float(rank * n_logits) ** 2 + rank * n_spots)
    if not isinstance(kernel, SparseKernel):
        return need + dense
    symbolic = kernel.symbolic
    if prefer_dense(symbolic, n_occupied, n_logits, n_spots <= STORED_SPOTS):
        return need + dense
    return need + 8.0 * SPARSE_PANELS * symbolic.n_panel * n_logits**2


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


def check_fit_memory(kernel: Kernel, n_occupied: int, n_logits: int) -> None:
    """Refuse a fit that cannot fit; ``n_occupied`` is the most of any gene.

    Raises
    ------
    MemoryError
        With what is needed and what there is.
    """
    needed = kernel_bytes(kernel) + gene_bytes(kernel, n_occupied, n_logits)
    free = available_bytes()
    if free is not None and needed > free:
        raise MemoryError(
            f"counts with {n_occupied} occupied spots and {n_logits} logits need about "
            f"{needed / 1e9:.1f} GB of memory with a {type(kernel).__name__}, "
            f"{free / 1e9:.1f} GB are available: give corr_sp as a CARKernel or a LowRankKernel, "
            "or use a machine with more memory"
        )
