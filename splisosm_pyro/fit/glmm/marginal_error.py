"""How far the log marginal likelihood is from the exact one: importance sampling of ``w``.

With ``q = N(w, H^-1)`` the Gaussian that the Laplace step puts in the place of the smooth part's
posterior, ``exact / approximate = E_q exp(log weight)``, and for a draw ``delta ~ N(0, H^-1)``

    log weight = sum_s [ g_s(x_s + D^1/2 delta_s) - h_s(x_s) - c_s - alpha_s' delta_s
                         + 1/2 delta_s' G_s delta_s ]

over the occupied spots alone, since the prior's quadratic form cancels against that of H. ``g`` is
the spot with its nugget integrated out, ``h + c`` what the approximation has at the mode: the same
``g`` and 0, or, with ``nugget='laplace'``, the profile and its correction, so that the correction
covers the Laplace step in the nugget as well. Draws come in pairs of opposite sign.

References: Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling,
JMLR 25(72), arXiv:1507.02646.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import arviz
import numpy as np

from splisosm_pyro.fit.glmm.conditional import Conditional
from splisosm_pyro.maths.numeric.arrays import FloatArray

# A chunk of draws holds at most so many noise numbers (32 MB).
CHUNK_ENTRIES = 4_000_000
# Log weights that differ by no more than this are the same number.
SAME = 1e-9


@dataclass(frozen=True)
class MarginalError:
    """What log_marginal lacks, in nats, its standard error, and Pareto's k of the weights.

    ``pareto_k`` is ``-inf`` where all weights are equal: there is nothing left to sample.
    """

    correction: float
    standard_error: float
    pareto_k: float

    @classmethod
    def from_log_weights(cls, log_weights: FloatArray) -> "MarginalError":
        """Summarise log weights (2, k) of k pairs of opposite draws."""
        top = float(log_weights.max())
        pairs = np.exp(log_weights - top).mean(axis=0)
        mean = float(pairs.mean())
        error = float(pairs.std(ddof=1)) / (np.sqrt(pairs.size) * mean)
        spread = top - float(log_weights.min())
        tail = -np.inf if spread <= SAME else _pareto_k(log_weights.ravel())
        return cls(top + float(np.log(mean)), error, tail)


# Nothing is wrong with a gene that has no counts; nothing is known of one whose mode is not found.
NOTHING_TO_CORRECT = MarginalError(0.0, 0.0, -np.inf)
NOT_KNOWN = MarginalError(np.nan, np.inf, np.inf)


def _pareto_k(log_weights: FloatArray) -> float:
    """Shape of the generalised Pareto distribution of the largest weights."""
    smooth: Callable[[FloatArray], tuple[FloatArray, FloatArray]] = arviz.psislw
    return float(smooth(log_weights)[1])


def gene_generator(seed: int, counts: FloatArray) -> np.random.Generator:
    """Return a generator that depends on the seed and the gene's own counts, not on its batch."""
    digest = hashlib.blake2b(np.ascontiguousarray(counts, dtype="<f8").tobytes(), digest_size=16)
    return np.random.default_rng([seed, int.from_bytes(digest.digest(), "little")])


def marginal_error(at: Conditional, draws: int, rng: np.random.Generator) -> MarginalError:
    """Estimate ``log exact - log approximate`` from ``draws`` (rounded up to even) weights.

    Costs a solve with the factor and one or two evaluations of the spots a draw.
    """
    if at.problem.gene.occupied.size == 0:
        return NOTHING_TO_CORRECT
    n_noise, left = at.mode.linearisation.factor.n_noise, -(-draws // 2)
    step = max(1, CHUNK_ENTRIES // n_noise)
    parts = [
        log_weights(at, rng.standard_normal((n_noise, min(step, left - first))))
        for first in range(0, left, step)
    ]
    return MarginalError.from_log_weights(np.concatenate(parts, axis=1))


def log_weights(
    at: Conditional,
    noise: FloatArray,  # (n_noise, k)
) -> FloatArray:  # (2, k)
    """Return the log weights of the draws that the factor makes of ``noise`` and ``-noise``."""
    mode, nugget, spots = at.mode, at.variances.nugget, at.integrated_spots()
    linear, terms = mode.linearisation, mode.terms
    draws = linear.factor.sample(noise)
    moves = mode.root[:, None] * draws
    linear_part = np.einsum("sa,sak->k", mode.alpha, draws)
    quadratic = 0.5 * np.einsum("sak,sak->k", draws, linear.precision @ draws)
    out = np.empty((2, noise.shape[1]))
    for side, sign in enumerate((1.0, -1.0)):
        value = [spots.evaluate(terms.x + sign * m, nugget).value for m in np.moveaxis(moves, 2, 0)]
        out[side] = np.array(value) - sign * linear_part
    return np.asarray(out + quadratic - (terms.value + terms.correction))
