"""A gene's likelihood of ``(log sigma, theta)``, its coefficients integrated out, at some places.

Flat in the coefficients of averaged ratios ``b = B / sqrt(1 + c^2 sigma^2)``
(``attenuated_coefficients.py``): what a gene's reads say of ``b`` hardly depends on sigma, while a
prior flat in ``B`` would favour a large sigma, whose ``B`` have more room. In nats, ``b`` at its
maximum for each ``(sigma, theta)`` and ``I`` its information there,

    l(sigma, theta) = log_marginal(b, sigma, theta) - log |I| / 2 + const,

which is restricted likelihood for a Gaussian model. Places are rows of one sigma each, the fit's
first and then down and up until the gene has ruled sigma out, on six shares theta from 0 to 1.
"""

import math
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.special import logit

from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import SIGMA_RANGE
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective
from splisosm_pyro.fit.marginal.conditional_mode import ModeError, bordered
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.posterior.interpolation.attenuated_coefficients import AttenuatedCoefficients

# The shares: even in the angle of sin^2, in which the likelihood is level at both ends.
N_SHARES = 6
ANGLES = np.linspace(0.0, 1.0, N_SHARES)
SHARES = np.sin(0.5 * np.pi * ANGLES) ** 2
# Where rows may be; sigma of less is as none, of more leaves no usage in between.
LEAST, MOST = math.log(0.03), math.log(8.0)
# Between rows: at first, at most, and by how much longer where the likelihood changes by little.
STEP, LONGEST, LONGER, LITTLE = 0.3, 1.0, 1.6, 0.5
# A row so many nats below the best ends the walk; so near to that without a field ends it below.
RULED_OUT, AS_WITHOUT = 12.0, 0.02
# How nearly right sites are (values to the square); a step of the coefficients to gain less than
# this is taken on trust; most steps.
SITES, NEGLIGIBLE, MOST_STEPS = 5e-3, 0.02, 4
# What can be wrong with one place.
NO_PLACE = (ModeError, NotPositiveDefinite, np.linalg.LinAlgError, FloatingPointError)


@dataclass(frozen=True, eq=False)
class Surface:
    """A gene's likelihood at R rows of sigma and T shares, coefficients as a Gaussian at each.

    Attributes
    ----------
    log_sigma : ndarray, shape (R,)
        Increasing.
    values : ndarray, shape (R, T)
        Nats above the likelihood without a field.
    coefficients : ndarray, shape (R, T, F+1, Q)
        ``b`` at its maximum; standard columns, the gene's own turned coordinates. What is held is
        ``B``.
    covariance : ndarray, shape (R, T, K, K)
        Of the K that move.
    free : ndarray, shape (F+1, Q)
        Which those are.
    """

    log_sigma: FloatArray
    values: FloatArray
    coefficients: FloatArray
    covariance: FloatArray
    free: FloatArray

    def packed(self) -> dict[str, Any]:
        """Return it as JSON can hold it, without losing a digit.

        Examples
        --------
        >>> one = Surface(*(np.ones(2) for _ in range(5)))
        >>> Surface.unpacked(one.packed()).values.tolist()
        [1.0, 1.0]
        """
        return {
            part.name: [b64encode(array.astype("<f8").tobytes()).decode("ascii"), array.shape]
            for part in fields(self)
            for array in [np.ascontiguousarray(getattr(self, part.name))]
        }

    @classmethod
    def unpacked(cls, words: dict[str, Any]) -> "Surface":
        """Return what was packed."""
        return cls(
            **{
                name: np.frombuffer(b64decode(word), dtype="<f8").reshape(shape)
                for name, (word, shape) in words.items()
            }
        )


@dataclass(frozen=True, eq=False)
class _Place:
    """One place: its likelihood, ``y`` = (log sigma, theta_logit, b), the covariance of b, a point.

    The point is ``y`` but for the last step of the coefficients.
    """

    value: float
    y: FloatArray
    covariance: FloatArray
    at: Evaluation[MarginalState]


def surface_of_fit(ended: EvaluatedObjective) -> Surface:
    """Walk over a gene's likelihood from where its fit ended.

    Parameters
    ----------
    ended : EvaluatedObjective
        Of a marginal objective with one sigma for all logits.

    Returns
    -------
    Surface

    Raises
    ------
    ValueError
        If the objective is of another kind.
    ModeError
        If the field has no mode where the fit ended.

    Notes
    -----
    Costs 20 to 60 modes of the field, each from a neighbour's: half a fit.
    """
    walk = _Walk.from_fit(ended)
    start = _Place(-math.inf, walk.coordinates.from_u(ended.at.u), np.empty(0), ended.at)
    nothing = walk.place(math.log(SIGMA_RANGE[0]), 0.5, start).value
    first = float(np.clip(ended.at.u[0], LEAST, MOST))
    rows = {first: walk.row(first, start)}
    for sign in (1.0, -1.0):
        rows |= dict(walk.rows(first, rows[first], sign, nothing))
    at = sorted(rows)
    space = walk.objective.space
    return Surface(
        log_sigma=np.array(at),
        values=np.array([[one.value for one in rows[x]] for x in at]) - nothing,
        coefficients=np.array([[space.unpack(one.y)[0] for one in rows[x]] for x in at]),
        covariance=np.array([[one.covariance for one in rows[x]] for x in at]),
        free=space.free.astype(np.float64),
    )


@dataclass(frozen=True, eq=False)
class _Walk:
    """Rows of places one after the other, each place started from its neighbour."""

    objective: MarginalObjective
    coordinates: AttenuatedCoefficients

    @classmethod
    def from_fit(cls, ended: EvaluatedObjective) -> "_Walk":
        """Take the fit's objective, without its priors."""
        objective = ended.objective
        if not isinstance(objective, MarginalObjective) or objective.space.n_variance != 2:
            raise ValueError("a surface needs a marginal objective with one sigma and theta")
        space = replace(objective.space, priors=Priors.of("none", None))
        smooth = objective.smooth.rough(SITES)
        return cls(replace(objective, space=space, smooth=smooth), AttenuatedCoefficients(space))

    def rows(
        self, log_sigma: float, row: list[_Place], sign: float, nothing: float
    ) -> Iterator[tuple[float, list[_Place]]]:
        """Yield rows further and further away, until there is no more to be learnt."""
        best = before = _highest(row)
        step, end = STEP, MOST if sign > 0.0 else LEAST
        while log_sigma != end:
            log_sigma = float(np.clip(log_sigma + sign * step, LEAST, MOST))
            try:
                row = self.row(log_sigma, row[0])
            except NO_PLACE:
                return
            yield log_sigma, row
            here = _highest(row)
            as_without = max(abs(one.value - nothing) for one in row) < AS_WITHOUT
            if here < best - RULED_OUT or (sign < 0.0 and as_without):
                return
            step = min(step * LONGER, LONGEST) if abs(here - before) < LITTLE else step
            best, before = max(best, here), here

    def row(self, log_sigma: float, near: _Place) -> list[_Place]:
        """Return the places of one sigma."""
        row: list[_Place] = []
        for share in SHARES:
            row.append(self.place(log_sigma, float(share), row[-1] if row else near))
        return row

    def place(self, log_sigma: float, share: float, near: _Place) -> _Place:
        """Bring the coefficients to their maximum at one place."""
        y, at = near.y.copy(), near.at
        y[:2] = log_sigma, float(logit(share))
        for _ in range(MOST_STEPS):
            u = self.objective.space.box().project(self.coordinates.to_u(y))
            at = self.objective.evaluate(u, at)
            if not math.isfinite(at.value):
                raise ModeError("no mode of the field at this place")
            grown = self.coordinates.stretch(u)
            covariance = self._covariance(at) / np.outer(grown, grown)
            slope = at.gradient[2:] * grown
            y = self.coordinates.from_u(u)
            y[2:] += covariance @ slope
            gain = 0.5 * float(slope @ covariance @ slope)
            if gain < NEGLIGIBLE:
                break
        volume = 0.5 * float(np.linalg.slogdet(covariance)[1])
        return _Place(at.value + gain + volume, y, covariance, at)

    def _covariance(self, at: Evaluation[MarginalState]) -> FloatArray:
        """Return the coefficients' covariance given sigma and theta."""
        free = self.objective.space.free
        border = bordered(self.objective.problem, at.state.mode.linearisation, free)
        return np.asarray(np.linalg.inv(border.schur), dtype=np.float64)


def _highest(row: list[_Place]) -> float:
    return max(one.value for one in row)
