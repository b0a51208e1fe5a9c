"""The dense posteriors of many genes on one device, each operation done for all genes at once.

The algebra is that of ``dense_factor.py`` with a batch axis: ``B = I + R V_oo R`` of every gene,
padded to the most occupied spots of any (a padded spot has ``R = 0``, so its rows of B are those of
I), and, with the lower factor L of B,

    log|I + V G| = log|B|
    H^-1 b       = V (b - R B^-1 R V b)
    P_s          = V_ss I - (Y'Y)_ss,   Y = L^-1 R V

A gene's search does not see the batch: its :class:`BatchedSystem` is a covariance system like any
other, whose operations wait for those of the other genes (``lockstep.py``).
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splisosm_pyro.maths.covariance.dense import DenseKernel
from splisosm_pyro.maths.covariance.dense_factor import DenseOccupiedSystem, block_square_roots
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite

# Matrices of nQ x nQ that one gene's part of the largest operation needs beside the factor.
SCRATCH_MATRICES = 4


@dataclass(frozen=True, eq=False)
class Operation:
    """One gene's request.

    ``kind`` is ``'factorise'``, ``'solve'``, ``'blocks'`` or ``'all_blocks'``, ``value`` the roots
    R (n,Q,Q), the right-hand sides (n,Q,k) or, for blocks, anything. ``slot`` is the gene's place
    in the batch, ``occupied`` (n,) are its spots.
    """

    kind: str
    slot: int
    occupied: IndexArray
    value: FloatArray


Ask = Callable[[Operation], Any]
Method = Callable[[Sequence[Operation]], Sequence[Any]]


class DenseBatch:
    """The factors of ``width`` genes on the device of ``cov``, and what is done with them.

    Parameters
    ----------
    cov : Tensor, shape (S, S)
        V, float64.
    n_most : int
        The most occupied spots of any gene.
    n_logits : int
        Q.
    width : int
        How many genes at a time.
    together : int, optional
        So many of them at once in one operation, all by default.

    Notes
    -----
    Memory: ``8 (n_most Q)^2`` bytes a gene, and four times that for each of ``together``.
    A factorisation costs ``(nQ)^3 / 3`` floating-point operations a gene, blocks ``(nQ)^3``, a
    solve ``2 (nQ)^2 + 4 S^2 Q``.
    """

    def __init__(
        self,
        cov: Tensor,
        n_most: int,
        n_logits: int,
        width: int,
        together: int | None = None,
    ) -> None:
        self.cov = cov
        self.n_most, self.n_logits = n_most, n_logits
        self.together = width if together is None else together
        size = n_most * n_logits
        self.lower = cov.new_empty((width, size, size))
        self.root = cov.new_zeros((width, n_most, n_logits, n_logits))
        self.places = torch.zeros((width, n_most), dtype=torch.int64, device=cov.device)

    def answer(self, operations: list[Operation]) -> list[Any]:
        """Do the operations of a round, kind by kind; the replies stand in their order."""
        methods: dict[str, tuple[Method, float]] = {
            "factorise": (self.factorise, 1.0),
            "solve": (self.solve, 1.0),
            "blocks": (self.blocks, 1.0),
            "all_blocks": (self.all_blocks, self.n_most / len(self.cov)),
        }
        replies: list[Any] = [None] * len(operations)
        for kind, (method, share) in methods.items():
            mine = [i for i, operation in enumerate(operations) if operation.kind == kind]
            mine.sort(key=lambda i: operations[i].slot)
            found = self._in_parts(method, [operations[i] for i in mine], share)
            for i, reply in zip(mine, found, strict=True):
                replies[i] = reply
        return replies

    def _in_parts(self, method: Method, operations: Sequence[Operation], share: float) -> list[Any]:
        """Do like operations, ``together * share`` at once; fewer where memory runs out."""
        replies: list[Any] = []
        while len(replies) < len(operations):
            part = operations[len(replies) :][: max(1, int(self.together * share))]
            try:
                replies += method(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self.together = max(1, self.together // 2)
        return replies

    def factorise(self, operations: Sequence[Operation]) -> list[float | NotPositiveDefinite]:
        """Factorise every B; replies log|B|, or an error where it is not positive definite."""
        slots = self._slots(operations)
        self.root[slots] = self._padded([o.value for o in operations])
        self.places[slots] = self._padded_places([o.occupied for o in operations])
        root, places = self.root[slots], self.places[slots]
        flat = root.flatten(1, 2)  # (g,nQ,Q); the roots are symmetric
        matrix = flat @ flat.mT
        by_spot = matrix.unflatten(2, (self.n_most, -1)).unflatten(1, (self.n_most, -1))
        by_spot.mul_(self._cov_occupied(places)[:, :, None, :, None])
        matrix.diagonal(dim1=1, dim2=2).add_(1.0)
        lower, info = torch.linalg.cholesky_ex(matrix)
        self.lower[slots] = lower
        log_det = 2.0 * lower.diagonal(dim1=1, dim2=2).log().sum(1)
        right = (info == 0) & log_det.isfinite()
        return [
            value if good else NotPositiveDefinite("I + R V R is not positive definite")
            for value, good in zip(log_det.tolist(), right.tolist(), strict=True)
        ]

    def solve(self, operations: Sequence[Operation]) -> list[FloatArray]:
        """``H^-1 b`` at the occupied spots of every gene."""
        slots = self._slots(operations)
        root, places, lower = self.root[slots], self.places[slots], self._lower(slots)
        b = self._padded([o.value for o in operations])  # (g,n,Q,k)
        inner = (root @ self._cov_times(b, places)).flatten(1, 2)
        # on a device cholesky_solve may copy the factors, or go through them one by one
        inner = torch.linalg.solve_triangular(lower, inner, upper=False)
        inner = torch.linalg.solve_triangular(lower.mT, inner, upper=True).reshape(b.shape)
        w = self._cov_times(b - root @ inner, places).cpu().numpy()
        return [_first(one, o.value.shape) for one, o in zip(w, operations, strict=True)]

    def blocks(self, operations: Sequence[Operation]) -> list[FloatArray]:
        """Posterior covariance blocks P_s at the occupied spots of every gene."""
        slots = self._slots(operations)
        cov = self._cov_occupied(self.places[slots])
        found = self._prior_minus(slots, cov, cov.diagonal(dim1=1, dim2=2)).cpu().numpy()
        return [found[i, : len(o.occupied)].copy() for i, o in enumerate(operations)]

    def all_blocks(self, operations: Sequence[Operation]) -> list[FloatArray]:
        """Posterior covariance blocks P_s at all spots of every gene."""
        slots = self._slots(operations)
        variances = self.cov.diagonal().expand(len(slots), -1)
        return list(self._prior_minus(slots, self.cov[self.places[slots]], variances).cpu().numpy())

    def _prior_minus(self, slots: Tensor, cross: Tensor, variances: Tensor) -> Tensor:
        """``V_ss I - Y'Y`` (g,m,Q,Q) for ``cross = V_om`` (g,n,m) and prior variances (g,m)."""
        rhs = self.root[slots][:, :, :, None, :] * cross[:, :, None, :, None]  # (g,n,Q,m,Q) R V
        rhs = rhs.flatten(3, 4).flatten(1, 2)
        half = torch.linalg.solve_triangular(self._lower(slots), rhs, upper=False)
        half = half.unflatten(2, (-1, self.n_logits))  # (g,nQ,m,Q)
        eye = torch.eye(self.n_logits, dtype=cross.dtype, device=cross.device)
        out = variances[:, :, None, None] * eye
        for a in range(self.n_logits):
            for b in range(self.n_logits):
                out[:, :, a, b] -= torch.linalg.vecdot(half[..., a], half[..., b], dim=1)
        return out

    def _slots(self, operations: Sequence[Operation]) -> Tensor:
        return torch.tensor([o.slot for o in operations], device=self.cov.device)

    def _lower(self, slots: Tensor) -> Tensor:
        """Return the factors of ascending slots; without a copy where they are neighbours."""
        first, last = int(slots[0]), int(slots[-1])
        if last - first + 1 == len(slots):
            return self.lower[first : last + 1]
        return self.lower[slots]

    def _padded(self, values: Sequence[FloatArray]) -> Tensor:
        """Stack (n,Q,k) arrays with zeros for the spots and columns that some lack."""
        n_columns = max(value.shape[2] for value in values)
        out = np.zeros((len(values), self.n_most, self.n_logits, n_columns))
        for here, value in zip(out, values, strict=True):
            here[: len(value), :, : value.shape[2]] = value
        return torch.from_numpy(out).to(self.cov.device)

    def _padded_places(self, values: Sequence[IndexArray]) -> Tensor:
        """Stack places; what a gene lacks is at spot 0, where it has nothing."""
        out = np.zeros((len(values), self.n_most), dtype=np.int64)
        for here, value in zip(out, values, strict=True):
            here[: len(value)] = value
        return torch.from_numpy(out).to(self.cov.device)

    def _cov_occupied(self, places: Tensor) -> Tensor:
        """V_oo of every gene, (g,n,n)."""
        return self.cov[places[:, :, None], places[:, None, :]]

    def _cov_times(self, b: Tensor, places: Tensor) -> Tensor:
        """``V_oo b`` of every gene by one product with V; b is (g,n,Q,k)."""
        flat = b.flatten(2)
        where = places[:, :, None].expand_as(flat)
        spread = flat.new_zeros((len(b), len(self.cov), flat.shape[2])).scatter_add_(1, where, flat)
        return torch.einsum("st,gtk->gsk", self.cov, spread).gather(1, where).reshape(b.shape)


class BatchedKernel(DenseKernel):
    """A dense kernel whose systems work in a slot of a batch; else the kernel that was given."""

    def __init__(self, kernel: DenseKernel, ask: Ask, slot: int) -> None:
        self.__dict__.update(kernel.__dict__)
        self._ask, self._slot = ask, slot

    def system(self, occupied: IndexArray, n_logits: int) -> "BatchedSystem":  # type: ignore[override]
        """Set up the linear algebra at the occupied spots."""
        return BatchedSystem(
            lambda: DenseKernel.system(self, occupied, n_logits), self._ask, self._slot, occupied
        )


class BatchedSystem:
    """One gene's posterior among those of a batch; ``alone`` makes the system without a batch."""

    def __init__(
        self,
        alone: Callable[[], DenseOccupiedSystem],
        ask: Ask,
        slot: int,
        occupied: IndexArray,
    ) -> None:
        self.alone = alone
        self._ask, self._slot, self._occupied = ask, slot, occupied
        self._holder: Callable[[], BatchedFactor | None] = lambda: None

    def factorise(self, precision: FloatArray, /) -> "BatchedFactor":
        """Factorise I + R V R."""
        return BatchedFactor(self, precision)

    def hold(self, factor: "BatchedFactor") -> float:
        """Give the slot to a factor, which is made there; returns its log-determinant."""
        self._holder = lambda: None
        log_det: float = self._do("factorise", block_square_roots(factor.precision))
        self._holder = weakref.ref(factor)
        return log_det

    def do(self, factor: "BatchedFactor", kind: str, value: FloatArray) -> Any:
        """Have an operation with a factor done in the next round."""
        if self._holder() is not factor:  # another has taken the slot since
            self.hold(factor)
        return self._do(kind, value)

    def _do(self, kind: str, value: FloatArray) -> Any:
        return self._ask(Operation(kind, self._slot, self._occupied, value))


class BatchedFactor:
    """The factor of one gene's posterior precision; see :class:`BatchedSystem`."""

    def __init__(self, system: BatchedSystem, precision: FloatArray) -> None:
        self.system, self.precision = system, precision
        self.log_det = system.hold(self)
        self._blocks: FloatArray | None = None

    def solve(
        self,
        b: FloatArray,  # (n,Q) or (n,Q,k)
    ) -> FloatArray:
        """``H^-1 b`` at the occupied spots, b being zero at the empty ones."""
        if b.size == 0:
            return np.zeros_like(b)
        solved: FloatArray = self.system.do(self, "solve", b.reshape(*b.shape[:2], -1))
        return solved.reshape(b.shape)

    def blocks(self) -> FloatArray:  # (n,Q,Q)
        """Posterior covariance blocks P_s at the occupied spots."""
        if self._blocks is None:
            self._blocks = self.system.do(self, "blocks", self.precision)
        return self._blocks

    def all_blocks(self) -> FloatArray:  # (S,Q,Q)
        """Posterior covariance blocks at all spots."""
        found: FloatArray = self.system.do(self, "all_blocks", self.precision)
        return found

    @property
    def n_noise(self) -> int:
        """2 n Q: white noise for the prior and for the information."""
        n, n_logits = self.precision.shape[:2]
        return 2 * int(n) * int(n_logits)

    def sample(
        self,
        z: FloatArray,  # (2nQ,k)
    ) -> FloatArray:  # (n,Q,k)
        """Draws of N(0, H^-1), without the batch."""
        return self.system.alone().factorise(self.precision).sample(z)


def _first(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Cut the padding off."""
    return np.ascontiguousarray(values[: shape[0], :, : shape[2]])
