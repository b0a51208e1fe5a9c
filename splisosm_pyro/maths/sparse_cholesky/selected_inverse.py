"""Entries of H^-1 where the factor of H has entries, from the last front to the first.

With the pivots J and rows I of a front, ``Y = L_IJ L_JJ^-1`` and ``Z = H^-1``,

    Z_IJ = -Z_II Y                      Z_JJ = L_JJ^-T L_JJ^-1 - Y' Z_IJ

and ``Z_II`` is part of the inverse of the parent's front. The front inverses lie on a stack along
the path from the root, each as ``Z_JJ`` (p,p), ``Z_JI`` (p,m), ``Z_II`` (m,m), row-major and upper.

References: Erisman and Tinney (1975), On computing certain elements of the inverse of a sparse
matrix, Comm. ACM 18(3), doi:10.1145/360680.360704.
"""

import numpy as np
from scipy.linalg import blas, lapack

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray, Mask
from splisosm_pyro.maths.numeric.compiled import compiled, inlined
from splisosm_pyro.maths.sparse_cholesky.fronts import (
    BLAS_MULTIPLICATIONS,
    expand_positions,
    front_panel,
)
from splisosm_pyro.maths.sparse_cholesky.symbolic import Symbolic, Tree
from splisosm_pyro.maths.sparse_cholesky.triangular_solves import row_dot


def inverse_blocks(
    symbolic: Symbolic,
    n_logits: int,
    panel: FloatArray,
    large: Mask,  # (N,) fronts for LAPACK
    n_pattern: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Diagonal blocks of H^-1, and its blocks on the matrix pattern on request.

    Returns
    -------
    diagonal : ndarray, shape (S, Q, Q)
    pattern : ndarray, shape (n_pattern, Q, Q)
        Blocks (column, row) of the matrix entries at or below the diagonal in elimination order, at
        the index of the entry; the others are left at zero. Empty unless ``n_pattern`` is given.
    """
    q, tree = n_logits, symbolic.tree
    stack = np.empty(symbolic.n_inverse * q * q)
    index = np.empty(symbolic.widest * q, dtype=np.int64)
    work = np.empty(int(np.diff(tree.panel_start).max(initial=0)) * q * q)
    diagonal = np.empty((symbolic.n_spots, q, q))
    pattern = np.zeros((n_pattern, q, q))
    front = symbolic.n_fronts - 1
    while front >= 0:
        front = _invert_fronts(
            tree, front, large, symbolic.order, panel, stack, work, index, diagonal, pattern
        )
        if front >= 0:
            _invert_large(tree, front, q, panel, stack)
            _read_front(tree, front, symbolic.order, stack, diagonal, pattern)
            front -= 1
    return diagonal, pattern


def _invert_large(tree: Tree, s: int, q: int, panel: FloatArray, stack: FloatArray) -> None:
    """One front by LAPACK, its Z_II being on the stack."""
    p = int(tree.first[s + 1] - tree.first[s]) * q
    m = int(tree.row_start[s + 1] - tree.row_start[s]) * q
    at = int(tree.panel_start[s]) * q * q
    top = int(tree.inverse_start[s]) * q * q
    l11 = panel[at : at + p * p].reshape(p, p).T
    z_jj = stack[top : top + p * p].reshape(p, p).T
    z_jj[...] = l11
    lapack.dtrtri(z_jj, lower=1, overwrite_c=1)
    lapack.dlauum(z_jj, lower=1, overwrite_c=1)
    if m == 0:
        return
    y = panel[at + p * p : at + p * (p + m)].copy().reshape(p, m).T
    blas.dtrsm(1.0, l11, y, side=1, lower=1, overwrite_b=1)
    z_ij = stack[top + p * p : top + p * (p + m)].reshape(p, m).T
    z_ii = stack[top + p * (p + m) : top + p * (p + m) + m * m].reshape(m, m).T
    blas.dsymm(-1.0, z_ii, y, beta=0.0, c=z_ij, lower=1, overwrite_c=1)
    blas.dgemm(-1.0, y, z_ij, beta=1.0, c=z_jj, trans_a=1, overwrite_c=1)


@compiled
def _invert_fronts(
    tree: Tree,
    front: int,
    large: Mask,
    order: IntArray,
    panel: FloatArray,
    stack: FloatArray,
    work: FloatArray,
    index: IntArray,
    diagonal: FloatArray,
    pattern: FloatArray,
) -> int:
    """Invert from ``front`` down to a large front, whose Z_II is gathered; -1 at the end."""
    q = diagonal.shape[1]
    for s in range(front, -1, -1):
        p = (tree.first[s + 1] - tree.first[s]) * q
        m = (tree.row_start[s + 1] - tree.row_start[s]) * q
        top = tree.inverse_start[s] * q * q
        z_ii = stack[top + p * (p + m) : top + p * (p + m) + m * m].reshape((m, m))
        if m > 0:
            _gather(tree, s, q, index, stack, z_ii, not large[s])
        if large[s]:
            return s
        u11, u12 = front_panel(tree, s, q, panel)
        z_jj = stack[top : top + p * p].reshape((p, p))
        z_ji = stack[top + p * p : top + p * (p + m)].reshape((p, m))
        y = work[: p * m].reshape((p, m))
        inverse = work[p * m : p * (m + p)].reshape((p, p))
        # nobody asks a front without children for more than its diagonal blocks
        is_leaf = tree.child_start[s] == tree.child_start[s + 1] and pattern.shape[0] == 0
        _invert_small(u11, u12, z_ii, z_jj, z_ji, y, inverse, q if is_leaf else p)
        _read_front(tree, s, order, stack, diagonal, pattern)
    return -1


@inlined
def _gather(
    tree: Tree, s: int, q: int, index: IntArray, stack: FloatArray, z_ii: FloatArray, mirror: bool
) -> None:
    """Z_II of front ``s`` from the inverse of its parent's front; both triangles if ``mirror``."""
    n = expand_positions(tree, s, q, index)
    above = tree.parent[s]
    p = (tree.first[above + 1] - tree.first[above]) * q
    m = (tree.row_start[above + 1] - tree.row_start[above]) * q
    top = tree.inverse_start[above] * q * q
    from_jj = stack[top : top + p * p].reshape((p, p))
    from_ji = stack[top + p * p : top + p * (p + m)].reshape((p, m))
    from_ii = stack[top + p * (p + m) : top + p * (p + m) + m * m].reshape((m, m))
    split = 0
    while split < n and index[split] < p:
        split += 1
    for r in range(split):
        i = index[r]
        for c in range(r, split):
            z_ii[r, c] = from_jj[i, index[c]]
        for c in range(split, n):
            z_ii[r, c] = from_ji[i, index[c] - p]
    for r in range(split, n):
        i = index[r] - p
        for c in range(r, n):
            z_ii[r, c] = from_ii[i, index[c] - p]
    if mirror:
        for r in range(n):
            for c in range(r):
                z_ii[r, c] = z_ii[c, r]


@inlined
def _invert_small(
    u11: FloatArray,
    u12: FloatArray,
    z_ii: FloatArray,  # both triangles
    z_jj: FloatArray,
    z_ji: FloatArray,
    y: FloatArray,
    inverse: FloatArray,
    block: int,  # size of the diagonal blocks of z_jj that are wanted
) -> None:
    """Work out the two formulas of the header for one front."""
    p, m = u12.shape
    _back_substitute(u11, u12, y)
    _negative_product(y, z_ii, z_ji)
    _triangular_inverse(u11, inverse)
    if block == p and p * p * m > BLAS_MULTIPLICATIONS:
        np.dot(y, z_ji.T, z_jj)
        for k in range(p):
            for j in range(k, p):
                z_jj[k, j] = row_dot(inverse, k, inverse, j, j, p) - z_jj[k, j]
        return
    for k in range(p):
        for j in range(k, k - k % block + block):
            total = row_dot(inverse, k, inverse, j, j, p)
            z_jj[k, j] = total - row_dot(y, k, z_ji, j, 0, m)


@inlined
def _negative_product(y: FloatArray, z_ii: FloatArray, z_ji: FloatArray) -> None:
    """z_ji = -y z_ii by rows, four at a time."""
    p, m = y.shape
    if p * m * m > BLAS_MULTIPLICATIONS:
        np.dot(y, z_ii, z_ji)
        for k in range(p):
            for j in range(m):
                z_ji[k, j] = -z_ji[k, j]
        return
    for k in range(p):
        for j in range(m):
            z_ji[k, j] = 0.0
        i = 0
        while i + 3 < m:
            a, b, c, d = y[k, i], y[k, i + 1], y[k, i + 2], y[k, i + 3]
            for j in range(m):
                z_ji[k, j] -= (
                    a * z_ii[i, j] + b * z_ii[i + 1, j] + c * z_ii[i + 2, j] + d * z_ii[i + 3, j]
                )
            i += 4
        while i < m:
            a = y[k, i]
            for j in range(m):
                z_ji[k, j] -= a * z_ii[i, j]
            i += 1


@inlined
def _back_substitute(u: FloatArray, b: FloatArray, x: FloatArray) -> None:
    """X = U^-1 B by rows, four at a time."""
    p, m = b.shape
    for k in range(p - 1, -1, -1):
        for j in range(m):
            x[k, j] = b[k, j]
        i = k + 1
        while i + 3 < p:
            a0, a1, a2, a3 = u[k, i], u[k, i + 1], u[k, i + 2], u[k, i + 3]
            for j in range(m):
                x[k, j] -= a0 * x[i, j] + a1 * x[i + 1, j] + a2 * x[i + 2, j] + a3 * x[i + 3, j]
            i += 4
        while i < p:
            a0 = u[k, i]
            for j in range(m):
                x[k, j] -= a0 * x[i, j]
            i += 1
        scale = 1.0 / u[k, k]
        for j in range(m):
            x[k, j] *= scale


@inlined
def _triangular_inverse(u: FloatArray, x: FloatArray) -> None:
    """Upper triangle of X = U^-1."""
    p = u.shape[0]
    for k in range(p - 1, -1, -1):
        scale = 1.0 / u[k, k]
        for j in range(k, p):
            x[k, j] = 0.0
        for i in range(k + 1, p):
            a = u[k, i] * scale
            for j in range(i, p):
                x[k, j] -= a * x[i, j]
        x[k, k] = scale


@compiled
def _read_front(
    tree: Tree,
    s: int,
    order: IntArray,
    stack: FloatArray,
    diagonal: FloatArray,
    pattern: FloatArray,
) -> None:
    """Copy the diagonal blocks, and those on the matrix pattern, out of an inverted front."""
    q = diagonal.shape[1]
    first, p = tree.first[s], (tree.first[s + 1] - tree.first[s]) * q
    m = (tree.row_start[s + 1] - tree.row_start[s]) * q
    top = tree.inverse_start[s] * q * q
    z_jj = stack[top : top + p * p].reshape((p, p))
    z_ji = stack[top + p * p : top + p * (p + m)].reshape((p, m))
    for k in range(tree.first[s + 1] - first):
        for a in range(q):
            for b in range(a, q):
                value = z_jj[k * q + a, k * q + b]
                diagonal[order[first + k], a, b] = value
                diagonal[order[first + k], b, a] = value
    if pattern.shape[0] == 0:
        return
    for entry in range(tree.entry_start[s], tree.entry_start[s + 1]):
        i, j = tree.entry_pivot[entry] * q, tree.entry_column[entry] * q
        for a in range(q):
            for b in range(q):
                if j >= p:
                    value = z_ji[i + a, j - p + b]
                else:
                    value = z_jj[min(i + a, j + b), max(i + a, j + b)]
                pattern[tree.entry_source[entry], a, b] = value
