"""The benchmark: one command prints one table of our speed beside the reference implementation's.

    python tests/benchmarks/run.py                     every row; about half an hour
    python tests/benchmarks/run.py --quick             small sizes, under two minutes
    python tests/benchmarks/run.py --rows glm,growth   some rows

Both programs get the same counts, the same spatial correlation and one thread, and run in turn;
times are processor seconds, medians of setup and fit together. Every row runs in a process of its
own, so that its peak memory (with some 0.4 GB of imports) is its own; it is taken before the other
program is loaded. With ``--quick`` all run in this one, and the other stops after 20 epochs where
its default is 1,000. Objectives are ours (``log_marginal``, ``log_joint`` or
``log_lik`` with all constants), evaluated in double precision at the final parameters of either
program, since the other's leaves constants out. Without the package ``splisosm`` (extra ``bench``)
its columns stay empty.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COLUMNS = (
    *("work", "ours, s", "other, s", "ratio", "objective, ours", "objective, other"),
    *("least gain of a gene", "peak memory, GB", "note"),
)
# In the order of the table; the names are those of functions in rows.py and scaling.py.
ROWS = (
    *("marginal", "marginal_real", "one_gene", "two_cores", "growth", "selected_inverse"),
    *("joint", "glm_grid", "glm_real", "low_rank"),
)
PACKAGES = ("splisosm_pyro", "splisosm", "torch", "numpy", "scipy", "numba")


def measure(name: str, quick: bool, genes: int) -> dict[str, Any]:
    """Measure one row in this process."""
    import rows
    import scaling
    import torch
    from slides import Scale

    torch.set_num_threads(1)
    work = getattr(rows, name, None) or getattr(scaling, name)
    return asdict(work(Scale(quick, genes)))


def measure_apart(name: str, genes: int, limit: float) -> dict[str, Any]:
    """Measure one row in a process of its own; a row that breaks says so."""
    command = [sys.executable, __file__, "--here", name, "--genes", str(genes)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return {"work": name, "note": f"not finished in {limit:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"work": name, "note": f"failed with exit status {error.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def cells(row: dict[str, Any]) -> list[str]:
    """Write a row's cells."""

    def number(name: str, style: str) -> str:
        value = row.get(name)
        return "" if value is None else format(value, style)

    return [
        row["work"],
        number("ours", ".3g"),
        number("other", ".3g"),
        row.get("ratio", ""),
        number("objective", ".6f"),
        number("objective_other", ".6f"),
        number("least", ".2g"),
        number("memory", ".2f"),
        row.get("note", ""),
    ]


def line(texts: Sequence[str]) -> str:
    """Write a line of a Markdown table."""
    return "| " + " | ".join(texts) + " |"


def versions() -> str:
    """Name the processor and the versions."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} (not installed)")
    return f"{processor()}; Python {platform.python_version()}, {', '.join(found)}"


def processor() -> str:
    """Name the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rows", default=",".join(ROWS), help="names, with commas between")
    parser.add_argument(
        "--genes", type=int, default=643, help="most genes of the rows of marginal fits"
    )
    parser.add_argument("--limit", type=float, default=1800.0, help="most seconds of a row")
    parser.add_argument("--json", type=Path, help="a file for the rows, one a line")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = set(given.rows.split(",")) - set(ROWS)
    if unknown:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return given


def main() -> None:
    """Print the table, row by row."""
    given = arguments()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # before anything reads them
    if given.here:
        print(json.dumps(measure(given.here, False, given.genes)))
        return
    print(versions(), end="\n\n")
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    results = []
    for name in given.rows.split(","):
        if given.quick:
            row = measure(name, True, given.genes)
        else:
            row = measure_apart(name, given.genes, given.limit)
        results.append(json.dumps({"row": name} | row))
        print(line(cells(row)), flush=True)
    if given.json:
        given.json.write_text("\n".join(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
