"""What a run leaves on disk: the table, the folder, figures of the top genes."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit, logit

from splisosm_pyro.fit.glmm.outer_space import SIGMA_RANGE
from splisosm_pyro.genes.data.places import places_of
from splisosm_pyro.genes.result.gene_fits import GeneFits
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.paths import PathLike, file_name, made_folder
from splisosm_pyro.plots import GeneMaps, gene_figure

MOST_ISOFORMS = 5
DPI = 150
LONGEST_TITLE = 40  # letters of a name
NORMAL_95 = 1.96
NO_DOUBT = 1e-8  # a p below which genes are not ranked by it


def top_genes(fits: GeneFits, n: int = 6) -> list[str]:
    """Return the genes that vary most surely in space: by the p of their test, then by their gain.

    Below a p of 1e-8 there is no doubt, and the gain of the spatial over the white-noise model says
    more; without tests it says all. Those whose sigma is at the upper bound of the search come
    last: a few reads can ask for ever more variance. Of a run of GLMs, those whose fitted usage
    varies most.
    """
    by = "gain_over_white" if "gain_over_white" in fits.table else "fitted_usage_range"
    if by not in fits.table:
        return []
    known = fits.table.dropna(subset=[by])
    sigma = known.filter(regex=r"^sigma(_\d+)?$").max(axis=1)
    known = known.assign(unbounded=sigma > (1 - 1e-6) * SIGMA_RANGE[1], doubt=1.0)
    if "sv_p" in known:
        known["doubt"] = known["sv_p"].clip(lower=NO_DOUBT).fillna(1.0)
    keys = ["unbounded", "doubt", by]
    ordered = known.sort_values(keys, ascending=[True, True, False], kind="stable")
    return [str(gene) for gene in ordered["gene"][:n]]


def gene_page(fits: GeneFits, gene: str) -> Figure:
    """Draw one gene: a row for each isoform, its variance parameters with 95 % intervals above.

    Parameters
    ----------
    fits : GeneFits
    gene : str

    Returns
    -------
    matplotlib Figure
        Reads, observed usage, fitted usage and its standard error.

    Raises
    ------
    ValueError
        If there is no such gene, or its fit broke.
    """
    return _page(fits, _maps(fits, gene))


def top_page(fits: GeneFits, n: int = 6) -> Figure:
    """Draw the top genes under each other, the isoform whose fitted usage varies most.

    Raises
    ------
    ValueError
        If no gene has a fit.
    """
    return _top(fits, [_maps(fits, gene) for gene in top_genes(fits, n)])


def write_figures(fits: GeneFits, folder: PathLike, n: int = 6) -> list[Path]:
    """Write ``top.png`` and one file for each of the top genes; return their paths.

    A slide without coordinates has no maps: that is a warning.
    """
    if fits.slide.coords.shape[1] == 0:
        warnings.warn(
            "the slide has no coordinates, it came with a graph alone: no figures are drawn",
            SplisosmWarning,
            stacklevel=2,
        )
        return []
    maps = [_maps(fits, gene) for gene in top_genes(fits, n)]
    if not maps:
        return []
    place = made_folder(folder)
    figures = {"top": _top(fits, maps)}
    for rank, one in enumerate(maps, start=1):
        figures[f"{rank:02d}_{file_name(one.title)}"] = _page(fits, one)
    written = [place / f"{name}.png" for name in figures]
    for path, figure in zip(written, figures.values(), strict=True):
        figure.savefig(path, dpi=DPI, bbox_inches="tight")
    return written


def write_table(fits: GeneFits, path: Path) -> None:
    """Write the table of genes; where that fails after all, into the folder for temporary files.

    Raises
    ------
    OSError
        If it is not where it should be; the message says where it is.
    """
    try:
        fits.table.to_csv(path, index=False)
    except OSError as error:
        with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False) as kept:
            fits.table.to_csv(kept, index=False)
        raise OSError(
            f"cannot write {path}: {error.strerror or error}; the table is in {kept.name}"
        ) from error


def write_results(fits: GeneFits, folder: Path, n_figures: int) -> None:
    """Write the result and the figures of the top genes.

    Raises
    ------
    OSError
        If that fails; the records have every gene.
    """
    try:
        fits.save(folder)
        if n_figures > 0:
            write_figures(fits, folder / "figures", n_figures)
    except OSError as error:
        raise OSError(
            f"cannot write to {folder}: {error.strerror or error}; every gene is safe in "
            "records.jsonl: make room and run again with --resume"
        ) from error


def _page(fits: GeneFits, maps: GeneMaps) -> Figure:
    """Draw the isoforms of a gene."""
    row = fits.row(maps.title)
    n_isos = int(row["n_isos"])
    # of two isoforms the second is the mirror of the first
    shown = range(1 if n_isos == 2 else min(n_isos, MOST_ISOFORMS))
    rows = [_of_isoform(row, maps, p) for p in shown]
    figure = gene_figure(places_of(fits.slide), rows)
    reads = f"{row['reads']} reads at {row['occupied_spots']} spots"
    figure.suptitle(
        f"{_shown(maps.title)}: {reads}, {row['status']}{_at_bound(row)}\n{variances(row)}",
        fontsize=10,
    )
    return figure


def _at_bound(row: "pd.Series[float]") -> str:
    """Say which of sigma and theta ended at a bound."""
    return f", {row['at_bound']}" if row.get("at_bound") else ""


def _top(fits: GeneFits, genes: list[GeneMaps]) -> Figure:
    """Draw genes under each other."""
    if not genes:
        raise ValueError("no gene has a fit, there is nothing to draw")
    rows = []
    for maps in genes:
        row = fits.row(maps.title)
        varies_most = int(np.ptp(maps.ratio, axis=0).argmax())
        one = _of_isoform(row, maps, varies_most)
        title = (
            f"{_shown(maps.title)}, {row['reads']} reads\n{one.title}\n{variances(row, short=True)}"
        )
        rows.append(replace(one, title=title))
    return gene_figure(places_of(fits.slide), rows)


def variances(row: "pd.Series[float]", *, short: bool = False) -> str:
    """Say sigma and theta with their 95 % intervals, or that they are at a bound; gain and q.

    Examples
    --------
    >>> import pandas as pd
    >>> numbers = {"sigma": 1.0, "log_sigma_se": 0.5, "theta": 0.5, "theta_logit_se": np.inf}
    >>> variances(pd.Series(numbers))
    'sigma 1.00 (0.38 to 2.66), theta 0.50 (at a bound or unknown)'
    """
    parts = list(_intervals(row))
    gain = row.get("gain_over_white")
    if gain is not None and np.isfinite(gain):
        parts.append(f"gain over white noise {gain:.1f} nats")
    q = row.get("sv_q")
    if q is not None:
        parts.append(f"space q {q:.2g}" if np.isfinite(q) else "space not tested")
    if short:
        parts = [part.replace("at a bound or unknown", "at a bound") for part in parts]
        parts = [part.replace("gain over white noise", "gain") for part in parts]
    return ("\n" if short else ", ").join(parts)


def _intervals(row: "pd.Series[float]") -> Iterator[str]:
    """Yield a phrase for each variance parameter."""
    for name in map(str, row.index):
        kind, _, number = name.partition("_")
        if kind not in ("sigma", "theta") or not (number == "" or number.isdecimal()):
            continue
        ending = f"_{number}" if number else ""
        value = float(row[name])
        scale = "log_sigma" if kind == "sigma" else "theta_logit"
        error = NORMAL_95 * float(row[f"{scale}{ending}_se"])
        if not np.isfinite(error):
            yield f"{kind}{ending} {value:.2f} (at a bound or unknown)"
        elif kind == "sigma":
            low, high = value * np.exp(-error), value * np.exp(error)
            yield f"{name} {value:.2f} ({low:.2f} to {high:.2f})"
        else:
            low, high = expit(logit(value) - error), expit(logit(value) + error)
            yield f"{name} {value:.2f} ({low:.2f} to {high:.2f})"


def _maps(fits: GeneFits, gene: str) -> GeneMaps:
    """Return what is drawn of a gene."""
    ratio, error = fits.usage(gene)
    return GeneMaps(gene, fits.counts(gene).astype(np.float64), ratio, error)


def _of_isoform(row: "pd.Series[float]", maps: GeneMaps, isoform: int) -> GeneMaps:
    """Return the maps of one isoform under its name."""
    name = str(row["isoforms"]).split(";")[isoform]
    return replace(maps, title=_shown(name), isoform=isoform)


def _shown(name: str) -> str:
    """Return a name as figures have room for."""
    return name if len(name) <= LONGEST_TITLE else f"{name[: LONGEST_TITLE - 3]}..."
