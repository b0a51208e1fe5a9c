"""Formulas of ``spatial V + nugget I`` that need the eigenvalues of V only.

``V = U diag(eigvals) U' + residual (I - U U')`` covers the dense form (U square, no residual) and
the low-rank form. Zero variances are ordinary points: a field without variance in a direction has
log-determinant minus infinity, and an infinite quadratic form unless it is zero there.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues (R,) and orthonormal eigenvectors (S, R) of V, and the eigenvalue of the rest.

    Examples
    --------
    >>> Spectrum(np.array([3.0]), np.array([[1.0], [0.0]]), 0.5).log_det_terms(1.0, 0.5)
    (1.252762968495368, 1.3571428571428572, 1.2857142857142856)
    """

    eigvals: FloatArray
    eigvecs: FloatArray
    residual: float

    @property
    def n_rest(self) -> int:
        """Number of directions outside the given eigenvectors."""
        return int(self.eigvecs.shape[0] - self.eigvecs.shape[1])

    @cached_property
    def _all_eigvals(self) -> FloatArray:  # (S,)
        return np.append(self.eigvals, np.full(self.n_rest, self.residual))

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.eigvals), torch.from_numpy(self.eigvecs)

    def log_det_terms(self, spatial: float, nugget: float) -> tuple[float, float, float]:
        """``log|spatial V + nugget I|``, its derivative in ``spatial`` and in ``nugget``; O(S)."""
        eigvals = self._all_eigvals
        variances = spatial * eigvals + nugget
        with np.errstate(divide="ignore"):
            log_det = float(np.log(variances).sum())
            # an eigenvalue of 0 does not see spatial, not even at nugget = 0
            share = np.divide(eigvals, variances, out=np.zeros_like(eigvals), where=eigvals > 0)
            return log_det, float(share.sum()), float((1.0 / variances).sum())

    def precision_quad(
        self,
        nu: FloatArray,  # (S,Q)
        spatial: FloatArray,  # (Q,)
        nugget: FloatArray,  # (Q,)
    ) -> FloatArray:  # (Q,)
        """``nu_q' (spatial_q V + nugget_q I)^-1 nu_q``; O(S R Q)."""
        inside = self.eigvecs.T @ nu
        quad = _ratio(inside**2, np.outer(self.eigvals, spatial) + nugget).sum(axis=0)
        if self.n_rest:
            outside = ((nu - self.eigvecs @ inside) ** 2).sum(axis=0)
            quad += _ratio(outside, self.residual * spatial + nugget)
        return np.asarray(quad)

    def field_log_prob(
        self,
        nu: Tensor,  # (*,S,Q)
        spatial: Tensor,  # (*,Q)
        nugget: Tensor,  # (*,Q)
    ) -> Tensor:  # (*,)
        """``sum_q log N(nu_q; 0, spatial_q V + nugget_q I)``, differentiable; O(S R Q)."""
        eigvals, eigvecs = self._tensors
        inside = eigvecs.T @ nu
        variances = eigvals[:, None] * spatial[..., None, :] + nugget[..., None, :]
        terms = _normal(inside**2, variances, 1)  # (*,R,Q)
        if self.n_rest:
            outside = ((nu - eigvecs @ inside) ** 2).sum(-2, keepdim=True)
            rest = (self.residual * spatial + nugget)[..., None, :]
            terms = torch.cat([terms, _normal(outside, rest, self.n_rest)], dim=-2)
        # one direction that contradicts its zero variance decides
        contradicted = torch.isneginf(terms).any(-1).any(-1)
        log_prob = terms.sum((-1, -2))
        return torch.where(contradicted, torch.full_like(log_prob, -math.inf), log_prob)


class HasSpectrum:
    """The densities of a field whose correlation has its spectrum at hand."""

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigenvalues and eigenvectors of V."""
        raise NotImplementedError

    def log_det_terms(self, spatial: float, nugget: float) -> tuple[float, float, float]:
        """``log|spatial V + nugget I|`` and its derivatives in ``spatial`` and in ``nugget``."""
        return self.spectrum.log_det_terms(spatial, nugget)

    def precision_quad(self, nu: FloatArray, spatial: FloatArray, nugget: FloatArray) -> FloatArray:
        """``nu_q' (spatial_q V + nugget_q I)^-1 nu_q``, (Q,)."""
        return self.spectrum.precision_quad(nu, spatial, nugget)

    def field_log_prob(self, nu: Tensor, spatial: Tensor, nugget: Tensor) -> Tensor:
        """``sum_q log N(nu_q; 0, spatial_q V + nugget_q I)``, differentiable."""
        return self.spectrum.field_log_prob(nu, spatial, nugget)


def _ratio(squares: FloatArray, variances: FloatArray) -> FloatArray:
    """Squares over variances; 0 / 0 is 0, since such a direction says nothing."""
    with np.errstate(divide="ignore"):
        return np.divide(squares, variances, out=np.zeros_like(squares), where=squares > 0)


def _normal(squares: Tensor, variances: Tensor, count: int) -> Tensor:
    """Log density of ``count`` normals of one variance whose squares sum to ``squares``."""
    positive = variances > 0
    safe = torch.where(positive, variances, torch.ones_like(variances))
    density = -0.5 * (squares / safe + count * torch.log(2 * math.pi * safe))
    limit = torch.where(squares > 0, -math.inf, math.inf).to(density.dtype)
    return torch.where(positive, density, limit)
