"""Does isoform usage change with a covariate? Score tests of many at once, and likelihood ratios.

At the null's fit the score of a new column ``x`` is ``U = x' r``, with ``r`` the derivative of the
log marginal likelihood in the spots' offsets; its information, the field and all old coefficients
``X`` moving along, is the Schur complement of the bordered system (``conditional_mode.py``):

    I = S_xx - S_xX S_XX^-1 S_Xx,    S = X' A X - (D^1/2 A X)' H^-1 (D^1/2 A X)

and ``U' I^-1 U`` is chi-square, Q degrees of freedom a column. Nothing is fitted for a covariate,
so hundreds cost less than the null's fit. Where a score test finds something, the likelihood ratio
says it better: the model is fitted with the covariate, from where the null ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec
from splisosm_pyro.fit.marginal.conditional_mode import bordered
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.hypotheses.white_null import WhiteNull
from splisosm_pyro.maths.numeric.arrays import FloatArray

# Columns that are looked at together: their border is kept small.
TOGETHER = 16
# What a direction must keep of its information, the others known, and of the largest one.
KEPT, SEEN = 1e-8, 1e-9
NOTHING_LEFT = "on the spots with reads the covariate is constant, or follows from those fitted"


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
    """

    statistic: float = np.nan
    df: int = 0
    p: float = np.nan
    reason: str = ""
    kind: str = "score"
    score_p: float = np.nan


def covariate_score_test(
    end: EvaluatedObjective, covariates: Sequence[FloatArray]
) -> list[CovariateTest]:
    """Test covariates one by one, given the field and the coefficients that were fitted.

    Parameters
    ----------
    end
        Where the null's fit ended (``fit_gene(..., keep_end=True)``), by a marginal method.
    covariates
        Columns (S, k) of each; the k of a factor are tested together.

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
    """
    objective, mode = end.objective, end.at.state.mode
    if not isinstance(objective, MarginalObjective):
        raise TypeError("covariates are tested at a fit by a marginal method, came a joint one")
    problem, gene = objective.problem, objective.problem.gene
    found: list[CovariateTest] = []
    for together in _batches(covariates):
        new = [_columns(one)[gene.occupied] for one in together]
        design = np.column_stack([*new, gene.design])
        there = replace(problem, gene=replace(gene, design=design))
        free = np.ones((design.shape[1], gene.n_logits), dtype=bool)
        free[-gene.design.shape[1] :] = objective.space.free
        score = objective.smooth.gradient(there, mode).coefficients[free]
        information = bordered(there, mode.linearisation, free).schur
        whole = np.einsum("sf,sqq->fq", design**2, mode.linearisation.neg_hessian)[free]
        sizes = [one.shape[1] * gene.n_logits for one in new]
        found += _tests(score, information, whole, sizes)
    return found


def white_covariate_score_test(
    null: WhiteNull, covariates: Sequence[FloatArray]
) -> list[CovariateTest]:
    """Test covariates at a null without a field, which takes white noise alone into account.

    A smooth field that is there makes this test reject smooth covariates far too often.
    """
    J, n_logits, K = null.information, null.score.shape[1], null.design.shape[2]
    found: list[CovariateTest] = []
    for together in _batches(covariates):
        new = [_columns(one)[null.occupied] for one in together]
        wide = np.einsum("sf,qa->sqfa", np.column_stack(new), np.eye(n_logits))
        design = np.concatenate([wide.reshape(len(J), n_logits, -1), null.design], axis=2)
        flat = design.reshape(-1, design.shape[2])
        through = (J @ design).reshape(flat.shape)
        information = flat.T @ through
        score = flat.T @ null.score.ravel()
        sizes = [one.shape[1] * n_logits for one in new]
        assert sum(sizes) + K == score.size
        found += _tests(score, information, information.diagonal(), sizes)
    return found


def _batches(covariates: Sequence[FloatArray]) -> list[list[FloatArray]]:
    """Split covariates so that few columns are together; those of one stay together."""
    batches: list[list[FloatArray]] = []
    room = 0
    for one in covariates:
        if one.shape[1] > room:
            batches.append([])
            room = max(TOGETHER, one.shape[1])
        batches[-1].append(one)
        room -= one.shape[1]
    return batches


def _columns(covariate: FloatArray) -> FloatArray:
    """Return a covariate's standard columns, about their means."""
    columns = StandardDesign.of(covariate).columns
    return np.asarray(columns)


def _tests(
    score: FloatArray,  # (K,), of new coefficients and then of old ones
    information: FloatArray,  # (K, K)
    whole: FloatArray,  # (K,) diagonal of the information if all else were known
    sizes: Sequence[int],
) -> list[CovariateTest]:
    """Test each covariate's coefficients given the old ones."""
    old = slice(sum(sizes), score.size)
    tests, first = [], 0
    through = np.linalg.pinv(information[old, old], hermitian=True)
    for size in sizes:
        own = slice(first, first + size)
        across = information[own, old] @ through
        rest = score[own] - across @ score[old]
        left = information[own, own] - across @ information[old, own]
        tests.append(_chi_square(rest, left, whole[own]))
        first = own.stop
    return tests


def _chi_square(score: FloatArray, information: FloatArray, whole: FloatArray) -> CovariateTest:
    """Return ``U' I^-1 U`` over the directions that have information."""
    seen = whole > SEEN * max(float(whole.max(initial=0.0)), 1e-300)
    unit = 1.0 / np.sqrt(whole[seen])
    scaled = unit[:, None] * information[np.ix_(seen, seen)] * unit
    values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    kept = values > KEPT
    if not kept.any():
        return CovariateTest(reason=NOTHING_LEFT)
    along = vectors.T @ (unit * score[seen])
    statistic, df = float((along[kept] ** 2 / values[kept]).sum()), int(kept.sum())
    p = float(chi2.sf(statistic, df))
    return CovariateTest(statistic, df, p, score_p=p)


def covariate_likelihood_ratio(
    spec: GLMMSpec, counts: FloatArray, null: GeneFit, covariate: FloatArray, score: CovariateTest
) -> CovariateTest:
    """Fit the model with a covariate, from where the null ended, and compare.

    Parameters
    ----------
    spec
        Of the null, by a marginal method.
    counts
        (S, P).
    null
        The null's fit.
    covariate
        (S, k).
    score
        Its score test, for the degrees of freedom.

    Returns
    -------
    CovariateTest
        The score test itself if the fit with the covariate does not settle.
    """
    added = covariate.shape[1]
    design = StandardDesign.of(np.column_stack([spec.design.given, covariate]))
    names = (*spec.names, *(f"tested {k}" for k in range(added))) if spec.names else ()
    start = dict(null.params)
    start["beta"] = np.vstack([start["beta"], np.zeros((added, start["beta"].shape[1]))])
    fit = fit_gene(replace(spec, design=design, names=names), counts, start, warm=True)
    if not fit.settled:
        return score
    return _ratio(2.0 * (fit.value - null.value), score)


def fitted_covariate_test(
    spec: GLMMSpec, counts: FloatArray, full: GeneFit, own: slice
) -> CovariateTest:
    """Test a covariate that was fitted: the model is fitted without it, and compared.

    Parameters
    ----------
    spec, counts, full
        What was fitted to which gene (S, P), by a marginal method.
    own
        The covariate's columns among the F.

    Returns
    -------
    CovariateTest
        By likelihood ratio, with the degrees of freedom and ``score_p`` of the score test at the
        fit without; by that alone where either fit did not settle.
    """
    given, kept = spec.design.given, np.ones(spec.design.given.shape[1], dtype=bool)
    kept[own] = False
    names = tuple(name for name, stays in zip(spec.names, kept, strict=True) if stays)
    less = replace(spec, design=StandardDesign.of(given[:, kept]), names=names)
    start = dict(full.params)
    # at the covariate's mean, where it was
    start["bias_eta"] = start["bias_eta"] + spec.design.centre[own] @ start["beta"][own]
    start["beta"] = start["beta"][kept]
    null = fit_gene(less, counts, start, warm=True, keep_end=True)
    score = covariate_score_test(null.ended, [given[:, own]])[0]
    if score.reason or not (null.settled and full.settled):
        return score
    return _ratio(2.0 * (full.value - null.value), score)


def _ratio(statistic: float, score: CovariateTest) -> CovariateTest:
    """Return the likelihood ratio test beside a score test."""
    statistic = max(statistic, 0.0)
    p = float(chi2.sf(statistic, score.df))
    return CovariateTest(statistic, score.df, p, "", "likelihood ratio", score.p)


def covariate_tests(
    spec: GLMMSpec,
    counts: FloatArray,
    null: GeneFit,
    covariates: Sequence[FloatArray],
    refit_below: float,
) -> list[CovariateTest]:
    """Test covariates: by their score, and by likelihood ratio where that gives a small p.

    Parameters
    ----------
    spec, counts, null
        What was fitted to which gene (S, P), its end kept.
    covariates
        Columns (S, k) of each.
    refit_below
        The score test's p below which a model is refitted: 0 for none, 1 for all.
    """
    scores = covariate_score_test(null.ended, covariates)
    return [
        covariate_likelihood_ratio(spec, counts, null, columns, one) if one.p < refit_below else one
        for columns, one in zip(covariates, scores, strict=True)
    ]
