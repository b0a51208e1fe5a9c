"""The posterior of one gene's field at given outer parameters: its mode, its mean ratios.

At the mode of the smooth part ``w`` the field is ``nu = D^1/2 w + T h'`` at the occupied spots.
With the nugget integrated out ``h' = g'``, and ``T g'(x)`` is the posterior mean of ``e`` given
``x``, since ``exp g`` is a Gaussian convolution: ``nu`` is then the posterior mean of the field at
the mode of ``w``, where profiling the nugget out gives the joint mode of ``w`` and ``e``.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glmm.fit_gene import GLMMSpec, Params
from splisosm_pyro.fit.marginal.conditional_mode import Mode
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.mean_ratio import mean_ratio


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
        problem = spec.problem(counts)
        sigma, theta = params["sigma"], expit(params["theta_logit"])
        variances = Variances(sigma, theta, params["bias_eta"].size, spec.kernel.residual)
        coefficients = np.vstack([params["beta"], params["bias_eta"]])
        start = spec.smooth.start(problem, coefficients, variances, None)
        return cls(problem, spec.smooth.settle(problem, start, variances), variances)

    def integrated_spots(self) -> QuadratureNugget:
        """Return the occupied spots with the nugget integrated out, however the mode was found."""
        spots = self.problem.spots
        if isinstance(spots, QuadratureNugget):
            return spots
        return QuadratureNugget(self.problem.gene.counts)

    def predictor(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean (S, Q) and covariance (S, Q, Q) of ``eta`` for the design (S, F+1).

        Those of the smooth part's Gaussian plus a fresh nugget: the posterior at an empty spot.
        """
        mode = self.mode
        cov = mode.root[:, None] * mode.linearisation.factor.all_blocks() * mode.root
        smooth = mode.root * self.problem.kernel.smooth(mode.alpha, self.problem.gene.occupied)
        mean = design @ mode.coefficients + smooth
        return mean, np.asarray(cov + np.diag(self.variances.nugget))


def posterior_mean_ratio(
    at: Conditional,
    design: FloatArray,  # (S, F+1)
) -> FloatArray:  # (S, P)
    """Return the posterior mean of the isoform ratios at every spot, given the outer parameters.

    The smooth part is Gaussian about its mode; the nugget is integrated out, by its posterior at
    the occupied spots and by its prior at the empty ones.
    """
    mode, variances, occupied = at.mode, at.variances, at.problem.gene.occupied
    mean, cov = at.predictor(design)
    empty = np.ones(len(design), dtype=np.bool_)
    empty[occupied] = False
    ratio = np.empty((len(design), variances.n_logits + 1))
    ratio[empty] = mean_ratio(mean[empty], cov[empty])
    if occupied.size:
        smooth = cov[occupied] - np.diag(variances.nugget)
        spots = at.integrated_spots()
        ratio[occupied] = spots.posterior_ratio(mode.terms.x, variances.nugget, smooth)
    return ratio
