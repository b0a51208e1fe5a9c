"""What a population looks like: genes on their distribution, shrinkage, maps side by side."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

from splisosm_pyro.genes.data.places import places_of
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray
from splisosm_pyro.plots import FINE, FLAGGED, MAPS, tissue_map
from splisosm_pyro.population.grid import GRID
from splisosm_pyro.population.prior import PopulationPrior

# The probability of space from which a gene is shown as spatial.
SPATIAL = 0.95
LEVELS = 7
LEAST_SHOWN = 0.03  # a fitted sigma below is drawn here


class WithPopulationFigures:
    """Figures of a run's population."""

    table: pd.DataFrame
    slide: Slide
    usage: Callable[..., tuple[FloatArray, FloatArray]]
    counts: Callable[[str | int], AnyArray]

    @property
    def population(self) -> PopulationPrior:
        """The distribution of sigma and theta over genes."""
        raise NotImplementedError

    def population_figure(self) -> Figure:
        """Draw the distribution of sigma and theta over genes with every gene's posterior mean.

        Returns
        -------
        matplotlib Figure
            Grey: the population where there is space. Genes whose ``p_spatial`` is 0.95 or more are
            orange triangles.
        """
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        ax = figure.subplots()
        mass = np.exp(self.population.log_mass()[0, : GRID.inside])
        theta = expit(GRID.logits)
        density = mass.reshape(GRID.log_sigmas.size, -1) / (theta * (1.0 - theta))
        shown = ax.contourf(
            np.exp(GRID.log_sigmas), theta, density.T, levels=LEVELS, cmap="Greys", alpha=0.8
        )
        bar = figure.colorbar(shown, ax=ax, label="density of the population (no unit)", shrink=0.8)
        bar.set_ticks([])
        own = self.table
        _genes(ax, own["pop_sigma"], own["pop_theta"], own["p_spatial"])
        ax.set(xscale="log", ylim=(-0.02, 1.02), xlim=(0.05, 8.0))
        ax.set_xlabel("sigma, standard deviation of the random effect (logits)")
        ax.set_ylabel("theta, share of its variance in space")
        ax.set_title(_title(self.population), fontsize=10)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        return figure

    def shrinkage(self) -> Figure:
        """Draw sigma and theta as fitted gene by gene against those under the population.

        Returns
        -------
        matplotlib Figure
            On the dashed line nothing moves. Few reads, small dots, move most.
        """
        figure = Figure(figsize=(7.6, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        own = self.table[self.table["pop_reason"] == ""]
        size = 4.0 + 6.0 * np.log10(own["reads"].clip(lower=1.0))
        pairs = (
            (left, own["sigma"].clip(lower=LEAST_SHOWN), own["pop_sigma"], "sigma (logits)"),
            (right, own["theta"], own["pop_theta"], "theta (share)"),
        )
        for ax, fitted, moderated, name in pairs:
            _genes(ax, fitted, moderated, own["p_spatial"], size)
            ends = [float(fitted.min()), float(fitted.max())]
            ax.plot(ends, ends, color="black", linestyle="--", linewidth=1.0)
            ax.set(xlabel=f"{name}, gene by gene", ylabel=f"{name}, under the population")
        left.set(xscale="log", yscale="log")
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        return figure

    def moderated_map(self, gene: str | int, isoform: int = 0) -> Figure:
        """Draw the usage of an isoform as fitted by itself, and under the population.

        Parameters
        ----------
        gene : str or int
            Its name, or its row in the table.
        isoform : int
            Its number.

        Returns
        -------
        matplotlib Figure
            The observed usage, both fitted usages on one scale, and their standard errors.
        """
        counts = self.counts(gene).astype(np.float64)
        total = counts.sum(axis=1)
        with np.errstate(invalid="ignore"):
            observed = np.where(total > 0, counts[:, isoform] / total, np.nan)
        plain = [part[:, isoform] for part in self.usage(gene, moderated=False)]
        pooled = [part[:, isoform] for part in self.usage(gene, moderated=True)]
        return _five_maps(places_of(self.slide), observed, plain, pooled)


def _five_maps(
    coords: FloatArray, observed: FloatArray, plain: list[FloatArray], pooled: list[FloatArray]
) -> Figure:
    """Draw observed usage, then usage and error of two fits, each kind on one scale."""
    figure = Figure(figsize=(10.5, 5.4), layout="constrained")
    axes = figure.subplots(2, 3)
    tissue_map(axes[0, 0], coords, observed, label="observed usage", cmap=MAPS["usage"])
    axes[1, 0].remove()
    titles = "gene by gene", "under the population"
    for row, (kind, what) in enumerate((("usage", "fitted usage"), ("error", "standard error"))):
        values = [np.where(np.isfinite(fit[row]), fit[row], np.nan) for fit in (plain, pooled)]
        limits = float(np.nanmin(values)), float(np.nanmax(values))
        for column, (own, title) in enumerate(zip(values, titles, strict=True), start=1):
            ax: Any = axes[row, column]
            tissue_map(ax, coords, own, label=what, cmap=MAPS[kind], limits=limits)
            ax.set_title(title, fontsize=10)
    return figure


def _genes(
    ax: Axes,
    x: "pd.Series[float]",
    y: "pd.Series[float]",
    p_spatial: "pd.Series[float]",
    size: Any = 12.0,
) -> None:
    """Draw genes, those that are spatial otherwise than the others."""
    spatial = (p_spatial >= SPATIAL).to_numpy()
    sizes = np.broadcast_to(np.asarray(size, dtype=np.float64), spatial.shape)
    for own, colour, marker, label in (
        (~spatial, FINE, "o", f"p_spatial < {SPATIAL}"),
        (spatial, FLAGGED, "^", f"p_spatial ≥ {SPATIAL}"),
    ):
        ax.scatter(x[own], y[own], s=sizes[own], c=colour, marker=marker, label=label, linewidths=0)
    ax.spines[["top", "right"]].set_visible(False)


def _title(population: PopulationPrior) -> str:
    """Say what was estimated."""
    shares = population.hyperparameters["estimate"]
    without = float(shares.get("share_without_space", 0.0))
    return f"{population.n_genes} genes; {100.0 * without:.0f} % have no space"
