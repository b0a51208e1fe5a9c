"""The three marginals at the depth of real data: simulations, and all real genes.

    python tests/benchmarks/nugget_study.py --genes 50 --jobs 2

needs the real slide (``--data``, or ``data`` in the folder ``SPLISOSM_PYRO_SHARED``) and writes
``nugget_*.csv``, ``nugget_*.md`` and ``nugget.png`` into ``--docs``. Seconds are those of
the processor, one thread a gene. The reference implementation takes part where an interpreter has
it: this one, or that of ``--other-python``; without one its rows are left out.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from nugget_tables import INFORMED, write_depth, write_real, write_simulation, write_small
from threadpoolctl import threadpool_limits

from splisosm_pyro import CARKernel
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_error import Conditional, gene_generator, marginal_error
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.without_space import fit_white_noise
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.maths.priors import Priors

FILE = "sit_mob_ont_isoforms.npz"
SIGMAS, THETAS = (0.5, 1.0, 2.0), (0.0, 0.3, 0.7, 0.95)
BIAS_SD = 0.5
METHODS: dict[str, dict[str, object]] = {
    "laplace": {},
    "quadrature": {"nugget": "quadrature"},
    "ep": {"smooth": "ep"},
}
DRAWS = 400
DEPTHS = (1, 4, 16)  # times the reads of the real genes
SMALL_CELLS = ((0.5, 0.3), (1.0, 0.3), (1.0, 0.7), (2.0, 0.7))
SMALL_SPOTS, SMALL_DEPTH = 225, 2.0
OTHER = Path(__file__).with_name("nugget_reference.py")
PARTS = ("simulation", "depth", "small", "real")
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Counts (S, P) and what to write beside their fits."""

    labels: Row
    counts: np.ndarray
    real: bool


class Worker:
    """One process: the kernel, the methods' specifications, and compiled code."""

    def __init__(self, coords: np.ndarray) -> None:
        self.kernel = CARKernel.from_coords(coords, k=6)
        empty = StandardDesign.of(np.zeros((len(coords), 0)))
        self.specs = {
            name: GLMMSpec(
                self.kernel,
                empty,
                share_variance=True,
                fix_sigma=False,
                priors=Priors(),
                options=GLMMOptions.from_configs("marginal_newton", configs),
            )
            for name, configs in METHODS.items()
        }
        rng = np.random.default_rng(0)
        for n_isos in (2, 3):  # compile before the clock runs
            totals = rng.poisson(0.3, len(coords))
            counts = rng.multinomial(totals, np.full(n_isos, 1 / n_isos)).astype(float)
            self.run(Task({}, counts, real=True))

    def run(self, task: Task) -> list[Row]:
        """Fit one gene by every method."""
        n_logits = task.counts.shape[1] - 1
        start = {
            "beta": np.zeros((0, n_logits)),
            "bias_eta": np.zeros(n_logits),
            "nu": np.zeros((len(task.counts), n_logits)),
            "sigma": np.ones(1),
            "theta_logit": np.full(1, -3.0),
        }
        known = {
            **task.labels,
            "reads": int(task.counts.sum()),
            "occupied": int((task.counts.sum(1) > 0).sum()),
        }
        return [{**known, **self.fit(name, task, start)} for name in METHODS]

    def fit(self, name: str, task: Task, start: dict[str, np.ndarray]) -> Row:
        """Fit by one method; a real gene without space as well, and with its certificate."""
        spec = self.specs[name]
        began = time.process_time()
        fit = fit_gene(spec, task.counts, start)
        row = {
            "method": name,
            "seconds": time.process_time() - began,
            "sigma": float(fit.params["sigma"][0]),
            "theta": float(1 / (1 + np.exp(-fit.params["theta_logit"][0]))),
            "log_marginal": fit.value,
            "status": str(fit.status),
        }
        if task.real:
            alone = fit_white_noise(spec, task.counts, start)
            row |= {"gain": fit.value - alone.value, "sigma_white": float(alone.params["sigma"][0])}
            at = Conditional.of_gene(spec, task.counts, fit.params)
            error = marginal_error(at, DRAWS, gene_generator(0, task.counts))
            row |= {"correction": error.correction, "correction_se": error.standard_error}
            row["pareto_k"] = error.pareto_k
        return row


WORKER: list[Worker] = []


def begin(coords: np.ndarray) -> None:
    """Set up a process."""
    threadpool_limits(1, user_api="blas")
    torch.set_num_threads(1)
    WORKER.append(Worker(coords))


def work(task: Task) -> list[Row]:
    """Fit a task in its process."""
    try:
        return WORKER[0].run(task)
    except (ArithmeticError, ValueError) as error:
        return [{**task.labels, "status": f"failed: {error}"}]


def drawn(
    kernel: CARKernel, totals: np.ndarray, sigma: float, theta: float, cell: int
) -> np.ndarray:  # (G, S, 2)
    """Draw two isoforms with these totals (G, S) from the model."""
    rng = np.random.default_rng([0, cell])
    smooth = kernel.sample((len(totals),), torch.Generator().manual_seed(cell)).numpy()
    white = rng.standard_normal(smooth.shape)
    nu = sigma * (np.sqrt(theta) * smooth + np.sqrt(1 - theta) * white)
    eta = BIAS_SD * rng.standard_normal((len(totals), 1)) + nu
    first = rng.binomial(totals, 1 / (1 + np.exp(-eta)))
    return np.stack([first, totals - first], axis=-1).astype(float)


def simulated(data: Any, n_genes: int, depth: int = 1, least: int = 0) -> Iterator[Task]:
    """Draw counts with ``depth`` times the totals of real genes, evenly spaced in their reads.

    Those of fewer than ``least`` reads are drawn but left out.
    """
    totals = data["counts"].astype(np.int64).sum(2)
    order = np.argsort(totals.sum(1), kind="stable")
    genes = order[np.linspace(0, len(order) - 1, n_genes).round().astype(int)]
    kernel = CARKernel.from_coords(data["coords"], k=6)
    for cell, (sigma, theta) in enumerate(product(SIGMAS, THETAS)):
        counts = drawn(kernel, depth * totals[genes], sigma, theta, cell)
        for gene, own in zip(genes, counts, strict=True):
            if totals[gene].sum() >= least:
                labels = {"true_sigma": sigma, "true_theta": theta, "gene": int(gene)}
                yield Task({**labels, "depth": depth}, own, real=False)


def small(data: Any, n_genes: int) -> tuple[np.ndarray, list[Task]]:
    """The slide's first spots and genes with so many reads a spot that a few dozen say enough."""
    coords = data["coords"][np.argsort(data["coords"].sum(1), kind="stable")[:SMALL_SPOTS]]
    kernel, tasks = CARKernel.from_coords(coords, k=6), []
    for cell, (sigma, theta) in enumerate(SMALL_CELLS):
        totals = np.random.default_rng([1, cell]).poisson(SMALL_DEPTH, (n_genes, len(coords)))
        for i, own in enumerate(drawn(kernel, totals, sigma, theta, 100 + cell)):
            labels = {"true_sigma": sigma, "true_theta": theta, "gene": i}
            tasks.append(Task(labels, own, real=False))
    return coords, tasks


def other(tasks: list[Task], coords: np.ndarray, method: str, python: str | None) -> pd.DataFrame:
    """Fit a truth's genes together by the reference implementation; no rows without it."""
    if python is None:
        return pd.DataFrame()
    cov, rows = CARKernel.from_coords(coords, k=6).dense().numpy(), []
    for _, cell in groupby(
        tasks, lambda task: (task.labels["true_sigma"], task.labels["true_theta"])
    ):
        batch = list(cell)
        with tempfile.TemporaryDirectory() as folder:
            source, target = f"{folder}/counts.npz", f"{folder}/fits.npz"
            np.savez(source, counts=np.stack([task.counts for task in batch]), cov=cov)
            subprocess.run([python, str(OTHER), source, target, method], check=True)
            fits = np.load(target)
            for i, task in enumerate(batch):
                row = {name: float(fits[name][i]) for name in fits.files}
                reads = {"reads": int(task.counts.sum()), "method": f"reference {method}"}
                rows.append({**task.labels, **reads, **row})
    return pd.DataFrame(rows)


def real(data: Any, n_genes: int | None) -> Iterator[Task]:
    """All real genes of two isoforms, and every fourth of three for the clock."""
    for key, step in (("", 1), ("_3", 4)):
        counts, names = data[f"counts{key}"], data[f"gene_names{key}"]
        for i in range(0, len(counts), step)[:n_genes]:
            labels = {"gene": str(names[i]), "n_isos": int(counts.shape[2])}
            yield Task(labels, counts[i].astype(float), real=True)


def run(tasks: Iterable[Task], coords: np.ndarray, jobs: int) -> pd.DataFrame:
    """Fit all tasks in ``jobs`` processes; one row a gene and method, in the tasks' order."""
    with get_context("spawn").Pool(jobs, begin, (coords,)) as pool:
        return pd.DataFrame([row for rows in pool.imap(work, tasks, chunksize=4) for row in rows])


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=50, help="genes of each simulated cell")
    parser.add_argument("--real-genes", type=int, default=None, help="default: all")
    parser.add_argument("--jobs", type=int, default=1)
    root = Path(__file__).resolve().parents[2]
    shared = Path(os.environ.get("SPLISOSM_PYRO_SHARED", root.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--docs", type=Path, default=root / "docs" / "measurements")
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--other-python", default=None, help="an interpreter that has splisosm")
    given = parser.parse_args()
    data = np.load(given.data / FILE)
    given.docs.mkdir(exist_ok=True)
    wanted = PARTS if given.part == "all" else (given.part,)
    python = given.other_python
    if python is None and importlib.util.find_spec("splisosm") is not None:
        python = sys.executable
    if "simulation" in wanted:
        tasks = list(simulated(data, given.genes))
        parts = [run(tasks, data["coords"], given.jobs)]
        parts.append(other(tasks, data["coords"], "joint_gd", python))
        write_simulation(pd.concat(parts, ignore_index=True), given.docs)
    if "depth" in wanted:
        parts = [
            run(simulated(data, given.genes, depth, INFORMED), data["coords"], given.jobs)
            for depth in DEPTHS
        ]
        write_depth(pd.concat(parts, ignore_index=True), given.docs)
    if "small" in wanted:
        coords, tasks = small(data, given.genes // 5)
        parts = [run(tasks, coords, given.jobs)]
        parts += [other(tasks, coords, name, python) for name in ("joint_gd", "marginal_newton")]
        write_small(pd.concat(parts, ignore_index=True), given.docs)
    if "real" in wanted:
        write_real(run(real(data, given.real_genes), data["coords"], given.jobs), given.docs)


if __name__ == "__main__":
    main()
