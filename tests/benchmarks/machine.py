"""The machine of a measurement, as a page names it: its kind, never its name."""

import datetime
import platform
from pathlib import Path


def processor() -> str:
    """Name the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


def provenance(command: str) -> str:
    """Say what measured a page, when, and on what kind of machine.

    Examples
    --------
    >>> provenance("python study.py").startswith("Measured on 2")
    True
    """
    today = datetime.date.today().isoformat()
    return f"Measured on {today} by `{command}`, {processor()}.\n"
