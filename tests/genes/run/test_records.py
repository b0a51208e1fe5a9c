"""The record file: what survives a kill, what is refused."""

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splisosm_pyro.genes.run.records import NAME, Records

ROOT = Path(__file__).resolve().parents[3]
HEADER = {"version": 1, "data": "d", "options": {"nugget": "laplace", "k": 6}}
ONE, TWO = [{"index": 0, "row": {"x": 0.1}}], [{"index": 1, "row": {"x": float("inf")}}]


def written(folder, *parts):
    with Records(folder, HEADER) as records:
        for part in parts:
            records.append(part)
    return folder / NAME


def finished(folder, header=HEADER):
    with Records(folder, header) as records:
        return records.finished


def test_what_was_appended_is_found_again_to_the_last_digit(tmp_path):
    written(tmp_path, [{"index": 0, "x": 0.1 + 0.2, "y": float("-inf"), "µ": "ü\n"}])
    assert finished(tmp_path) == [{"index": 0, "x": 0.1 + 0.2, "y": float("-inf"), "µ": "ü\n"}]
    assert written(tmp_path, TWO).read_bytes().count(b"\n") == 3
    assert len(finished(tmp_path)) == 2


def test_a_torn_record_is_dropped_wherever_it_was_cut(tmp_path):
    path = written(tmp_path, ONE)
    whole = path.read_bytes()
    full = written(tmp_path, TWO).read_bytes()
    for end in range(len(whole) + 1, len(full), 3):
        path.write_bytes(full[:end])
        with Records(tmp_path, HEADER) as records:
            assert records.finished == ONE
            assert records.dropped == end - len(whole)
            records.append(TWO)
        assert path.read_bytes() == full


def test_a_torn_header_begins_again(tmp_path):
    path = written(tmp_path)
    header = path.read_bytes()
    for end in range(0, len(header), 9):
        path.write_bytes(header[:end])
        assert finished(tmp_path) == []
        assert path.read_bytes() == header


def test_every_changed_byte_is_noticed(tmp_path):
    path = written(tmp_path, ONE, TWO)
    whole = path.read_bytes()
    for place in range(whole.index(b"\n") + 1, len(whole) - 1, 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"was changed: record \d"):
            finished(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "e"}, "belongs to a run on other data: begin in another folder"),
        ({"options": {"nugget": "quadrature", "k": 6}}, "nugget was 'laplace', now 'quadrature'"),
        ({"options": {"nugget": "laplace"}}, r"\(k was 6, now None\)"),
        ({"version": 2}, "version 1, now 2"),
    ],
)
def test_the_records_of_another_run_are_refused(tmp_path, change, message):
    before = written(tmp_path, ONE).read_bytes()
    with pytest.raises(ValueError, match=message):
        finished(tmp_path, HEADER | change)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_full_disk_leaves_whole_records_and_says_how_to_go_on(tmp_path, monkeypatch):
    path = written(tmp_path, ONE)
    before = path.read_bytes()
    write = os.write

    sizes = iter([10])

    def full(file, content):
        if size := next(sizes, 0):
            return write(file, content[:size])  # a part fits
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Records(tmp_path, HEADER) as records:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"records\.jsonl: No space left .* make room and resume"):
            records.append(TWO)
        monkeypatch.setattr(os, "write", write)
        assert path.read_bytes() == before
    assert finished(tmp_path) == ONE


def test_two_runs_in_one_folder_are_refused(tmp_path):
    pytest.importorskip("fcntl")
    with (
        Records(tmp_path, HEADER),
        pytest.raises(OSError, match="is being written by another run"),
        Records(tmp_path, HEADER),
    ):
        pass


WRITER = """
import sys
from splisosm_pyro.genes.run.records import Records

with Records(sys.argv[1], {"version": 1}) as records:
    done = {outcome["index"] for outcome in records.finished}
    for index in range(100_000):
        if index not in done:
            records.append([{"index": index, "filling": "x" * (index % 7 * 40_000)}])
"""


def test_a_writer_that_is_killed_again_and_again_loses_and_repeats_nothing(tmp_path):
    rng = random.Random(5)
    before = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], cwd=ROOT)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and size(tmp_path) <= before:
            time.sleep(0.002)
        time.sleep(0.05 * rng.random())
        process.kill()
        process.wait()
        indices = [outcome["index"] for outcome in finished(tmp_path, {"version": 1})]
        assert indices == list(range(len(indices)))
        assert size(tmp_path) > before
        before = size(tmp_path)


def size(folder):
    """Bytes of the record file so far."""
    path = folder / NAME
    return path.stat().st_size if path.is_file() else 0
