"""Reading a slide from a file of either kind.

The last isoform of a gene, in the order of the file, is the reference of its logits.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from splisosm_pyro.genes.data.h5ad import read_h5ad
from splisosm_pyro.genes.data.npz import read_npz
from splisosm_pyro.genes.data.slide import GeneGroup, PathLike, Slide

__all__ = ["GeneGroup", "Slide", "read_h5ad", "read_npz", "read_slide"]


def read_slide(
    path: PathLike,
    *,
    n_isos: int | None = None,
    covariates: Sequence[str] = (),
    layer: str = "counts",
    group_iso_by: str = "gene_symbol",
    spatial_key: str | None = None,
    adj_key: str | None = None,
    library_key: str | None = None,
    reference: Mapping[str, str] | None = None,
) -> Slide:
    """Read an ``.npz`` or an ``.h5ad``, told apart by the ending of the name.

    Parameters
    ----------
    path : str or path
    n_isos, covariates
        As in `read_npz` and `read_h5ad`.
    layer, group_iso_by
        As in `read_h5ad`; an ``.npz`` has no use for them.
    spatial_key : str, optional
        Default: ``'coords'`` in an ``.npz``, ``'spatial'`` in an ``.h5ad``.

    adj_key, library_key, reference
        As in `read_npz` and `read_h5ad`.

    Raises
    ------
    ValueError, OSError, ModuleNotFoundError
        If the file is of neither kind or does not hold what is asked for.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return read_npz(
            path,
            n_isos=n_isos,
            covariates=covariates,
            spatial_key=spatial_key or "coords",
            adj_key=adj_key,
            library_key=library_key,
            reference=reference,
        )
    if suffix == ".h5ad":
        return read_h5ad(
            path,
            layer=layer,
            group_iso_by=group_iso_by,
            covariates=covariates,
            spatial_key=spatial_key or "spatial",
            n_isos=n_isos,
            adj_key=adj_key,
            library_key=library_key,
            reference=reference,
        )
    raise ValueError(f"the file must end in .npz or .h5ad, came {Path(path).name!r}")
