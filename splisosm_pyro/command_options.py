"""Options of the command ``fit``: what is read, what is left out, what is fitted."""

import argparse

# Those of maths.priors.PRIORS, which takes a second to import.
PRIOR_NAMES = (
    *("none", "gamma", "inv_gamma", "half_normal", "half_t", "exponential"),
    *("log_normal", "pc", "pc_usage"),
)


def add_data_options(fit: argparse.ArgumentParser) -> None:
    """Declare what is read and what of it is left out."""
    data = fit.add_argument_group("what is read")
    data.add_argument("--n-isos", type=int, metavar="K", help="only genes with K isoforms")
    data.add_argument(
        "--covariates",
        type=_names,
        default=(),
        metavar="A,B",
        help="arrays of the .npz; columns of obs or matrices of obsm of the .h5ad; words become "
        "indicators of all levels but the reference",
    )
    data.add_argument(
        "--reference", type=_pairs, default={}, metavar="A=LEVEL", help="default: the first level"
    )
    data.add_argument(
        "--contrasts",
        type=_contrasts,
        default="reference",
        metavar="WHICH",
        help="what effects.csv compares: reference (default), each level with it; pairwise, every "
        "two; or by name, region:B:A,age:60:30",
    )
    data.add_argument(
        "--reference-isoform",
        default="last",
        metavar="WHICH",
        help="of the logits: last (default), most reads, a column of var that marks it, a name",
    )
    data.add_argument(
        "--layer",
        default="counts",
        metavar="NAME",
        help="of the .h5ad; default counts, X: the main matrix, raw: that of raw",
    )
    data.add_argument(
        "--group-iso-by",
        default="gene_symbol",
        metavar="COLUMN",
        help="column of var of the .h5ad; default gene_symbol",
    )
    data.add_argument(
        "--spatial-key", metavar="NAME", help="default: coords (.npz), spatial (.h5ad)"
    )
    data.add_argument("--adj-key", metavar="NAME", help="graph of the spots (obsp of the .h5ad)")
    data.add_argument("--library-key", metavar="NAME", help="slide of each spot (obs of the .h5ad)")
    left = fit.add_argument_group("what is left out")
    left.add_argument("--min-counts", type=float, default=0.0, metavar="N", help="reads of a gene")
    left.add_argument("--min-spots", type=int, default=0, metavar="N", help="spots with reads")
    left.add_argument(
        "--min-share", type=float, default=0.0, metavar="X", help="of the reads, of an isoform"
    )
    left.add_argument("--rare", choices=("drop", "merge"), default="drop", help="default drop")


def add_model_options(fit: argparse.ArgumentParser) -> None:
    """Declare what is fitted."""
    model = fit.add_argument_group("what is fitted")
    model.add_argument("--model", choices=("glmm", "glm"), default="glmm", help="default glmm")
    model.add_argument(
        "--nugget",
        choices=("quadrature", "laplace"),
        default="quadrature",
        help="how the white part of the random effect is integrated out: exactly (default), or by "
        "a Laplace approximation, which misleads where spots have a read or two",
    )
    model.add_argument(
        "--smooth",
        choices=("auto", "ep", "laplace"),
        default="auto",
        help="how its smooth part is: by expectation propagation (ep) or Laplace's method (theta "
        "too small); auto, the default: ep for genes of up to three isoforms",
    )
    model.add_argument("--k", type=int, default=6, metavar="K", help="neighbours a spot, default 6")
    model.add_argument("--rho", type=float, default=0.99, help="of the CAR kernel, default 0.99")
    said = "on sigma, default half_normal (scale 1); none: maximum likelihood"
    model.add_argument("--prior", choices=PRIOR_NAMES, default="half_normal", help=said)
    said = "a random effect of each isoform (default), or of each logit against the last one"
    model.add_argument(
        "--coding", choices=("symmetric", "reference"), default="symmetric", help=said
    )
    said = "a sigma and theta for each logit; with --coding reference"
    model.add_argument("--separate-variance", action="store_true", help=said)
    model.add_argument(
        "--population",
        nargs="?",
        choices=("gaussian", "mixture"),
        const="gaussian",
        default="none",
        help="estimate how sigma and theta are distributed over genes, and each gene under it: "
        "columns pop_..., p_spatial, lfsr_...; maps then show usage under it",
    )
    model.add_argument(
        "--standardise",
        action="store_true",
        help="kept for older scripts: covariates are fitted in standard units in any case, "
        "estimates come back in yours",
    )


def _names(text: str) -> tuple[str, ...]:
    """Split a list of names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _contrasts(text: str) -> str | list[tuple[str, str | float, str | float]]:
    """Split a list of covariate:level:level, or return the word."""
    if ":" not in text:
        return text
    parts = [tuple(part.rsplit(":", 2)) for part in _names(text)]
    if any(len(part) != 3 for part in parts):
        raise argparse.ArgumentTypeError(f"expected covariate:level:level, came {text!r}")
    return [(name, _value(high), _value(low)) for name, high, low in parts]


def _value(word: str) -> str | float:
    """Return a number where a word is one."""
    try:
        return float(word)
    except ValueError:
        return word


def _pairs(text: str) -> dict[str, str]:
    """Split a list of name=level."""
    pairs = dict(part.partition("=")[::2] for part in _names(text))
    if not all(pairs.values()):
        raise argparse.ArgumentTypeError(f"expected covariate=level, came {text!r}")
    return pairs
