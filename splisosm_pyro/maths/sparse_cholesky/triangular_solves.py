"""Compiled triangular solves with a multifrontal factor, in elimination order.

``x`` holds the right-hand sides by rows and is overwritten; the panels are those of ``fronts``.
"""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray
from splisosm_pyro.maths.numeric.compiled import compiled, compiled_sums, inlined
from splisosm_pyro.maths.sparse_cholesky.fronts import BLAS_MULTIPLICATIONS, front_panel
from splisosm_pyro.maths.sparse_cholesky.symbolic import Tree


@compiled
def forward_vector(tree: Tree, q: int, panel: FloatArray, x: FloatArray, work: FloatArray) -> None:
    """X <- L^-1 x for one right-hand side."""
    for s in range(tree.parent.size):
        u11, u12 = front_panel(tree, s, q, panel)
        p, m = u12.shape
        head = x[tree.first[s] * q : tree.first[s] * q + p]
        tail = work[:m]
        for j in range(m):
            tail[j] = 0.0
        for k in range(p):
            y = head[k] / u11[k, k]
            head[k] = y
            for j in range(k + 1, p):
                head[j] -= u11[k, j] * y
            for j in range(m):
                tail[j] += u12[k, j] * y
        n = 0
        for at in range(tree.row_start[s], tree.row_start[s + 1]):
            row = tree.rows[at]
            for a in range(q):
                x[row * q + a] -= tail[n]
                n += 1


@compiled
def backward_vector(tree: Tree, q: int, panel: FloatArray, x: FloatArray, work: FloatArray) -> None:
    """X <- L^-T x for one right-hand side."""
    for s in range(tree.parent.size - 1, -1, -1):
        u11, u12 = front_panel(tree, s, q, panel)
        p, m = u12.shape
        head = x[tree.first[s] * q : tree.first[s] * q + p].reshape((1, p))
        tail = work[:m].reshape((1, m))
        n = 0
        for at in range(tree.row_start[s], tree.row_start[s + 1]):
            row = tree.rows[at]
            for a in range(q):
                tail[0, n] = x[row * q + a]
                n += 1
        for k in range(p - 1, -1, -1):
            known = row_dot(u12, k, tail, 0, 0, m) + row_dot(u11, k, head, 0, k + 1, p)
            head[0, k] = (head[0, k] - known) / u11[k, k]


@compiled_sums
def row_dot(a: FloatArray, k: int, b: FloatArray, j: int, start: int, stop: int) -> float:
    """Row k of a times row j of b."""
    total = 0.0
    for i in range(start, stop):
        total += a[k, i] * b[j, i]
    return total


@compiled
def forward_matrix(tree: Tree, q: int, panel: FloatArray, x: FloatArray, work: FloatArray) -> None:
    """X <- L^-1 X for several right-hand sides; ``work`` has as many columns."""
    for s in range(tree.parent.size):
        u11, u12 = front_panel(tree, s, q, panel)
        p, m = u12.shape
        head = x[tree.first[s] * q : tree.first[s] * q + p]
        for k in range(p):
            _divide_row(head, k, u11[k, k])
            for j in range(k + 1, p):
                _subtract_row(head, j, u11[k, j], head, k)
        tail = work[:m]
        if head.size * m > BLAS_MULTIPLICATIONS:
            np.dot(u12.T, head, tail)
        else:
            for j in range(m):
                for c in range(x.shape[1]):
                    tail[j, c] = 0.0
                for k in range(p):
                    _subtract_row(tail, j, -u12[k, j], head, k)
        _subtract_from_rows(tree, s, q, x, tail)


@compiled
def backward_matrix(tree: Tree, q: int, panel: FloatArray, x: FloatArray, work: FloatArray) -> None:
    """X <- L^-T X for several right-hand sides; ``work`` has as many columns."""
    for s in range(tree.parent.size - 1, -1, -1):
        u11, u12 = front_panel(tree, s, q, panel)
        p, m = u12.shape
        head = x[tree.first[s] * q : tree.first[s] * q + p]
        tail = work[:m]
        _fetch_rows(tree, s, q, x, tail)
        if head.size * m > BLAS_MULTIPLICATIONS:
            known = np.empty((p, x.shape[1]))
            np.dot(u12, tail, known)
            for k in range(p):
                _subtract_row(head, k, 1.0, known, k)
        else:
            for k in range(p):
                for j in range(m):
                    _subtract_row(head, k, u12[k, j], tail, j)
        for k in range(p - 1, -1, -1):
            for j in range(k + 1, p):
                _subtract_row(head, k, u11[k, j], head, j)
            _divide_row(head, k, u11[k, k])


@inlined
def _subtract_from_rows(tree: Tree, s: int, q: int, x: FloatArray, tail: FloatArray) -> None:
    """Subtract ``tail`` from the rows of a front."""
    n = 0
    for at in range(tree.row_start[s], tree.row_start[s + 1]):
        for a in range(q):
            _subtract_row(x, tree.rows[at] * q + a, 1.0, tail, n)
            n += 1


@inlined
def _fetch_rows(tree: Tree, s: int, q: int, x: FloatArray, tail: FloatArray) -> None:
    """Copy the rows of a front into ``tail``."""
    n = 0
    for at in range(tree.row_start[s], tree.row_start[s + 1]):
        for a in range(q):
            for c in range(x.shape[1]):
                tail[n, c] = x[tree.rows[at] * q + a, c]
            n += 1


@inlined
def _divide_row(x: FloatArray, k: int, divisor: float) -> None:
    """Divide row k of x."""
    for c in range(x.shape[1]):
        x[k, c] /= divisor


@inlined
def _subtract_row(x: FloatArray, k: int, factor: float, y: FloatArray, j: int) -> None:
    """Row k of x less a multiple of row j of y."""
    for c in range(x.shape[1]):
        x[k, c] -= factor * y[j, c]


@compiled
def to_places(order: IntArray, b: FloatArray, x: FloatArray) -> None:
    """Rows (S,Q,k) by spot into rows (S*Q,k) by place."""
    q = b.shape[1]
    for k in range(order.size):
        for a in range(q):
            for c in range(b.shape[2]):
                x[k * q + a, c] = b[order[k], a, c]


@compiled
def to_spots(order: IntArray, x: FloatArray, b: FloatArray) -> None:
    """Rows (S*Q,k) by place into rows (S,Q,k) by spot."""
    q = b.shape[1]
    for k in range(order.size):
        for a in range(q):
            for c in range(b.shape[2]):
                b[order[k], a, c] = x[k * q + a, c]
