"""What a file says about tissues: coordinates, covariates, genes by their number of isoforms."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from splisosm_pyro.genes.data.covariates import Covariate, side_by_side
from splisosm_pyro.genes.data.names import is_missing, listed, twice, warn_of_nameless
from splisosm_pyro.maths.axes import MOST_READS, SplisosmWarning, expected_of_count
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, StrArray


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
    coords : ndarray, shape (S, d)
        In the unit of the file, one for all axes; d is 2 or 3, and 0 where there is a graph alone.
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
    library_name : str
        What the column of the slides is called.
    nameless : tuple of str
        Isoforms that belong to no gene and are left out.
    whole : tuple of str
        Layers of the source that hold whole numbers, where those that were read are none.
    """

    coords: FloatArray
    covariates: tuple[Covariate, ...]
    groups: tuple[GeneGroup, ...]
    single: tuple[str, ...] = ()
    adjacency: csc_array | None = None
    library: StrArray | None = None
    spot_names: StrArray | None = None
    library_name: str = "library"
    nameless: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()

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

    def rows_in(self, names: "pd.Index[Any]", what: str, where: str) -> IndexArray:
        """Return the row of each spot of ``what``, whose rows are named; without names, the order.

        Raises
        ------
        ValueError
            If spots are not there, or names come twice.
        """
        if self.spot_names is None:
            if len(names) != self.n_spots:
                raise ValueError(f"{what} must have {self.n_spots} spots, came {len(names)}")
            return np.arange(self.n_spots)
        if not names.is_unique:
            raise ValueError(f"{what} must have different names of spots: obs_names_make_unique")
        rows = names.astype(str).get_indexer(pd.Index(self.spot_names.tolist()))
        lacking = self.spot_names[rows < 0]
        if len(lacking):
            raise ValueError(
                f"{what} must hold the spots of the fit, {len(lacking)} of {self.n_spots} are not "
                f"in {where} ({listed(lacking)})"
            )
        return np.asarray(rows, dtype=np.intp)

    def where_counts_are(self) -> str:
        """Say which layers hold counts, where those that were read are none."""
        return f", {' or '.join(self.whole)}" if self.whole else ""

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


def without_nameless(slide: Slide, where: str) -> Slide:
    """Return a slide without the genes that have no name, and warn of them."""
    missing = [is_missing(group.gene_names) for group in slide.groups]
    gone = [
        str(iso)
        for group, own in zip(slide.groups, missing, strict=True)
        for iso in group.iso_names[own].ravel()
    ]
    if not gone:
        return slide
    warn_of_nameless(len(gone), sum(group.iso_names.size for group in slide.groups), where)
    kept = [group.take(~own) for group, own in zip(slide.groups, missing, strict=True)]
    return replace(slide.with_groups(kept), nameless=tuple(gone))


def checked(slide: Slide) -> Slide:
    """Return a slide, or raise with what is wrong with its spots, names or counts.

    Spots at one place of one slide are a warning that names them.
    """
    if slide.n_spots == 0:
        raise ValueError("there is no spot left: the file, or what was selected of it, has none")
    _check_names(slide)
    advice = f"choose the layer with the raw counts{slide.where_counts_are()}"
    for group in slide.groups:
        _check_counts(group, advice)
    if slide.n_genes and not any(group.counts.any() for group in slide.groups):
        raise ValueError(f"all counts are 0: {advice}")
    if slide.adjacency is None:
        _warn_of_duplicates(slide)
    return slide


def _check_names(slide: Slide) -> None:
    """Raise if two genes, two isoforms of a gene or two columns of the design share a name."""
    genes = twice(gene for group in slide.groups for gene in group.gene_names.tolist())
    if genes:
        raise ValueError(
            f"gene names must be different, came {listed(genes)} more than once: number them, or "
            "put their isoforms together"
        )
    for group in slide.groups:
        for gene, isos in zip(group.gene_names, group.iso_names, strict=True):
            same = twice(isos.tolist())
            if same:
                raise ValueError(
                    f"the isoforms of a gene must have different names, came {listed(same)} more "
                    f"than once in gene {gene}: number them (var_names_make_unique of AnnData)"
                )
    columns = twice(map(str, slide.design.columns))
    if columns:
        raise ValueError(
            f"covariates must have columns of different names, came {listed(columns)} twice"
        )


def _check_counts(group: GeneGroup, advice: str) -> None:
    """Raise if counts are no numbers, negative, too large or not finite; name the first gene."""
    counts = group.counts
    if counts.dtype.kind not in "biuf":
        raise ValueError(f"counts must be numbers, came {counts.dtype}: {advice}")
    if counts.dtype.kind == "b" or counts.size == 0:
        return
    bad = ~np.isfinite(counts) | (counts < 0) | (counts > MOST_READS)
    if bad.any():
        g, s, p = np.argwhere(bad)[0]
        came = counts[g, s, p]
        raise ValueError(
            f"counts must be {expected_of_count(float(came))}, came {came} for isoform "
            f"{group.iso_names[g, p]} of gene {group.gene_names[g]} (spot {s}): {advice}"
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
            f"{len(names)} spots share their place with another ({listed(names)}): each counts as "
            "the other's nearest neighbour; remove them, give library_key if they are of different "
            "slides, or give adj_key",
            SplisosmWarning,
            stacklevel=3,
        )
