"""A few steps of an independence sampler at every spot: from a Gaussian to its exact density.

Given the smooth part, ``x = offset + D^1/2 w``, a spot's logits have the density ``exp(l(eta))
N(eta; x, T)``; the proposals are the Gaussians that ``field.py`` draws from.
"""

from dataclasses import dataclass

import numpy as np
import torch

from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray
from splisosm_pyro.posterior.field.gaussian_draws import FieldDraws, singles

# Where no spot has more counts the sampler works in single precision: log ratios to 1e-3.
MOST_SINGLE = 1000.0


def refine(
    problem: LatentProblem,
    nugget: FloatArray,
    draws: FieldDraws,
    n_steps: int,
    generator: torch.Generator,
) -> FloatArray:  # (S, Q, N)
    """Move ``eta`` at the occupied spots towards its exact density given the smooth part.

    ``n_steps`` of an independence Metropolis sampler whose proposal is the spot's Gaussian. Logits
    without nugget stay. Writes into the draws and returns them; in single precision, unless counts
    are large.
    """
    spots = _Spots.of(problem, nugget, draws)
    kind = spots.x.dtype
    white = draws.white.astype(kind)
    now = spots.apart + spots.root @ white
    here = spots.log_ratio(now, white)
    for _ in range(n_steps):
        white = singles(now.shape, generator).astype(kind)
        new = spots.apart + spots.root @ white
        there = spots.log_ratio(new, white)
        chance = torch.rand(here.shape, generator=generator, dtype=torch.float32).numpy()
        accepted = chance < np.exp(np.minimum(there - here, 0.0))
        np.copyto(now, new, where=accepted[:, None])
        np.copyto(here, there, where=accepted)
    draws.eta[problem.gene.occupied] = draws.x + now
    return draws.eta


@dataclass(frozen=True, eq=False)
class _Spots:
    """What the spots' sampler knows; ``e = eta - x``, and ``apart`` its mean (n, Q, N).

    A difference, as it keeps its digits in single precision.
    """

    counts: AnyArray  # (n, Q, 1)
    total: AnyArray  # (n, 1)
    half_inverse: AnyArray  # (Q, 1) of the nugget
    half_noisy: AnyArray  # (Q, 1) of an indicator
    x: AnyArray
    apart: AnyArray
    root: AnyArray
    turn: AnyArray  # (Q, Q) to the logits of the counts; (0, 0) if eta is these logits

    @classmethod
    def of(cls, problem: LatentProblem, nugget: FloatArray, draws: FieldDraws) -> "_Spots":
        """Collect it, in the precision that counts (n, P) allow."""
        counts = problem.gene.counts
        total, noisy = counts.sum(axis=1), nugget > 0
        half_inverse = np.divide(0.5, nugget, out=np.zeros_like(nugget), where=noisy)
        parts = counts[:, :-1, None], total[:, None], half_inverse[:, None], 0.5 * noisy[:, None]
        kind = np.float64 if total.max(initial=0.0) > MOST_SINGLE else np.float32
        fields = draws.x, draws.centre - draws.x, draws.root, problem.turn.root
        return cls(*(np.asarray(part, dtype=kind) for part in (*parts, *fields)))

    def log_ratio(self, e: AnyArray, white: AnyArray) -> AnyArray:  # (n, N)
        """Return the log density of e less that of the proposal that made it of ``white``."""
        eta = self.x + e
        value = self.half_noisy * white * white - self.half_inverse * e * e
        if self.turn.size:
            eta = self.turn @ eta
        value += self.counts * eta
        return np.asarray(value.sum(axis=1) - self.total * log_norm(eta))


def log_norm(eta: AnyArray) -> AnyArray:
    """Return ``log(1 + sum_q exp eta_q)`` (S, N) of logits (S, Q, N)."""
    top = np.maximum(eta[:, 0], 0.0)
    for q in range(1, eta.shape[1]):
        np.maximum(top, eta[:, q], out=top)
    total = np.exp(-top)
    for q in range(eta.shape[1]):
        total += np.exp(eta[:, q] - top)
    return np.asarray(np.log(total, out=total) + top)
