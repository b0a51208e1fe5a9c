"""A run on workers, each of which prepares the kernel once and keeps it; what memory that takes."""

from functools import partial

import numpy as np
from tqdm import tqdm

from splisosm_pyro.fit.accelerator.memory import available_bytes, gene_bytes, kernel_bytes
from splisosm_pyro.genes.batches import GeneInput, Outcome, shuffled, work_off
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job
from splisosm_pyro.genes.one_gene import fit_one
from splisosm_pyro.genes.run.records import Records
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.numeric.worker_processes import on_this_machine

# A process with torch, numba and SciPy imported, measured.
PROCESS_BYTES = 450e6


def fit_batch(job: Job, genes: list[GeneInput]) -> list[Outcome]:
    """Fit a batch of genes; it carries options, design and graph."""
    prepared = job.prepared()
    return [fit_one(prepared, gene) for gene in genes]


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
    finished = [] if records is None else list(records.finished)
    done = {outcome["index"] for outcome in finished}
    left = [gene for gene in shuffled(slide) if gene.index not in done]
    bar = tqdm(total=slide.n_genes, initial=len(finished), unit="gene", disable=not progress)
    note = None if records is None else records.append
    found, complete = work_off(partial(fit_batch, job), left, n_jobs, batch_size, bar, note)
    return finished + found, complete


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
