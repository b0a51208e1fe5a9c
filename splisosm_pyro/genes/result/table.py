"""Tables of a run: their columns stand in one order, whatever the first gene has."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.hypotheses.many import false_discovery_rates

Row = dict[str, Any]

GENE_COLUMNS = (
    *("gene", "n_isos", "reads", "occupied_spots", "status", "at_bound", "unknown", "reason"),
    *("sv", "du", "sigma", "theta", "log_sigma", "theta_logit", "usage", "fitted_usage_range"),
    *("pop_sigma", "pop_theta", "p_spatial", "lfsr", "pop_reason"),
    *("bias_eta", "beta", "loglik_glm", "log_marginal_white", "log_marginal"),
    *("gain_over_white", "gain_over_glm", "sigma_white", "gradient_norm", "min_eigenvalue"),
    *("sens", "sens_note", "smooth", "coding", "isoforms", "seconds", "seed"),
)
ISOFORM_COLUMNS = (
    *("gene", "isoform", "number", "reads", "mean_usage", "min_usage", "max_usage", "delta"),
)
EFFECT_COLUMNS = (
    *("gene", "isoform", "number", "covariate", "level", "reference", "change", "low", "high"),
    "reason",
    *("pop_change", "pop_low", "pop_high", "lfsr"),
)
WORDS = (
    "gene",
    "isoform",
    "isoforms",
    "status",
    "at_bound",
    "unknown",
    "reason",
    "why",
    "sens_note",
    "smooth",
    "coding",
    "sv_reason",
    "du_reason",
    "pop_reason",
    "covariate",
    "level",
    "reference",
)


def gene_table(outcomes: Iterable[Row]) -> pd.DataFrame:
    """Return one row a gene, by the genes' index.

    Examples
    --------
    >>> rows = [{"gene": "b", "status": "boundary"}, {"gene": "a", "theta": 0.5}]
    >>> outcomes = [{"index": 1, "row": rows[0]}, {"index": 0, "row": rows[1]}]
    >>> list(gene_table(outcomes)), gene_table(outcomes)["gene"].tolist()
    (['gene', 'status', 'theta'], ['a', 'b'])
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome["index"])
    return _with_q(_table([outcome["row"] for outcome in ordered], GENE_COLUMNS))


def _with_q(table: pd.DataFrame) -> pd.DataFrame:
    """Put the false discovery rate over the genes beside every test's p."""
    for name in filter(re.compile(r"sv_p|du_.+_p").fullmatch, list(map(str, table))):
        p = table[name].to_numpy(dtype=np.float64)
        place = list(table).index(name) + 1
        table.insert(place, f"{name.removesuffix('_p')}_q", false_discovery_rates(p))
    return table


def isoform_table(outcomes: Iterable[Row]) -> pd.DataFrame:
    """Return one row an isoform, genes by their index, isoforms in the order of the data."""
    ordered = sorted(outcomes, key=lambda outcome: outcome["index"])
    return _table([row for outcome in ordered for row in outcome["isoforms"]], ISOFORM_COLUMNS)


def effect_table(outcomes: Iterable[Row]) -> pd.DataFrame:
    """Return one row an isoform and contrast, genes by their index."""
    ordered = sorted(outcomes, key=lambda outcome: outcome["index"])
    rows = [row for outcome in ordered for row in outcome["effects"]]
    return _table(rows, EFFECT_COLUMNS) if rows else pd.DataFrame(columns=list(EFFECT_COLUMNS))


def _table(rows: list[Row], kinds: tuple[str, ...]) -> pd.DataFrame:
    """Put rows under each other, words empty and numbers missing where a row has none."""
    table = pd.DataFrame(rows)
    for name in WORDS:
        if name in table:
            table[name] = table[name].fillna("").astype(str)
    return in_order(table, kinds)


def in_order(table: pd.DataFrame, kinds: tuple[str, ...] = GENE_COLUMNS) -> pd.DataFrame:
    """Return a table with its columns in the order of their kinds."""
    columns = sorted((str(name) for name in table.columns), key=lambda name: _place(name, kinds))
    return table[columns]


def _place(column: str, kinds: tuple[str, ...]) -> tuple[int, list[str]]:
    """Return the sorting key of a column: its kind, then its name with numbers as numbers."""
    found = [kind for kind in kinds if column.startswith(f"{kind}_")]
    kind = column if column in kinds else max(found, key=len)
    # the lower end of an interval before the upper one
    parts = re.split(r"(\d+)", re.sub(r"_low$", "_1", re.sub(r"_high$", "_2", column)))
    return kinds.index(kind), [part.zfill(12) if part.isdecimal() else part for part in parts]
