"""A slide from arrays in memory."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from splisosm_pyro.genes.data.covariates import check_references, covariate
from splisosm_pyro.genes.data.places import as_coords
from splisosm_pyro.genes.data.reference import with_reference
from splisosm_pyro.genes.data.slide import GeneGroup, Slide, checked, without_nameless
from splisosm_pyro.maths.numeric.arrays import AnyArray


def slide_of_arrays(
    counts: AnyArray | Sequence[AnyArray],
    *,
    coords: AnyArray | None,
    covariates: pd.DataFrame | None = None,
    reference: Mapping[str, str] | None = None,
    gene_names: Sequence[str] | None = None,
    iso_names: Sequence[Sequence[str]] | None = None,
    reference_isoform: str | Mapping[str, str] = "last",
) -> Slide:
    """Put arrays together.

    Parameters
    ----------
    counts : ndarray, shape (G, S, P), or sequence of ndarray, shape (S, P_g)
    coords : ndarray, shape (S, 2) or (S, 3)
    covariates : DataFrame, shape (S, .), optional
    reference : mapping of str to str, optional
    gene_names : sequence of str, optional
        G of them.
    iso_names : sequence of sequences of str, optional
        P_g for each gene.
    reference_isoform : str or mapping of str to str
        See `with_reference`.

    Returns
    -------
    Slide

    Raises
    ------
    TypeError, ValueError
        If shapes do not agree, or a value is illegal.

    Examples
    --------
    >>> square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> slide = slide_of_arrays([np.ones((4, 2)), np.ones((4, 3))], coords=square)
    >>> [group.counts.shape for group in slide.groups]
    [(1, 4, 2), (1, 4, 3)]
    """
    if coords is None:
        raise ValueError("coords must hold the places of the spots, (S, 2), came None")
    places = as_coords(coords, "coords")
    n_spots = len(places)
    arrays = [np.asarray(one) for one in counts]
    for g, one in enumerate(arrays):
        if one.ndim != 2 or len(one) != n_spots:
            raise ValueError(f"counts of gene {g} must have {n_spots} spots, came {one.shape}")
    genes, isos = _gene_names(gene_names, len(arrays)), _iso_names(iso_names, arrays)
    groups, single = _grouped(arrays, genes, isos)
    frame = covariates if covariates is not None else pd.DataFrame(index=range(n_spots))
    if len(frame) != n_spots:
        raise ValueError(f"covariates must have {n_spots} rows, came {len(frame)}")
    names = list(map(str, frame.columns))
    levels = check_references(names, reference)
    columns = tuple(
        covariate(name, frame.iloc[:, i], reference=levels.get(name))
        for i, name in enumerate(names)
    )
    slide = Slide(coords=places, covariates=columns, groups=groups, single=single)
    return with_reference(checked(without_nameless(slide, "gene_names")), reference_isoform)


def _grouped(
    arrays: list[AnyArray], genes: list[str], isos: list[list[str]]
) -> tuple[tuple[GeneGroup, ...], tuple[str, ...]]:
    """Put genes of the same number of isoforms together; name those that have one or none."""
    members: dict[int, list[int]] = defaultdict(list)
    for g, one in enumerate(arrays):
        members[one.shape[1]].append(g)
    groups = tuple(
        GeneGroup(
            counts=np.stack([arrays[g] for g in own]),
            gene_names=np.array([genes[g] for g in own], dtype=str),
            iso_names=np.array([isos[g] for g in own], dtype=str),
        )
        for size, own in sorted(members.items())
        if size > 1
    )
    return groups, tuple(genes[g] for size in (0, 1) for g in members.get(size, []))


def _gene_names(given: Sequence[str] | None, n_genes: int) -> list[str]:
    """Return the names of the genes, numbered where there are none."""
    if given is None:
        return [f"gene_{g}" for g in range(n_genes)]
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != n_genes:
        raise ValueError(f"gene_names must hold {n_genes} names, came {len(names)}")
    return list(map(str, names))


def _iso_names(given: Sequence[Sequence[str]] | None, arrays: list[AnyArray]) -> list[list[str]]:
    """Return the names of each gene's isoforms, numbered where there are none."""
    if given is None:
        return [[f"iso_{p}" for p in range(one.shape[1])] for one in arrays]
    listed = [given] if isinstance(given, str) else list(given)
    for own in listed:
        if isinstance(own, str):
            raise TypeError(
                f"iso_names must hold a sequence of names for each gene, came the word {own!r}"
            )
    names = [list(map(str, own)) for own in listed]
    if [len(own) for own in names] != [one.shape[1] for one in arrays]:
        raise ValueError("iso_names must name every isoform of every gene")
    return names
