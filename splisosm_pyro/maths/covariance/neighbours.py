"""Symmetric graphs of spots: mutual nearest neighbours of coordinates, or a given adjacency."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array, csc_array, csr_array, sparray, spmatrix
from scipy.spatial import cKDTree
from torch import Tensor

from splisosm_pyro.maths.covariance.dense import as_matrix, check_square
from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray

# Distances this close to the k-th smallest, relatively, count as equal to it.
TIE_TOLERANCE = 1e-6
# Weights w_ij and w_ji may differ by this share of the largest weight.
SYMMETRY_TOLERANCE = 1e-6


def mutual_neighbours(
    coords: Tensor | npt.NDArray[np.generic],  # (S,d)
    k: int,
) -> csc_array:  # (S,S)
    """Graph of the spots that are among each other's k nearest, ties kept.

    A spot's neighbours are all spots as near as its k-th nearest: spots at that distance, up to a
    relative 1e-6 and the rounding of the coordinates' dtype, are all kept. The graph is therefore
    the same for shifted, rotated, reflected and scaled coordinates. Spots at one place are each
    other's nearest. Weights are 1, the diagonal is empty.

    Raises
    ------
    TypeError, ValueError
        If coords are not numeric, not of shape (S, d), empty or not finite, or k is not a positive
        whole number.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> mutual_neighbours(square, 1).sum(axis=0).tolist()  # two at the same distance
    [2.0, 2.0, 2.0, 2.0]
    """
    points, rounding = as_matrix(coords, "coords")
    n_spots, n_axes = points.shape
    if n_spots == 0 or n_axes == 0:
        raise ValueError(f"coords must have shape (n_spots, n_axes), came {points.shape}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise TypeError(f"k must be a whole number, came {type(k).__name__}")
    if k < 1:
        raise ValueError(f"k must be at least 1, came {k}")
    # distances inherit the rounding of the coordinates as they came, before centring
    slack = 4.0 * rounding * float(np.abs(points).max())
    row, column = _near(points - points.mean(axis=0), min(int(k), n_spots - 1), slack)
    near = csr_array((np.ones(row.size), (row, column)), shape=(n_spots, n_spots))
    return csc_array(near.multiply(near.T))


def _near(points: FloatArray, k: int, slack: float) -> tuple[IntArray, IntArray]:
    """Pairs (spot, neighbour) within each spot's k-th smallest distance, ties included."""
    n_spots = points.shape[0]
    tree = cKDTree(points)
    left = np.arange(n_spots)
    nearest, _ = _query(tree, points, k + 1)  # the spot itself counts as one
    reach = nearest[:, -1] * (1.0 + TIE_TOLERANCE) + slack
    rows, columns = [], []
    n_asked = min(n_spots, 2 * k + 2)
    while left.size:
        distance, neighbour = _query(tree, points[left], n_asked)
        within = distance <= reach[left, None]
        # a spot whose farthest answer is still a tie is asked again for more
        done = ~within[:, -1] | (n_asked == n_spots)
        keep = within[done] & (neighbour[done] != left[done, None])
        rows.append(np.repeat(left[done], keep.sum(axis=1)))
        columns.append(neighbour[done][keep])
        left = left[~done]
        n_asked = min(n_spots, 2 * n_asked)
    return np.concatenate(rows), np.concatenate(columns)


def _query(tree: cKDTree, points: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Distances and indices of the k nearest, (S,k) also for k = 1."""
    distance, neighbour = tree.query(points, k=k)
    shape = (points.shape[0], k)
    return np.reshape(distance, shape), np.reshape(neighbour, shape).astype(np.int64)


def as_adjacency(weights: object) -> csc_array:
    """Check a symmetric non-negative adjacency matrix; isolated spots get a self loop.

    Accepts a numpy array, a torch tensor (dense, COO or CSR) or a scipy sparse matrix.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, not square, not finite, negative somewhere or not symmetric.

    Examples
    --------
    >>> as_adjacency(np.zeros((1, 1))).toarray().tolist()
    [[1.0]]
    """
    graph = _as_sparse(weights)
    if graph.shape[0] != graph.shape[1] or graph.shape[0] == 0:
        raise ValueError(f"adjacency must be square, (n_spots, n_spots), came {graph.shape}")
    if not np.isfinite(graph.data).all():
        raise ValueError("adjacency must be finite, came NaN or infinity")
    if graph.data.size and graph.data.min() < 0:
        raise ValueError(f"adjacency must not be negative, came {graph.data.min():.6g}")
    gap = abs(graph - graph.T)
    if gap.nnz and gap.max() > SYMMETRY_TOLERANCE * graph.data.max():
        raise ValueError(
            f"adjacency W must be symmetric, came entries {gap.max():.6g} apart: take "
            "W.maximum(W.T), which joins two spots where either names the other"
        )
    graph = csc_array(0.5 * (graph + graph.T))
    graph.eliminate_zeros()
    isolated = np.flatnonzero(np.asarray(graph.sum(axis=0)) == 0)
    if isolated.size:
        loops = coo_array((np.ones(isolated.size), (isolated, isolated)), shape=graph.shape)
        graph = csc_array(graph + loops)
    graph.sort_indices()
    return graph


def _as_sparse(weights: object) -> csc_array:
    """Compressed columns in float64 from any of the accepted forms."""
    if isinstance(weights, sparray | spmatrix):
        sparse = csc_array(weights)
        if sparse.dtype.kind not in "biuf":
            raise TypeError(f"adjacency must have a real numeric dtype, came {sparse.dtype}")
        return sparse.astype(np.float64)
    if isinstance(weights, Tensor) and weights.layout != torch.strided:
        coo = weights.detach().cpu().to_sparse_coo().coalesce()
        indices, values = coo.indices().numpy(), coo.values().numpy()
        return csc_array((values.astype(np.float64), tuple(indices)), shape=tuple(coo.shape))
    if isinstance(weights, Tensor) and weights.dtype == torch.bool:
        weights = weights.to(torch.float64)
    if isinstance(weights, np.ndarray) and weights.dtype.kind == "b":
        weights = weights.astype(np.float64)
    matrix, _ = as_matrix(weights, "adjacency")
    check_square(matrix, "adjacency")
    return csc_array(matrix)
