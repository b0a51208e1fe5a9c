"""Density of fields nu ~ N(0, spatial V + nugget I) whose precision K = V^-1 is sparse.

With ``A = spatial I + nugget K``, which commutes with K, the covariance is ``C = K^-1 A``, so

    log|C| = log|A| - log|K|            C^-1 nu = A^-1 K nu = x            V x = A^-1 nu = y
    d log|C| / d spatial = tr A^-1      d log|C| / d nugget = tr A^-1 K
    d nu' C^-1 nu / d spatial = -x'y    d nu' C^-1 nu / d nugget = -x'x

Nothing divides by either variance; both traces come from the selected inverse of A.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray, IntArray
from splisosm_pyro.maths.sparse_cholesky.cholesky import SparseCholesky, SparseFactor
from splisosm_pyro.maths.sparse_cholesky.symbolic import Symbolic


@dataclass(frozen=True, eq=False)
class SparseField:
    """A sparse prior precision with the analysis of its pattern and its log-determinant."""

    precision: csc_array  # (S,S) K, sorted indices
    symbolic: Symbolic
    log_det: float  # log|K|

    @cached_property
    def _diagonal(self) -> IntArray:
        """Where the diagonal lies among the entries of K."""
        columns = np.repeat(np.arange(self.symbolic.n_spots), np.diff(self.precision.indptr))
        return np.flatnonzero(self.precision.indices == columns)

    def mixed_factor(self, spatial: float, nugget: float) -> SparseFactor:
        """Factor of A; at least one of the two variances must be positive."""
        values = nugget * self.precision.data
        values[self._diagonal] += spatial
        return SparseCholesky(self.symbolic).factorise(values)

    def traces(self, factor: SparseFactor) -> tuple[float, float]:
        """Traces of A^-1 and A^-1 K."""
        inverse = factor.inverse_on_pattern(self.precision.data.size)[:, 0, 0]
        diagonal = inverse[self._diagonal]
        product = 2.0 * float(inverse @ self.precision.data)  # one triangle is filled in
        product -= float(diagonal @ self.precision.data[self._diagonal])
        return float(diagonal.sum()), product

    def log_det_terms(self, spatial: float, nugget: float) -> tuple[float, float, float]:
        """``log|spatial V + nugget I|`` and its derivatives in ``spatial`` and in ``nugget``."""
        if spatial == 0.0 and nugget == 0.0:
            return -math.inf, math.inf, math.inf
        factor = self.mixed_factor(spatial, nugget)
        return factor.log_det - self.log_det, *self.traces(factor)

    def precision_quad(
        self,
        nu: FloatArray,  # (S,Q)
        spatial: FloatArray,  # (Q,)
        nugget: FloatArray,  # (Q,)
    ) -> FloatArray:  # (Q,)
        """``nu_q' (spatial_q V + nugget_q I)^-1 nu_q``; a zero field gives zero."""
        out = np.empty(spatial.size)
        for (a, b), columns in _groups(spatial, nugget):
            part = nu[:, columns]
            if a == 0.0 and b == 0.0:
                out[columns] = np.where(part.any(axis=0), math.inf, 0.0)
                continue
            weighted = self.mixed_factor(a, b).solve((self.precision @ part)[:, None, :])
            out[columns] = (part * weighted[:, 0, :]).sum(axis=0)
        return out

    def log_prob(
        self,
        nu: FloatArray,  # (S,k)
        spatial: FloatArray,  # (k,)
        nugget: FloatArray,  # (k,)
        gradient: bool = True,
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Log density of each column, and its derivatives in nu, spatial and nugget."""
        value, d_spatial, d_nugget = (np.zeros(spatial.size) for _ in range(3))
        d_nu = np.zeros_like(nu)
        for (a, b), columns in _groups(spatial, nugget):
            part = nu[:, columns]
            if a == 0.0 and b == 0.0:
                value[columns] = np.where(part.any(axis=0), -math.inf, math.inf)
                continue
            factor = self.mixed_factor(a, b)
            rhs = np.concatenate([self.precision @ part, part], axis=1)[:, None, :]
            x, y = np.split(factor.solve(rhs)[:, 0, :], 2, axis=1)
            log_det = factor.log_det - self.log_det + nu.shape[0] * math.log(2 * math.pi)
            value[columns] = -0.5 * (log_det + (part * x).sum(axis=0))
            if gradient:
                trace_spatial, trace_nugget = self.traces(factor)
                d_nu[:, columns] = -x
                d_spatial[columns] = -0.5 * (trace_spatial - (x * y).sum(axis=0))
                d_nugget[columns] = -0.5 * (trace_nugget - (x * x).sum(axis=0))
        return value, d_nu, d_spatial, d_nugget


def field_log_prob(
    field: SparseField,
    nu: Tensor,  # (*,S,Q)
    spatial: Tensor,  # (*,Q)
    nugget: Tensor,  # (*,Q)
) -> Tensor:  # (*,)
    """``sum_q log N(nu_q; 0, spatial_q V + nugget_q I)``, differentiable once in all three."""
    nu, spatial, nugget = (x.to(torch.float64).cpu() for x in (nu, spatial, nugget))
    batch = np.broadcast_shapes(nu.shape[:-2], spatial.shape[:-1], nugget.shape[:-1])
    n_spots, n_logits = nu.shape[-2:]
    columns = nu.expand(*batch, n_spots, n_logits).movedim(-2, 0).reshape(n_spots, -1)
    variances = [x.expand(*batch, n_logits).reshape(-1) for x in (spatial, nugget)]
    values: Tensor = _FieldLogProb.apply(field, columns, *variances)  # type: ignore[no-untyped-call]
    per_logit = values.reshape(*batch, n_logits)
    # without any variance a zero field has infinite density and another none: none wins
    impossible = torch.isneginf(per_logit).any(-1)
    return torch.where(impossible, -torch.inf, per_logit.sum(-1))


class _FieldLogProb(torch.autograd.Function):
    """SparseField.log_prob column by column, with its own derivatives."""

    @staticmethod
    def forward(
        ctx: Any, field: SparseField, nu: Tensor, spatial: Tensor, nugget: Tensor
    ) -> Tensor:
        columns, a, b = (x.detach().numpy() for x in (nu, spatial, nugget))
        value, *derivatives = field.log_prob(columns, a, b, any(ctx.needs_input_grad))
        ctx.save_for_backward(*(torch.from_numpy(d) for d in derivatives))
        return torch.from_numpy(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        d_nu, d_spatial, d_nugget = ctx.saved_tensors
        return None, d_nu * weight, d_spatial * weight, d_nugget * weight


def _groups(spatial: FloatArray, nugget: FloatArray) -> list[tuple[tuple[float, float], IntArray]]:
    """Columns that share their two variances, and so one factorisation."""
    pairs, member = np.unique(np.stack([spatial, nugget]), axis=1, return_inverse=True)
    member = member.reshape(-1)
    return [((float(a), float(b)), np.flatnonzero(member == g)) for g, (a, b) in enumerate(pairs.T)]
