"""Which isoform of a gene is the reference of its logits: it comes last."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.genes.data.names import is_missing, listed
from splisosm_pyro.genes.data.slide import GeneGroup, Slide
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.numeric.arrays import IndexArray

LAST, MOST_READS = "last", "most reads"


def with_reference(slide: Slide, chosen: str | Mapping[str, str]) -> Slide:
    """Return the slide with the reference isoform of each gene in the last place.

    Parameters
    ----------
    slide : Slide
    chosen : {'last', 'most reads'}, other str, or mapping of str to str
        The last in the order of the data; the one with the most reads over the tissue (of several,
        the last); the one of this name; or for each gene the name of its isoform.

    Returns
    -------
    Slide

    Raises
    ------
    ValueError
        If no gene has such an isoform. Genes that lack it are a warning and keep their last.

    Examples
    --------
    >>> group = GeneGroup(np.ones((1, 4, 2)), np.array(["g"]), np.array([["a", "b"]]))
    >>> slide = Slide(np.zeros((4, 2)), (), (group,))
    >>> with_reference(slide, "a").groups[0].iso_names.tolist()
    [['b', 'a']]
    """
    if not isinstance(chosen, str | Mapping):
        raise TypeError(
            "reference_isoform must be 'last', 'most reads', a name, or a mapping of genes to "
            f"isoforms, came {chosen!r}"
        )
    if isinstance(chosen, str) and chosen == LAST:
        return slide
    if isinstance(chosen, str) and chosen == MOST_READS:
        return slide.with_groups([_moved(group, _most_reads(group)) for group in slide.groups])
    places = [_named(group, chosen) for group in slide.groups]
    lacking = [
        str(gene)
        for group, own in zip(slide.groups, places, strict=True)
        for gene in group.gene_names[own < 0]
    ]
    if len(lacking) == slide.n_genes:
        raise ValueError(
            "reference_isoform must be 'last', 'most reads', a column of var, or the name of an "
            f"isoform, for each gene or for all, came {chosen!r}, which no gene has"
        )
    if lacking:
        warnings.warn(
            f"{len(lacking)} of {slide.n_genes} genes have no such reference isoform "
            f"({listed(lacking)}): theirs is the last one",
            SplisosmWarning,
            stacklevel=2,
        )
    moved = [
        _moved(group, np.where(own < 0, group.iso_names.shape[1] - 1, own))
        for group, own in zip(slide.groups, places, strict=True)
    ]
    return slide.with_groups(moved)


def reference_of_column(
    column: "pd.Series[Any]", genes: "pd.Series[Any]", iso_names: "pd.Index[str]"
) -> dict[str, str]:
    """Return each gene's reference isoform as a column of var has it.

    Parameters
    ----------
    column : Series
        True for a gene's reference and False for its others; or at every isoform of a gene the name
        of its reference.
    genes : Series
        Of each isoform.
    iso_names : Index of str

    Raises
    ------
    ValueError
        If a gene has two.
    """
    table = pd.DataFrame(
        {"gene": genes.astype(str).to_numpy(), "isoform": np.asarray(iso_names, dtype=str)}
    )
    if pd.api.types.infer_dtype(column, skipna=True) in ("boolean", "integer", "floating"):
        marked = table[(column == 1).fillna(False).to_numpy(dtype=bool)]
    else:
        table["isoform"] = column.astype(str).to_numpy()
        marked = table[~is_missing(column)].drop_duplicates()
    several = marked["gene"][marked["gene"].duplicated()].unique()
    if len(several):
        raise ValueError(
            f"var[{column.name!r}] must mark one reference isoform a gene, came more for "
            f"{len(several)} genes ({listed(several)})"
        )
    return dict(zip(marked["gene"], marked["isoform"], strict=True))


def _most_reads(group: GeneGroup) -> IndexArray:  # (G,)
    """Return the place of the isoform with the most reads, the last of several."""
    reads = group.counts.sum(axis=1, dtype=np.float64)
    return np.asarray(reads.shape[1] - 1 - reads[:, ::-1].argmax(axis=1), dtype=np.intp)


def _named(group: GeneGroup, chosen: str | Mapping[str, str]) -> IndexArray:  # (G,)
    """Return the place of the named isoform, -1 where there is none."""
    names = [chosen if isinstance(chosen, str) else chosen.get(str(g)) for g in group.gene_names]
    found = group.iso_names == np.array([str(name) for name in names])[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), -1)


def _moved(group: GeneGroup, places: IndexArray) -> GeneGroup:
    """Return the group with an isoform of each gene (G,) moved to the end."""
    n_isos = group.iso_names.shape[1]
    if (places == n_isos - 1).all():
        return group
    # the others keep their order
    order = np.argsort(np.arange(n_isos) == places[:, None], axis=1, kind="stable")
    return GeneGroup(
        np.ascontiguousarray(np.take_along_axis(group.counts, order[:, None, :], axis=2)),
        group.gene_names,
        np.take_along_axis(group.iso_names, order, axis=1),
    )
