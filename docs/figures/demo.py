"""Draw docs/demo.png, the figure of ``python -m splisosm_pyro demo``, at the size of a page.

python docs/figures/demo.py
"""

from pathlib import Path

from PIL import Image

from splisosm_pyro.demo import run_demo


def main():
    """Write the figure beside the pages, with 256 colours."""
    path = Path(__file__).parents[1] / "demo.png"
    run_demo(quiet=True).figure().savefig(path, dpi=130)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
