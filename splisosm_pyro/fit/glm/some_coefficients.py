"""The multinomial GLM where some coefficients, and part of the logits, are given and stay.

Newton's method with halved steps on the concave log-likelihood of what moves, in the user's units.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from splisosm_pyro.fit.result import GeneFit, Status
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.maths.spot.gaussian import log_coefficient

MAX_HALVINGS = 30
# Beyond this the coefficients head for infinity: eta of a spot, and Newton steps without a limit.
FARTHEST = 30.0
RIDGE = 1e-12


@dataclass(frozen=True, eq=False)
class GivenLogits:
    """Counts (S, P), columns (S, F+1) with the intercept, and logits (S, Q) that stay."""

    counts: FloatArray
    columns: FloatArray
    offset: FloatArray

    def log_lik(self, B: FloatArray) -> float:
        """Return the log-likelihood in nats at coefficients (F+1, Q), with the coefficient."""
        constant = log_coefficient(self.counts).sum()
        return float((self.counts * self._log_ratio(B)).sum() + constant)

    def slopes(self, B: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return score (F+1, Q) and information ((F+1) Q, (F+1) Q)."""
        ratio = np.exp(self._log_ratio(B))[:, :-1]
        totals = self.counts.sum(axis=1, keepdims=True)
        score = self.columns.T @ (self.counts[:, :-1] - totals * ratio)
        weights = -totals[:, :, None] * ratio[:, :, None] * ratio[:, None, :]
        weights[:, np.arange(ratio.shape[1]), np.arange(ratio.shape[1])] += totals * ratio
        information = np.einsum("sf,sqp,sg->fqgp", self.columns, weights, self.columns)
        return score, information.reshape(score.size, score.size)

    def _log_ratio(self, B: FloatArray) -> FloatArray:
        eta = self.columns @ B + self.offset
        return np.asarray(log_softmax(np.pad(eta, ((0, 0), (0, 1))), axis=1))


@dataclass(frozen=True, eq=False)
class SomeFitted:
    """Where the ascent ended: ``B`` (F+1, Q), errors (0 where given), and its certificate."""

    B: FloatArray
    value: float
    errors: FloatArray
    gradient_norm: float
    min_eigenvalue: float
    values: FloatArray
    converged: bool
    endless: bool

    @property
    def status(self) -> Status:
        """How it ended."""
        if self.endless:
            return Status.BOUNDARY
        return Status.CONVERGED if self.converged else Status.MAX_EPOCHS

    @property
    def reason(self) -> str:
        """Why it has not converged."""
        return {
            Status.CONVERGED: "",
            Status.BOUNDARY: "a coefficient has no finite optimum",
            Status.MAX_EPOCHS: "raise max_epochs",
        }[self.status]

    def as_gene_fit(self, back: FloatArray) -> GeneFit:
        """Return the fit of a GLM; ``back`` takes each coefficient to the user's units."""
        B, errors = back @ self.B, np.abs(back) @ self.errors
        return GeneFit(
            params={"beta": B[:-1], "bias_eta": B[-1]},
            standard_errors={"beta": errors[:-1], "bias_eta": errors[-1]},
            objective="log_lik",
            value=self.value,
            status=self.status,
            reason=self.reason,
            gradient_norm=self.gradient_norm,
            min_eigenvalue=self.min_eigenvalue,
            epochs=len(self.values),
            values=self.values,
        )


def fit_some(
    problem: GivenLogits, start: FloatArray, moving: Mask, *, tol: float, max_epochs: int
) -> SomeFitted:
    """Fit the coefficients that are ``moving`` (F+1, Q), from ``start``; the others stay there.

    Examples
    --------
    >>> counts = np.array([[3.0, 1.0], [6.0, 2.0]])
    >>> problem = GivenLogits(counts, np.ones((2, 1)), np.zeros((2, 1)))
    >>> fit = fit_some(problem, np.zeros((1, 1)), np.array([[True]]), tol=1e-10, max_epochs=50)
    >>> round(float(np.exp(fit.B[0, 0])), 6)
    3.0
    """
    B, free = start.copy(), moving.ravel()
    value, values, converged = problem.log_lik(B), list[float](), not free.any()
    while not converged and len(values) < max_epochs:
        score, information = problem.slopes(B)
        own = score.ravel()[free]
        step = np.zeros(B.size)
        inner = information[np.ix_(free, free)]
        scale = np.sqrt(np.maximum(inner.diagonal(), 1e-300))
        unit = inner / np.outer(scale, scale) + RIDGE * np.eye(own.size)
        step[free] = np.linalg.lstsq(unit, own / scale, rcond=1e-12)[0] / scale
        converged = bool(own @ step[free] <= 2.0 * tol)
        B, value = _halved(problem, B, step.reshape(B.shape), value)
        values.append(value)
        if np.abs(problem.columns @ B + problem.offset).max() > FARTHEST:
            break
    return _certified(problem, B, value, moving, np.array(values), converged=converged)


def _halved(
    problem: GivenLogits, B: FloatArray, step: FloatArray, value: float
) -> tuple[FloatArray, float]:
    """Return the first of ever shorter steps that does not fall; B itself if none is."""
    for _ in range(MAX_HALVINGS):
        new = problem.log_lik(B + step)
        if new >= value:
            return B + step, new
        step = 0.5 * step
    return B, value


def _certified(
    problem: GivenLogits,
    B: FloatArray,
    value: float,
    moving: Mask,
    values: FloatArray,
    *,
    converged: bool,
) -> SomeFitted:
    """Add errors and certificate."""
    free = moving.ravel()
    score, information = problem.slopes(B)
    inner = information[np.ix_(free, free)]
    least = float(np.linalg.eigvalsh(inner)[0]) if free.any() else np.inf
    errors = np.zeros(B.size)
    errors[free] = np.inf
    if free.any() and least > 0.0:
        errors[free] = np.sqrt(np.linalg.inv(inner).diagonal())
    far = bool(np.abs(problem.columns @ B + problem.offset).max() > FARTHEST)
    norm = float(np.linalg.norm(score.ravel()[free]))
    return SomeFitted(
        B, value, errors.reshape(B.shape), norm, least, values, converged, far and not converged
    )
