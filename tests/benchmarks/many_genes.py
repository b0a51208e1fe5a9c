"""Many genes: workers, kills and scale, as a user would meet them.

    python tests/benchmarks/many_genes.py workers FILE.h5ad      2 workers against 1, in turn
    python tests/benchmarks/many_genes.py kills FILE.h5ad        killed ten times, resumed each time
    python tests/benchmarks/many_genes.py scale --genes 5000 --spots 3000

``workers`` and ``scale`` time by the clock, on a machine that does nothing else. ``kills`` runs the
command line, ends it by SIGKILL at random moments, resumes, and compares the tables byte by byte
with those of a run that was left alone (without the column of seconds).
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from timing import peak_memory

COLUMNS = {"group_iso_by": "gene_symbol", "covariates": ["region"]}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# Seconds that a run takes to start its workers.
STARTING = 6.0


def workers(args: argparse.Namespace) -> None:
    """Time ``fit_genes`` with 1 and 2 workers in turn, each in a process of its own."""
    code = (
        "import sys, time, anndata\n"
        "from splisosm_pyro import fit_genes\n"
        "adata = anndata.read_h5ad(sys.argv[1])\n"
        "start = time.perf_counter()\n"
        f"fit_genes(adata, n_jobs=int(sys.argv[2]), progress=False, **{COLUMNS})\n"
        "print(time.perf_counter() - start)\n"
    )
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.repeats):
        for n_jobs, own in seconds.items():
            command = [sys.executable, "-c", code, args.file, str(n_jobs)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=ENVIRONMENT)
            own.append(float(done.stdout))
            print(f"{n_jobs} workers: {own[-1]:.1f} s", flush=True)
    one, two = (statistics.median(own) for own in seconds.values())
    print(f"medians {one:.1f} and {two:.1f} s: {one / two:.2f} times faster")


def kills(args: argparse.Namespace) -> None:
    """Kill a run at random moments, resume it, compare with one that was left alone."""
    rng = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp())
    options = ["--group-iso-by", "gene_symbol", "--covariates", "region", "--figures", "0"]
    options += ["--n-jobs", str(args.n_jobs), "--quiet"]
    command = [sys.executable, "-m", "splisosm_pyro", "fit", args.file, *options]
    start = time.perf_counter()
    subprocess.run([*command, "--out", folder / "alone"], check=True, env=ENVIRONMENT)
    whole = time.perf_counter() - start
    killed = [*command, "--out", folder / "killed", "--resume"]
    for kill in range(args.kills):
        process = subprocess.Popen(killed, env=ENVIRONMENT)
        time.sleep(rng.uniform(0.0, 2.0 * whole / args.kills) + STARTING)
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"kill {kill + 1}: {_records(folder / 'killed')}", flush=True)
    subprocess.run(killed, check=True, env=ENVIRONMENT)
    for name in ("table.csv", "isoforms.csv", "removed.csv"):
        one, other = (_without_seconds(folder / run / name) for run in ("alone", "killed"))
        print(f"{name}: {'equal to the byte' if one == other else 'DIFFERENT'}")
    shutil.rmtree(folder)


def _records(folder: Path) -> str:
    """Say how far a run has come, and whether its last record is whole."""
    path = folder / "records.jsonl"
    content = path.read_bytes() if path.is_file() else b""
    torn = len(content) - (content.rfind(b"\n") + 1)
    batches = max(content.count(b"\n") - 1, 0)
    return f"{batches} batches on disk, {torn} bytes of a torn one"


def _without_seconds(path: Path) -> str:
    """Return a table as it was written, without the column that differs from run to run."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.drop(columns="seconds", errors="ignore").to_csv()


def scale(args: argparse.Namespace) -> None:
    """Fit simulated genes as sparse as real ones; print the rate along the way, and the memory."""
    from splisosm_pyro import fit_genes, simulate_tissue
    from splisosm_pyro.genes.run.records import Records

    rng = np.random.default_rng(args.seed)
    tissue = simulate_tissue(
        args.spots,
        args.genes,
        2,
        depth=np.exp(rng.normal(np.log(0.13), 1.3, args.genes)),
        sigma=rng.uniform(0.3, 1.5, args.genes),
        theta=rng.uniform(0.0, 1.0, args.genes),
        seed=rng,
    )
    counts = tissue.counts.numpy().astype(np.uint16)
    empty = float((counts.sum(2) == 0).mean())
    print(f"{counts.shape}: {counts.sum(2).mean():.2f} reads a spot, {100 * empty:.0f} % empty")
    print(f"counts {counts.nbytes / 1e9:.2f} GB; before the run {peak_memory():.2f} GB", flush=True)
    meter = Meter()
    plain = Records.append

    def measured(self: Any, outcomes: list[dict[str, Any]]) -> None:
        plain(self, outcomes)
        meter.note(len(outcomes))

    Records.append = measured  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        fits = fit_genes(
            counts, coords=tissue.coords, n_jobs=args.n_jobs, resume=folder, progress=False
        )
        size = (Path(folder) / "records.jsonl").stat().st_size
    print(f"{fits.summary()}; records {size / 1e6:.0f} MB")
    meter.report()


class Meter:
    """What this process and its workers take while genes get done."""

    def __init__(self) -> None:
        self.own = psutil.Process()
        self.start = time.perf_counter()
        self.marks = [(0.0, 0.0, 0)]
        self.peak = [0, 0]

    def note(self, n_genes: int) -> None:
        """Note the time by the clock, that of the workers' processors, and the memory."""
        workers = self.own.children(recursive=True)
        used = sum(sum(worker.cpu_times()[:2]) for worker in workers)
        elapsed, done = time.perf_counter() - self.start, self.marks[-1][2] + n_genes
        self.marks.append((elapsed, used, done))
        largest = max((worker.memory_info().rss for worker in workers), default=0)
        self.peak = [max(self.peak[0], self.own.memory_info().rss), max(self.peak[1], largest)]

    def report(self) -> None:
        """Print the rates, tenth by tenth, and the memory."""
        clock, used, done = np.array(self.marks).T
        tenths = np.linspace(0, done[-1], 11)
        for what, seconds in (("by the clock", clock), ("a processor", used)):
            rate = np.diff(tenths) / np.diff(np.interp(tenths, done, seconds))
            print(f"genes a second {what}, tenth by tenth:", np.round(rate, 1))
        print(f"{clock[-1]:.0f} s by the clock, {used[-1]:.0f} processor seconds of the workers")
        own, worker = (size / 1e9 for size in self.peak)
        print(f"peak memory {own:.2f} GB, of the largest worker {worker:.2f} GB", flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for work in (workers, kills, scale):
        command = commands.add_parser(work.__name__, help=str(work.__doc__).splitlines()[0])
        command.set_defaults(work=work)
        if work is not scale:
            command.add_argument("file")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--n-jobs", type=int, default=2)
        command.add_argument("--repeats", type=int, default=3)
        command.add_argument("--kills", type=int, default=10)
        command.add_argument("--genes", type=int, default=5000)
        command.add_argument("--spots", type=int, default=3000)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
