"""Figures of the studies, built without pyplot: nothing global is touched and no window opens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from splisosm_pyro.studies.calibration_result import Calibration

COLUMNS = 3
PANEL = (3.4, 2.4)  # inches
FINE, FLAGGED = "#0072b2", "#d55e00"


def panels(n_panels: int, width: float = PANEL[0], height: float = PANEL[1]) -> tuple[Figure, list]:  # type: ignore[type-arg]
    """Return a figure and its axes in rows of three, those without a use taken out."""
    n_columns = min(COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(width * n_columns, height * n_rows), layout="constrained")
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
