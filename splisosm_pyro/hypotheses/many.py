"""Many tests at once: which to call found, and how to join several of one gene."""

import numpy as np
from scipy.stats import cauchy, false_discovery_control

from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask


def false_discovery_rates(p: FloatArray) -> FloatArray:
    """Return Benjamini and Hochberg's q of every p; NaN, which does not count, stays NaN.

    Raises
    ------
    ValueError
        If a p is outside [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.

    Examples
    --------
    >>> false_discovery_rates(np.array([0.01, np.nan, 0.04])).tolist()
    [0.02, nan, 0.04]
    """
    p, known = _checked(p)
    q = np.full_like(p, np.nan)
    q[known] = false_discovery_control(p[known]) if known.any() else np.nan
    return q


def combined(p: FloatArray) -> float:
    """Return one p of several, however they depend on each other: Cauchy's combination.

    NaN do not count; NaN where there is nothing else.

    References
    ----------
    Liu and Xie (2020), doi:10.1080/01621459.2018.1554485.

    Examples
    --------
    >>> round(combined(np.array([0.02, 0.02])), 6), round(combined(np.array([1e-20, 0.5])), 22)
    (0.02, 2e-20)
    """
    p, known = _checked(p)
    if not known.any():
        return float("nan")
    # a p of 1 stands for the largest below it: it must not outvote all others
    return float(cauchy.sf(cauchy.isf(np.minimum(p[known], 1.0 - 1e-16)).mean()))


def _checked(p: FloatArray) -> tuple[FloatArray, Mask]:
    """Return p as floats and which are not NaN."""
    p = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(p)
    if not ((p[known] >= 0.0) & (p[known] <= 1.0)).all():
        raise ValueError("p must be within 0 and 1 or NaN, came a value outside")
    return p, known
