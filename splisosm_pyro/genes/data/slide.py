"""What a file says about tissues: coordinates, covariates, genes by their number of isoforms."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import block_diag, csc_array

from splisosm_pyro.genes.data.covariates import Covariate, side_by_side
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.neighbours import as_adjacency, mutual_neighbours
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, StrArray

PathLike = str | os.PathLike[str]
NAMED = 3  # so many of what is wrong are named


@dataclass(frozen=True, eq=False)
class GeneGroup:
    """Genes with the same number of isoforms.

    Attributes
    ----------
    counts : ndarray, shape (G, S, P)
        In the dtype of the file.
    gene_names : ndarray of str, shape (G,)
    iso_names : ndarray of str, shape (G, P)
    """

    counts: AnyArray
    gene_names: StrArray
    iso_names: StrArray

    def take(self, genes: AnyArray) -> "GeneGroup":
        """Return some of the genes, by index or mask."""
        return GeneGroup(self.counts[genes], self.gene_names[genes], self.iso_names[genes])


@dataclass(frozen=True, eq=False)
class Slide:
    """What a file says about one tissue, or several side by side.

    Attributes
    ----------
    coords : ndarray, shape (S, 2)
        In the unit of the file.
    covariates : tuple of Covariate
    groups : tuple of GeneGroup
        By number of isoforms, ascending.
    single : tuple of str
        Genes with one isoform only, which have no usage to model and are left out.
    adjacency : csc_array, shape (S, S), optional
        Which spots are neighbours, where it is given and not to be read off the coordinates.
    library : ndarray of str, shape (S,), optional
        The slide of each spot; spots of different slides are never neighbours.
    spot_names : ndarray of str, shape (S,), optional
    """

    coords: FloatArray
    covariates: tuple[Covariate, ...]
    groups: tuple[GeneGroup, ...]
    single: tuple[str, ...] = ()
    adjacency: csc_array | None = None
    library: StrArray | None = None
    spot_names: StrArray | None = None

    @property
    def n_spots(self) -> int:
        """S."""
        return len(self.coords)

    @property
    def n_genes(self) -> int:
        """Number of genes in all groups."""
        return sum(len(group.gene_names) for group in self.groups)

    @property
    def design(self) -> pd.DataFrame:
        """Named covariates, numbers only, (S, F); F may be 0."""
        return side_by_side(self.covariates, self.n_spots)

    def names_of_spots(self) -> StrArray:
        """Names of the spots, numbered where the file has none."""
        if self.spot_names is not None:
            return self.spot_names
        return np.array([f"spot {s}" for s in range(self.n_spots)])

    def take(self, genes: Sequence[int]) -> "Slide":
        """Return the slide with some of its genes, by their place in it."""
        mask = np.zeros(self.n_genes, dtype=bool)
        mask[list(genes)] = True
        ends = np.cumsum([len(group.gene_names) for group in self.groups])[:-1]
        parts = np.split(mask, ends)
        return self.with_groups(
            [group.take(own) for group, own in zip(self.groups, parts, strict=True)]
        )

    def with_groups(self, groups: list[GeneGroup]) -> "Slide":
        """Return the slide with other genes."""
        return replace(self, groups=tuple(group for group in groups if len(group.gene_names)))


def checked(slide: Slide) -> Slide:
    """Return a slide, or raise with what is wrong with its spots or counts.

    Spots at one place of one slide are a warning that names them.
    """
    if slide.n_spots == 0:
        raise ValueError("there is no spot left: the file, or what was selected of it, has none")
    for group in slide.groups:
        _check_counts(group)
    if slide.n_genes and not any(group.counts.any() for group in slide.groups):
        raise ValueError("all counts are 0: choose the layer with the raw counts")
    if slide.adjacency is None:
        _warn_of_duplicates(slide)
    return slide


def _check_counts(group: GeneGroup) -> None:
    """Raise if counts are no numbers, negative or not finite; name the first gene."""
    counts = group.counts
    if counts.dtype.kind not in "biuf":
        raise ValueError(
            f"counts must be numbers, came {counts.dtype}: choose the layer with the raw counts"
        )
    if counts.dtype.kind in "bu" or counts.size == 0:
        return
    bad = ~np.isfinite(counts) | (counts < 0)
    if bad.any():
        g, s, p = np.argwhere(bad)[0]
        raise ValueError(
            f"counts must be finite and not negative, came {counts[g, s, p]} for isoform "
            f"{group.iso_names[g, p]} of gene {group.gene_names[g]} (spot {s}): "
            "choose the layer with the raw counts"
        )


def _warn_of_duplicates(slide: Slide) -> None:
    """Warn of spots at one place, by name."""
    places = pd.DataFrame(slide.coords)
    if slide.library is not None:
        places["library"] = slide.library
    twice = places.duplicated(keep=False).to_numpy()
    if twice.any():
        names = slide.names_of_spots()[twice]
        warnings.warn(
            f"{len(names)} spots share their place with another ({_listed(names)}): each counts as "
            "the other's nearest neighbour; remove them, give library_key if they are of different "
            "slides, or give adj_key",
            SplisosmWarning,
            stacklevel=3,
        )


def graph_of(slide: Slide, k: int) -> tuple[csc_array, FloatArray]:
    """Return which spots are neighbours (S, S), and places that keep slides apart (S, 2).

    Parameters
    ----------
    slide : Slide
    k : int
        Mutual nearest neighbours of a spot, where the slide brings no adjacency.

    Raises
    ------
    ValueError
        If a given adjacency has the wrong size, is not symmetric or joins two slides.
    """
    codes, places = _slide_codes(slide), places_of(slide)
    if slide.adjacency is None:
        return _neighbours(slide.coords, codes, k), places
    graph = as_adjacency(slide.adjacency)
    if graph.shape[0] != slide.n_spots:
        raise ValueError(
            f"the adjacency must have {slide.n_spots} rows, one a spot, came {graph.shape[0]}"
        )
    row, column = graph.nonzero()
    across = int((codes[row] != codes[column]).sum()) // 2
    if across:
        raise ValueError(f"the adjacency joins spots of different slides in {across} pairs")
    return graph, places


def places_of(slide: Slide) -> FloatArray:
    """Return the coordinates (S, 2), those of several slides side by side."""
    span = np.ptp(slide.coords[:, 0]) + 1.0
    shift = 1.1 * span * _slide_codes(slide)
    return slide.coords + np.column_stack([shift, np.zeros(slide.n_spots)])


def _slide_codes(slide: Slide) -> IndexArray:
    """Return the number of each spot's slide."""
    if slide.library is None:
        return np.zeros(slide.n_spots, dtype=np.intp)
    return np.asarray(pd.factorize(slide.library)[0], dtype=np.intp)


def _neighbours(coords: FloatArray, codes: AnyArray, k: int) -> csc_array:
    """Mutual nearest neighbours within each slide, in the order of the spots."""
    if codes.max(initial=0) == 0:
        return mutual_neighbours(coords, k)
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    blocks = block_diag([mutual_neighbours(coords[spots], k) for spots in members], format="csr")
    order = np.argsort(np.concatenate(members))
    return csc_array(blocks[order][:, order])


def as_coords(values: AnyArray, name: str, spots: StrArray | None = None) -> FloatArray:
    """Return coordinates as (S, 2) float64, or raise with the name of their key and the spots."""
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must hold numbers of shape (S, 2), came {values.dtype} {values.shape}"
        )
    coords = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(coords).all(axis=1)
    if bad.any():
        names = spots if spots is not None else np.array([f"spot {s}" for s in range(len(coords))])
        raise ValueError(
            f"{name} must be finite, came a NaN or an infinity at {bad.sum()} of {len(coords)} "
            f"spots ({_listed(names[bad])}): remove these spots"
        )
    return coords


def _listed(names: StrArray) -> str:
    """Return the first few names."""
    return ", ".join(map(str, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
