"""Where the spots are: coordinates, slides side by side, which spots are neighbours."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import block_diag, coo_array, csc_array
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from splisosm_pyro.genes.data.names import listed
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.neighbours import as_adjacency, mutual_neighbours
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, StrArray

# A third coordinate of so few values numbers sections, which maps show side by side.
MOST_SECTIONS = 12
SPOTS_OF_A_SECTION = 4
# Sections nearer than this part of the distance of their own spots: a spot's nearest neighbours
# would be its images in the others.
NEAR = 0.9
# Weights whose ranks go with the distance of the spots as much as this are distances.
LIKE_DISTANCES = 0.5


def as_coords(values: Any, name: str, spots: StrArray | None = None) -> FloatArray:
    """Return coordinates as (S, 2) or (S, 3) float64, or raise with their name and the spots.

    Examples
    --------
    >>> as_coords(np.zeros((9, 4)), "coords")
    Traceback (most recent call last):
    ValueError: coords must hold numbers of shape (S, 2) or (S, 3), came float64 (9, 4)
    """
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if array.ndim != 2 or array.shape[1] not in (2, 3) or array.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must hold numbers of shape (S, 2) or (S, 3), came {array.dtype} {array.shape}"
        )
    coords = np.asarray(array, dtype=np.float64)
    bad = ~np.isfinite(coords).all(axis=1)
    if bad.any():
        names = spots if spots is not None else np.array([f"spot {s}" for s in range(len(coords))])
        raise ValueError(
            f"{name} must be finite, came a NaN or an infinity at {bad.sum()} of {len(coords)} "
            f"spots ({listed(names[bad])}): remove these spots"
        )
    return coords


def as_graph(weights: Any, name: str, n_spots: int) -> csc_array:  # (S, S)
    """Return a given graph of the spots, checked, without entries on its diagonal.

    Raises
    ------
    TypeError, ValueError
        If it has the wrong shape, is not symmetric, negative or not finite somewhere, or joins no
        spots.
    """
    shape = np.shape(weights)
    if shape != (n_spots, n_spots):
        raise ValueError(f"{name} must have shape ({n_spots}, {n_spots}), came {shape}")
    try:
        graph = coo_array(as_adjacency(weights))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is no graph of spots: {error}") from None
    between = graph.row != graph.col
    if n_spots > 1 and not between.any():
        raise ValueError(
            f"{name} must join spots, came no edge between two of them: without neighbours theta "
            "means nothing; take more neighbours or a larger radius, or leave adj_key out for the "
            "nearest neighbours of the coordinates"
        )
    entries = (graph.data[between], (graph.row[between], graph.col[between]))
    return csc_array(entries, shape=graph.shape)


def given_graph(weights: Any, name: str, coords: FloatArray) -> csc_array:
    """Return a given graph as `as_graph` does, and warn of what is legal but seldom meant."""
    graph = as_graph(weights, name, len(coords))
    loops = int(np.count_nonzero(csc_array(weights).diagonal()))
    if loops:
        _warn(f"{name} joins {loops} spots with themselves: these entries are left out")
    alone = int((np.diff(graph.indptr) == 0).sum())
    if alone and len(coords) > 1:
        _warn(
            f"{alone} of {len(coords)} spots have no neighbours in {name}: their part of the field "
            "is independent of all others"
        )
    if _like_distances(graph, name, coords):
        _warn(
            f"{name} looks like distances: weights must be larger for nearer spots, 1 for "
            "neighbours for example; with distances the farthest hang together most"
        )
    return graph


def _like_distances(graph: csc_array, name: str, coords: FloatArray) -> bool:
    """Whether weights are distances, by their name or because they grow with the distance."""
    edges = coo_array(graph)
    if edges.nnz == 0 or np.ptp(edges.data) <= 1e-6 * edges.data.max(initial=0.0):
        return False
    if "distance" in name.lower():
        return True
    gaps = np.linalg.norm(coords[edges.row] - coords[edges.col], axis=1)
    return bool(np.ptp(gaps) > 0.0 and spearmanr(edges.data, gaps).statistic > LIKE_DISTANCES)


def _warn(text: str) -> None:
    warnings.warn(text, SplisosmWarning, stacklevel=3)


def graph_of(slide: Slide, k: int) -> tuple[csc_array, FloatArray | None]:
    """Return which spots are neighbours (S, S), and places (S, d) that keep slides apart.

    Parameters
    ----------
    slide : Slide
    k : int
        Mutual nearest neighbours of a spot, where the slide brings no adjacency: in the plane or in
        space, within a slide, and within a section where sections are `close`.

    Raises
    ------
    ValueError
        If a given adjacency has the wrong size, is not symmetric, joins no spots or two slides; if
        every slide has one spot.
    """
    codes = _slide_codes(slide)
    places = _apart(slide, codes, slide.coords) if slide.coords.shape[1] else None
    if slide.adjacency is None:
        graph = _neighbours(slide.coords, _sections(slide) if close(slide) else codes, k)
        if graph.nnz == 0 and slide.n_spots > 1:
            raise ValueError("library_key must have slides of several spots, came one spot a slide")
        return graph, places
    graph = as_graph(slide.adjacency, "the adjacency", slide.n_spots)
    row, column = graph.nonzero()
    across = int((codes[row] != codes[column]).sum()) // 2
    if across:
        raise ValueError(f"the adjacency joins spots of different slides in {across} pairs")
    return graph, places


def close(slide: Slide) -> bool:
    """Whether sections of a slide lie nearer to each other than the spots of a section do."""
    codes = _sections(slide)
    if slide.adjacency is not None or codes.max(initial=0) == _slide_codes(slide).max(initial=0):
        return False
    gap = np.diff(np.unique(slide.coords[:, 2])).min()
    lifted = np.column_stack([slide.coords[:, :2], 10.0 * np.ptp(slide.coords) * codes])
    nearest = np.asarray(cKDTree(lifted).query(lifted, 2)[0])[:, 1]
    return bool(gap < NEAR * np.median(nearest))


def warn_of_close_sections(slide: Slide) -> None:
    """Say that spots of close sections are no neighbours."""
    if close(slide):
        _warn(
            f"the third coordinate has {len(np.unique(slide.coords[:, 2]))} values nearer to each "
            "other than the spots are: taken as sections, whose spots are no neighbours of those "
            "in other sections; give adj_key to join them"
        )


def places_of(slide: Slide) -> FloatArray:
    """Return places in the plane (S, 2): slides, and sections of one slide, side by side.

    A third coordinate of a few values numbers sections; one of many values is not shown.

    Raises
    ------
    ValueError
        If the slide has no coordinates.
    """
    if slide.coords.shape[1] == 0:
        raise ValueError(
            "the slide has no coordinates, it came with a graph alone: there is nothing to draw on"
        )
    return _apart(slide, _sections(slide), slide.coords[:, :2])


def _apart(slide: Slide, codes: IndexArray, coords: FloatArray) -> FloatArray:
    """Return coordinates (S, d) moved along the first axis, so that the groups do not overlap."""
    span = np.ptp(slide.coords[:, 0]) + 1.0
    moved = coords.copy()
    moved[:, 0] += 1.1 * span * codes
    return moved


def _slide_codes(slide: Slide) -> IndexArray:
    """Return the number of each spot's slide."""
    if slide.library is None:
        return np.zeros(slide.n_spots, dtype=np.intp)
    return np.asarray(pd.factorize(slide.library)[0], dtype=np.intp)


def _sections(slide: Slide) -> IndexArray:
    """Return the number of each spot's section of its slide, that of the slide where it has one."""
    codes = _slide_codes(slide)
    if slide.coords.shape[1] < 3:
        return codes
    heights, section = np.unique(slide.coords[:, 2], return_inverse=True)
    if len(heights) > min(MOST_SECTIONS, slide.n_spots // SPOTS_OF_A_SECTION):
        return codes
    both = np.unique(np.column_stack([codes, section]), axis=0, return_inverse=True)[1]
    return np.asarray(both.reshape(-1), dtype=np.intp)


def _neighbours(coords: FloatArray, codes: AnyArray, k: int) -> csc_array:
    """Mutual nearest neighbours within each slide, in the order of the spots."""
    if codes.max(initial=0) == 0:
        return mutual_neighbours(coords, k)
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    blocks = block_diag([mutual_neighbours(coords[spots], k) for spots in members], format="csr")
    order = np.argsort(np.concatenate(members))
    return csc_array(blocks[order][:, order])
