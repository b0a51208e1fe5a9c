"""The field of a gene's draws: already drawn, or a Gaussian from which draws come when asked for.

Where the field is too large to be kept only its summary at every spot is, and the log likelihood of
every draw. Of a Gaussian the first needs no draws, and the second draws at occupied spots alone.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, SingleArray
from splisosm_pyro.maths.spot.gaussian import log_coefficient
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.field.spot_sampler import log_norm
from splisosm_pyro.posterior.field.summary import (
    Summary,
    cached_parts,
    summaries_of_draws,
    summaries_of_gaussian,
)


class Field(Protocol):
    """What the N draws of a gene say of its logits at all spots."""

    @property
    def eta(self) -> FloatArray:
        """Joint draws (S, Q, N)."""
        ...

    def summaries(self) -> dict[str, Summary]:
        """Return the summary of ``eta`` and of ``isoform_ratio``."""
        ...

    def log_lik(self, counts: FloatArray, /) -> FloatArray:
        """Return ``log p(Y | eta)`` (N,) of every draw, for counts (S, P)."""
        ...


@dataclass(frozen=True, eq=False)
class DrawnField:
    """Draws (S, Q, N) that are there already."""

    eta: FloatArray

    def summaries(self) -> dict[str, Summary]:
        """Summarise the draws."""
        return summaries_of_draws(self.eta)

    def log_lik(self, counts: FloatArray) -> FloatArray:
        """Sum over the occupied spots."""
        occupied = np.flatnonzero(counts.any(axis=1))
        return log_lik(counts[occupied], self.eta[occupied])


class GivenOuter(Protocol):
    """The Gaussian of the field about its mean, the outer parameters held."""

    def covariance(self) -> FloatArray:
        """Return its blocks (S, Q, Q)."""
        ...

    def draws(self, n_draws: int, noise: Noise) -> FloatArray:
        """Return joint draws (S, Q, n_draws) at all spots."""
        ...

    def occupied_draws(self, n_draws: int, noise: Noise) -> SingleArray:
        """Return joint draws (n, Q, n_draws) at the occupied spots."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianField:
    """Logits whose mean follows the outer parameters to first order, Gaussian given them.

    Attributes
    ----------
    mean, response
        (S, Q) at the mode, and its derivative (S, Q, K) in the outer parameters.
    apart
        (N, K) draws of the outer parameters less their mode.
    outer_covariance
        (K, K) from which they were drawn.
    given
        What is left given the outer parameters; None where that is nothing.
    noise
        Where draws come from.
    """

    mean: FloatArray
    response: FloatArray
    apart: FloatArray
    outer_covariance: FloatArray
    given: GivenOuter | None
    noise: Noise

    @cached_property
    def eta(self) -> FloatArray:
        """Joint draws (S, Q, N), made when first asked for."""
        eta = self.mean[:, :, None] + self.response @ self.apart.T
        if self.given is not None:
            eta += self.given.draws(len(self.apart), self.noise)
        return eta

    def summaries(self) -> dict[str, Summary]:
        """Summarise the Gaussian; no draw is made."""
        pushed = self.response @ self.outer_covariance
        covariance = pushed @ self.response.transpose(0, 2, 1)
        if self.given is not None:
            covariance += self.given.covariance()
        return summaries_of_gaussian(self.mean, covariance)

    def log_lik(self, counts: FloatArray) -> FloatArray:
        """Draw at the occupied spots alone: an empty one has probability 1.

        In single precision, 1e-7 of a spot's value. Two draws, half of all apart, have what is left
        given their outer parameters with opposite signs: the law of each stays what it is.
        """
        occupied, n_draws = np.flatnonzero(counts.any(axis=1)), len(self.apart)
        mean, response, apart = (
            part.astype(np.float32)
            for part in (self.mean[occupied], self.response[occupied], self.apart)
        )
        half = (n_draws + 1) // 2
        given = None if self.given is None else self.given.occupied_draws(half, self.noise)
        out = np.zeros(n_draws)
        for part in cached_parts(np.broadcast_to(mean[:, :, None], (*mean.shape, n_draws))):
            eta = response[part] @ apart.T
            eta += mean[part, :, None]
            if given is not None:
                eta[..., :half] += given[part]
                eta[..., half:] -= given[part, :, : n_draws - half]
            out += log_lik(counts[occupied[part]], eta)
        return out


@dataclass(frozen=True, eq=False)
class _InLogits:
    """A field about its mean, its turned coordinates taken to logits."""

    given: GivenOuter
    turn: Turn

    def covariance(self) -> FloatArray:
        """Return its blocks."""
        return self.turn.covariance(self.given.covariance())

    def draws(self, n_draws: int, noise: Noise) -> FloatArray:
        """Draw at all spots."""
        return self.turn.columns_to_logits(self.given.draws(n_draws, noise))

    def occupied_draws(self, n_draws: int, noise: Noise) -> SingleArray:
        """Draw at the occupied spots."""
        turned = self.given.occupied_draws(n_draws, noise)
        return np.asarray(self.turn.matrix.astype(np.float32) @ turned)


def in_logits(field: Field, turn: Turn) -> Field:
    """Return a field of turned coordinates as one of logits.

    Raises
    ------
    TypeError
        If it is of neither kind.
    """
    if turn.plain:
        return field
    if isinstance(field, DrawnField):
        return DrawnField(turn.columns_to_logits(field.eta))
    if isinstance(field, GaussianField):
        given = None if field.given is None else _InLogits(field.given, turn)
        mean, response = turn.to_logits(field.mean), turn.columns_to_logits(field.response)
        return replace(field, mean=mean, response=response, given=given)
    raise TypeError(f"no logits of a {type(field).__name__}")


def log_lik(counts: FloatArray, eta: AnyArray) -> FloatArray:
    """Return ``log p(Y | eta)`` (N,) of all spots together."""
    by_spot = log_lik_by_spot(counts, eta)
    return np.asarray(by_spot.sum(axis=0, dtype=np.float64))


def log_lik_by_spot(counts: FloatArray, eta: AnyArray) -> AnyArray:
    """Return ``log p(Y_s | eta_s)`` (S, N), with the multinomial coefficient, as precise as eta.

    Examples
    --------
    >>> log_lik_by_spot(np.array([[1.0, 1.0]]), np.zeros((1, 1, 1))).round(6)
    array([[-0.693147]])
    """
    out = np.empty((len(eta), eta.shape[2]), dtype=eta.dtype)
    totals = counts.sum(axis=1)
    coefficient = log_coefficient(counts)
    for part in cached_parts(eta):
        parts = (of[part, ..., None] for of in (counts, totals, coefficient))
        y, total, constant = (np.asarray(of, dtype=eta.dtype) for of in parts)
        rows: AnyArray = constant - total * log_norm(eta[part])
        for q in range(eta.shape[1]):
            rows += y[:, q] * eta[part, q]
        out[part] = rows
    return out
