"""Which genes and isoforms are worth a fit, and a record of what was taken out."""

import warnings
from collections import defaultdict
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import pandas as pd

from splisosm_pyro.fit.options import choose
from splisosm_pyro.genes.data.slide import GeneGroup, Slide
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.numeric.arrays import AnyArray, Mask

REMOVED_COLUMNS = ["gene", "isoform", "why"]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is taken out before the fits; by default nothing.

    Attributes
    ----------
    min_counts : float
        Least number of reads of a gene.
    min_spots : int
        Least number of spots with a read of the gene.
    min_share : float
        Least share that an isoform must have of its gene's reads, in [0, 1).
    rare : {'drop', 'merge'}
        What becomes of rarer isoforms: they are left out, or become one isoform together, in the
        place of the first of them. A rare isoform alone has nothing to be merged with and stays.

    Examples
    --------
    >>> Filters(min_counts=50, min_share=0.05, rare="merge")
    Filters(min_counts=50, min_spots=0, min_share=0.05, rare='merge')
    """

    min_counts: float = 0.0
    min_spots: int = 0
    min_share: float = 0.0
    rare: Literal["drop", "merge"] = "drop"

    def __post_init__(self) -> None:
        choose("rare", self.rare, ("drop", "merge"))
        for name in ("min_counts", "min_spots", "min_share"):
            if not isinstance(getattr(self, name), Real):
                raise TypeError(f"{name} must be a number, came {getattr(self, name)!r}")
        if not 0.0 <= self.min_share < 1.0:
            raise ValueError(f"min_share must be in [0, 1), came {self.min_share}")
        for name in ("min_counts", "min_spots"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, came {getattr(self, name)}")


def filtered(slide: Slide, filters: Filters) -> tuple[Slide, pd.DataFrame]:
    """Take out genes and isoforms; warn if what is left are no whole numbers.

    Parameters
    ----------
    slide : Slide
    filters : Filters

    Returns
    -------
    Slide
        Genes regrouped by the number of isoforms that they have left.
    DataFrame
        One row for everything that was taken out: ``gene``, ``isoform`` (empty for a whole gene),
        ``why``. Genes with one isoform and isoforms without a gene are among them.

    Raises
    ------
    ValueError
        If no gene is left; the message counts the reasons.
    """
    removed = [("", isoform, "no name of a gene") for isoform in slide.nameless]
    removed += [(gene, "", "one isoform only") for gene in slide.single]
    groups = list(slide.groups)
    if filters.min_share > 0:
        groups, rare = _without_rare(groups, filters)
        removed += rare
    kept = []
    for group in groups:
        total = group.counts.sum(axis=2, dtype=np.float64)
        few, narrow = total.sum(1) < filters.min_counts, (total > 0).sum(1) < filters.min_spots
        for gene in group.gene_names[few]:
            removed.append((str(gene), "", f"fewer than {filters.min_counts:g} reads"))
        for gene in group.gene_names[narrow & ~few]:
            removed.append((str(gene), "", f"reads at fewer than {filters.min_spots} spots"))
        kept.append(group.take(~(few | narrow)) if (few | narrow).any() else group)
    left = slide.with_groups(kept)
    table = pd.DataFrame(removed, columns=REMOVED_COLUMNS)
    if left.n_genes == 0:
        reasons = table.loc[table["isoform"] == "", "why"].value_counts()
        listed = ", ".join(f"{n} with {why}" for why, n in reasons.items()) or "the data have none"
        raise ValueError(f"no gene is left: {listed}")
    _warn_of_fractions(left)
    return left, table


def _warn_of_fractions(slide: Slide) -> None:
    """Warn once of counts that are no whole numbers."""
    fractional = sum(
        int((group.counts % 1 != 0).any(axis=(1, 2)).sum())
        for group in slide.groups
        if group.counts.dtype.kind == "f"
    )
    if fractional:
        warnings.warn(
            f"{fractional} genes have counts that are no whole numbers: they are fitted as they "
            f"are; check that the layer holds counts{slide.where_counts_are()}",
            SplisosmWarning,
            stacklevel=5,
        )


def _without_rare(
    groups: list[GeneGroup], filters: Filters
) -> tuple[list[GeneGroup], list[tuple[str, str, str]]]:
    """Drop or merge rare isoforms, gene by gene."""
    removed: list[tuple[str, str, str]] = []
    sizes: dict[int, list[tuple[AnyArray, str, list[str]]]] = defaultdict(list)
    for group in groups:
        for counts, gene, isos in zip(group.counts, group.gene_names, group.iso_names, strict=True):
            reads = counts.sum(axis=0, dtype=np.float64)
            rare = reads < filters.min_share * reads.sum()
            kept, names = _thinned(counts, [str(iso) for iso in isos], rare, filters.rare)
            if kept.shape[1] < counts.shape[1]:
                deed = "merged" if filters.rare == "merge" else "dropped"
                why = f"below {filters.min_share:g} of the gene's reads, {deed}"
                removed += [(str(gene), str(iso), why) for iso in isos[rare]]
            if kept.shape[1] < 2:
                removed.append((str(gene), "", "one isoform only is left"))
                continue
            sizes[kept.shape[1]].append((kept, str(gene), names))
    regrouped = [
        GeneGroup(
            counts=np.stack([member[0] for member in members]),
            gene_names=np.array([member[1] for member in members]),
            iso_names=np.array([member[2] for member in members]),
        )
        for _, members in sorted(sizes.items())
    ]
    return regrouped, removed


def _thinned(
    counts: AnyArray, names: list[str], rare: Mask, how: str
) -> tuple[AnyArray, list[str]]:
    """Return the counts (S, P) and names of a gene without its rare isoforms."""
    if not rare.any() or (how == "merge" and rare.sum() == 1):
        return counts, names
    kept = ~rare
    if how == "merge":
        first = int(np.flatnonzero(rare)[0])
        merged = counts[:, rare].sum(axis=1, dtype=np.float64)
        counts = counts.astype(np.float64)
        counts[:, first] = merged
        names = list(names)
        names[first] = "+".join(name for name, gone in zip(names, rare, strict=True) if gone)
        kept[first] = True
    return counts[:, kept], [name for name, stays in zip(names, kept, strict=True) if stays]
