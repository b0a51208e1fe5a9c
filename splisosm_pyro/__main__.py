"""The command line: ``python -m splisosm_pyro demo`` and ``python -m splisosm_pyro fit FILE``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from splisosm_pyro import __version__

OK, FAILED, BAD_INPUT = 0, 1, 2

DESCRIPTION = """\
Isoform usage over a tissue: for each gene a multinomial GLM, and a GLMM whose random effect varies
smoothly over the spots (theta of its variance sigma^2) and from spot to spot (the rest)."""

DEMO = """\
Simulates a hexagonal tissue with layers, and genes of known parameters: most as shallow as in real
long-read data (0.3 reads a spot, three of four spots empty), some deeper. Fits the GLM and the
GLMM, prints the estimates beside the truth, writes demo.csv and demo.png."""

DEMO_EXAMPLES = """\
examples:
  python -m splisosm_pyro demo
  python -m splisosm_pyro demo --genes 4 --spots 400 --seed 7 --out my-demo"""

FIT = """\
Fits every gene of a file and writes one row a gene: status, sigma (standard deviation of the random
effect, logits), theta (its spatial proportion), usage of each isoform, coefficients with standard
errors, log-likelihoods. A gene that cannot be fitted is a row whose status says why."""

FIT_EXAMPLES = """\
files:
  .npz   counts (genes, spots, isoforms) and coords (spots, 2); gene_names, iso_names, design are
         optional. With different numbers of isoforms: counts_2, counts_3, ... and gene_names_2, ...
  .h5ad  spots in rows, isoforms in columns; the gene of each isoform in a column of var
  The last isoform of a gene is the reference: logits and coefficients are relative to it.

examples:
  python -m splisosm_pyro fit isoforms.npz --out fits.csv
  python -m splisosm_pyro fit isoforms.npz --out fits.csv --n-isos 3 --covariates region
  python -m splisosm_pyro fit slide.h5ad --out fits.csv --layer counts \\
      --group-iso-by gene_symbol --covariates region,age --prior gamma

exit codes: 0 done, 2 wrong input or option, 1 every gene failed or anything unexpected"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(prog="python -m splisosm_pyro", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{demo,fit}")
    _add_demo(commands)
    _add_fit(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        0 done, 1 every gene failed, 2 wrong input. What argparse finds wrong exits with 2 at once.
    """
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"splisosm_pyro {args.command}: error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT


def entry() -> NoReturn:
    """Run a command and leave the process with its exit code."""
    # One gene's matrices are small: threads of the linear algebra cost three times what they give.
    # The libraries read this when they are imported, which is later.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    sys.exit(main())


def _add_demo(commands: "argparse._SubParsersAction[_Parser]") -> None:
    """Declare ``demo``."""
    demo = commands.add_parser(
        "demo",
        help="simulate a tissue, fit it, compare with the truth",
        description=DEMO,
        epilog=DEMO_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR")
    demo.add_argument("--genes", type=int, default=10, metavar="N", help="default 10")
    demo.add_argument("--spots", type=int, default=900, metavar="N", help="default 900")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    demo.add_argument("--quiet", action="store_true", help="no progress bar")
    demo.set_defaults(run=_demo)


def _add_fit(commands: "argparse._SubParsersAction[_Parser]") -> None:
    """Declare ``fit``."""
    fit = commands.add_parser(
        "fit",
        help="fit every gene of an .npz or .h5ad",
        description=FIT,
        epilog=FIT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit.add_argument("file", type=Path, metavar="FILE", help=".npz or .h5ad")
    fit.add_argument("--out", type=Path, required=True, metavar="CSV", help="the table to write")
    data = fit.add_argument_group("what is read")
    data.add_argument("--n-isos", type=int, metavar="K", help="only genes with K isoforms")
    data.add_argument(
        "--covariates",
        type=_names,
        default=(),
        metavar="A,B",
        help="arrays of the .npz; columns of obs or matrices of obsm of the .h5ad; words become "
        "indicators of all levels but the first",
    )
    data.add_argument("--layer", default="counts", metavar="NAME", help=".h5ad; X: main matrix")
    data.add_argument("--group-iso-by", default="gene_symbol", metavar="COLUMN", help=".h5ad, var")
    data.add_argument(
        "--spatial-key", metavar="NAME", help="default: coords (.npz), spatial (.h5ad)"
    )
    model = fit.add_argument_group("what is fitted")
    model.add_argument("--model", choices=("glmm", "glm"), default="glmm", help="default glmm")
    model.add_argument("--k", type=int, default=6, metavar="K", help="neighbours a spot, default 6")
    model.add_argument("--rho", type=float, default=0.99, help="of the CAR kernel, default 0.99")
    model.add_argument(
        "--prior", choices=("none", "gamma", "inv_gamma"), default="none", help="on sigma"
    )
    model.add_argument(
        "--separate-variance", action="store_true", help="a sigma and theta for each logit"
    )
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=_fit)


def _names(text: str) -> tuple[str, ...]:
    """Split a list of names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _demo(args: argparse.Namespace) -> int:
    """Run the demo."""
    from splisosm_pyro.demo import run_demo

    start = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    demo = run_demo(args.genes, args.spots, args.seed, quiet=args.quiet)
    print(demo.text())
    demo.table.to_csv(args.out / "demo.csv", index=False)
    demo.figure().savefig(args.out / "demo.png", dpi=200)
    print(
        f"\nWrote demo.csv and demo.png to {args.out} ({time.perf_counter() - start:.0f} s in all)."
    )
    return OK


def _fit(args: argparse.Namespace) -> int:
    """Read, fit, write."""
    from splisosm_pyro.genes.read import read_slide
    from splisosm_pyro.genes.run import RunOptions, fit_slide
    from splisosm_pyro.maths.car import CARKernel

    if not args.out.resolve().parent.is_dir():
        raise ValueError(f"--out: there is no folder {args.out.parent}")
    slide = read_slide(
        args.file,
        n_isos=args.n_isos,
        covariates=args.covariates,
        layer=args.layer,
        group_iso_by=args.group_iso_by,
        spatial_key=args.spatial_key,
    )
    options = RunOptions(
        glmm=args.model == "glmm", share_variance=not args.separate_variance, prior=args.prior
    )
    kernel = CARKernel.from_coords(slide.coords, k=args.k, rho=args.rho)
    start = time.perf_counter()
    table = fit_slide(slide, kernel, options, quiet=args.quiet)
    table.to_csv(args.out, index=False)
    seconds = time.perf_counter() - start
    ends = table["status"].str.partition(":")[0].value_counts()
    print(
        f"{len(table)} genes in {seconds:.0f} s: " + ", ".join(f"{n} {s}" for s, n in ends.items())
    )
    if slide.single:
        print(f"{len(slide.single)} genes with one isoform were left out")
    print(f"wrote {args.out}")
    return FAILED if ends.get("failed", 0) == len(table) else OK


def _one_line(error: BaseException) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    entry()
