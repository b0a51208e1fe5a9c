"""Batches of genes on workers: processes of this machine, or a cluster through joblib's backends.

A worker prepares the kernel once and keeps it; a batch carries its counts, the options, the design
and the graph. Every gene is fitted by the same function with one thread, so that its result depends
on its own counts alone.
"""

import logging
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from splisosm_pyro.fit.accelerator.memory import available_bytes, gene_bytes, kernel_bytes
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job
from splisosm_pyro.genes.one_gene import GeneInput, fit_one
from splisosm_pyro.genes.run.records import Records
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.numeric.worker_processes import (
    leave_interrupts_to,
    on_this_machine,
    worker_options,
)

logger = logging.getLogger("splisosm_pyro")
LARGEST_BATCH = 16
# The last genes go out in small batches, so that the workers end together: a batch is at most this
# part of what each worker still has to do.
PART_OF_THE_REST = 4
# Batches a worker before results are taken in, where a backend gives them in one go.
WAVE = 4
# A process with torch, numba and SciPy imported, measured.
PROCESS_BYTES = 450e6

Outcome = dict[str, Any]


def genes_of(slide: Slide) -> Iterator[GeneInput]:
    """Yield the genes of a slide in its order."""
    index = 0
    for group in slide.groups:
        for counts, gene, isos in zip(group.counts, group.gene_names, group.iso_names, strict=True):
            yield GeneInput(index, str(gene), tuple(map(str, isos)), counts)
            index += 1


def shuffled(slide: Slide) -> list[GeneInput]:
    """Return the genes in an order of chance, always the same.

    Files hold cheap and expensive genes in blocks; mixed, the rate and the time left mean something
    from the start.
    """
    genes = list(genes_of(slide))
    return [genes[i] for i in np.random.default_rng(0).permutation(len(genes))]


def fit_batch(job: Job, genes: list[GeneInput], owner: int) -> list[Outcome]:
    """Fit a batch of genes with one thread; ``owner`` is the process that asked for it."""
    leave_interrupts_to(owner)
    with threadpool_limits(limits=1):
        prepared = job.prepared()
        return [fit_one(prepared, gene) for gene in genes]


def n_workers(n_jobs: int) -> int:
    """Return how many workers joblib will use; -1 stands for all cores, or all of a cluster.

    Raises
    ------
    ValueError
        If it is 0 or no whole number.
    """
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise ValueError(f"n_jobs must be a whole number above 0, or -1, came {n_jobs!r}")
    return 1 if n_jobs == 1 else int(effective_n_jobs(n_jobs))


def batches(
    genes: Sequence[GeneInput], batch_size: int | str, workers: int
) -> Iterator[list[GeneInput]]:
    """Cut genes into batches; 'auto' takes up to 16, and fewer towards the end.

    Raises
    ------
    ValueError
        If the size is neither 'auto' nor a whole number above 0.

    Examples
    --------
    >>> [len(batch) for batch in batches(range(40), "auto", 2)]
    [5, 4, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    if batch_size == "auto":
        return _cut(genes, LARGEST_BATCH, PART_OF_THE_REST * workers)
    if isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size > 0:
        return _cut(genes, batch_size, 1)
    raise ValueError(f"batch_size must be 'auto' or a whole number above 0, came {batch_size!r}")


def _cut(genes: Sequence[GeneInput], largest: int, parts: int) -> Iterator[list[GeneInput]]:
    """Yield lists of ``largest`` genes, or of the ``parts``-th part of what is left."""
    start = 0
    while start < len(genes):
        size = max(1, min(largest, (len(genes) - start) // parts))
        yield list(genes[start : start + size])
        start += size


def run_batches(
    job: Job, parts: Iterator[list[GeneInput]], n_jobs: int
) -> Generator[list[Outcome]]:
    """Yield the outcomes of batch after batch, in the order in which they end."""
    owner, options = os.getpid(), {"n_jobs": n_jobs, "batch_size": 1, **worker_options()}
    if n_jobs == 1:
        for part in parts:
            yield fit_batch(job, part, owner)
        return
    tasks = (delayed(fit_batch)(job, part, owner) for part in parts)
    try:
        pool = Parallel(return_as="generator_unordered", **options)
    except ValueError:  # a backend, such as Ray's, that gives nothing before all is done
        pool, size = Parallel(**options), WAVE * n_workers(n_jobs)
        while wave := list(islice(tasks, size)):
            yield from pool(wave)
        return
    yield from pool(tasks)


def fit_rest(
    job: Job,
    slide: Slide,
    records: Records | None,
    n_jobs: int,
    batch_size: int | str,
    progress: bool,
) -> tuple[list[Outcome], bool]:
    """Fit the genes that are not on record, and record them.

    Returns
    -------
    list of dict
        The outcomes of all genes, those on record first.
    bool
        Whether these are all genes; False after Ctrl-C.
    """
    outcomes = [] if records is None else list(records.finished)
    done = {outcome["index"] for outcome in outcomes}
    left = [gene for gene in shuffled(slide) if gene.index not in done]
    parts = run_batches(job, batches(left, batch_size, n_workers(n_jobs)), n_jobs)
    bar = tqdm(total=slide.n_genes, initial=len(outcomes), unit="gene", disable=not progress)
    try:
        with bar:
            for part in parts:
                if records is not None:
                    records.append(part)
                outcomes += part
                bar.update(len(part))
    except KeyboardInterrupt:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of workers that are ended in the middle
            parts.close()
        if not outcomes:
            raise
        logger.warning("interrupted after %d genes", len(outcomes))
        return outcomes, False
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a worker was ended from outside, perhaps for want of memory, after {len(outcomes)} "
            "genes: lower n_jobs; with resume the run goes on from there"
        ) from error
    return outcomes, True


def bytes_per_worker(slide: Slide, kernel: CARKernel) -> float:
    """Predict the largest amount that one worker needs.

    The process itself, the kernel's factor, and the largest system of any gene: sparse (the factor
    of S Q unknowns) or dense (matrices of n Q, n its occupied spots), as the kernel will choose.
    """
    largest = 0.0
    for group in slide.groups:
        n_logits = group.iso_names.shape[1] - 1
        occupied = int((group.counts.sum(axis=2) > 0).sum(axis=1).max(initial=0))
        largest = max(largest, gene_bytes(kernel, occupied, n_logits))
    return PROCESS_BYTES + kernel_bytes(kernel) + largest


def check_memory(slide: Slide, job: Job, workers: int) -> None:
    """Refuse a run on this machine that needs more memory, beside the counts, than there is.

    Parameters
    ----------
    slide : Slide
    job : Job
        Of this slide.
    workers : int
        Processes; with 1 the work is done in this one.

    Raises
    ------
    ValueError
        With what is needed, what there is, and how many workers would fit.
    """
    if not on_this_machine():
        return
    each = bytes_per_worker(slide, job.prepared().kernel)
    needed = workers * each if workers > 1 else each - PROCESS_BYTES
    free = available_bytes()
    if free is None or needed <= free:
        return
    fitting = int(np.floor(free / each))
    advice = f"n_jobs={fitting} would fit" if fitting >= 1 else "use a machine with more memory"
    raise ValueError(
        f"n_jobs={workers} needs about {needed / 1e9:.1f} GB of memory "
        f"({each / 1e9:.1f} GB a worker), {free / 1e9:.1f} GB are available: {advice}"
    )
