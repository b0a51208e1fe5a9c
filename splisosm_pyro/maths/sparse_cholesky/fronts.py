"""Compiled work on single fronts: assembly, elimination, inversion.

All matrices are row-major and upper: a front's panel holds ``U = L'`` as ``U11`` (p,p) and ``U12``
(p,m), one after the other, so that their transposes are what LAPACK calls lower and column-major.
Only upper triangles are valid unless a comment says otherwise.
"""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray, Mask
from splisosm_pyro.maths.numeric.compiled import compiled, inlined
from splisosm_pyro.maths.sparse_cholesky.symbolic import Tree

# Products of fewer multiplications than this are faster as plain loops than as a call of BLAS.
BLAS_MULTIPLICATIONS = 5000


@inlined
def assemble(
    tree: Tree,
    s: int,
    values: FloatArray,  # (nnz,) of the spot-by-spot matrix
    block_of: IntArray,  # (S,) by place: index into blocks, or -1
    blocks: FloatArray,  # (n,Q,Q)
    panel: FloatArray,
    updates: FloatArray,
    index: IntArray,  # workspace
) -> None:
    """Fill front ``s`` with its matrix entries and the updates of its children."""
    q = blocks.shape[1]
    u11, u12 = front_panel(tree, s, q, panel)
    p, m = u12.shape
    at = tree.panel_start[s] * q * q
    for i in range(at, at + p * (p + m)):
        panel[i] = 0.0
    _add_entries(tree, s, q, values, u11, u12)
    _add_blocks(tree, s, block_of, blocks, u11)
    at = tree.update_start[s] * q * q
    update = updates[at : at + m * m].reshape((m, m))
    for i in range(at, at + m * m):
        updates[i] = 0.0
    for entry in range(tree.child_start[s], tree.child_start[s + 1]):
        c = tree.children[entry]
        n = expand_positions(tree, c, q, index)
        at = tree.update_start[c] * q * q
        extend_add(updates[at : at + n * n].reshape((n, n)), index, u11, u12, update)


@inlined
def _add_entries(
    tree: Tree, s: int, q: int, values: FloatArray, u11: FloatArray, u12: FloatArray
) -> None:
    """Add the entries of K x I_Q."""
    p = u11.shape[0]
    for entry in range(tree.entry_start[s], tree.entry_start[s + 1]):
        i, j = tree.entry_pivot[entry] * q, tree.entry_column[entry] * q
        value = values[tree.entry_source[entry]]
        for a in range(q):
            if j < p:
                u11[i + a, j + a] += value
            else:
                u12[i + a, j - p + a] += value


@inlined
def _add_blocks(
    tree: Tree, s: int, block_of: IntArray, blocks: FloatArray, u11: FloatArray
) -> None:
    """Add the blocks G of the pivots that have one."""
    q = blocks.shape[1]
    for k in range(tree.first[s + 1] - tree.first[s]):
        block = block_of[tree.first[s] + k]
        if block >= 0:
            for a in range(q):
                for b in range(q):
                    u11[k * q + a, k * q + b] += blocks[block, a, b]


@inlined
def expand_positions(tree: Tree, c: int, q: int, index: IntArray) -> int:
    """Positions of the rows of ``c`` in its parent's front, in scalars; returns their number."""
    n = 0
    for entry in range(tree.row_start[c], tree.row_start[c + 1]):
        for a in range(q):
            index[n] = tree.position[entry] * q + a
            n += 1
    return n


@inlined
def extend_add(
    child: FloatArray, index: IntArray, u11: FloatArray, u12: FloatArray, update: FloatArray
) -> None:
    """Add a child's update where its rows stand in the parent's front."""
    n, p = child.shape[0], u11.shape[0]
    split = 0
    while split < n and index[split] < p:
        split += 1
    for r in range(split):
        i = index[r]
        for c in range(r, split):
            u11[i, index[c]] += child[r, c]
        for c in range(split, n):
            u12[i, index[c] - p] += child[r, c]
    for r in range(split, n):
        i = index[r] - p
        for c in range(r, n):
            update[i, index[c] - p] += child[r, c]


@inlined
def front_panel(tree: Tree, s: int, q: int, panel: FloatArray) -> tuple[FloatArray, FloatArray]:
    """U11 and U12 of a front."""
    p = (tree.first[s + 1] - tree.first[s]) * q
    m = (tree.row_start[s + 1] - tree.row_start[s]) * q
    at = tree.panel_start[s] * q * q
    u11 = panel[at : at + p * p].reshape((p, p))
    u12 = panel[at + p * p : at + p * (p + m)].reshape((p, m))
    return u11, u12


@inlined
def eliminate(u11: FloatArray, u12: FloatArray, update: FloatArray) -> int:
    """Partial Cholesky of one front in place; -1, or the pivot that is not positive."""
    p, m = u12.shape
    for k in range(p):
        _subtract_earlier(u11, k, u11, k)
        _subtract_earlier(u11, k, u12, 0)
        if not u11[k, k] > 0.0:
            return k
        u11[k, k] = np.sqrt(u11[k, k])
        scale = 1.0 / u11[k, k]
        for i in range(k + 1, p):
            u11[k, i] *= scale
        for i in range(m):
            u12[k, i] *= scale
    subtract_gram(u12, update)
    return -1


@inlined
def _subtract_earlier(u11: FloatArray, k: int, x: FloatArray, start: int) -> None:
    """Row k of x, from column ``start``, less what the earlier pivots explain, four at a time."""
    n = x.shape[1]
    j = 0
    while j + 3 < k:
        a, b, c, d = u11[j, k], u11[j + 1, k], u11[j + 2, k], u11[j + 3, k]
        for i in range(start, n):
            x[k, i] -= a * x[j, i] + b * x[j + 1, i] + c * x[j + 2, i] + d * x[j + 3, i]
        j += 4
    while j < k:
        a = u11[j, k]
        for i in range(start, n):
            x[k, i] -= a * x[j, i]
        j += 1


@inlined
def subtract_gram(u12: FloatArray, update: FloatArray) -> None:
    """Upper triangle of update -= U12' U12."""
    p, m = u12.shape
    if p * m * m > BLAS_MULTIPLICATIONS:
        gram = np.empty((m, m))
        np.dot(u12.T, u12, gram)
        for i in range(m):
            for j in range(i, m):
                update[i, j] -= gram[i, j]
        return
    k = 0
    while k + 3 < p:
        for i in range(m):
            a, b, c, d = u12[k, i], u12[k + 1, i], u12[k + 2, i], u12[k + 3, i]
            for j in range(i, m):
                update[i, j] -= (
                    a * u12[k, j] + b * u12[k + 1, j] + c * u12[k + 2, j] + d * u12[k + 3, j]
                )
        k += 4
    while k < p:
        for i in range(m):
            a = u12[k, i]
            for j in range(i, m):
                update[i, j] -= a * u12[k, j]
        k += 1


@compiled
def factor_fronts(
    tree: Tree,
    first_front: int,
    large: Mask,  # (N,)
    values: FloatArray,
    block_of: IntArray,
    blocks: FloatArray,
    panel: FloatArray,
    updates: FloatArray,
    index: IntArray,
) -> int:
    """Factorise from ``first_front`` up to a large front, which is assembled and left to LAPACK.

    Returns that front, or N at the end, or -1 - place if the pivot there is not positive.
    """
    q = blocks.shape[1]
    n_fronts = tree.parent.size
    for s in range(first_front, n_fronts):
        assemble(tree, s, values, block_of, blocks, panel, updates, index)
        if large[s]:
            return s
        u11, u12 = front_panel(tree, s, q, panel)
        m = u12.shape[1]
        at = tree.update_start[s] * q * q
        failed = eliminate(u11, u12, updates[at : at + m * m].reshape((m, m)))
        if failed >= 0:
            return -1 - int(tree.first[s] + failed // q)
    return int(n_fronts)


@compiled
def sum_log_pivots(tree: Tree, q: int, panel: FloatArray) -> float:
    """Sum of the logarithms of the factor's diagonal."""
    total = 0.0
    for s in range(tree.parent.size):
        pq = (tree.first[s + 1] - tree.first[s]) * q
        at = tree.panel_start[s] * q * q
        for k in range(pq):
            total += np.log(panel[at + k * (pq + 1)])
    return total
