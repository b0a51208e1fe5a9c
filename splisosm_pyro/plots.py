"""Maps of a tissue: one marker a spot, as large as the lattice allows, and figures of genes.

The figures are built without pyplot, so nothing global is touched and no window opens. Colour maps
are those that readers with a colour vision deficiency can read; a spot without a value stays grey.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from splisosm_pyro.maths.numeric.arrays import FloatArray

Marker = Literal["auto", "hexagon", "circle"]

EMPTY = "#d9d9d9"  # a spot without a value
CIRCLE_CORNERS = 32
CIRCLE_DIAMETER = 0.9  # of the distance between neighbours
# Mean resultant length of six times the angles to the nearest neighbours: 1 on a hexagonal lattice,
# 0 on a square one.
HEXAGONAL = 0.9
MANY_READS = 20  # at one spot: from here on their colour scale is logarithmic
# A usage lies in [0, 1] and cannot have a larger standard deviation: beyond, the first-order error
# has no meaning.
LARGEST_ERROR = 0.5
GREY = f"grey: no reads; in the last column, no error below {LARGEST_ERROR}"
COLUMNS = 3
PANEL = (3.4, 2.4)  # inches
FINE, FLAGGED = "#0072b2", "#d55e00"
MAPS = {"reads": "cividis", "usage": "viridis", "error": "magma"}


@dataclass(frozen=True, eq=False)
class GeneMaps:
    """What is drawn of one gene, one row of a figure.

    Attributes
    ----------
    title : str
    counts : ndarray, shape (S, P)
    ratio : ndarray, shape (S, P)
        Fitted usage.
    ratio_se : ndarray, shape (S, P)
        Its standard error.
    isoform : int
        The isoform whose usage is shown.
    truth : ndarray, shape (S, P), optional
        The usage that a simulation drew from, shown in a further column.

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.full((7, 2), 0.5)
    >>> GeneMaps("a gene", counts=flat, ratio=flat, ratio_se=0.1 * flat).isoform
    0
    """

    title: str
    counts: FloatArray
    ratio: FloatArray
    ratio_se: FloatArray
    isoform: int = 0
    truth: FloatArray | None = None


def tissue_map(
    ax: Axes,
    coords: ArrayLike,
    values: ArrayLike,
    *,
    label: str = "",
    cmap: str | Colormap = "viridis",
    norm: Normalize | None = None,
    limits: tuple[float, float] | None = None,
    marker: Marker = "auto",
    colorbar: bool = True,
) -> PolyCollection:
    """Draw one value a spot on the tissue.

    Parameters
    ----------
    ax : matplotlib Axes
    coords : array_like, shape (S, 2)
        x and y, in any unit; y grows downwards, as in an image.
    values : array_like, shape (S,)
        NaN where there is nothing to show: those spots are grey.
    label : str
        What the colours mean, with the unit; beside the colour bar.
    cmap : str or Colormap
    norm : matplotlib Normalize, optional
    limits : (float, float), optional
        Ends of the colour scale; those of the values by default. Not together with ``norm``.
    marker : {'auto', 'hexagon', 'circle'}
        'auto' draws hexagons that touch on a hexagonal lattice, circles elsewhere.
    colorbar : bool

    Returns
    -------
    PolyCollection

    Raises
    ------
    ValueError
        If the shapes do not fit, or ``norm`` and ``limits`` are both given.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().add_subplot()
    >>> spots = tissue_map(ax, [[0, 0], [1, 0], [0.5, 0.866]], [0.1, 0.5, float("nan")])
    >>> spots.get_clim()
    (0.1, 0.5)
    """
    xy, shown = _checked(coords, values)
    if norm is not None and limits is not None:
        raise ValueError("norm and limits exclude each other, came both")
    spots = PolyCollection(list(_markers(xy, marker)), edgecolors="face", linewidths=0.2)
    spots.set_array(np.ma.masked_invalid(shown))
    spots.set_cmap((colormaps[cmap] if isinstance(cmap, str) else cmap).with_extremes(bad=EMPTY))
    spots.set_norm(norm if norm is not None else _norm(shown, limits))
    ax.add_collection(spots)
    ax.set_aspect("equal")
    ax.autoscale_view()
    ax.invert_yaxis()
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if colorbar:
        _add_bar(spots, [ax], label)
    return spots


def gene_figure(
    coords: ArrayLike,
    genes: Sequence[GeneMaps],
    *,
    marker: Marker = "auto",
    scale_bar: tuple[float, str] | None = None,
) -> Figure:
    """Draw genes in rows: reads, observed usage, fitted usage and its standard error.

    Parameters
    ----------
    coords : array_like, shape (S, 2)
    genes : sequence of GeneMaps
        One row each; with ``truth`` in any of them there is a column for it.
    marker : {'auto', 'hexagon', 'circle'}
    scale_bar : (float, str), optional
        A length in the unit of ``coords`` and its name, drawn once.

    Returns
    -------
    matplotlib Figure
        Save it with ``figure.savefig(path, dpi=200)``.

    Raises
    ------
    ValueError
        If there is no gene, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.full((7, 2), 0.5)
    >>> gene = GeneMaps("a gene", counts=flat, ratio=flat, ratio_se=0.1 * flat)
    >>> len(gene_figure(np.random.default_rng(0).random((7, 2)), [gene]).axes)
    7
    """
    if not genes:
        raise ValueError("genes must hold at least one GeneMaps, came none")
    with_truth = any(gene.truth is not None for gene in genes)
    titles = [title for title in _TITLES if with_truth or title != "true usage"]
    height = _height_of_row(np.asarray(coords, dtype=np.float64))
    size = (COLUMN * len(titles), height * len(genes) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(genes), len(titles), squeeze=False)
    for row, gene in zip(axes, genes, strict=True):
        _draw_row(row, coords, gene, marker)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=11)
    figure.supxlabel(GREY, fontsize=8)
    if scale_bar is not None:
        _draw_scale_bar(axes[-1, 0], scale_bar)
    return figure


COLUMN = 2.05  # inches: five columns are as wide as a page
_TITLES = ("reads", "observed usage", "fitted usage", "true usage", "standard error")


def _draw_row(row: Sequence[Axes], coords: ArrayLike, gene: GeneMaps, marker: Marker) -> None:
    """Fill the panels of one gene: reads, the usages on one colour scale, the error."""
    k = gene.isoform
    total = np.asarray(gene.counts, dtype=np.float64).sum(1)
    reads = np.where(total > 0, total, np.nan)
    usages = [np.asarray(gene.counts)[:, k] / reads, np.asarray(gene.ratio)[:, k]]
    if gene.truth is not None:
        usages.append(np.asarray(gene.truth)[:, k])
    error = np.asarray(gene.ratio_se, dtype=np.float64)[:, k]
    error = np.where(error <= LARGEST_ERROR, error, np.nan)
    row[0].set_ylabel(gene.title, rotation=0, ha="right", va="center", fontsize=9)

    spots = tissue_map(
        row[0],
        coords,
        reads,
        cmap=MAPS["reads"],
        norm=_reads_norm(reads),
        marker=marker,
        colorbar=False,
    )
    _add_bar(spots, [row[0]], "reads per spot", whole=True)
    panels = list(row[1:-1])
    for ax, usage in zip(panels, usages, strict=False):
        spots = tissue_map(
            ax, coords, usage, cmap=MAPS["usage"], limits=(0.0, 1.0), marker=marker, colorbar=False
        )
    for ax in panels[len(usages) :]:
        ax.set_axis_off()
    _add_bar(spots, panels, "share of the reads")
    top = float(error[np.isfinite(error)].max(initial=1e-3))
    spots = tissue_map(
        row[-1], coords, error, cmap=MAPS["error"], limits=(0.0, top), marker=marker, colorbar=False
    )
    _add_bar(spots, [row[-1]], "share of the reads")


def _add_bar(spots: PolyCollection, axes: list[Axes], label: str, whole: bool = False) -> None:
    """Put a colour bar beside the panels; ``whole`` for a scale of whole numbers."""
    bar = axes[0].figure.colorbar(spots, ax=axes, shrink=0.75, pad=0.02, aspect=18)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_linewidth(0)
    if whole and isinstance(spots.norm, LogNorm):
        decades = 10.0 ** np.arange(7)
        ticks = np.sort(np.concatenate((decades, 3 * decades)))
        bar.set_ticks(ticks[ticks <= spots.get_clim()[1]].tolist(), minor=False)
        bar.formatter = FuncFormatter(lambda x, _: f"{x:g}")
        bar.minorticks_off()
    elif whole:
        bar.locator = MaxNLocator(integer=True, nbins=5)
    bar.update_ticks()


def _checked(coords: ArrayLike, values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return coordinates and values as arrays whose lengths agree."""
    xy, shown = np.asarray(coords, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or not np.isfinite(xy).all():
        raise ValueError(f"coords must be finite and of shape (S, 2), S > 0, came {xy.shape}")
    if shown.shape != (len(xy),):
        raise ValueError(f"values must have shape ({len(xy)},), came {shown.shape}")
    return xy, shown


def _norm(values: FloatArray, limits: tuple[float, float] | None) -> Normalize:
    """Return a linear colour scale over the limits, or over the finite values."""
    if limits is not None:
        return Normalize(*limits)
    finite = values[np.isfinite(values)]
    return Normalize(finite.min(), finite.max()) if len(finite) else Normalize(0, 1)


def _reads_norm(reads: FloatArray) -> Normalize:
    """Return a scale for reads: linear for a few, logarithmic for many."""
    seen = reads[np.isfinite(reads)]
    low, top = float(seen.min(initial=1.0)), float(seen.max(initial=2.0))
    return LogNorm(1, top) if top > MANY_READS else Normalize(low, top)


def _markers(xy: FloatArray, marker: Marker) -> FloatArray:  # (S, corners, 2)
    """Return the corners of each spot's marker."""
    pitch, angle, order = _lattice(xy)
    if marker not in ("auto", "hexagon", "circle"):
        raise ValueError(f"marker must be 'auto', 'hexagon' or 'circle', came {marker!r}")
    hexagon = marker == "hexagon" or (marker == "auto" and order > HEXAGONAL)
    n_corners = 6 if hexagon else CIRCLE_CORNERS
    # the corners of a cell lie between the directions of the neighbours, at pitch / sqrt(3)
    radius = pitch / np.sqrt(3) if hexagon else CIRCLE_DIAMETER * pitch / 2
    turn = angle + np.pi / 6 + 2 * np.pi * np.arange(n_corners) / n_corners
    corners = radius * np.column_stack((np.cos(turn), np.sin(turn)))
    return np.asarray(xy[:, None] + corners, dtype=np.float64)


def _lattice(xy: FloatArray) -> tuple[float, float, float]:
    """Return the distance of neighbours, their direction modulo 60 degrees, and how hexagonal."""
    if len(xy) < 3:
        gap = float((xy.max(0) - xy.min(0)).max())
        return gap or 1.0, 0.0, 0.0
    found = cKDTree(xy).query(xy, k=min(7, len(xy)))
    distance, neighbour = np.asarray(found[0])[:, 1:], np.asarray(found[1])[:, 1:]
    pitch = float(np.median(distance[:, 0]))
    near = (distance < 1.2 * pitch) & (distance > 0)
    step = xy[neighbour[near]] - xy[np.nonzero(near)[0]]
    resultant = np.exp(6j * np.arctan2(step[:, 1], step[:, 0])).mean() if len(step) else 0j
    return pitch or 1.0, float(np.angle(resultant)) / 6, float(np.abs(resultant))


def _height_of_row(xy: FloatArray) -> float:
    """Return the height in inches that a panel of the tissue's shape needs."""
    width, height = np.maximum(xy.max(0) - xy.min(0), 1e-12)
    return float(np.clip(1.45 * height / width, 1.1, 4.0))


def _draw_scale_bar(ax: Axes, scale_bar: tuple[float, str]) -> None:
    """Draw a length at the lower left corner, outside the tissue."""
    length, name = scale_bar
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    y = bottom + 0.05 * (bottom - top)
    ax.plot([left, left + length], [y, y], color="black", linewidth=2, clip_on=False)
    ax.annotate(
        name,
        (left + length / 2, y),
        (0, -4),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        annotation_clip=False,
    )
    ax.set(xlim=(left, right), ylim=(bottom, top))


def panels(n_panels: int, n_columns: int = COLUMNS) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes row by row, those without a use taken out."""
    n_columns = min(n_columns, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(PANEL[0] * n_columns, PANEL[1] * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for spare in axes[n_panels:]:
        spare.remove()
    return figure, list(axes[:n_panels])
