"""The multifrontal factor, its solves and its selected inverse against dense NumPy."""

import numpy as np
import pytest
from scipy.sparse import block_diag, coo_array, csc_array
from scipy.spatial import cKDTree

from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite
from splisosm_pyro.maths.sparse_cholesky.cholesky import SparseCholesky
from splisosm_pyro.maths.sparse_cholesky.elimination_order import (
    column_counts,
    elimination_tree,
    fill_reducing_order,
    postorder,
)
from splisosm_pyro.maths.sparse_cholesky.symbolic import analyse


def from_edges(n_spots, edges):
    """Diagonally dominant matrix of random weights on the edges of a graph."""
    rng = np.random.default_rng(n_spots)
    edges = np.asarray(edges, dtype=int).reshape(-1, 2)
    weights = -rng.uniform(0.5, 1.5, size=len(edges))
    off = coo_array((weights, (edges[:, 0], edges[:, 1])), shape=(n_spots, n_spots))
    off = (off + off.T).toarray()
    return csc_array(off + np.diag(np.abs(off).sum(axis=0) + rng.uniform(0.01, 0.2, n_spots)))


def near(points, radius):
    """Pairs of points at most so far from each other."""
    return cKDTree(points).query_pairs(radius, output_type="ndarray")


def hexagonal(n_rows, n_columns):
    """A hexagonal lattice of unit spacing."""
    i, j = np.meshgrid(np.arange(n_rows), np.arange(n_columns), indexing="ij")
    points = np.stack([j + 0.5 * (i % 2), i * 0.75**0.5], axis=-1).reshape(-1, 2)
    return from_edges(len(points), near(points, 1.01))


def grid(n_rows, n_columns):
    """A square lattice."""
    points = np.argwhere(np.ones((n_rows, n_columns))).astype(float)
    return from_edges(len(points), near(points, 1.01))


def geometric(n_spots):
    """A random geometric graph, some of whose spots are isolated."""
    points = np.random.default_rng(1).uniform(size=(n_spots, 2))
    return from_edges(n_spots, near(points, 0.9 / n_spots**0.5))


GRAPHS = {
    "one spot": from_edges(1, []),
    "two spots": from_edges(2, [(0, 1)]),
    "isolated spots": from_edges(7, []),
    "path": from_edges(40, [(i, i + 1) for i in range(39)]),
    "ring": from_edges(30, [(i, (i + 1) % 30) for i in range(30)]),
    "star": from_edges(25, [(12, i) for i in range(25) if i != 12]),
    "complete": from_edges(20, [(i, j) for i in range(20) for j in range(i)]),
    "hexagonal": hexagonal(9, 11),
    "grid": grid(10, 9),
    "geometric": geometric(90),
    "slides": csc_array(block_diag([hexagonal(5, 6), from_edges(1, []), grid(6, 4)])),
}


@pytest.fixture(params=GRAPHS)
def matrix(request):
    return GRAPHS[request.param]


# Sizes from which fronts go to LAPACK.
LIMITS = {"lapack": 0.0, "mixed": 300.0, "loops": 1e9}
# Any two of a graph, a number of logits and a limit meet in one.
TRIPLES = [
    (graph, n_logits, list(LIMITS)[(i + j) % 3])
    for i, graph in enumerate(GRAPHS)
    for j, n_logits in enumerate((1, 2, 3, 5))
]


@pytest.fixture(scope="module", params=TRIPLES, ids=lambda triple: "-".join(map(str, triple)))
def solved(request):
    """A matrix, its factor with some blocks, and the inverse and log-determinant of the twin."""
    graph, n_logits, limit = request.param
    return GRAPHS[graph], *factorised(GRAPHS[graph], n_logits, LIMITS[limit])


def information(n_spots, n_logits, scale=1.0):
    """Blocks at two thirds of the spots, in no order, some of them singular or zero."""
    rng = np.random.default_rng(n_logits)
    occupied = rng.permutation(n_spots)[: 1 + 2 * n_spots // 3]
    root = rng.normal(size=(len(occupied), n_logits, n_logits))
    root[::3, :, -1] = 0.0
    root[::5] = 0.0
    return scale * root @ root.transpose(0, 2, 1), occupied


def dense_twin(matrix, blocks, occupied):
    """H, spot-major, written down entry by entry."""
    n_logits = blocks.shape[1]
    out = np.kron(matrix.toarray(), np.eye(n_logits))
    for block, s in zip(blocks, occupied, strict=True):
        part = slice(s * n_logits, (s + 1) * n_logits)
        out[part, part] += block
    return out


def factorised(matrix, n_logits, limit, scale=1.0):
    """A factor and the inverse and log-determinant of its dense twin."""
    solver = SparseCholesky(analyse(matrix.indptr, matrix.indices), n_logits)
    p, m = (x * float(n_logits) for x in solver.symbolic.front_shapes())
    solver.large = p * (p + m) ** 2 > limit
    blocks, occupied = information(matrix.shape[0], n_logits, scale)
    twin = dense_twin(matrix, blocks, occupied)
    factor = solver.factorise(matrix.data, blocks, occupied)
    return factor, np.linalg.inv(twin), np.linalg.slogdet(twin)[1]


def close(ours, expected):
    """Agreement to 1e-10 of the largest entry."""
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def blocks_of(inverse, n_spots):
    """The inverse as ``(spot, logit, spot, logit)``."""
    n_logits = len(inverse) // n_spots
    return inverse.reshape(n_spots, n_logits, n_spots, n_logits)


def test_log_determinant_and_selected_inverse(solved):
    matrix, factor, inverse, log_det = solved
    n_spots = matrix.shape[0]
    np.testing.assert_allclose(factor.log_det, log_det, rtol=1e-11, atol=1e-11)
    diagonal = blocks_of(inverse, n_spots)[np.arange(n_spots), :, np.arange(n_spots)]
    close(factor.inverse_blocks(), diagonal)


def test_solve(solved):
    matrix, factor, inverse, _ = solved
    for n_rhs in (1, 2, 70):
        size = matrix.shape[0], len(inverse) // matrix.shape[0], n_rhs
        b = np.random.default_rng(3).normal(size=size)
        before = b.copy()
        close(factor.solve(b), (inverse @ b.reshape(-1, n_rhs)).reshape(size))
        np.testing.assert_array_equal(b, before)
        close(factor.solve(b[..., 0]), (inverse @ b[..., 0].ravel()).reshape(size[:2]))


def test_draws_have_the_inverse_as_covariance(solved):
    matrix, factor, inverse, _ = solved
    size = len(inverse)
    unit = np.eye(size).reshape(matrix.shape[0], -1, size)
    root = factor.sqrt_solve(unit).reshape(size, size)
    close(root @ root.T, inverse)
    close(factor.sqrt_solve(unit[..., 0]).ravel(), root[:, 0])


def test_inverse_on_the_pattern(solved):
    matrix, factor, inverse, _ = solved
    ours = factor.inverse_on_pattern(matrix.nnz)
    n_spots = matrix.shape[0]
    tensor = blocks_of(inverse, n_spots)
    rows, columns = matrix.indices, np.repeat(np.arange(n_spots), np.diff(matrix.indptr))
    # entry (i, j) holds the block (j, i), and one of (i, j), (j, i) is left out
    held = ours.any(axis=(1, 2))
    close(ours[held], tensor[columns[held], :, rows[held]])
    pairs = {frozenset((int(i), int(j))) for i, j in zip(rows, columns, strict=True)}
    seen = [frozenset((int(i), int(j))) for i, j in zip(rows[held], columns[held], strict=True)]
    assert len(seen) == len(set(seen)) == len(pairs)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e4])
def test_little_and_much_information(scale):
    factor, inverse, log_det = factorised(GRAPHS["hexagonal"], 2, LIMITS["mixed"], scale)
    tensor = inverse.reshape(99, 2, 99, 2)
    np.testing.assert_allclose(factor.log_det, log_det, rtol=1e-11)
    close(factor.inverse_blocks(), tensor[np.arange(99), :, np.arange(99)])


def test_the_workspace_is_used_again():
    matrix = GRAPHS["hexagonal"]
    solver = SparseCholesky(analyse(matrix.indptr, matrix.indices), 2)
    blocks, occupied = information(99, 2)
    first = solver.factorise(matrix.data, blocks, occupied).inverse_blocks()
    bare = solver.factorise(2.0 * matrix.data).log_det
    np.testing.assert_allclose(bare, 2 * np.linalg.slogdet(2.0 * matrix.toarray())[1], rtol=1e-12)
    again = solver.factorise(matrix.data, blocks, occupied).inverse_blocks()
    np.testing.assert_array_equal(first, again)


def test_blocks_of_all_spots_need_no_list_of_occupied():
    matrix = GRAPHS["path"]
    solver = SparseCholesky(analyse(matrix.indptr, matrix.indices), 1)
    twin = matrix.toarray() + np.diag(np.arange(40.0))
    factor = solver.factorise(matrix.data, np.arange(40.0).reshape(40, 1, 1))
    np.testing.assert_allclose(factor.log_det, np.linalg.slogdet(twin)[1], rtol=1e-12)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_what_is_not_positive_definite_is_refused(bad, limit):
    matrix = GRAPHS["geometric"].copy()
    solver = SparseCholesky(analyse(matrix.indptr, matrix.indices), 2)
    solver.large = np.full(solver.symbolic.n_fronts, limit == 0.0)
    diagonal = matrix.indices == np.repeat(np.arange(90), np.diff(matrix.indptr))
    matrix.data[np.flatnonzero(diagonal)[17]] = bad
    with pytest.raises(NotPositiveDefinite, match="sparse matrix"):
        solver.factorise(matrix.data)


def test_the_failing_spot_is_named():
    matrix = GRAPHS["isolated spots"].copy()
    solver = SparseCholesky(analyse(matrix.indptr, matrix.indices), 3)
    matrix.data[4] = -1.0
    with pytest.raises(NotPositiveDefinite, match="the pivot of spot 4 is not a positive number"):
        solver.factorise(matrix.data)


def test_right_hand_sides_of_another_shape_are_refused():
    matrix = GRAPHS["path"]
    factor = SparseCholesky(analyse(matrix.indptr, matrix.indices), 2).factorise(matrix.data)
    with pytest.raises(ValueError, match=r"b must have shape \(40, 2, ...\), got \(40, 3\)"):
        factor.solve(np.zeros((40, 3)))


def test_the_tree_holds_every_spot_and_every_entry(matrix):
    symbolic = analyse(matrix.indptr, matrix.indices)
    tree, n_spots = symbolic.tree, matrix.shape[0]
    assert sorted(symbolic.order) == list(range(n_spots))
    assert (tree.parent > np.arange(symbolic.n_fronts))[tree.parent >= 0].all()
    assert tree.entry_source.size == (matrix.nnz + n_spots) // 2
    for s in range(symbolic.n_fronts):
        rows = tree.rows[tree.row_start[s] : tree.row_start[s + 1]]
        assert (np.diff(rows) > 0).all()
        assert (rows >= tree.first[s + 1]).all()
        if rows.size:
            above = tree.parent[s]
            front = np.concatenate(
                [
                    np.arange(tree.first[above], tree.first[above + 1]),
                    tree.rows[tree.row_start[above] : tree.row_start[above + 1]],
                ]
            )
            at = tree.position[tree.row_start[s] : tree.row_start[s + 1]]
            np.testing.assert_array_equal(front[at], rows)


def test_column_counts_are_those_of_the_dense_factor():
    matrix = GRAPHS["geometric"]
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    order = fill_reducing_order(indptr, indices)
    counts = column_counts(indptr, indices, order, elimination_tree(indptr, indices, order))
    lower = np.linalg.cholesky(matrix.toarray()[np.ix_(order, order)])
    np.testing.assert_array_equal(counts, (np.abs(lower) > 1e-14).sum(axis=0))


def test_the_order_saves_fill():
    matrix = hexagonal(20, 20)
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)

    def fill(order):
        return column_counts(indptr, indices, order, elimination_tree(indptr, indices, order)).sum()

    assert fill(fill_reducing_order(indptr, indices)) < 0.75 * fill(np.arange(400))


def test_postorder_of_a_forest():
    parent = np.array([4, 3, 3, 5, 5, -1, 7, -1])
    visit = postorder(parent)
    np.testing.assert_array_equal(visit, [1, 2, 3, 0, 4, 5, 6, 7])
