"""Figures of a prior sensitivity study.

Built without pyplot; colours are those of Okabe and Ito, which readers with a colour vision
deficiency can tell apart, and every line has its own dash or marker as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from splisosm_pyro.fit.options import as_names
from splisosm_pyro.plots import tissue_map

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#666666"
DASHES = ("--", "-.", "-", ":", (0, (6, 1.5)))
LABELS = {
    "sigma": "sigma (logit scale)",
    "log_sigma": "log sigma (natural log)",
    "theta": "theta (share of variance)",
    "theta_logit": "logit of theta",
    "beta": "beta (logits per unit)",
    "bias_eta": "bias_eta (logits)",
    "usage_mean": "mean usage over spots",
    "usage_range": "range of usage over spots",
}
SHARES = ("theta", "usage_mean", "usage_range")  # end at 0 and 1
NORMAL_95 = 1.959964


def estimates_figure(dataset: xr.Dataset, gene: Any, parameter: str) -> Figure:
    """Draw a parameter's estimate under every prior, with intervals, and the likelihood there."""
    one = _gene(dataset, gene)
    _known(parameter, [str(name) for name in one.data_vars if f"{name}_se" in one])
    values, errors = _flat(one[parameter]), _flat(one[f"{parameter}_se"])
    n = len(one["prior"])
    figure = Figure(figsize=(9.0, 0.42 * n + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    shown = np.arange(n)
    entries = list(values)
    for k, entry in enumerate(entries):
        y = shown + 0.12 * (k - 0.5 * (len(entries) - 1))
        half = NORMAL_95 * np.where(np.isfinite(errors[entry]), errors[entry], 0.0)
        left.errorbar(
            values[entry], y, xerr=half, fmt="osD^v"[k % 5], color=COLOURS[k % 6], capsize=3,
            label=entry or parameter,
        )  # fmt: skip
        for at in np.flatnonzero(~np.isfinite(errors[entry]) & np.isfinite(values[entry])):
            left.annotate(" at a bound", (values[entry][at], y[at]), fontsize=8, color=GREY)
    left.set(yticks=shown, yticklabels=one["prior"].values, xlabel=LABELS.get(parameter, parameter))
    left.invert_yaxis()
    if len(entries) > 1:
        left.legend(frameon=False)
    loss = one["log_marginal"].values - np.nanmax(one["log_marginal"].values)
    right.barh(shown, loss, color=GREY, height=0.5)
    right.set(xlabel="log marginal likelihood\nat the mode, less the best (nats)")
    figure.suptitle(
        f"gene {one['gene'].item()}: modes in {dataset.attrs['map_in']}, 95 % intervals"
    )
    return cleaned(figure)


def maps_figure(
    dataset: xr.Dataset, coords: Any, pair: tuple[str, str], gene: Any, isoform: int
) -> Figure:
    """Draw the usage of an isoform under two priors and the difference."""
    if "usage" not in dataset:
        raise ValueError("the study kept no usage maps: ask for maps=True")
    one = _gene(dataset, gene)
    for label in pair:
        _known(label, [str(name) for name in one["prior"].values])
    first, second = (one["usage"].sel(prior=label).values[:, isoform] for label in pair)
    xy = np.asarray(coords, dtype=np.float64)
    size = np.maximum(np.ptp(xy, axis=0), 1e-12)
    height = float(np.clip(3.2 * size[1] / size[0], 1.8, 7.0))
    figure = Figure(figsize=(9.0, 0.72 * height + 0.8), layout="constrained")
    axes = figure.subplots(1, 3)
    name = f"usage of isoform {one['isoform'].values[isoform]}"
    limits = (float(min(first.min(), second.min())), float(max(first.max(), second.max())))
    for ax, label, usage in zip(axes[:2], pair, (first, second), strict=True):
        tissue_map(ax, coords, usage, label=name, limits=limits)
        ax.set_title(label.replace("(", "\n(", 1), fontsize=9)
    change = second - first
    most = float(np.abs(change).max()) or 1e-6
    tissue_map(axes[2], coords, change, label="difference of usage", cmap="RdBu_r",
               limits=(-most, most))  # fmt: skip
    axes[2].set_title("second less first", fontsize=9)
    figure.suptitle(f"gene {one['gene'].item()}: modes in {dataset.attrs['map_in']}")
    return figure


def densities_figure(dataset: xr.Dataset, gene: Any, parameters: Sequence[str] | None) -> Figure:
    """Draw densities under every power: the prior scaled above, the likelihood below."""
    one = _gene(dataset, gene)
    usual = [p for p in ("log_sigma", "theta", "usage_range") if f"draws_{p}" in one]
    shown = as_names("parameters", parameters or usual)
    for name in shown:
        _known(name, [str(v).removeprefix("draws_") for v in one if str(v).startswith("draws_")])
    figure = Figure(figsize=(3.6 * len(shown) + 0.8, 5.2), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, sharex="col")
    for column, name in zip(axes.T, shown, strict=True):
        draws = _first_entry(one[f"draws_{name}"], ("sample",)).values
        for ax, component in zip(column, one["component_scaled"].values, strict=True):
            weights = one["weight"].sel(component_scaled=component)
            _densities(ax, draws, weights, one["alpha"].values, shares=name in SHARES)
            ax.set_yticks([])
            ax.set_title(f"{component} to the power", fontsize=10)
        column[1].set_xlabel(LABELS.get(name, name))
        column[0].set_ylabel("density")
        column[1].set_ylabel("density")
    axes[0, 0].legend(frameon=False, fontsize=8, title="power")
    worst = ", ".join(f"{c} {k:.2f}" for c, k in zip(
        one["component_scaled"].values, one["khat"].values, strict=True))  # fmt: skip
    figure.suptitle(f"gene {one['gene'].item()}: power-scaled posteriors (k-hat: {worst})")
    return cleaned(figure)


def _densities(ax: Any, draws: Any, weights: xr.DataArray, alphas: Any, *, shares: bool) -> None:
    """Draw one density a power."""
    low, high = np.quantile(draws, [0.002, 0.998])
    ends = np.array([low - 0.1 * (high - low), high + 0.1 * (high - low)])
    if shares:
        ends = ends.clip(0.0, 1.0)
    grid = np.linspace(float(ends[0]), float(ends[1]), 200)
    for k in (0, len(alphas) // 2, len(alphas) - 1):
        density = gaussian_kde(draws, weights=weights.values[k])(grid)
        colour = COLOURS[(0, 4, 1)[(k > 0) + (k == len(alphas) - 1)]]
        dash = DASHES[(0, 2, 1)[(k > 0) + (k == len(alphas) - 1)]]
        ax.plot(grid, density, color=colour, linestyle=dash, label=f"{alphas[k]:g}")


def quantities_figure(dataset: xr.Dataset, gene: Any, parameter: str) -> Figure:
    """Draw mean, sd and 90 % interval of a parameter against the power, with Monte Carlo errors."""
    one = _gene(dataset, gene)
    _known(parameter, [str(v).removesuffix("_mean") for v in one if str(v).endswith("_mean")])
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    alphas = one["alpha"].values
    for k, component in enumerate(one["component_scaled"].values):
        own = one.sel(component_scaled=component)
        style = {"color": COLOURS[k], "linestyle": DASHES[k * 2], "marker": "os"[k]}
        mean = _first_entry(own[f"{parameter}_mean"], ("alpha",)).values
        error = _first_entry(own[f"{parameter}_mcse"], ("alpha",)).values
        axes[0].plot(alphas, mean, label=component, **style)
        axes[0].fill_between(alphas, mean - 2 * error, mean + 2 * error, alpha=0.15,
                             color=COLOURS[k])  # fmt: skip
        axes[1].plot(alphas, _first_entry(own[f"{parameter}_sd"], ("alpha",)), **style)
        ends = _first_entry(own[f"{parameter}_quantile"], ("alpha", "quantile"))
        for q in (0, -1):
            axes[2].plot(alphas, ends.isel(quantile=q), **style)
    titles = ("mean (band: 2 Monte Carlo errors)", "standard deviation", "5 % and 95 % quantiles")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_xscale("log")
        ax.set_xticks(alphas, [f"{a:.3g}" for a in alphas], minor=False)
        ax.set_xticks([], minor=True)
        ax.axvline(1.0, color=GREY, linewidth=0.6)
        ax.set(xlabel="power", title=title)
        ax.title.set_fontsize(10)
    axes[0].set_ylabel(LABELS.get(parameter, parameter))
    axes[0].legend(frameon=False, title="scaled")
    figure.suptitle(f"gene {one['gene'].item()}")
    return cleaned(figure)


def ranking_figure(table: pd.DataFrame, how: str, parameter: str, top: int) -> Figure:
    """Draw the genes whose parameter is most sensitive, the largest entry of each."""
    if how == "refit":
        raise ValueError("a ranking needs how='local' or 'power_scaling', came 'refit'")
    own = table[table["parameter"] == parameter]
    _known(parameter, sorted(set(table["parameter"])))
    if how == "local":
        own = own[~own["by"].str.contains(r"\): ", regex=True)].assign(kind=own["by"])
        size, label = own["shift_in_se"].abs(), "|shift of the mode| per unit of weight (SE)"
    else:
        own = own.melt(["gene"], ["prior", "likelihood"], "kind", "value")
        size, label = own["value"], "power-scaling sensitivity (CJS distance per doubling)"
    best = own.assign(size=size).groupby(["gene", "kind"], sort=False)["size"].max().unstack()
    first = "prior" if how == "power_scaling" else best.columns[0]
    best = best.dropna(how="all").sort_values(first, ascending=False).head(top)
    if best.empty:
        raise ValueError(f"no gene has a sensitivity of {parameter}: all at a bound")
    figure = Figure(figsize=(7.5, 0.22 * len(best) + 1.8), layout="constrained")
    ax = figure.subplots()
    for k, kind in enumerate(best.columns):
        marker, colour = "osD^v<>"[k % 7], COLOURS[k % 6]
        ax.scatter(best[kind], np.arange(len(best)), label=kind, marker=marker, color=colour)
    ax.set(yticks=np.arange(len(best)), yticklabels=best.index.astype(str), xlabel=label)
    ax.set_title(f"{parameter}: the {len(best)} most sensitive genes", fontsize=10)
    ax.grid(axis="y", linewidth=0.3)
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return cleaned(figure)


def _gene(dataset: xr.Dataset, gene: Any) -> xr.Dataset:
    """Return one gene's part, the first by default."""
    if gene is None:
        return dataset.isel(gene=0)
    if gene not in dataset["gene"].values:
        raise ValueError(f"gene must be one of the study's, came {gene!r}")
    return dataset.sel(gene=gene)


def _known(name: str, valid: Sequence[str]) -> None:
    """Refuse a name that is not there."""
    if name not in valid:
        raise ValueError(f"the study has {', '.join(map(repr, valid))}; came {name!r}")


def _flat(values: xr.DataArray) -> dict[str, Any]:
    """Return the entries of a parameter, (prior,) each, by label."""
    own = [dim for dim in values.dims if dim != "prior"]
    if not own:
        return {"": values.values}
    stacked = values.stack(entry=own).transpose("entry", "prior")
    names = [", ".join(map(str, np.atleast_1d(e))) for e in stacked["entry"].values.tolist()]
    if len(names) == 1:
        names = [""]
    return dict(zip(names, stacked.values, strict=True))


def _first_entry(values: xr.DataArray, keep: tuple[str, ...]) -> xr.DataArray:
    """Return a parameter's first entry, if it has several."""
    return values.isel({dim: 0 for dim in values.dims if dim not in keep})


def cleaned(figure: Figure) -> Figure:
    """Take away the frame's upper and right sides."""
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure
