"""Figures of the studies, built without pyplot: nothing global is touched and no window opens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from splisosm_pyro.studies.calibration_result import Calibration
    from splisosm_pyro.studies.predictive_check import PredictiveCheck

COLUMNS = 3
PANEL = (3.4, 2.4)  # inches
FINE, FLAGGED = "#0072b2", "#d55e00"


def panels(n_panels: int, n_columns: int = COLUMNS) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes row by row, those without a use taken out."""
    n_columns = min(n_columns, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(PANEL[0] * n_columns, PANEL[1] * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for spare in axes[n_panels:]:
        spare.remove()
    return figure, list(axes[:n_panels])


def calibration_figure(study: "Calibration", quantities: Sequence[str] | None = None) -> Figure:
    """Draw one panel a quantity: ecdf of the ranks less that of uniform ranks, and its band."""
    shown = list(study.table.index if quantities is None else quantities)
    wrong = [name for name in shown if name not in study.table.index]
    if wrong or not shown:
        raise ValueError(f"quantities must be among {list(study.table.index)}, came {quantities!r}")
    test = study.test()
    low, high = test.band(study.alpha / len(study.table))
    figure, axes = panels(len(shown))
    for ax, name in zip(axes, shown, strict=True):
        flagged = bool(study.table.loc[name, "flagged"])
        ecdf = test.ecdf(study.ranks[name].to_numpy())
        ax.fill_between(test.levels, low - test.levels, high - test.levels, color="0.85", lw=0)
        ax.plot(test.levels, ecdf - test.levels, color=FLAGGED if flagged else FINE, lw=1.2)
        ax.axhline(0.0, color="0.4", lw=0.6)
        ax.set(title=name, xlim=(0.0, 1.0), xlabel="scaled rank", ylabel="ECDF difference")
        ax.title.set_fontsize(9)
    figure.suptitle(
        f"{study.method}: {len(study.ranks)} simulated genes, band for all quantities together "
        f"at {1.0 - study.alpha:.0%}",
        fontsize=10,
    )
    return figure


def predictive_figure(check: "PredictiveCheck", genes: Sequence[Any] | None = None) -> Figure:
    """Draw histograms of the replicated statistics and the observed values, a row a gene."""
    known = list(check.table.index.unique("gene"))
    statistics = list(check.table.index.unique("statistic"))
    shown = known[:4] if genes is None else list(genes)
    if not shown or any(gene not in known for gene in shown):
        raise ValueError(f"genes must be among those of the check, came {genes!r}")
    figure, axes = panels(len(shown) * len(statistics), len(statistics))
    cells = [(gene, k) for gene in shown for k in range(len(statistics))]
    for ax, (gene, k) in zip(axes, cells, strict=True):
        row = check.table.loc[(gene, statistics[k])]
        ax.hist(check.replicates[known.index(gene), k], bins=30, color="0.75")
        ax.axvline(row["observed"], color=FLAGGED if row["p_value"] < 0.05 else FINE)
        ax.set(xlabel=statistics[k], ylabel="replicates")
        ax.set_title(f"{gene}: p = {row['p_value']:.2g}", fontsize=9)
    figure.suptitle(f"{check.kind} predictive check", fontsize=10)
    return figure
