"""Genes in batches on workers: processes of this machine, or a cluster through joblib's backends.

A batch carries all that its genes need; every gene is worked on by the same function with one
thread, so that its result depends on its own counts alone.
"""

import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.maths.numeric.arrays import AnyArray
from splisosm_pyro.maths.numeric.worker_processes import leave_interrupts_to, worker_options

logger = logging.getLogger("splisosm_pyro")
LARGEST_BATCH = 16
# The last genes go out in small batches, so that the workers end together: a batch is at most this
# part of what each worker still has to do.
PART_OF_THE_REST = 4
# Batches a worker before results are taken in, where a backend gives them in one go.
WAVE = 4

Outcome = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class GeneInput:
    """A gene as it goes to a worker: its place in the slide, its names, its counts (S, P)."""

    index: int
    name: str
    isoforms: tuple[str, ...]
    counts: AnyArray


# Of a batch of genes, as they come and whatever else is known of them.
Work = Callable[[list[Any]], list[Outcome]]


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


def batches(genes: Sequence[T], batch_size: int | str, workers: int) -> Iterator[list[T]]:
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


def _cut(genes: Sequence[T], largest: int, parts: int) -> Iterator[list[T]]:
    """Yield lists of ``largest`` genes, or of the ``parts``-th part of what is left."""
    start = 0
    while start < len(genes):
        size = max(1, min(largest, (len(genes) - start) // parts))
        yield list(genes[start : start + size])
        start += size


def work_off(
    work: Work,
    genes: Sequence[Any],
    n_jobs: int,
    batch_size: int | str,
    bar: "tqdm[Any]",
    note: Callable[[list[Outcome]], None] | None = None,
) -> tuple[list[Outcome], bool]:
    """Do the work of all genes, batch after batch.

    Parameters
    ----------
    work
        Of a batch, an outcome a gene; it goes to other processes.
    genes, n_jobs, batch_size
        Which, on how many workers, how many at a time.
    bar
        Moves on by the genes that are done, from those that were done before.
    note
        Is told of every batch before it counts as done.

    Returns
    -------
    list of dict
        In the order in which the batches end.
    bool
        Whether these are all genes; False after Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        If nothing is done so far.
    RuntimeError
        If a worker was ended from outside.
    """
    outcomes: list[Outcome] = []
    before = int(bar.n)
    parts = _run(work, batches(genes, batch_size, n_workers(n_jobs)), n_jobs)
    try:
        with bar:
            for part in parts:
                if note is not None:
                    note(part)
                outcomes += part
                bar.update(len(part))
    except KeyboardInterrupt:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of workers that are ended in the middle
            parts.close()
        done = before + len(outcomes)
        if not done:
            raise
        logger.warning("interrupted after %d genes", done)
        return outcomes, False
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker was ended from outside, perhaps for want of memory, after "
            f"{before + len(outcomes)} genes: lower n_jobs; with resume a run goes on from there"
        ) from error
    return outcomes, True


def _run(work: Work, parts: Iterator[list[Any]], n_jobs: int) -> Generator[list[Outcome]]:
    """Yield the outcomes of batch after batch, in the order in which they end."""
    owner, options = os.getpid(), {"n_jobs": n_jobs, "batch_size": 1, **worker_options()}
    if n_jobs == 1:
        for part in parts:
            yield _with_one_thread(work, part, owner)
        return
    tasks = (delayed(_with_one_thread)(work, part, owner) for part in parts)
    try:
        pool = Parallel(return_as="generator_unordered", **options)
    except ValueError:  # a backend, such as Ray's, that gives nothing before all is done
        pool, size = Parallel(**options), WAVE * n_workers(n_jobs)
        while wave := list(islice(tasks, size)):
            yield from pool(wave)
        return
    yield from pool(tasks)


def _with_one_thread(work: Work, genes: list[Any], owner: int) -> list[Outcome]:
    """Do the work of a batch; ``owner`` is the process that asked for it."""
    leave_interrupts_to(owner)
    with threadpool_limits(limits=1):
        return work(genes)
