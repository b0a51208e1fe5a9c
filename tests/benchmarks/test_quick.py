"""The benchmark in its quick version: every row is there, no objective is worse than the other's.

No time is asserted: times belong to the benchmark's own table.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run import ROWS

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
# Rows in which ours maximises what is compared; the low-rank fit's other is our own exact one.
COMPARED = ("marginal", "marginal_real", "joint", "glm_grid", "glm_real")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows by name, from one quick run."""
    file = tmp_path_factory.mktemp("benchmark") / "rows.json"
    folders = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), "--quick", "--json", str(file)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
    assert done.stdout.count("\n") == len(found) + 4  # versions, an empty line, two of the header
    return {row["row"]: row for row in found}


def test_every_row_is_there(rows):
    assert list(rows) == list(ROWS)
    for row in rows.values():
        measured = row["ours"] is not None and row["ours"] > 0.0 and row["memory"] > 0.0
        assert measured or row["note"].startswith("not run")


def test_no_fit_failed(rows):
    for row in rows.values():
        assert "failed" not in row["note"]
        assert "max_epochs" not in row["note"]


def test_no_objective_is_worse(rows):
    for name in COMPARED:
        if rows[name]["objective_other"] is not None:
            assert rows[name]["least"] >= -1e-6
    assert rows["joint"]["objective"] is not None
    assert rows["low_rank"]["least"] < 0.0  # an approximation is not the exact one
