"""What is known of a spot from all other spots, without refitting: the spot's cavity.

A spot's counts enter the Gaussian posterior ``x_s ~ N(x, C)`` of its logits as one Gaussian factor
with score ``r`` and precision ``A``, the derivatives of its log-likelihood at the mode. Taking the
factor out leaves

    C_cav = C (I - A C)^-1,     x_cav = x - C_cav r.

In a GLMM ``x = offset + D^1/2 w`` is the smooth part, the nugget eliminated, ``C = D^1/2 P D^1/2``:
nothing divides by ``D``. In a GLM ``C = X_s H^-1 X_s'`` and the formula is the Newton step of the
coefficients once the spot is left out. The largest eigenvalue ``k`` of ``A C`` is the spot's
leverage. It lies below 1, and it is the tail index that importance ratios ``1 / p(y_s | x_s)`` over
the posterior would have, what Pareto's k-hat estimates: with ``x - x^`` normal of variance C the
ratio is ``exp(A (x - x^)^2 / 2)``, whose tail is that of ``t^(-1 / AC)``.

References: Vehtari, Mononen, Tolvanen, Sivula and Winther (2016), Bayesian leave-one-out
cross-validation approximations for Gaussian latent variable models, JMLR 17(103), arXiv:1412.7461.
"""

from dataclasses import dataclass

import numpy as np

from splisosm_pyro.fit.marginal.conditional_mode import Mode
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.symmetric_root import symmetric_root


@dataclass(frozen=True, eq=False)
class Cavity:
    """Logits of n spots given all other spots, and how much each spot weighs.

    Attributes
    ----------
    mean, cov
        (n, Q) and (n, Q, Q), of the part that spots share.
    leverage
        (n,) largest eigenvalue of ``A C``.
    log_shrinkage
        (n,) ``1/2 log|I - A C|``.
    """

    mean: FloatArray
    cov: FloatArray
    leverage: FloatArray
    log_shrinkage: FloatArray

    @classmethod
    def of(
        cls, mean: FloatArray, cov: FloatArray, score: FloatArray, precision: FloatArray
    ) -> "Cavity":
        """Take the factor (``score`` (n, Q), ``precision`` (n, Q, Q)) out of N(mean, cov)."""
        root = symmetric_root(precision)
        values, vectors = np.linalg.eigh(root @ cov @ root)
        left = np.maximum(1.0 - values, np.finfo(float).eps)
        image = cov @ root @ vectors  # C + C B (I - B C B)^-1 B C with B = A^1/2
        wide = cov + (image / (left[:, None, :])) @ image.transpose(0, 2, 1)
        moved = mean - np.einsum("sab,sb->sa", wide, score)
        leverage = np.maximum(values[:, -1], 0.0)
        return cls(moved, wide, leverage, np.asarray(0.5 * np.log(left).sum(axis=1)))


def smooth_covariance(mode: Mode) -> FloatArray:
    """Return the posterior covariance (n, Q, Q) of the smooth part at the occupied spots."""
    return np.asarray(mode.root[:, None] * mode.linearisation.factor.blocks() * mode.root)


def smooth_cavity(mode: Mode) -> Cavity:
    """Return the cavities of the occupied spots at a factorised mode."""
    terms = mode.terms
    return Cavity.of(terms.x, smooth_covariance(mode), terms.score, terms.neg_hessian)
