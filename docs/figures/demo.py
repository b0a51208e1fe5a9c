"""Draw docs/demo.png, the figure of ``python -m splisosm_pyro demo``, at the size of a page.

python docs/figures/demo.py
"""

from pathlib import Path

from splisosm_pyro.demo import run_demo


def main():
    """Write the figure beside the pages."""
    run_demo(quiet=True).figure().savefig(Path(__file__).parents[1] / "demo.png", dpi=90)


if __name__ == "__main__":
    main()
