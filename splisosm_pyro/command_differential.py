"""The command ``test``: covariates that a run was not fitted with."""

import argparse
from pathlib import Path
from typing import Any

from splisosm_pyro.paths import check_file

DESCRIPTION = """\
Tests in every gene of a run, one by one, whether isoform usage changes with covariates that were
not fitted: columns of obs, matrices of obsm, or variables of an .h5ad, such as the expression of
regulators; spots go by their names. The null is the run's own fit, with its spatial field. Writes a
.csv: one row a gene and covariate (and level of it), p, q over the genes, the largest change of an
isoform's usage with its 95 % interval."""

EXAMPLES = """\
examples:
  python -m splisosm_pyro test results/ --from slide.h5ad --covariates region,oligo --out du.csv
  python -m splisosm_pyro test results/ --from expression.h5ad --out regulators.csv --n-jobs 2"""


def add_test(commands: "argparse._SubParsersAction[Any]") -> None:
    """Declare ``test``."""
    test = commands.add_parser(
        "test",
        help="test further covariates in the genes of a run",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    test.add_argument("folder", type=Path, metavar="FOLDER", help="what `fit --out FOLDER` wrote")
    test.add_argument(
        "--from", dest="file", type=Path, required=True, metavar="FILE", help="an .h5ad"
    )
    test.add_argument("--covariates", metavar="A,B", help="default: every variable of the file")
    test.add_argument("--layer", default="X", metavar="NAME", help="of the variables; default X")
    test.add_argument("--out", type=Path, required=True, metavar="CSV")
    test.add_argument("--genes", metavar="A,B", help="of the run; default: all")
    test.add_argument(
        "--refit-below",
        type=float,
        default=0.2,
        metavar="P",
        help="p of the score test below which the likelihood ratio is computed; 0 is quickest",
    )
    test.add_argument(
        "--no-space",
        action="store_true",
        help="at a null without a field, which finds smooth covariates of no effect too often",
    )
    test.add_argument("--n-jobs", type=int, default=1, metavar="N", help="workers; -1: all cores")
    test.add_argument("--quiet", action="store_true", help="no progress bar")
    test.set_defaults(run=_test)


def _test(args: argparse.Namespace) -> int:
    """Read the run and the file, test, write."""
    if args.out.suffix.lower() != ".csv":
        raise ValueError(f"--out must end in .csv, came {args.out.name!r}")
    check_file(args.out, "--out")  # before the imports, which take seconds
    from splisosm_pyro.genes.data.h5ad import open_h5ad
    from splisosm_pyro.genes.differential.of_fits import INTERRUPTED
    from splisosm_pyro.genes.result.gene_fits import GeneFits

    fits, adata = GeneFits.load(args.folder), open_h5ad(args.file)
    names = [] if args.covariates is None else _words(args.covariates)
    table = fits.differential_usage(
        names or adata,
        adata if names else None,
        layer=args.layer,
        spatial=not args.no_space,
        genes=None if args.genes is None else _words(args.genes),
        refit_below=args.refit_below,
        n_jobs=args.n_jobs,
        progress=not args.quiet,
    )
    table.to_csv(args.out, index=False)
    whole = table[table["level"] == ""]
    for name, own in whole.groupby("covariate", sort=False):
        if (own["q"] <= 0.05).any():
            print(f"{name}: {int((own['q'] <= 0.05).sum())} of {len(own)} genes at q <= 0.05")
    print(f"{len(whole)} tests in {whole['gene'].nunique()} genes; wrote {args.out}")
    return 130 if (table["reason"] == INTERRUPTED).any() else 0


def _words(text: str) -> list[str]:
    """Split a list of names."""
    return [name.strip() for name in text.split(",") if name.strip()]
