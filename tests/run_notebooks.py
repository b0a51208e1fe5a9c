"""Execute the notebooks: small and in memory for CI, full and with their outputs for a commit.

python tests/run_notebooks.py                 # every notebook in its small form, nothing is written
python tests/run_notebooks.py --write 01 05   # these in their full form, outputs written back
"""

import argparse
import base64
import io
import os
import sys
import time
import traceback
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
LIMIT_SMALL = 120  # seconds, of one notebook in its small form
# Said by tqdm, of a widget that no kernel without a browser has.
QUIET = "ignore:IProgress not found"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path, *, small):
    """Return the executed notebook; raise if a cell raises, or takes too long."""
    os.environ["PYTHONWARNINGS"] = QUIET
    os.environ.pop("SPLISOSM_PYRO_SMALL", None)
    if small:
        os.environ["SPLISOSM_PYRO_SMALL"] = "1"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=LIMIT_SMALL if small else 3600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
    )
    return client.execute()


def normalise(notebook):
    """Take out what differs from machine to machine, and make the pictures small."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = with_palette(output.data["image/png"])
    return notebook


def with_palette(png):
    """Return a picture, in base64, with 256 colours: a third of the bytes, the same to the eye."""
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(256).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main():
    """Run what was asked for; return how many notebooks failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="how their names begin; default: all")
    parser.add_argument("--write", action="store_true", help="full form, outputs written back")
    args = parser.parse_args()
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    chosen = [p for p in paths if not args.names or p.name.startswith(tuple(args.names))]
    if not chosen:
        parser.error(f"no notebook begins with {args.names}")
    failed = 0
    for path in chosen:
        began = time.perf_counter()
        try:
            notebook = execute(path, small=not args.write)
        except (CellExecutionError, TimeoutError):
            traceback.print_exc(limit=1)
            failed += 1
        else:
            if args.write:
                nbformat.write(normalise(notebook), path)
        print(f"{path.name}: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main() > 0)
