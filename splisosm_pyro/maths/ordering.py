"""In which order to eliminate the spots of a sparse symmetric graph, and the tree that follows.

A graph is given in compressed columns (``indptr``, ``indices``), both triangles, its diagonal or
not. ``order[k]`` is the spot eliminated k-th, ``place`` its inverse.

References: Liu (1990), The role of elimination trees in sparse factorization, SIAM J. Matrix Anal.
Appl. 11(1), doi:10.1137/0611010.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from splisosm_pyro.maths.compiled import compiled

Ints = NDArray[np.int64]


def fill_reducing_order(
    indptr: Ints,  # (S+1,)
    indices: Ints,  # (nnz,)
) -> Ints:  # (S,)
    """Find an elimination order of little fill: multiple minimum degree on the graph.

    SuperLU's own ordering is taken from a factorisation of a diagonally dominant matrix of the
    pattern, which needs no pivoting and costs about as much as one numerical factorisation.

    Examples
    --------
    >>> import numpy as np
    >>> order = fill_reducing_order(np.array([0, 3, 4, 5, 6]), np.array([1, 2, 3, 0, 0, 0]))
    >>> int(np.argmax(order == 0)) >= 2  # the hub of a star comes late
    True
    """
    n_spots = indptr.size - 1
    if n_spots < 3:
        return np.arange(n_spots, dtype=np.int64)
    pattern = csc_array((-np.ones(indices.size), indices, indptr), shape=(n_spots, n_spots))
    pattern.setdiag(np.diff(indptr) + 1.0)
    factor = splu(
        pattern,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.argsort(factor.perm_c).astype(np.int64)


@compiled
def elimination_tree(indptr: Ints, indices: Ints, order: Ints) -> Ints:
    """Parent of each place in the elimination order, -1 at a root."""
    n = order.size
    place = np.empty(n, np.int64)
    for k in range(n):
        place[order[k]] = k
    parent = np.full(n, -1, np.int64)
    shortcut = np.full(n, -1, np.int64)
    for k in range(n):
        for entry in range(indptr[order[k]], indptr[order[k] + 1]):
            i = place[indices[entry]]
            while i != -1 and i < k:
                above = shortcut[i]
                shortcut[i] = k
                if above == -1:
                    parent[i] = k
                i = above
    return parent


@compiled
def postorder(parent: Ints) -> Ints:
    """Places of a forest with every child before its parent and every subtree in one run."""
    n = parent.size
    first_child = np.full(n, -1, np.int64)
    sibling = np.full(n, -1, np.int64)
    for k in range(n - 1, -1, -1):
        if parent[k] >= 0:
            sibling[k] = first_child[parent[k]]
            first_child[parent[k]] = k
    out = np.empty(n, np.int64)
    stack = np.empty(n, np.int64)
    n_done = 0
    for root in range(n):
        if parent[root] >= 0:
            continue
        stack[0] = root
        top = 0
        while top >= 0:
            node = stack[top]
            child = first_child[node]
            if child >= 0:
                first_child[node] = sibling[child]
                top += 1
                stack[top] = child
            else:
                out[n_done] = node
                n_done += 1
                top -= 1
    return out


@compiled
def column_counts(indptr: Ints, indices: Ints, order: Ints, parent: Ints) -> Ints:
    """Entries in each column of the factor, the diagonal included; time is their sum."""
    n = order.size
    place = np.empty(n, np.int64)
    for k in range(n):
        place[order[k]] = k
    counts = np.ones(n, np.int64)
    mark = np.full(n, -1, np.int64)
    for k in range(n):
        mark[k] = k
        for entry in range(indptr[order[k]], indptr[order[k] + 1]):
            i = place[indices[entry]]
            while i < k and mark[i] != k:
                counts[i] += 1
                mark[i] = k
                i = parent[i]
    return counts


@compiled
def children_of(parent: Ints) -> tuple[Ints, Ints]:
    """Children of each node, ascending, as (start, list)."""
    n = parent.size
    start = np.zeros(n + 1, np.int64)
    for k in range(n):
        if parent[k] >= 0:
            start[parent[k] + 1] += 1
    start = np.cumsum(start)
    cursor = start[:-1].copy()
    children = np.empty(start[n], np.int64)
    for k in range(n):
        if parent[k] >= 0:
            children[cursor[parent[k]]] = k
            cursor[parent[k]] += 1
    return start, children


@compiled
def relabelled(order: Ints, parent: Ints, visit: Ints) -> tuple[Ints, Ints]:
    """Count the same order and tree along ``visit``."""
    n = order.size
    label = np.empty(n, np.int64)
    for k in range(n):
        label[visit[k]] = k
    new_parent = np.full(n, -1, np.int64)
    for k in range(n):
        if parent[visit[k]] >= 0:
            new_parent[k] = label[parent[visit[k]]]
    return order[visit], new_parent
