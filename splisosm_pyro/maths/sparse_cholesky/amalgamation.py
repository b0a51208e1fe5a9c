"""Runs of columns that are eliminated together: the fronts, before their rows are written down.

Columns of one structure form a front. A small front is merged into its parent where the cost model
below says that the zeros this stores are cheaper than one more front.

References: Ashcraft and Grimes (1989), The influence of relaxed supernode partitions on the
multifrontal method, ACM TOMS 15(4), doi:10.1145/76909.76910.
"""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import IntArray
from splisosm_pyro.maths.numeric.compiled import compiled
from splisosm_pyro.maths.sparse_cholesky.elimination_order import children_of, postorder, relabelled

# Nanoseconds of a front, measured: its bookkeeping, an entry added to its parent, a multiplication.
FRONT_COST = 400.0
ENTRY_COST = 1.0
MULTIPLY_COST = 0.25


def merged_fronts(
    order: IntArray,  # (S,) in postorder
    parent: IntArray,  # (S,) elimination tree
    counts: IntArray,  # (S,) column counts
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Order of the spots, and first pivots (N+1,), parents, row numbers (N,) of the fronts."""
    group, pivots, rows, above = _equal_columns(parent, counts)
    top = _merge(pivots, rows, above)
    kept = np.flatnonzero(top == np.arange(top.size))
    compact = np.searchsorted(kept, top)  # the front that each group belongs to
    front_parent = np.where(above[kept] >= 0, compact[above[kept]], -1)
    visit = postorder(front_parent)
    n_rows, front_parent = relabelled(rows[kept], front_parent, visit)
    front = np.argsort(visit)[compact[group]]
    # a stable sort keeps the pivots of a front in the order in which they depend on each other
    new_order = order[np.argsort(front, kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(front, minlength=kept.size))])
    return new_order, first.astype(np.int64), front_parent, n_rows


@compiled
def _equal_columns(
    parent: IntArray, counts: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Group of each column; pivots, rows and parent of each group of equal structure."""
    n = parent.size
    group = np.empty(n, np.int64)
    n_groups = 0
    for k in range(n):
        if k == 0 or parent[k - 1] != k or counts[k - 1] != counts[k] + 1:
            n_groups += 1
        group[k] = n_groups - 1
    pivots = np.zeros(n_groups, np.int64)
    rows = np.zeros(n_groups, np.int64)
    above = np.full(n_groups, -1, np.int64)
    for k in range(n):
        g = group[k]
        pivots[g] += 1
        rows[g] = counts[k] - 1
        above[g] = group[parent[k]] if parent[k] >= 0 else -1
    return group, pivots, rows, above


@compiled
def _front_cost(pivots: float, rows: float) -> float:
    """Estimated time of a front of so many pivots and rows."""
    multiplications = pivots * (pivots * pivots / 6 + pivots * rows / 2 + rows * rows / 2)
    entries = (pivots + rows) * (pivots + rows) / 2
    return FRONT_COST + ENTRY_COST * entries + MULTIPLY_COST * multiplications


@compiled
def _merge(pivots: IntArray, rows: IntArray, above: IntArray) -> IntArray:
    """Merge children into parents, leaves first; returns the group that each one ends up in."""
    n_groups = pivots.size
    size = pivots.astype(np.float64)
    top = np.arange(n_groups)
    child_start, children = children_of(above)
    for g in range(n_groups):
        # a later child mostly has more rows in common with its parent
        for entry in range(child_start[g + 1] - 1, child_start[g] - 1, -1):
            c = children[entry]
            apart = _front_cost(size[c], rows[c]) + _front_cost(size[g], rows[g])
            if _front_cost(size[g] + size[c], rows[g]) <= apart:
                size[g] += size[c]
                top[c] = g
    for g in range(n_groups - 1, -1, -1):
        top[g] = top[top[g]]
    return top
