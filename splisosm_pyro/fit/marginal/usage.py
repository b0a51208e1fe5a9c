"""The posterior of a gene's isoform usage at every spot, its outer parameters held."""

import numpy as np

from splisosm_pyro.fit.marginal.cavity import Cavity
from splisosm_pyro.fit.marginal.conditional_mode import Mode
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.usage import Usage, usage_given_counts


def linear_predictor(
    problem: LatentProblem, mode: Mode, design: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean (S, Q) and covariance (S, Q, Q) of ``offset + D^1/2 w`` for a design (S, F+1)."""
    smooth = mode.root * problem.kernel.smooth(mode.alpha, problem.gene.occupied)
    cov = mode.root[:, None] * mode.linearisation.factor.all_blocks() * mode.root
    return design @ mode.coefficients + smooth, np.asarray(cov)


def usage_at_spots(
    problem: LatentProblem, mode: Mode, variances: Variances, design: FloatArray
) -> Usage:
    """Return the usage at every spot, given all counts and the outer parameters.

    What the other spots know of a spot is Gaussian, its cavity; its own counts and its nugget enter
    exactly.
    """
    mean, cov = linear_predictor(problem, mode, design)
    gene, terms = problem.gene, mode.terms
    there = Cavity.of(terms.x, cov[gene.occupied], terms.score, terms.neg_hessian)
    mean[gene.occupied], cov[gene.occupied] = there.mean, there.cov
    counts = np.zeros((len(mean), gene.counts.shape[1]))
    counts[gene.occupied] = gene.counts
    own = problem.turn.to_ordered(mean, cov + np.diag(variances.nugget))
    return _as_they_came(usage_given_counts(counts, *own), problem.turn)


def _as_they_came(usage: Usage, turn: Turn) -> Usage:
    """Return the usage of isoforms in the turn's order as they came."""
    if turn.plain:
        return usage
    place = np.argsort(turn.order)
    return Usage(turn.isoforms(usage.mean), usage.covariance[:, place[:, None], place])
