"""Replicated counts, from posterior or prior draws of the logits, every spot with its own total."""

import numpy as np
import numpy.typing as npt

from splisosm_pyro.maths.spot import FloatArray
from splisosm_pyro.posterior.datasets import ratios

Ints = npt.NDArray[np.int64]


def predictive_counts(
    eta: FloatArray,  # (S, Q, N)
    totals: FloatArray,  # (S,)
    generator: np.random.Generator,
) -> Ints:  # (N, S, P)
    """Draw counts given logits; an empty spot stays empty.

    Parameters
    ----------
    eta
        N draws of the logits at all spots, (S, Q, N).
    totals
        Reads of each spot, whole numbers.
    generator
        The global generators are neither read nor changed.

    Raises
    ------
    ValueError
        If a total is not whole.

    Examples
    --------
    >>> eta, totals = np.zeros((3, 1, 2)), np.array([5.0, 0.0, 2.0])
    >>> predictive_counts(eta, totals, np.random.default_rng(0)).sum(axis=2).tolist()
    [[5, 0, 2], [5, 0, 2]]
    """
    whole = np.round(totals)
    if not np.allclose(whole, totals):
        raise ValueError("counts must be whole numbers where counts are drawn")
    occupied = np.flatnonzero(whole)
    usage = np.moveaxis(ratios(eta[occupied]), -1, 0)  # (N, n, P)
    out = np.zeros((eta.shape[2], totals.size, eta.shape[1] + 1), dtype=np.int64)
    out[:, occupied] = generator.multinomial(whole[occupied].astype(np.int64), usage)
    return out
