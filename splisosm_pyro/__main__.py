"""The command line: ``python -m splisosm_pyro`` with ``demo``, ``fit FILE`` or ``test FOLDER``."""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from splisosm_pyro import __version__
from splisosm_pyro.command_differential import add_test
from splisosm_pyro.command_options import add_data_options, add_model_options
from splisosm_pyro.paths import check_folder, check_results, expanded, made_folder

if TYPE_CHECKING:
    from splisosm_pyro.genes.data.filters import Filters
    from splisosm_pyro.genes.data.slide import Slide
    from splisosm_pyro.genes.job import RunOptions

RECORDS = "records.jsonl"  # genes.run.records.NAME, likewise
# What a folder of results holds, likewise.
FILES = (
    *("table.csv", "isoforms.csv", "removed.csv", "fits.npz", "data.npz", "result.json", RECORDS),
)

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

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
Fits every gene of a file: the GLM (covariates alone), the GLMM without space (theta = 0) and the
spatial GLMM. One row a gene: status, sigma (standard deviation of the random effect, logits), theta
(its spatial proportion), usage of each isoform, coefficients with standard errors, log-likelihoods
and what space gains (gain_over_white, nats: above 5 it is hard to explain otherwise). A gene that
cannot be fitted is a row whose status says why."""

FIT_EXAMPLES = """\
files:
  .npz   counts (genes, spots, isoforms), coords (spots, 2 or 3); gene_names, iso_names, design are
         optional. With different numbers of isoforms: counts_2, counts_3, ... and gene_names_2, ...
  .h5ad  spots in rows, isoforms in columns; the gene of each isoform in a column of var
  The last isoform of a gene is the reference: logits and coefficients are relative to it;
  --reference-isoform 'most reads' or a column of var puts another one there.

--out fits.csv writes the table. --out results/ writes a folder:
  table.csv, isoforms.csv  one row a gene, one row an isoform (usage, its range, its change between
                           the levels of a covariate); removed.csv: what was left out
  effects.csv              one row an isoform and contrast: change of usage, 95 % interval
  figures/                 the top genes on the tissue
  records.jsonl            every finished batch; a run that was killed goes on with --resume
  result.json, *.npz       for GeneFits.load('results/') in Python: models, AnnData

examples:
  python -m splisosm_pyro fit isoforms.npz --out fits.csv
  python -m splisosm_pyro fit isoforms.npz --out results/ --n-isos 3 --n-jobs 2
  python -m splisosm_pyro fit slide.h5ad --out results/ --layer counts \\
      --group-iso-by gene_symbol --covariates region,age --reference region=GCL --n-jobs 2
  python -m splisosm_pyro fit slides.h5ad --out results/ --library-key slide --min-counts 50

exit codes: 0 done, 2 wrong input or option, 130 interrupted, 1 every gene failed or anything
unexpected"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(prog="python -m splisosm_pyro", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{demo,fit,test}")
    _add_demo(commands)
    _add_fit(commands)
    add_test(commands)
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
        0 done, 1 every gene failed, 2 wrong input, 130 interrupted. What argparse finds wrong exits
        with 2 at once.
    """
    args = build_parser().parse_args(argv)
    try:
        for name in {"out", "file", "folder"} & vars(args).keys():
            setattr(args, name, expanded(getattr(args, name)))
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, args.command)
            return int(args.run(args))
    except KeyboardInterrupt:
        print(f"splisosm_pyro {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, OSError, ModuleNotFoundError, RuntimeError) as error:
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
        help="fit every gene of an .npz, .h5ad or .zarr",
        description=FIT,
        epilog=FIT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit.add_argument("file", type=Path, metavar="FILE", help=".npz, .h5ad or .zarr")
    fit.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="a .csv, or a folder for everything",
    )
    add_data_options(fit)
    add_model_options(fit)
    run = fit.add_argument_group("how it runs")
    run.add_argument("--n-jobs", type=int, default=1, metavar="N", help="workers; -1: all cores")
    run.add_argument("--batch-size", type=int, metavar="N", help="genes a worker gets at a time")
    run.add_argument("--resume", action="store_true", help="go on with the records in the folder")
    run.add_argument("--figures", type=int, default=6, metavar="N", help="top genes, default 6")
    run.add_argument("--keep-usage", action="store_true", help="of every isoform at every spot")
    run.add_argument("--no-tests", action="store_true", help="of space and of the covariates")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=_fit)


def _demo(args: argparse.Namespace) -> int:
    """Run the demo."""
    from splisosm_pyro.demo import run_demo

    start = time.perf_counter()
    check_folder(args.out, "--out")
    demo = run_demo(args.genes, args.spots, args.seed, quiet=args.quiet)
    print(demo.text())
    made_folder(args.out)
    demo.table.to_csv(args.out / "demo.csv", index=False)
    demo.figure().savefig(args.out / "demo.png", dpi=200)
    print(
        f"\nWrote demo.csv and demo.png to {args.out} ({time.perf_counter() - start:.0f} s in all)."
    )
    return OK


def _fit(args: argparse.Namespace) -> int:
    """Read, fit, write."""
    folder = None if args.out.suffix.lower() == ".csv" else args.out
    _check_paths(args, folder)  # before the imports, which take seconds
    from splisosm_pyro.genes.result.figures import write_results, write_table
    from splisosm_pyro.genes.run.fit_genes import fit_slide

    slide, options, filters = _asked_for(args)
    start = time.perf_counter()
    fits = fit_slide(
        slide,
        options,
        filters,
        n_jobs=args.n_jobs,
        batch_size="auto" if args.batch_size is None else args.batch_size,
        progress=not args.quiet,
        resume=folder,
    )
    if folder is None:
        write_table(fits, args.out)
    else:
        write_results(fits, folder, args.figures)
    print(f"{fits.summary()}; {time.perf_counter() - start:.0f} s")
    for why, n in fits.removed["why"].value_counts().items():
        print(f"left out: {n} with {why}")
    print(f"wrote {args.out}")
    if not fits.complete:
        if folder is not None:
            print("interrupted: run again with --resume for the rest", file=sys.stderr)
        return INTERRUPTED
    return FAILED if fits.table["status"].str.startswith("failed").all() else OK


def _check_paths(args: argparse.Namespace, folder: Path | None) -> None:
    """Raise if the file is missing, or the results cannot be written where they shall be."""
    if args.file.suffix.lower() in (".npz", ".h5ad") and not args.file.is_file():
        raise FileNotFoundError(f"no such file: {args.file}")
    if folder is None and args.resume:
        raise ValueError("--resume needs a folder as --out, where the records are")
    check_results(args.out, "--out", FILES, ("figures",))
    if folder is not None and (folder / RECORDS).is_file() and not args.resume:
        raise ValueError(
            f"--out: {folder} holds the records of a run: add --resume to go on with it, or give "
            "another folder"
        )


def _asked_for(args: argparse.Namespace) -> "tuple[Slide, RunOptions, Filters]":
    """Read the file, and the options."""
    from splisosm_pyro.genes.data.filters import Filters
    from splisosm_pyro.genes.data.read import read_slide
    from splisosm_pyro.genes.job import RunOptions

    options = RunOptions(
        model=args.model,
        nugget=args.nugget,
        smooth=args.smooth,
        share_variance=not args.separate_variance,
        coding=args.coding,
        prior=args.prior,
        k=args.k,
        rho=args.rho,
        tests=not args.no_tests,
        contrasts=args.contrasts,
        seed=args.seed,
        keep_usage=args.keep_usage,
        population=args.population,
    )
    filters = Filters(
        min_counts=args.min_counts,
        min_spots=args.min_spots,
        min_share=args.min_share,
        rare=args.rare,
    )
    slide = read_slide(
        args.file,
        n_isos=args.n_isos,
        covariates=args.covariates,
        reference=args.reference,
        reference_isoform=args.reference_isoform,
        layer=args.layer,
        group_iso_by=args.group_iso_by,
        spatial_key=args.spatial_key,
        adj_key=args.adj_key,
        library_key=args.library_key,
    )
    return slide, options, filters


def _warn(command: str, message: Any, *_: Any, **__: Any) -> None:
    """Print a warning on one line."""
    print(f"splisosm_pyro {command}: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(error: BaseException) -> str:
    """Return the message of an error or warning on one line."""
    if isinstance(error, OSError) and error.strerror:
        named = "" if error.filename is None else f" ({error.filename})"
        return _one_line(Exception(f"{error.strerror}{named}"))
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    entry()
