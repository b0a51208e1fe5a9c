"""The field given a gene's outer parameters, and how far log_marginal is from the exact one.

At the mode of the smooth part ``w`` the field is ``nu = D^1/2 w + T h'`` at the occupied spots.
With the nugget integrated out ``h' = g'``, and ``T g'(x)`` is the posterior mean of ``e`` given
``x``, since ``exp g`` is a Gaussian convolution: ``nu`` is then the posterior mean of the field at
the mode of ``w``, where profiling the nugget out gives the joint mode of ``w`` and ``e``.

The error comes from importance sampling. With ``q = N(w, H^-1)`` the Gaussian that the Laplace
step puts in the place of the smooth part's posterior, ``exact / approximate = E_q exp(log weight)``
and, for a draw ``delta ~ N(0, H^-1)``,

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
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.marginal.conditional_mode import Mode
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.usage import linear_predictor, usage_at_spots
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import smoothed_weights
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.symmetric import integrated
from splisosm_pyro.maths.spot.usage import Usage

# A chunk of draws holds at most so many noise numbers (32 MB).
CHUNK_ENTRIES = 4_000_000
# Log weights that differ by no more than this are the same number.
SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Conditional:
    """A gene's factorised mode at given outer parameters."""

    problem: LatentProblem
    mode: Mode
    variances: Variances

    @classmethod
    def of_gene(cls, spec: GLMMSpec, counts: FloatArray, params: Params) -> Self:
        """Find the mode of a gene, ``counts`` (S, P), at documented parameters; ``nu`` is not read.

        Raises
        ------
        ModeError
            If there is none to be found.
        """
        spec = spec.of_gene(counts)
        problem = spec.problem(counts)
        sigma, theta = params["sigma"], expit(params["theta_logit"])
        variances = Variances(sigma, theta, params["bias_eta"].size, spec.kernel.residual)
        coefficients = spec.coefficients(params)
        start = spec.smooth.start(problem, coefficients, variances, None)
        return cls(problem, spec.smooth.settle(problem, start, variances), variances)

    def integrated_spots(self) -> QuadratureNugget:
        """Return the occupied spots with the nugget integrated out, however the mode was found."""
        spots = self.problem.spots
        if isinstance(spots, QuadratureNugget):
            return spots
        return integrated(self.problem.gene.counts, self.problem.turn)

    def predictor(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean (S, Q) and covariance (S, Q, Q) of ``eta``, turned, for the design (S, F+1).

        Those of the smooth part's Gaussian plus a fresh nugget: the posterior at an empty spot.
        """
        mean, cov = linear_predictor(self.problem, self.mode, design)
        return mean, cov + np.diag(self.variances.nugget)

    def usage(self, design: FloatArray) -> Usage:
        """Return the posterior of the usage at every spot, given the outer parameters."""
        return usage_at_spots(self.problem, self.mode, self.variances, design)


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
        tail = -np.inf if spread <= SAME else smoothed_weights(log_weights.ravel()).khat
        return cls(top + float(np.log(mean)), error, tail)


# Nothing is wrong with a gene that has no counts; nothing is known of one whose mode is not found.
NOTHING_TO_CORRECT = MarginalError(0.0, 0.0, -np.inf)
NOT_KNOWN = MarginalError(np.nan, np.inf, np.inf)


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
