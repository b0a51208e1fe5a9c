"""Does isoform usage vary in space beyond covariates and white noise? A score test of theta = 0.

The derivative of the log-likelihood in theta at the white-noise fit is a multiple of

    T = sum_{s != t} V_st sum_p r_sp r_tp

with ``r_sp`` spot s's score for isoform p, all P of them, so that no isoform is the reference.
Under the null T is a sum of weighted chi-squares (``spatial_form.py``), its tail taken by the
saddlepoint (``quadratic_form.py``). Large T speaks for a field of positive correlation.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.hypotheses.spatial_form import MOST_EIGENVALUES, null_form, spatial_form
from splisosm_pyro.hypotheses.white_null import fit_white_null
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray


@dataclass(frozen=True)
class SpatialTest:
    """A gene's test.

    Attributes
    ----------
    statistic
        ``(T - mean) / sd`` with T's mean and sd under the null; NaN where there is no test.
    p
        ``P(T or more)`` under the null; NaN where there is no test.
    reason
        Why there is no test; empty otherwise.
    sigma
        The white noise's standard deviation at the null, on a log ratio of two isoforms.
    """

    statistic: float = np.nan
    p: float = np.nan
    reason: str = ""
    sigma: float = np.nan


def spatial_score_test(
    counts: FloatArray,  # (S, P)
    design: StandardDesign,
    kernel: Kernel,
    most_eigenvalues: int = MOST_EIGENVALUES,
) -> SpatialTest:
    """Test one gene.

    Parameters
    ----------
    counts
        Isoform counts, whole or fractional.
    design
        Covariates; what they explain is no spatial variation.
    kernel
        V, in any form.
    most_eigenvalues
        Up to so many scores all eigenvalues of the null are computed, beyond the leading ones.

    Returns
    -------
    SpatialTest

    Raises
    ------
    ArithmeticError
        If a matrix that should be positive definite is not.

    Notes
    -----
    The null is fitted here, its white noise integrated out, whatever options a model has.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kernel = CARKernel.from_coords(np.argwhere(np.ones((12, 12))).astype(float), k=4)
    >>> left = (np.arange(144) < 72)[:, None]
    >>> counts = rng.poisson(np.where(left, [3.0, 1.0], [1.0, 3.0])).astype(float)
    >>> spatial_score_test(counts, StandardDesign.of(np.empty((144, 0))), kernel).p < 1e-6
    True
    """
    counts = counts[:, counts.sum(axis=0) > 0]
    occupied = np.flatnonzero(counts.sum(axis=1) > 0)
    if why := untestable(counts, occupied, kernel):
        return SpatialTest(reason=why)
    null = fit_white_null(counts, design)
    form = null_form(kernel, null, most_eigenvalues)
    if form is None:
        return SpatialTest(reason="the covariates leave nothing that could vary in space")
    value = spatial_form(kernel, null)
    statistic = (value - form.mean) / form.variance**0.5
    return SpatialTest(statistic, float(form.tail(value)), sigma=null.sigma)


def untestable(counts: FloatArray, occupied: IndexArray, kernel: Kernel | None = None) -> str:
    """Say why a gene, isoforms without reads left out, cannot be tested; empty if it can."""
    if not occupied.size:
        return "the gene has no reads"
    if counts.shape[1] < 2:
        return "all reads are of one isoform"
    if occupied.size < 3:
        return f"only {occupied.size} spots have reads"
    if isinstance(kernel, CARKernel) and not _some_neighbours(occupied, kernel):
        return "no spot with reads has two neighbours with reads"
    return ""


def _some_neighbours(occupied: IndexArray, kernel: CARKernel) -> bool:
    """Whether some occupied spot has two occupied neighbours."""
    graph = kernel.adjacency[occupied][:, occupied].tocoo()
    beside = np.bincount(graph.row[graph.row != graph.col], minlength=1)
    return bool(beside.max() >= 2)
