"""Genes fitted together on an accelerator: every gene's own search, in lockstep with the others'.

Each gene runs the very code that fits it on the CPU, in a thread of its own; only the dense linear
algebra of its covariance waits for the other genes and is done for all at once (``dense_batch.py``
beside this file). Search, starts, bounds, statuses and certificates are therefore those of the
engine, and its results to the rounding of the factorisations.
"""

from collections.abc import Callable, Sequence
from typing import TypeGuard, TypeVar

import numpy as np
import torch

from splisosm_pyro.fit.accelerator.dense_batch import (
    SCRATCH_MATRICES,
    BatchedKernel,
    DenseBatch,
    Operation,
)
from splisosm_pyro.fit.accelerator.lockstep import Lockstep
from splisosm_pyro.fit.accelerator.memory import available_bytes
from splisosm_pyro.maths.covariance.dense import DenseKernel
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray

Result = TypeVar("Result")

# Genes at a time, at most: each has a thread.
MOST_TOGETHER = 512
# Genes share a batch where the most occupied spots are no more than this times the fewest: the
# padding then at most doubles the work.
ALIKE = 1.26
# The share of the free memory that is used, and that of it for operations in flight.
USED, SCRATCH = 0.8, 0.4


def batches_on(kernel: Kernel, device: torch.device) -> TypeGuard[DenseKernel]:
    """Whether genes with this kernel are fitted together on this device.

    Dense kernels on CUDA devices; ``mps`` has no float64, which the engine needs, and the other
    forms of a kernel are fastest on the CPU.
    """
    return device.type == "cuda" and isinstance(kernel, DenseKernel)


def each_gene(
    work: Callable[..., Result],
    kernel: Kernel | None,
    counts: FloatArray,  # (G, S, P)
    device: torch.device,
) -> list[Result]:
    """Return ``work(gene)`` of every gene, or ``work(gene, its kernel)`` many at a time.

    ``work`` must not raise.
    """
    n_genes, _, n_isos = counts.shape
    if kernel is None or not batches_on(kernel, device):
        return [work(gene) for gene in range(n_genes)]
    occupied = [int(n) for n in (counts.sum(axis=2) > 0).sum(axis=1)]
    return fit_together(work, kernel, occupied, n_isos - 1, device)


def fit_together(
    fit: Callable[[int, Kernel], Result],
    kernel: DenseKernel,
    occupied: Sequence[int],
    n_logits: int,
    device: torch.device,
) -> list[Result]:
    """Fit genes in batches of like size.

    Parameters
    ----------
    fit : callable
        Takes a gene and the kernel to fit it with, returns its fit; must not raise.
    kernel : DenseKernel
        V.
    occupied : sequence of int, length G
        How many spots with counts every gene has.
    n_logits : int
        Q.
    device : torch.device
        Any with float64.

    Returns
    -------
    list
        The fits in the order of the genes.

    Raises
    ------
    MemoryError
        Before anything is fitted, if the device has no room for the largest gene.
    """
    groups = alike(occupied)
    most = [max(1, *(occupied[gene] for gene in group)) for group in groups]
    rooms = [room(device, kernel.n_spots, n, n_logits) for n in most]  # refuses before it starts
    cov, fits = kernel.dense().to(device), dict[int, Result]()
    for group, n, (width, at_once) in zip(groups, most, rooms, strict=True):
        width = min(width, len(group))
        batch = DenseBatch(cov, n, n_logits, width, min(at_once, width))
        fits.update(zip(group, _fit_group(fit, kernel, group, batch), strict=True))
        del batch  # its memory is the next one's
    return [fits[gene] for gene in range(len(occupied))]


def _fit_group(
    fit: Callable[[int, Kernel], Result],
    kernel: DenseKernel,
    group: Sequence[int],
    batch: DenseBatch,
) -> list[Result]:
    """Fit genes of like size, as many at a time as the batch has slots."""
    steps: Lockstep[Operation] = Lockstep(batch.answer)
    kernels = [BatchedKernel(kernel, steps.ask, slot) for slot in range(len(batch.lower))]
    return steps.run(lambda gene, slot: fit(gene, kernels[slot]), group, len(kernels))


def alike(occupied: Sequence[int]) -> list[list[int]]:
    """Group genes with about as many occupied spots, the smallest first.

    Examples
    --------
    >>> alike([100, 10, 12, 90])
    [[1, 2], [3, 0]]
    """
    groups: list[list[int]] = []
    for gene in np.argsort(occupied, kind="stable").tolist():
        if groups and occupied[gene] <= ALIKE * occupied[groups[-1][0]]:
            groups[-1].append(gene)
        else:
            groups.append([gene])
    return groups


def room(device: torch.device, n_spots: int, n_occupied: int, n_logits: int) -> tuple[int, int]:
    """Return how many genes fit on a device, and how many of them in one operation.

    Raises
    ------
    MemoryError
        If not a single one does; with what is needed and what there is.
    """
    matrix = 8.0 * float(n_occupied * n_logits) ** 2 + 1.0
    free = free_bytes(device)
    if free is None:
        return MOST_TOGETHER, MOST_TOGETHER
    budget = USED * free - 8.0 * n_spots**2
    if budget < (1 + SCRATCH_MATRICES) * matrix:
        raise MemoryError(
            f"counts with {n_occupied} occupied spots and {n_logits} logits need about "
            f"{((1 + SCRATCH_MATRICES) * matrix + 8.0 * n_spots**2) / USED / 1e9:.1f} GB on "
            f"{device}, {free / 1e9:.1f} GB are free: take device='cpu' or a sparse or low-rank "
            "kernel"
        )
    together = max(1, int(SCRATCH * budget / (SCRATCH_MATRICES * matrix)))
    width = int((budget - SCRATCH_MATRICES * together * matrix) / matrix)
    return max(1, min(MOST_TOGETHER, width)), together


def free_bytes(device: torch.device) -> float | None:
    """Return the free memory of a device, None if unknown."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    return available_bytes()
