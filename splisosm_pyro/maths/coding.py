"""Coordinates in which a field of the isoforms moves, and the way to logits and back.

Under ``coding='reference'`` every logit against the last isoform has its own field, and which
isoform is the last one is part of the model. Under ``'symmetric'`` every isoform has its own,
``u_p ~ N(0, sigma^2 / 2 K)``, and ``nu_q = u_q - u_P``: over the logits the covariance
``sigma^2 (I + 11') / 2 x K``, alike for all isoforms and with the same variance of each logit. It
is the documented one in turned coordinates,

    nu = M z,    M M' = (I + 11') / 2,    z_q ~ N(0, sigma^2 K) independent.

Of all such M the engine takes one for each gene: its isoforms in an order that depends on their
counts alone, the one with most reads as the reference, and the upper triangular root there. So the
numbers that are computed do not depend on the order in which isoforms come. Coefficients are turned
as well. Two isoforms have nothing to turn: both codings are the same model.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray

CODINGS = ("reference", "symmetric")
NO_TURN = np.empty((0, 0))


def turns(coding: str, n_isos: int) -> bool:
    """Whether a coding has coordinates other than the logits, for P isoforms.

    Examples
    --------
    >>> turns("symmetric", 2), turns("symmetric", 3), turns("reference", 3)
    (False, True, False)
    """
    return coding == "symmetric" and n_isos > 2


@dataclass(frozen=True, eq=False)
class Turn:
    """The map between turned coordinates and the logits of P isoforms.

    Attributes
    ----------
    order : ndarray, shape (P,)
        The isoforms as the engine takes them; empty where nothing is turned.

    Examples
    --------
    >>> turn = Turn.of_size(3)
    >>> (turn.matrix @ turn.matrix.T).round(12).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    >>> Turn.nothing().to_logits(np.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    order: IndexArray

    @classmethod
    def nothing(cls) -> "Turn":
        """Return the map that leaves everything as it is."""
        return cls(np.empty(0, dtype=np.int64))

    @classmethod
    def of_size(cls, n_isos: int) -> "Turn":
        """Return that of isoforms in the order in which they come."""
        return cls(np.arange(n_isos))

    @classmethod
    def of_gene(cls, coding: str, counts: FloatArray) -> "Turn":
        """Return that of a gene with counts (S, P): isoforms from the rarest to the most frequent.

        Where two have as many reads the first spot that tells them apart decides.

        Examples
        --------
        >>> Turn.of_gene("symmetric", np.array([[5.0, 0.0, 1.0], [0.0, 1.0, 0.0]])).order.tolist()
        [1, 2, 0]
        """
        return cls.by_counts(counts) if turns(coding, counts.shape[1]) else cls.nothing()

    @classmethod
    def by_counts(cls, counts: FloatArray) -> "Turn":
        """Return the same of any gene, two isoforms included: one logit, that of the rarer one."""
        reads = counts.sum(axis=0)
        if np.unique(reads).size == reads.size:
            return cls(np.argsort(reads))
        some = np.flatnonzero(counts.any(axis=1))
        return cls(np.lexsort(np.vstack([counts[some][::-1], reads])))

    @property
    def plain(self) -> bool:
        """Whether nothing is turned."""
        return self.order.size == 0

    @cached_property
    def root(self) -> FloatArray:  # (Q, Q)
        """What takes turned coordinates to the logits of the isoforms in ``order``, triangular."""
        return NO_TURN if self.plain else upper_root(self.order.size - 1)

    @cached_property
    def centred(self) -> FloatArray:  # (P, Q)
        """What takes them to centred log-ratios of these isoforms."""
        return centred_root(self.root)

    @cached_property
    def matrix(self) -> FloatArray:  # (Q, Q)
        """What takes them to the logits of the isoforms as they came."""
        own = np.empty_like(self.centred)
        own[self.order] = self.centred
        return np.asarray(own[:-1] - own[-1])

    @cached_property
    def inverse(self) -> FloatArray:  # (Q, Q)
        """The way back."""
        # M M' = (I + 11')/2, whose inverse is 2 (I - 11'/P)
        size = len(self.matrix)
        return np.asarray(2.0 * self.matrix.T @ (np.eye(size) - 1.0 / (size + 1.0)))

    @property
    def log_det(self) -> float:
        """``log |det M|``."""
        size = self.order.size
        return 0.0 if self.plain else 0.5 * (math.log(size) - (size - 1) * math.log(2.0))

    def counts(self, counts: FloatArray) -> FloatArray:
        """Return counts (*, P) with the isoforms in ``order``."""
        return counts if self.plain else np.ascontiguousarray(counts[..., self.order])

    def isoforms(self, ordered: FloatArray) -> FloatArray:
        """Return values (*, P) of isoforms in ``order`` as the isoforms came."""
        if self.plain:
            return ordered
        out = np.empty_like(ordered)
        out[..., self.order] = ordered
        return out

    def to_logits(self, turned: FloatArray) -> FloatArray:
        """Return logits (*, Q) of turned coordinates (*, Q)."""
        return turned if self.plain else np.asarray(turned @ self.matrix.T)

    def to_ordered(self, mean: FloatArray, cov: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean (*, Q) and covariance (*, Q, Q) of logits of the isoforms in ``order``."""
        if self.plain:
            return mean, cov
        return mean @ self.root.T, self.root @ cov @ self.root.T

    def from_logits(self, logits: FloatArray) -> FloatArray:
        """Return turned coordinates (*, Q) of logits (*, Q)."""
        return logits if self.plain else np.asarray(logits @ self.inverse.T)

    def slope_in_logits(self, slope: FloatArray) -> FloatArray:
        """Return the derivative in logits (*, Q) of that in turned coordinates."""
        return slope if self.plain else np.asarray(slope @ self.inverse)

    def columns_to_logits(self, turned: FloatArray) -> FloatArray:
        """Return logits (*, Q, k) of turned coordinates that lie before the last axis."""
        return turned if self.plain else np.asarray(self.matrix @ turned)

    def covariance(self, turned: FloatArray) -> FloatArray:
        """Return the covariance (*, Q, Q) of logits of that of turned coordinates."""
        return turned if self.plain else np.asarray(self.matrix @ turned @ self.matrix.T)

    def ordered_to_turned(self, logits: FloatArray) -> FloatArray:
        """Return turned coordinates of logits (*, Q) of the isoforms in ``order``."""
        return logits if self.plain else np.asarray(np.linalg.solve(self.root, logits.T).T)

    def whole_from_ordered(self, n_rows: int) -> FloatArray:
        """Return what takes flat B (F+1, Q) on the logits in ``order`` to turned ones."""
        return np.asarray(np.kron(np.eye(n_rows), np.linalg.inv(self.root)))

    def whole(self, rows: FloatArray, n_logits: int) -> FloatArray:
        """Return what takes turned B to the logits of ``rows @ B``, both flat, row by row."""
        return np.asarray(np.kron(rows, np.eye(n_logits) if self.plain else self.matrix))

    def whole_inverse(self, rows: FloatArray, n_logits: int) -> FloatArray:
        """Return what takes flat B of logits to the turned coordinates of ``rows @ B``."""
        return np.asarray(np.kron(rows, np.eye(n_logits) if self.plain else self.inverse))


NOTHING = Turn.nothing()


def upper_root(n_logits: int) -> FloatArray:
    """Return the upper triangular L with ``L L' = (I + 11') / 2``.

    Examples
    --------
    >>> upper_root(2).round(4).tolist()
    [[0.866, 0.5], [0.0, 1.0]]
    """
    flipped = np.linalg.cholesky(0.5 * (np.eye(n_logits) + 1.0))
    return np.ascontiguousarray(flipped[::-1, ::-1])


def centred_root(root: FloatArray) -> FloatArray:
    """Return ``C`` (P, Q) with ``C_q - C_P = L_q`` and columns of sum 0: ``C'C = I / 2``."""
    padded = np.vstack([root, np.zeros((1, len(root)))])
    return np.asarray(padded - padded.mean(axis=0))


def turned_field(
    nu: Tensor,  # (*, S, Q)
    coding: str,
) -> tuple[Tensor, float]:
    """Return independent fields that make ``nu``, and ``log |d z / d nu|`` of all spots."""
    n_spots, n_logits = nu.shape[-2:]
    if not turns(coding, n_logits + 1):
        return nu, 0.0
    turn = Turn.of_size(n_logits + 1)
    return nu @ torch.from_numpy(turn.inverse.T).to(nu), -n_spots * turn.log_det


def drawn_field(
    turned: Tensor,  # (*, S, Q)
    coding: str,
) -> Tensor:
    """Return the field that independent ones make."""
    n_isos = turned.shape[-1] + 1
    if not turns(coding, n_isos):
        return turned
    return turned @ torch.from_numpy(Turn.of_size(n_isos).matrix.T).to(turned)
