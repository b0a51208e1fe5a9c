"""The benchmark: one command prints one table of our speed beside the reference implementation's.

    python tests/benchmarks/run.py                     every row; less than half an hour
    python tests/benchmarks/run.py --write docs/measurements/benchmarks.md  and put the table there
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
import datetime
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

from machine import processor

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COLUMNS = (
    *("work", "ours, s", "other, s", "ratio", "objective, ours", "objective, other"),
    *("least gain of a gene", "peak memory, GB", "note"),
)
# In the order of the table, the longest last; the names are those of functions in rows.py and
# scaling.py.
ROWS = (
    *("one_gene", "selected_inverse", "glm_grid", "glm_real", "joint", "two_cores"),
    *("nugget_two", "nugget_three", "smooth_two", "smooth_three", "growth", "low_rank"),
    *("accelerator", "marginal", "marginal_real"),
)
# Where ``--write`` puts its table in a page; the rest of the page is written by hand.
BEGIN, END = "<!-- the table begins -->", "<!-- the table ends -->"
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


def table_into(page: Path, lines: Sequence[str]) -> None:
    """Replace what stands between the two marks of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} lacks the lines {BEGIN} and {END}")
    body = "\n".join(lines)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


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
    parser.add_argument("--write", type=Path, help="a page whose table is replaced, row by row")
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
    results: list[str] = []
    lines = [versions(), "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    print(*lines, sep="\n")
    for name in given.rows.split(","):
        if given.quick:
            row = measure(name, True, given.genes)
        else:
            row = measure_apart(name, given.genes, given.limit)
        results.append(json.dumps({"row": name} | row))
        lines.append(line(cells(row)))
        print(lines[-1], flush=True)
        if given.write:
            today = datetime.date.today().isoformat()
            table_into(given.write, [f"Measured on {today}.", *lines])
    if given.json:
        given.json.write_text("\n".join(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
