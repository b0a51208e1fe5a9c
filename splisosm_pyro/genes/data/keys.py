"""By which names a slide stands in a file or an AnnData object."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SlideKeys:
    """What is read of a file or of AnnData.

    `read_slide` explains them. ``spatial_key`` None stands for what the kind of file calls them.
    """

    group_iso_by: str | None = None
    layer: str = "counts"
    spatial_key: str | None = None
    adj_key: str | None = None
    library_key: str | None = None
    reference: Mapping[str, str] | None = None
    n_isos: int | None = None
    covariates: tuple[str, ...] = ()
