"""Does isoform usage change with a covariate? Score tests of many at once.

At the null's fit the score of a new column ``x`` is ``U = x' r``, with ``r`` the derivative of the
log marginal likelihood in the spots' offsets; its information, the field and all old coefficients
``X`` moving along, is the Schur complement of the bordered system (``conditional_mode.py``):

    I = S_xx - S_xX S_XX^-1 S_Xx,    S = X' A X - (D^1/2 A X)' H^-1 (D^1/2 A X)

and ``U' I^-1 U`` is chi-square, Q degrees of freedom a column; ``I^-1 U`` is a Newton step towards
the fit with the covariate. Nothing is fitted for a covariate, so hundreds cost less than the null's
fit. Where a score test finds something, the likelihood ratio says it better (``refits.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtrc

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective
from splisosm_pyro.fit.marginal.conditional_mode import Mode, bordered
from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.hypotheses.white_null import WhiteNull
from splisosm_pyro.maths.coding import NOTHING, Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask

# Columns that are looked at together: their border is kept small.
TOGETHER = 16
# What a direction must keep of its information, the others known, and of the largest one.
KEPT, SEEN = 1e-8, 1e-9
NOTHING_LEFT = "on the spots with reads the covariate is constant, or follows from those fitted"


@dataclass(frozen=True, eq=False)
class Estimate:
    """Coefficients with a tested covariate, the field's scales as they are there.

    Attributes
    ----------
    coefficients
        (k+F+1, Q) of standard columns, those tested first, the intercept last.
    covariance
        (kQ, kQ) of those tested; 0 along what the counts leave open.
    moves
        (kQ, k+F+1, Q) how all coefficients go with each of those tested.
    sigma
        (C,) standard deviation of the random effect.
    turn
        Of what coordinates the coefficients are, and the random effect.
    """

    coefficients: FloatArray
    covariance: FloatArray
    moves: FloatArray
    sigma: FloatArray
    turn: Turn = NOTHING


@dataclass(frozen=True, eq=False)
class CovariateTest:
    """The test of one covariate of k columns in one gene.

    Attributes
    ----------
    statistic, p
        NaN where there is no test.
    df
        k Q, less what the gene's counts leave open.
    reason
        Why there is no test; empty otherwise.
    kind
        ``'score'`` or ``'likelihood ratio'``.
    score_p
        The score test's, also where the likelihood ratio is given.
    estimate
        Given a field, by one Newton step or by the fit with the covariate.
    """

    statistic: float = np.nan
    df: int = 0
    p: float = np.nan
    reason: str = ""
    kind: str = "score"
    score_p: float = np.nan
    estimate: Estimate | None = None


@dataclass(frozen=True, eq=False)
class Remainder:
    """What is left of tested coefficients' score and information, the old ones moving along.

    Attributes
    ----------
    score
        (kQ,).
    inverse
        (kQ, kQ) of the information, over the ``df`` directions that have any.
    along
        (K, kQ) how the old coefficients go with those tested.
    """

    score: FloatArray
    inverse: FloatArray
    along: FloatArray
    df: int

    def test(self) -> CovariateTest:
        """Return ``U' I^-1 U`` and its p, or that there is nothing to test."""
        if not self.df:
            return CovariateTest(reason=NOTHING_LEFT)
        statistic = float(self.score @ self.inverse @ self.score)
        p = chi_square_tail(statistic, self.df)
        return CovariateTest(statistic, self.df, p, score_p=p)

    def estimate(self, at: FloatArray, free: Mask, sigma: FloatArray) -> Estimate:
        """Return coefficients ``at`` (k+F+1, Q) with what is known of those tested.

        ``free`` (F+1, Q) are the old ones that move.
        """
        size, n_old = len(self.score), len(free)
        moves = np.zeros((size, *at.shape))
        moves.reshape(size, -1)[:, :size] = np.eye(size)
        moves[:, len(at) - n_old :][:, free] = self.along.T
        return Estimate(at, self.inverse, moves, sigma)

    def stepped(self, null: FloatArray, free: Mask, sigma: FloatArray) -> Estimate:
        """Return the estimate a Newton step away from the null's coefficients (k+F+1, Q)."""
        found = self.estimate(null, free, sigma)
        step = self.inverse @ self.score @ found.moves.reshape(len(self.score), -1)
        return replace(found, coefficients=null + step.reshape(null.shape))


def chi_square_tail(statistic: float, df: int) -> float:
    """Return the chance of as much or more; quicker than ``chi2.sf``, and the same."""
    return float(chdtrc(df, statistic))


def covariate_score_test(
    end: EvaluatedObjective, covariates: Sequence[StandardDesign]
) -> list[CovariateTest]:
    """Test covariates one by one, given the field and the coefficients that were fitted.

    Parameters
    ----------
    end
        Where the null's fit ended (``fit_gene(..., keep_end=True)``), by a marginal method.
    covariates
        The k columns of each; those of a factor are tested together.

    Returns
    -------
    list of CovariateTest

    Raises
    ------
    TypeError
        If the fit is a joint one.

    Notes
    -----
    A column costs Q solves.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, design="none", seed=0)
    >>> model = MultinomGLMM()
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> table = model.test_covariates({"x": tissue.coords[:, 0]}, refit_below=0.0)
    >>> table["kind"].tolist()
    ['score']
    """
    objective, mode = end.objective, end.at.state.mode
    if not isinstance(objective, MarginalObjective):
        raise TypeError("covariates are tested at a fit by a marginal method, came a joint one")
    if not covariates:
        return []
    occupied = objective.problem.gene.occupied
    new = [one.columns[occupied] for one in covariates]
    slope = objective.smooth.gradient(objective.problem, mode).offset
    found: list[CovariateTest] = []
    for together in _batches(new):
        found += _scores(objective, mode, slope, together, end.at.state.variances.sigma)
    return found


def _scores(
    objective: MarginalObjective,
    mode: Mode,
    slope: FloatArray,  # (n, Q) of the log marginal likelihood, in the spots' offsets
    new: Sequence[FloatArray],
    sigma: FloatArray,
) -> list[CovariateTest]:
    """Test the columns (n, k) of a few covariates."""
    n_logits, free = objective.problem.gene.n_logits, objective.space.free
    there = with_columns(objective.problem, np.column_stack(new))
    moving = with_new_ones(free, there.gene.design.shape[1] - len(free))
    score = (there.gene.design.T @ slope)[moving]
    information = bordered(there, mode.linearisation, moving).schur
    alone = np.einsum("sf,sqq->fq", there.gene.design**2, mode.linearisation.neg_hessian)[moving]
    sizes = [one.shape[1] * n_logits for one in new]
    tests = []
    for rest in remainders(score, information, alone, sizes):
        test, still = rest.test(), np.zeros((rest.score.size // n_logits, n_logits))
        if not test.reason:
            null = np.vstack([still, mode.coefficients])
            stepped = replace(rest.stepped(null, free, sigma), turn=objective.problem.turn)
            test = replace(test, estimate=stepped)
        tests.append(test)
    return tests


def with_columns(problem: LatentProblem, columns: FloatArray) -> LatentProblem:
    """Return the problem with further columns (n, k) of the design, before its own."""
    design = np.column_stack([columns, problem.gene.design])
    return replace(problem, gene=replace(problem.gene, design=design))


def with_new_ones(free: Mask, k: int) -> Mask:
    """Return which coefficients move, (k+F+1, Q), those of k new columns too."""
    return np.vstack([np.ones((k, free.shape[1]), dtype=bool), free])


def white_covariate_score_test(
    null: WhiteNull, covariates: Sequence[StandardDesign]
) -> list[CovariateTest]:
    """Test covariates at a null without a field, which takes white noise alone into account.

    A smooth field that is there makes this test reject smooth covariates far too often.
    """
    J, n_logits = null.information, null.score.shape[1]
    found: list[CovariateTest] = []
    for new in _batches([one.columns[null.occupied] for one in covariates]):
        wide = np.einsum("sf,qa->sqfa", np.column_stack(new), np.eye(n_logits))
        design = np.concatenate([wide.reshape(len(J), n_logits, -1), null.design], axis=2)
        flat = design.reshape(-1, design.shape[2])
        through = (J @ design).reshape(flat.shape)
        information = flat.T @ through
        score = flat.T @ null.score.ravel()
        sizes = [one.shape[1] * n_logits for one in new]
        found += [
            rest.test() for rest in remainders(score, information, information.diagonal(), sizes)
        ]
    return found


def _batches(new: Sequence[FloatArray]) -> list[list[FloatArray]]:
    """Split covariates so that few columns are together; those of one stay together."""
    batches: list[list[FloatArray]] = []
    room = 0
    for one in new:
        if one.shape[1] > room:
            batches.append([])
            room = max(TOGETHER, one.shape[1])
        batches[-1].append(one)
        room -= one.shape[1]
    return batches


def remainders(
    score: FloatArray,  # (K,), of new coefficients and then of old ones
    information: FloatArray,  # (K, K)
    alone: FloatArray,  # (K,) diagonal of the information if all else were known
    sizes: Sequence[int],
) -> list[Remainder]:
    """Return what is left of each covariate's coefficients, given the old ones."""
    old = slice(sum(sizes), score.size)
    found, first = [], 0
    through = np.linalg.pinv(information[old, old], hermitian=True)
    for size in sizes:
        own = slice(first, first + size)
        first = own.stop
        along = -through @ information[old, own]
        left = information[own, own] + information[own, old] @ along
        inverse, df = _inverse(left, alone[own])
        found.append(Remainder(score[own] + along.T @ score[old], inverse, along, df))
    return found


def _inverse(information: FloatArray, alone: FloatArray) -> tuple[FloatArray, int]:
    """Invert the information over the directions that have some; return how many these are."""
    inverse = np.zeros_like(information)
    seen = alone > SEEN * max(float(alone.max(initial=0.0)), 1e-300)
    unit = 1.0 / np.sqrt(alone[seen])
    scaled = unit[:, None] * information[np.ix_(seen, seen)] * unit
    values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    kept = values > KEPT
    root = unit[:, None] * vectors[:, kept] / np.sqrt(values[kept])
    inverse[np.ix_(seen, seen)] = root @ root.T
    return inverse, int(kept.sum())
