"""What tests of many genes look like: effect against p, histograms of p and their quantiles.

Built without pyplot, as all figures. What is found (q of 5 % or less) is orange and a triangle, all
else blue and a dot: told apart without colours too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import beta

from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.plots import FINE, FLAGGED

FOUND = 0.05  # a false discovery rate
LEAST_P = 1e-300
MOST_NAMES = 8
BINS = 20
BAND = (0.025, 0.975)


class WithTestFigures:
    """Figures of the tests of a run."""

    table: pd.DataFrame
    effects: pd.DataFrame

    def volcano(
        self, covariate: str, tests: pd.DataFrame | None = None, *, level: str = ""
    ) -> Figure:
        """Draw for every gene the largest change of usage with a covariate against its p.

        Parameters
        ----------
        covariate : str
            One that was fitted or, with ``tests``, one of those.
        tests : DataFrame, optional
            What `differential_usage` returned.
        level : str
            Of a factor or matrix in ``tests``; the whole of it by default.

        Returns
        -------
        matplotlib Figure
            Genes of q up to 0.05 are orange triangles, the most significant ones named.

        Raises
        ------
        ValueError
            If there is no test of the covariate.
        """
        if tests is None:
            points = _fitted_points(self.table, self.effects, covariate)
        else:
            points = _tested_points(tests, covariate, level)
        name = f"{covariate}={level}" if level else covariate
        return _volcano(points.dropna(subset=["p", "change"]), name)

    def p_values(self, tests: pd.DataFrame | None = None) -> Figure:
        """Draw for every test the histogram of its p-values and their quantiles.

        Parameters
        ----------
        tests : DataFrame, optional
            What `differential_usage` returned, its covariates as wholes; by default the tests in
            the table of the run, of space and of the covariates that were fitted.

        Returns
        -------
        matplotlib Figure
            A row for each test. Without any effect the histogram is level and the quantiles lie on
            the diagonal, within the grey band at 95 % of all places.

        Raises
        ------
        ValueError
            If there is no test.
        """
        return _p_values(_by_test(self.table if tests is None else tests))


def _fitted_points(table: pd.DataFrame, effects: pd.DataFrame, covariate: str) -> pd.DataFrame:
    """Return gene, p, q and largest change of a covariate that was fitted."""
    names = [f"du_{covariate}_{kind}" for kind in ("p", "q")]
    if names[0] not in table:
        known = [str(c)[3:-2] for c in table if str(c).startswith("du_") and str(c).endswith("_p")]
        raise ValueError(
            f"covariate must be one that was tested, {', '.join(known) or 'none was'}; came "
            f"{covariate!r}"
        )
    own = effects[_of_covariate(effects["covariate"], covariate)].dropna(subset=["change"])
    most = own.loc[own.groupby("gene")["change"].apply(lambda one: one.abs().idxmax())]
    points = table[["gene", *names]].set_axis(["gene", "p", "q"], axis=1)
    return points.merge(most[["gene", "change"]], on="gene", how="left")


def _of_covariate(names: "pd.Series[str]", covariate: str) -> "pd.Series[bool]":
    """Whether effects are of a covariate, or of a column of it where it is a matrix."""
    return (names == covariate) | names.astype(str).str.startswith(f"{covariate}=")


def _tested_points(tests: pd.DataFrame, covariate: str, level: str) -> pd.DataFrame:
    """Return the rows of a covariate that was tested afterwards."""
    own = tests[(tests["covariate"] == covariate) & (tests["level"] == level)]
    if own.empty:
        known = ", ".join(map(str, tests["covariate"].unique()[:MOST_NAMES]))
        raise ValueError(f"tests must hold {covariate!r} with level {level!r}, it holds {known}")
    return own[["gene", "p", "q", "change"]]


def _volcano(points: pd.DataFrame, name: str) -> Figure:
    """Draw change against p."""
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    ax = figure.subplots()
    change = 100.0 * points["change"].to_numpy(dtype=np.float64)
    height = -np.log10(np.maximum(points["p"].to_numpy(dtype=np.float64), LEAST_P))
    found = points["q"].to_numpy(dtype=np.float64) <= FOUND
    _dots(ax, change, height, found)
    order = np.argsort(-height, kind="stable")[:MOST_NAMES]
    _name_points(ax, change, height, [(i, str(points["gene"].iloc[i])) for i in order if found[i]])
    reach = max(1.0, 1.25 * float(np.abs(change).max(initial=0.0)))
    ax.set(xlim=(-reach, reach), ylim=(0.0, 1.1 * float(height.max(initial=1.0))))
    ax.axvline(0.0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel("largest change of an isoform's usage (percentage points)")
    ax.set_ylabel("$-\\log_{10}$ p")
    ax.set_title(f"{name}: {int(found.sum())} of {len(points)} genes at q ≤ {FOUND}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _dots(ax: Axes, x: FloatArray, y: FloatArray, found: Mask) -> None:
    """Draw what is found and what is not."""
    looks = (
        (~found, FINE, "o", f"q > {FOUND}", 10),
        (found, FLAGGED, "^", f"q ≤ {FOUND}", 20),
    )
    for own, colour, marker, label, size in looks:
        if own.any():
            ax.scatter(x[own], y[own], s=size, c=colour, marker=marker, label=label, linewidths=0)
    ax.spines[["top", "right"]].set_visible(False)


def _name_points(ax: Axes, x: FloatArray, y: FloatArray, named: Sequence[tuple[int, str]]) -> None:
    """Write names beside points, none over another."""
    taken = -np.inf
    for i, name in sorted(named, key=lambda one: y[one[0]]):
        room = 0.045 * float(y.max())
        taken = max(float(y[i]), taken + room)
        right = x[i] >= 0
        ax.annotate(
            name,
            (x[i], y[i]),
            xytext=(x[i] + (0.03 if right else -0.03) * float(np.ptp(x) or 1.0), taken),
            ha="left" if right else "right",
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5},
        )


def _by_test(table: pd.DataFrame) -> dict[str, FloatArray]:
    """Return the p-values that there are, by test."""
    if "covariate" in table:
        whole = table[table["level"] == ""]
        named = {str(name): own["p"] for name, own in whole.groupby("covariate", sort=False)}
    else:
        columns = [str(c) for c in table if str(c) == "sv_p" or _is_du(str(c))]
        named = {"space" if c == "sv_p" else c[3:-2]: table[c] for c in columns}
    known = {name: p.dropna().to_numpy(dtype=np.float64) for name, p in named.items()}
    found = {name: p for name, p in known.items() if p.size}
    if not found:
        raise ValueError("there must be a test with a p-value, came none")
    return found


def _is_du(column: str) -> bool:
    return column.startswith("du_") and column.endswith("_p")


def _p_values(tests: Mapping[str, FloatArray]) -> Figure:
    """Draw a row for each test."""
    figure = Figure(figsize=(6.6, 2.4 * len(tests) + 0.4), layout="constrained")
    axes = figure.subplots(len(tests), 2, squeeze=False)
    for row, (name, p) in zip(axes, tests.items(), strict=True):
        _histogram(row[0], name, p)
        _quantiles(row[1], p)
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", fontsize=8, frameon=False)
    return figure


def _histogram(ax: Axes, name: str, p: FloatArray) -> None:
    """Draw how many p are where, and where they would be without any effect."""
    ax.hist(p, bins=np.linspace(0.0, 1.0, BINS + 1).tolist(), color=FINE, edgecolor="white")
    ax.axhline(
        p.size / BINS,
        color="black",
        linestyle="--",
        linewidth=1.0,
        label="where no gene has an effect",
    )
    ax.set(xlabel="p", ylabel="genes", xlim=(0.0, 1.0))
    ax.set_title(f"{name}, {p.size} genes", fontsize=10)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    ax.spines[["top", "right"]].set_visible(False)


def _quantiles(ax: Axes, p: FloatArray) -> None:
    """Draw the quantiles of p against those of a uniform distribution, with their band."""
    n, rank = p.size, np.arange(1, p.size + 1)
    expected = -np.log10((rank - 0.5) / n)
    low, high = (-np.log10(beta.ppf(tail, rank, n + 1 - rank)) for tail in BAND)
    ax.fill_between(expected, high, low, color="0.85", linewidth=0)
    ax.plot(expected, expected, color="black", linestyle="--", linewidth=1.0)
    ax.scatter(expected, -np.log10(np.maximum(np.sort(p), LEAST_P)), s=8, c=FINE, linewidths=0)
    ax.set_xlabel("expected $-\\log_{10}$ p")
    ax.set_ylabel("observed $-\\log_{10}$ p")
    ax.spines[["top", "right"]].set_visible(False)
