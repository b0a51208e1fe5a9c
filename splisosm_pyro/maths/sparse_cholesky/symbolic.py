"""What a sparse Cholesky factorisation can know from the pattern alone: the tree of fronts.

A *front* eliminates a run of consecutive spots, its *pivots*, that share one set of later
neighbours, its *rows*. Everything is counted in spots, so one analysis serves any number of logits
Q: a front of p pivots and m rows is then pQ by (p+m)Q.

Columns of one structure form a front. A small front is merged into its parent where the cost model
below says that the zeros this stores are cheaper than one more front.

References: Liu (1992), The multifrontal method for sparse matrix solution, SIAM Review 34(1),
doi:10.1137/1034004. Ashcraft and Grimes (1989), The influence of relaxed supernode partitions on
the multifrontal method, ACM TOMS 15(4), doi:10.1145/76909.76910.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray
from splisosm_pyro.maths.numeric.compiled import compiled, inlined
from splisosm_pyro.maths.sparse_cholesky.elimination_order import (
    children_of,
    column_counts,
    elimination_tree,
    fill_reducing_order,
    postorder,
    relabelled,
)

# Nanoseconds of a front, measured: its bookkeeping, an entry added to its parent, a multiplication.
FRONT_COST = 400.0
ENTRY_COST = 1.0
MULTIPLY_COST = 0.25


class Tree(NamedTuple):
    """The fronts in postorder, N of them; places are positions in the elimination order."""

    first: IntArray  # (N+1,) first pivot of each front
    row_start: IntArray  # (N+1,) into rows and position
    rows: IntArray  # places of the rows of each front, ascending
    position: IntArray  # where each row stands in the front of the parent
    parent: IntArray  # (N,) -1 at a root
    child_start: IntArray  # (N+1,) into children
    children: IntArray
    entry_start: IntArray  # (N+1,) into the three arrays of matrix entries
    entry_pivot: IntArray  # local pivot
    entry_column: IntArray  # position in the front
    entry_source: IntArray  # index into the matrix values
    panel_start: IntArray  # (N+1,) in entries of a spot-by-spot matrix
    update_start: IntArray  # (N,) likewise
    inverse_start: IntArray  # (N,) likewise


@dataclass(frozen=True)
class Symbolic:
    """Elimination order, tree of fronts and sizes of the workspaces, for one sparsity pattern."""

    n_spots: int
    order: IntArray  # (S,) spot at each place
    tree: Tree
    n_panel: int  # entries of the factor, in spots
    n_update: int  # entries of the stack of updates
    n_inverse: int  # entries of the stack of front inverses
    widest: int  # largest front, in spots

    @property
    def n_fronts(self) -> int:
        """Number of fronts."""
        return self.tree.parent.size

    def front_shapes(self) -> tuple[IntArray, IntArray]:
        """Pivots and rows of each front, in spots."""
        return np.diff(self.tree.first), np.diff(self.tree.row_start)

    def multiplications(self) -> float:
        """Multiplications of one numerical factorisation at Q = 1; times Q^3 otherwise."""
        p, m = (x.astype(np.float64) for x in self.front_shapes())
        return float((p * p * p / 6 + p * p * m / 2 + p * m * m / 2).sum())


def analyse(
    indptr: NDArray[np.integer],  # (S+1,)
    indices: NDArray[np.integer],  # (nnz,)
    places: FloatArray | None = None,  # (S,d)
) -> Symbolic:
    """Analyse a symmetric pattern given in compressed columns, both triangles and the diagonal.

    Parameters
    ----------
    indptr, indices : ndarray of int
        The pattern; ``entry_source`` of the result points into ``indices``.
    places : ndarray, shape (S, d), optional
        Coordinates of the spots, which help to find a good elimination order.

    Notes
    -----
    Time and memory go with the entries of the factor at Q = 1 (4 million at 100,000 spots).

    Examples
    --------
    >>> import numpy as np
    >>> path = analyse(np.array([0, 2, 5, 7]), np.array([0, 1, 0, 1, 2, 1, 2]))
    >>> path.n_spots, int(path.tree.first[-1])
    (3, 3)
    """
    starts: IntArray = indptr.astype(np.int64)
    entries: IntArray = indices.astype(np.int64)
    order = fill_reducing_order(starts, entries, places)
    tree = elimination_tree(starts, entries, order)
    order, parent = relabelled(order, tree, postorder(tree))
    counts = column_counts(starts, entries, order, parent)
    order, first, front_parent, n_rows = merged_fronts(order, parent, counts)
    return _fronts(starts, entries, order, first, front_parent, n_rows)


def _fronts(
    indptr: IntArray,
    indices: IntArray,
    order: IntArray,
    first: IntArray,
    parent: IntArray,
    n_rows: IntArray,
) -> Symbolic:
    """Rows, maps, entries and places in the workspaces, once the pivots of the fronts stand."""
    child_start, children = children_of(parent)
    row_start = np.concatenate([[0], np.cumsum(n_rows)]).astype(np.int64)
    rows = _collect_rows(indptr, indices, order, first, child_start, children, row_start)
    position = _positions(first, row_start, rows, parent)
    entries = _entries(indptr, indices, order, first, row_start, rows)
    pivots = np.diff(first)
    panel_start = np.concatenate([[0], np.cumsum(pivots * (pivots + n_rows))]).astype(np.int64)
    update_start, n_update = _stack_updates(parent, n_rows)
    inverse_start, n_inverse = _stack_inverses(parent, pivots + n_rows)
    tree = Tree(
        first,
        row_start,
        rows,
        position,
        parent,
        child_start,
        children,
        *entries,
        panel_start,
        update_start,
        inverse_start,
    )
    widest = int((pivots + n_rows).max(initial=0))
    return Symbolic(order.size, order, tree, int(panel_start[-1]), n_update, n_inverse, widest)


@inlined
def _invert(order: IntArray) -> IntArray:
    """Find the place of each spot."""
    place = np.empty(order.size, np.int64)
    for k in range(order.size):
        place[order[k]] = k
    return place


@compiled
def _collect_rows(
    indptr: IntArray,
    indices: IntArray,
    order: IntArray,
    first: IntArray,
    child_start: IntArray,
    children: IntArray,
    row_start: IntArray,
) -> IntArray:
    """Rows of every front: later neighbours of its pivots and rows of its children."""
    place = _invert(order)
    rows = np.empty(row_start[-1], np.int64)
    mark = np.full(order.size, -1, np.int64)
    for s in range(first.size - 1):
        end = first[s + 1]
        n = row_start[s]
        for k in range(first[s], end):
            for entry in range(indptr[order[k]], indptr[order[k] + 1]):
                i = place[indices[entry]]
                if i >= end and mark[i] != s:
                    mark[i] = s
                    rows[n] = i
                    n += 1
        for child in range(child_start[s], child_start[s + 1]):
            c = children[child]
            for entry in range(row_start[c], row_start[c + 1]):
                i = rows[entry]
                if i >= end and mark[i] != s:
                    mark[i] = s
                    rows[n] = i
                    n += 1
        _sort(rows, row_start[s], n)
    return rows


@inlined
def _sort(rows: IntArray, start: int, stop: int) -> None:
    """Sort a part of ``rows`` by insertion: fewer steps than the front's update has entries."""
    for n in range(start + 1, stop):
        row, at = rows[n], n
        while at > start and rows[at - 1] > row:
            rows[at] = rows[at - 1]
            at -= 1
        rows[at] = row


@compiled
def _positions(first: IntArray, row_start: IntArray, rows: IntArray, parent: IntArray) -> IntArray:
    """Position of each row in the parent's front, whose pivots come first."""
    out = np.empty(rows.size, np.int64)
    for c in range(parent.size):
        s = parent[c]
        cursor = row_start[s]
        for entry in range(row_start[c], row_start[c + 1]):
            if rows[entry] < first[s + 1]:
                out[entry] = rows[entry] - first[s]
            else:
                while rows[cursor] != rows[entry]:
                    cursor += 1
                out[entry] = first[s + 1] - first[s] + cursor - row_start[s]
    return out


@compiled
def _entries(
    indptr: IntArray,
    indices: IntArray,
    order: IntArray,
    first: IntArray,
    row_start: IntArray,
    rows: IntArray,
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Where the matrix entries go: start by front, local pivot, position in the front, source."""
    place = _invert(order)
    column_of = np.empty(order.size, np.int64)  # where a row stands in the front at work
    start = np.zeros(first.size, np.int64)
    pivot = np.empty(indices.size, np.int64)
    column = np.empty(indices.size, np.int64)
    source = np.empty(indices.size, np.int64)
    n = 0
    for s in range(first.size - 1):
        for entry in range(row_start[s], row_start[s + 1]):
            column_of[rows[entry]] = first[s + 1] - first[s] + entry - row_start[s]
        for k in range(first[s], first[s + 1]):
            for entry in range(indptr[order[k]], indptr[order[k] + 1]):
                i = place[indices[entry]]
                if i < k:
                    continue
                pivot[n] = k - first[s]
                source[n] = entry
                column[n] = column_of[i] if i >= first[s + 1] else i - first[s]
                n += 1
        start[s + 1] = n
    return start, pivot[:n], column[:n], source[:n]


@compiled
def _stack_updates(parent: IntArray, n_rows: IntArray) -> tuple[IntArray, int]:
    """Places of the update matrices on two stacks, one for even and one for odd depths.

    A front and its children then never share a stack: the children are popped where they lie while
    the front's own update is being pushed, and nothing moves.
    """
    n_fronts = parent.size
    depth = np.zeros(n_fronts, np.int64)
    for s in range(n_fronts - 1, -1, -1):
        if parent[s] >= 0:
            depth[s] = (depth[parent[s]] + 1) % 2
    below = np.zeros(n_fronts, np.int64)  # entries that the children of a front hold
    start = np.empty(n_fronts, np.int64)
    top = np.zeros(2, np.int64)
    size = np.zeros(2, np.int64)
    for s in range(n_fronts):
        d = depth[s]
        start[s] = top[d]
        top[d] += n_rows[s] * n_rows[s]
        size[d] = max(size[d], top[d])
        top[1 - d] -= below[s]
        if parent[s] >= 0:
            below[parent[s]] += n_rows[s] * n_rows[s]
    for s in range(n_fronts):
        if depth[s] == 1:
            start[s] += size[0]
    return start, size[0] + size[1]


@compiled
def _stack_inverses(parent: IntArray, front_size: IntArray) -> tuple[IntArray, int]:
    """Places of the front inverses, a front right above its parent, from the roots down."""
    start = np.zeros(parent.size, np.int64)
    size = 0
    for s in range(parent.size - 1, -1, -1):
        if parent[s] >= 0:
            start[s] = start[parent[s]] + front_size[parent[s]] ** 2
        size = max(size, start[s] + front_size[s] ** 2)
    return start, size


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


@inlined
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
