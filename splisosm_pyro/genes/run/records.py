"""The record file of a run: what is finished is on disk, whatever happens next.

One line a record: the length of its JSON text in bytes, the first 16 digits of its SHA-256, the
text. The first record says which data and options the run has; each further one holds the genes of
one batch. Lines are only ever appended, in one write, and synced. A line without its end is a write
that was cut off, and is dropped; any other line that does not agree with its checksum was changed
by somebody, and the file is refused.
"""

import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from scipy.sparse import csc_array

from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.maths.numeric.arrays import AnyArray
from splisosm_pyro.paths import PathLike, made_folder

NAME = "records.jsonl"
FORMAT = 2
# Raised when the same data and options give other numbers: records of before are not continued.
NUMBERS = 2


class Records:
    """An open record file; use it in a ``with`` statement.

    Parameters
    ----------
    folder : str or path
        Where the file is, or will be.
    header : mapping
        What the run is: strings, numbers, dicts. A file whose header differs is refused.

    Attributes
    ----------
    finished : list of dict
        What earlier runs of the same header have finished.
    dropped : int
        Bytes of a record that was cut off, which were removed.

    Raises
    ------
    ValueError
        If the file belongs to other data or options, or was changed.
    OSError
        If it cannot be read or written, was deleted or moved, or another run has it open.
    """

    def __init__(self, folder: PathLike, header: Mapping[str, Any]) -> None:
        self.path = made_folder(folder) / NAME
        self.finished: list[dict[str, Any]] = []
        self.dropped = 0
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._open({"format": FORMAT, **header})
        except BaseException:
            os.close(self._file)
            raise

    @classmethod
    def of_run(cls, folder: PathLike, slide: Slide, options: RunOptions) -> Self:
        """Open the records of a run, those of an earlier one of the same data and options."""
        data = _digest(slide)
        return cls(folder, {"version": NUMBERS, "data": data, "options": options.as_dict()})

    def append(self, outcomes: list[dict[str, Any]]) -> None:
        """Write the genes of a batch; they are on disk when this returns.

        Raises
        ------
        OSError
            If the disk is full, for example; the message says how to go on.
        """
        self._write({"genes": outcomes})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def _lock(self) -> None:
        """Keep a second run out; the lock ends with the process."""
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{self.path} is being written by another run") from None

    def _open(self, header: dict[str, Any]) -> None:
        """Read what is there, remove what was cut off, write the header of a new file."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        records = [_parsed(line, i, self.path) for i, line in enumerate(content[:end].splitlines())]
        if end < len(content):
            self.dropped = len(content) - end
            os.ftruncate(self._file, end)
        if not records:
            self._write(header)
            return
        _same(json.loads(json.dumps(header)), records[0], self.path)
        for record in records[1:]:
            self.finished += record["genes"]

    def _check_place(self) -> None:
        """Raise if the file is no longer where it was: nobody would find what goes there."""
        try:
            there = os.path.samestat(os.fstat(self._file), self.path.stat())
        except OSError:
            there = False
        if not there:
            raise OSError(
                errno.ENOENT,
                f"{self.path} was deleted or moved during the run: what was finished is in it, if "
                "it is somewhere; run again with the folder's name of now to resume",
            )

    def _write(self, record: Mapping[str, Any]) -> None:
        """Append one line in one write, or none of it, and sync."""
        text = json.dumps(record, separators=(",", ":")).encode()
        line = b"%d %s %s\n" % (len(text), _checksum(text), text)
        self._check_place()
        start = os.lseek(self._file, 0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
            if not isinstance(error, OSError):
                raise
            raise OSError(
                error.errno,
                f"cannot write {self.path}: {error.strerror or error}; what was finished before is "
                "safe: make room and resume",
            ) from error


def _digest(slide: Slide) -> str:
    """Return the checksum of genes, counts, covariates and places, whatever file they came from."""
    found = hashlib.sha256()
    for group in slide.groups:
        found.update("\n".join(group.gene_names.tolist()).encode())
        found.update("\n".join(group.iso_names.ravel().tolist()).encode())
        found.update(_bytes(group.counts))
    design = slide.design
    found.update("\n".join(map(str, design.columns)).encode())
    found.update(_bytes(design.to_numpy(dtype=np.float64)))
    found.update(_bytes(slide.coords))
    if slide.library is not None:
        found.update("\n".join(slide.library.tolist()).encode())
    if slide.adjacency is not None:
        graph = csc_array(slide.adjacency)
        for array in (graph.indptr, graph.indices, graph.data):
            found.update(_bytes(array))
    return found.hexdigest()


def _bytes(array: AnyArray) -> bytes:
    """Return an array's content with its type and shape."""
    values = np.ascontiguousarray(array)
    return f"{values.dtype.str}{values.shape}".encode() + values.tobytes()


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()


def _parsed(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """Return the record of a whole line, or raise."""
    length, _, rest = line.partition(b" ")
    checksum, _, text = rest.partition(b" ")
    if length != str(len(text)).encode() or checksum != _checksum(text):
        raise ValueError(
            f"{path} was changed: record {number} does not agree with its checksum; "
            "begin in another folder"
        )
    return dict(json.loads(text))


def _same(own: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    """Raise with what differs if a file belongs to another run."""
    if found == own:
        return
    if found.get("data") != own.get("data"):
        raise ValueError(f"{path} belongs to a run on other data: begin in another folder")
    ours, theirs = own.get("options", {}), found.get("options", {})
    differing = [
        f"{name} was {theirs.get(name)!r}, now {ours.get(name)!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    what = "; ".join(differing) or f"version {found.get('version')}, now {own.get('version')}"
    raise ValueError(
        f"{path} belongs to a run with other options ({what}): begin in another folder"
    )
