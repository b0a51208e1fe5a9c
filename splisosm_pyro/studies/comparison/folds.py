"""How spots or reads are put into folds, each fold once predicted from the others."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

# Contiguous blocks for each fold: neighbours are held out together, but not a whole side.
BLOCKS_A_FOLD = 4


def spot_folds(totals: FloatArray, k: int, rng: np.random.Generator) -> IndexArray:
    """Put the occupied spots into k folds of like size at random; the others are -1.

    Examples
    --------
    >>> sorted(spot_folds(np.array([1.0, 0.0, 2.0, 1.0]), 3, np.random.default_rng(0)).tolist())
    [-1, 0, 1, 2]
    """
    occupied = np.flatnonzero(totals > 0)
    folds = np.full(totals.size, -1, dtype=np.intp)
    folds[rng.permutation(occupied)] = np.arange(occupied.size) % k
    return folds


def read_folds(counts: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """Split the reads of counts (S, P) into k folds (k, S, P), each read to any with equal chance.

    Reads of a fold and of the others are independent given the ratios and the totals: a multinomial
    that is thinned.
    """
    if (counts != np.round(counts)).any():
        raise ValueError("counts must be whole numbers where reads are split into folds")
    split = rng.multinomial(counts.astype(np.int64), np.full(k, 1.0 / k))
    return np.asarray(np.moveaxis(split, -1, 0), dtype=np.float64)


def block_folds(
    kernel: Any, coords: Any, n_spots: int, k: int, rng: np.random.Generator
) -> IndexArray:
    """Cut the tissue into 4 k contiguous blocks and put them into k folds of like size.

    The blocks' centres are far from each other (each the spot farthest from those before it, the
    first at random); a spot belongs to the nearest. Distances are those of ``coords``, or steps on
    the kernel's graph.

    Raises
    ------
    ValueError
        If there are neither coordinates nor a graph, or fewer spots than folds.
    """
    if n_spots < k:
        raise ValueError(f"k must be at most the number of spots, {n_spots}, came {k}")
    distance = _distances(kernel, coords, n_spots)
    first = int(rng.integers(n_spots))
    nearest, block = distance(first), np.zeros(n_spots, dtype=np.intp)
    for centre in range(1, min(BLOCKS_A_FOLD * k, n_spots)):
        there = distance(int(np.argmax(nearest)))
        closer = there < nearest
        block[closer], nearest = centre, np.minimum(nearest, there)
    sizes = np.bincount(block)
    fold_of, load = np.zeros(sizes.size, dtype=np.intp), np.zeros(k)
    order = rng.permutation(sizes.size)
    for b in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[b] = int(np.argmin(load))
        load[fold_of[b]] += sizes[b]
    return np.asarray(fold_of[block])


def _distances(kernel: Any, coords: Any, n_spots: int) -> Callable[[int], FloatArray]:
    """Return what gives the distances (S,) of all spots from one."""
    if coords is not None:
        places = np.asarray(coords, dtype=np.float64)
        if places.ndim != 2 or len(places) != n_spots or not np.isfinite(places).all():
            raise ValueError(
                f"coords must be finite and have shape ({n_spots}, d), came {places.shape}"
            )
        return lambda spot: np.asarray(np.linalg.norm(places - places[spot], axis=1))
    graph = getattr(kernel, "precision", None)
    if graph is None:
        raise ValueError("coords must be given: the model has no graph of neighbours to cut")
    pattern = abs(csr_array(graph))
    pattern.indices = pattern.indices.astype(np.int32)  # all that an older SciPy searches by
    pattern.indptr = pattern.indptr.astype(np.int32)
    return lambda spot: np.asarray(dijkstra(pattern, indices=[spot], unweighted=True))[0]
