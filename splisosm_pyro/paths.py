"""Where results go: found out before the work, not after it."""

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

PathLike = str | os.PathLike[str]
LONGEST = 120  # bytes of a file's name that come from a gene's; file systems take 255
TABLE = ".csv"


def expanded(path: PathLike) -> Path:
    """Return a path, ``~`` taken as the user's home.

    Examples
    --------
    >>> expanded("~/results") == Path.home() / "results"
    True
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no home of such a user") from None


def made_folder(path: PathLike) -> Path:
    """Make a folder, and those that it lies in, where it is not there.

    Raises
    ------
    OSError
        If it cannot be made, or a file has its name.
    """
    folder = expanded(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{folder} must be a folder, came a file") from None
    return folder


def file_name(words: str) -> str:
    """Return a name for a file: letters, digits, dots and dashes, not too long.

    Examples
    --------
    >>> file_name("HLA-A/B"), len(file_name(500 * "a"))
    ('HLA-A_B', 120)
    """
    safe = re.sub(r"[^\w.-]", "_", words)
    return safe.encode()[:LONGEST].decode(errors="ignore")


def check_file(path: Path, what: str) -> None:
    """Raise if a file cannot be written; one that is there is left as it is.

    Parameters
    ----------
    path : Path
    what : str
        The option that names it; it opens the message.

    Raises
    ------
    ValueError
        If it is a folder, or the folder that it lies in is not there.
    OSError
        If it cannot be written for another reason.
    """
    try:
        if path.is_dir():
            raise ValueError(f"{what}: {path} is a folder; give the name of a file in it")
        if not path.absolute().parent.is_dir():
            raise ValueError(f"{what}: there is no folder {path.parent}")
        there = path.exists()
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise OSError(f"{what}: {path} cannot be written: {error.strerror or error}") from None


def check_folder(path: Path, what: str) -> None:
    """Raise if nothing can be written into a folder; one that is not there is not made.

    Raises
    ------
    ValueError
        If it is a file.
    OSError
        If it cannot be made or written into.
    """
    missing: list[Path] = []
    try:
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"{what}: {path} is no folder; give one, or a name that ends in {TABLE}"
            )
        missing += [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise OSError(f"{what}: {path} cannot be written: {error.strerror or error}") from None
    finally:
        for one in missing:
            with suppress(OSError):
                one.rmdir()


def check_results(out: Path, what: str, files: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Raise if results cannot be written: a table, or a folder with such files and folders in it.

    Raises
    ------
    ValueError
        If ``out`` or what is in it is of another kind: a name that ends like a file's, but not in
        ``.csv``, is no folder's.
    OSError
        If it cannot be written.
    """
    if out.suffix.lower() == TABLE:
        check_file(out, what)
        return
    if re.fullmatch(r"\.[a-z]\w{1,6}", out.suffix, re.I) and not out.exists():
        raise ValueError(
            f"{what} must be a folder or a name that ends in {TABLE}, came {out.name!r}"
        )
    check_folder(out, what)
    for name in files:
        if (out / name).exists():
            check_file(out / name, what)
    for name in folders:
        if (out / name).exists():
            check_folder(out / name, what)
