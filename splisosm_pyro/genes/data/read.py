"""The door for data: a slide from a file of either kind, from AnnData or from arrays, checked.

The last isoform of a gene is the reference of its logits; ``reference_isoform`` says which one
comes last.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.fit.options import as_names
from splisosm_pyro.genes.data.arrays import slide_of_arrays
from splisosm_pyro.genes.data.h5ad import is_zarr, read_h5ad, slide_of_anndata, table_in
from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.npz import read_npz
from splisosm_pyro.genes.data.reference import with_reference
from splisosm_pyro.genes.data.slide import Slide, checked
from splisosm_pyro.maths.numeric.arrays import AnyArray
from splisosm_pyro.paths import PathLike, expanded


def read_slide(
    path: PathLike,
    *,
    n_isos: int | None = None,
    covariates: str | Sequence[str] = (),
    layer: str = "counts",
    group_iso_by: str = "gene_symbol",
    spatial_key: str | None = None,
    adj_key: str | None = None,
    library_key: str | None = None,
    reference: Mapping[str, str] | None = None,
    reference_isoform: str | Mapping[str, str] = "last",
) -> Slide:
    """Read an ``.npz``, or an ``.h5ad`` or ``.zarr`` store of AnnData or one table of SpatialData.

    Parameters
    ----------
    path : str or path
    n_isos : int, optional
        Read the genes with this number of isoforms alone.
    covariates : str or sequence of str
        Columns of ``obs`` or matrices of ``obsm``; arrays of an ``.npz``, of length S or shape
        (S, F), whose columns ``<key>_names`` may name, by default ``design`` if there is one. Words
        and categories become indicators of all levels but the first, dates days since the first.
    layer : str
        Layer of the ``.h5ad`` with the counts; ``'X'`` stands for the main matrix, ``'raw'`` for
        that of ``raw`` with the isoforms there.
    group_iso_by : str
        Column of ``var`` of the ``.h5ad`` with the gene of each isoform. Isoforms without one
        (nothing, blanks, 'nan', 'None', 'NA') are left out with a warning.
    spatial_key : str, optional
        Of the coordinates, (S, 2) or (S, 3), all axes in one unit. Default: ``'coords'`` in an
        ``.npz``, ``'spatial'`` in an ``.h5ad``.
    adj_key : str, optional
        Of the graph of the spots, (S, S), in the place of the coordinates' neighbours, which need
        not be there.
    library_key : str, optional
        Of the slide of each spot.
    reference : mapping of str to str, optional
        For each covariate of words the level that the others are compared with.
    reference_isoform : {'last', 'most reads'}, other str, or mapping of str to str
        Which isoform of a gene the logits are relative to: the last in the order of the file, the
        one with the most reads, the one that a column of ``var`` marks (True, or its name at every
        isoform of the gene), the one of this name, or one for each gene. It is moved to the end.

    Raises
    ------
    TypeError, ValueError, OSError, ModuleNotFoundError
        If the file is of neither kind or does not hold what is asked for.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> file = Path(tempfile.mkdtemp()) / "slide.npz"
    >>> np.savez(file, counts=np.ones((3, 4, 2)), coords=np.argwhere(np.ones((2, 2))))
    >>> slide = read_slide(file)
    >>> slide.coords.shape, [group.counts.shape for group in slide.groups]
    ((4, 2), [(3, 4, 2)])
    """
    keys = SlideKeys(
        group_iso_by=group_iso_by,
        layer=layer,
        spatial_key=spatial_key,
        adj_key=adj_key,
        library_key=library_key,
        reference=reference,
        n_isos=n_isos,
        covariates=as_names("covariates", covariates),
        reference_isoform=reference_isoform,
    )
    return _of_file(expanded(path), keys)


def slide_of(
    source: Any,
    keys: SlideKeys,
    covariates: str | Sequence[str] | pd.DataFrame | None = None,
    coords: AnyArray | None = None,
    gene_names: Sequence[str] | None = None,
    iso_names: Sequence[Sequence[str]] | None = None,
) -> Slide:
    """Read a slide off whatever `fit_genes` was given; the arguments are explained there."""
    of_arrays = {"coords": coords, "gene_names": gene_names, "iso_names": iso_names}
    source = table_in(source)
    if isinstance(source, str | os.PathLike):
        _refuse(of_arrays, "a file")
        return _of_file(expanded(source), replace(keys, covariates=_names(covariates)))
    if hasattr(source, "obsm") and hasattr(source, "var"):
        _refuse(of_arrays, "an AnnData")
        return slide_of_anndata(source, replace(keys, covariates=_names(covariates)))
    if isinstance(source, np.ndarray | list | tuple):
        names = ("group_iso_by", "spatial_key", "adj_key", "library_key")
        _refuse({name: getattr(keys, name) for name in names}, "arrays")
        return slide_of_arrays(
            source,
            coords=coords,
            covariates=_frame(covariates),
            reference=keys.reference,
            gene_names=gene_names,
            iso_names=iso_names,
            reference_isoform=keys.reference_isoform,
        )
    if isinstance(source, Slide):
        _refuse({"covariates": covariates, "reference": keys.reference, **of_arrays}, "a Slide")
        return with_reference(checked(source), keys.reference_isoform)
    raise TypeError(
        "adata_or_counts must be an AnnData, a path, a Slide or arrays of counts, "
        f"came {type(source).__name__}"
    )


def _refuse(given: Mapping[str, Any], source: str) -> None:
    """Raise if something was given that this kind of source has no use for."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} has no meaning where the data are {source}: leave it out")


def _of_file(path: Path, keys: SlideKeys) -> Slide:
    """Read a file or store of either kind."""
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".h5ad", ".zarr") and not is_zarr(path):
        raise ValueError(f"the file must end in .npz or .h5ad, or be a .zarr, came {path.name!r}")
    if not path.is_file() and not is_zarr(path):
        raise FileNotFoundError(f"no such file: {path}")
    if suffix == ".npz":
        return read_npz(path, keys)
    return read_h5ad(path, replace(keys, group_iso_by=keys.group_iso_by or "gene_symbol"))


def _frame(covariates: Any) -> pd.DataFrame | None:
    """Return the covariates of arrays."""
    if isinstance(covariates, pd.Series):
        return covariates.to_frame()
    if covariates is None or isinstance(covariates, pd.DataFrame):
        return covariates
    raise TypeError("covariates must be a DataFrame where the counts are arrays")


def _names(covariates: str | Sequence[str] | pd.DataFrame | None) -> tuple[str, ...]:
    """Return the covariates' names in a file or AnnData."""
    if isinstance(covariates, pd.DataFrame):
        raise TypeError("covariates must be names of columns, the DataFrame is for arrays")
    return as_names("covariates", () if covariates is None else covariates)
