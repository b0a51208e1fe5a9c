"""Everything that is compiled for sparse elimination, called once: a process to run ahead."""

import os

import numpy as np
from scipy.sparse import csc_array

from splisosm_pyro.maths.numeric.worker_processes import end_with
from splisosm_pyro.maths.sparse_cholesky.cholesky import SparseCholesky
from splisosm_pyro.maths.sparse_cholesky.symbolic import analyse

N_SPOTS = 8


def compile_elimination() -> None:
    """Order, factorise, solve and invert for spots on a line; the compiled code stays on disk.

    Examples
    --------
    >>> compile_elimination()
    """
    path = np.eye(N_SPOTS, k=1) + np.eye(N_SPOTS, k=-1)
    matrix = csc_array(3.0 * np.eye(N_SPOTS) + path)
    places = np.arange(2.0 * N_SPOTS).reshape(N_SPOTS, 2)
    solver = SparseCholesky(analyse(matrix.indptr, matrix.indices, places))
    factor = solver.factorise(matrix.data, np.ones((N_SPOTS, 1, 1)))
    factor.solve(np.ones((N_SPOTS, 1)))
    factor.solve(np.ones((N_SPOTS, 1, 2)))
    factor.inverse_blocks()


if __name__ == "__main__":
    end_with(os.getppid())
    compile_elimination()
