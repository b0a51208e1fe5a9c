"""Effects of covariates on one gene: rows of a table, one an isoform and contrast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glm.undetermined import Undetermined
from splisosm_pyro.genes.average_usage import Parameters, Rows, change_of_usage
from splisosm_pyro.genes.contrasts import Contrast

Row = dict[str, Any]
# Said where nothing is known of a change.
NOT_DETERMINED = "the counts do not determine it: a level without reads or with one isoform alone"


@dataclass(frozen=True, eq=False)
class PreparedContrast:
    """A contrast with its distinct rows of the standard design, and its columns of a wide table."""

    contrast: Contrast
    rows: Rows
    columns: tuple[str, str, str]

    @classmethod
    def all_of(
        cls, contrasts: Sequence[Contrast], design: StandardDesign
    ) -> "tuple[PreparedContrast, ...]":
        """Prepare the contrasts of a design."""
        columns = delta_columns([one.name for one in contrasts])
        spots = design.with_intercept
        return tuple(
            cls(one, Rows.of_spots(*one.at_spots(spots)), columns[one.name]) for one in contrasts
        )


def delta_columns(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Name a change and the ends of its interval, no two columns alike.

    Examples
    --------
    >>> delta_columns(["region=B"])
    {'region=B': ('delta_region=B', 'delta_region=B_low', 'delta_region=B_high')}
    >>> delta_columns(["a", "a_low"])["a"]
    ('delta_a', 'delta_a_95_low', 'delta_a_95_high')
    """
    taken = {f"delta_{name}" for name in names}
    found = {}
    for name in names:
        stem = f"delta_{name}"
        while taken & {f"{stem}_low", f"{stem}_high"}:
            stem += "_95"
        found[name] = (f"delta_{name}", f"{stem}_low", f"{stem}_high")
        taken |= set(found[name])
    return found


def effect_rows(
    isoforms: Sequence[Mapping[str, Any]],
    own: Parameters,
    unknown: Undetermined,
    contrasts: Sequence[PreparedContrast],
) -> list[Row]:
    """Return a row for each contrast and isoform; ``isoforms`` are the rows that name them."""
    rows = []
    for one in contrasts:
        known = not unknown.moves_usage(np.vstack([one.rows.low, one.rows.high])).any()
        about = {name: getattr(one.contrast, name) for name in ("covariate", "level", "reference")}
        ends = _changes(own, one.rows) if known else _nothing(len(isoforms))
        for isoform, change, low, high in zip(isoforms, *ends, strict=True):
            named = {name: isoform[name] for name in ("gene", "isoform", "number")}
            found = {"change": change, "low": low, "high": high}
            rows.append(named | about | found | {"reason": "" if known else NOT_DETERMINED})
    return rows


def _changes(own: Parameters, rows: Rows) -> list[list[float]]:
    """Return changes and the ends of their intervals as plain numbers."""
    return [values.tolist() for values in change_of_usage(own, rows)]


def _nothing(n_isos: int) -> list[list[float]]:
    """Return what is said of a change of which nothing is known."""
    return [[np.nan] * n_isos, [-1.0] * n_isos, [1.0] * n_isos]


def with_effects(
    isoforms: Sequence[Row], effects: Sequence[Row], contrasts: Sequence[PreparedContrast]
) -> list[Row]:
    """Add the changes against the reference to the isoforms' rows, three columns each."""
    wide = [dict(row) for row in isoforms]
    for k, one in enumerate(contrasts):
        if one.contrast.against_first:
            own = effects[k * len(wide) : (k + 1) * len(wide)]
            for row, effect in zip(wide, own, strict=True):
                ends = (effect[name] for name in ("change", "low", "high"))
                row.update(zip(one.columns, ends, strict=True))
    return wide
