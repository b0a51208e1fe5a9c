"""One gene's tests of covariates that were not fitted: at the null that its run has fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective, GLMMSpec
from splisosm_pyro.fit.glmm.without_space import without_space
from splisosm_pyro.genes.average_usage import QUICK_ROWS, Rows, largest_change
from splisosm_pyro.genes.batches import GeneInput
from splisosm_pyro.genes.differential.asked import Asked
from splisosm_pyro.genes.job import Job, PreparedJob
from splisosm_pyro.hypotheses.covariates import CovariateTest
from splisosm_pyro.hypotheses.refits import covariate_tests, null_at
from splisosm_pyro.hypotheses.spatial import untestable
from splisosm_pyro.maths.coding import NOTHING, Turn
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FittedGene:
    """A gene with what its run has found: parameters as nested lists, None where the fit broke."""

    gene: GeneInput
    params: dict[str, Any] | None
    status: str


@dataclass(frozen=True, eq=False)
class CovariateJob:
    """What is tested in every gene, and how.

    Attributes
    ----------
    job : Job
        Of the run: its options are those of the null.
    asked : tuple of Asked
    spatial : bool
        Whether the null has a field.
    refit_below : float
        The score test's p below which the model is refitted.
    digest : str
        Of all this.
    """

    job: Job
    asked: tuple[Asked, ...]
    spatial: bool
    refit_below: float
    digest: str

    @classmethod
    def of(
        cls, job: Job, asked: tuple[Asked, ...], spatial: bool, refit_below: float
    ) -> "CovariateJob":
        """Sum up what is asked."""
        columns = [(one.columns, one.contrast) for one in asked]
        digest = str(joblib.hash((job.digest, columns, spatial, refit_below)))
        return cls(job, asked, spatial, refit_below, digest)

    def prepared(self) -> "PreparedTests":
        """Build what the genes share; kept until another job comes, once in each process."""
        if self.digest not in _PREPARED:
            _PREPARED.clear()
            _PREPARED[self.digest] = PreparedTests.of(self)
        return _PREPARED[self.digest]


@dataclass(frozen=True, eq=False)
class PreparedTests:
    """A job made ready: standard columns, and the design rows that a change of usage compares."""

    job: CovariateJob
    run: PreparedJob
    columns: tuple[StandardDesign, ...]
    rows: tuple[Rows | None, ...]

    @classmethod
    def of(cls, job: CovariateJob) -> "PreparedTests":
        """Standardise the columns."""
        run = job.job.prepared()
        columns = tuple(StandardDesign.of(one.columns) for one in job.asked)
        fitted = run.spec.design.with_intercept
        rows = tuple(
            _compared(one, own, fitted) for one, own in zip(job.asked, columns, strict=True)
        )
        return cls(job, run, columns, rows)


_PREPARED: dict[str, PreparedTests] = {}


def _compared(one: Asked, own: StandardDesign, fitted: FloatArray) -> Rows | None:
    """Return the spots' rows (S, 1+F+1) without and with the level, or as they are and with +sd."""
    if not one.contrast:
        return None
    low, high = own.columns, own.columns + own.columns.std()
    if one.contrast != "+sd":
        low = np.full_like(low, (0.0 - own.centre[0]) / own.scale[0])
        high = np.full_like(high, (1.0 - own.centre[0]) / own.scale[0])
    rows = Rows.of_spots(np.column_stack([low, fitted]), np.column_stack([high, fitted]))
    return rows.some(QUICK_ROWS)


def screen_batch(job: CovariateJob, genes: Sequence[FittedGene]) -> list[Row]:
    """Test all covariates in a batch of genes."""
    prepared = job.prepared()
    return [screen_one(prepared, one) for one in genes]


@interrupts_heard()
def screen_one(prepared: PreparedTests, fitted: FittedGene) -> Row:
    """Test all covariates in one gene; never raises for what is wrong with it.

    Returns
    -------
    dict
        ``index`` of the gene, and ``tests``, a dict for each that was asked for.
    """
    try:
        tests = _tests(prepared, fitted)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        tests = [CovariateTest(reason=why)] * len(prepared.columns)
    turn = _turn(fitted.gene)
    rows = [
        _row(test, one, fitted.gene, turn) for test, one in zip(tests, prepared.rows, strict=True)
    ]
    return {"index": fitted.gene.index, "tests": _with_strongest(rows, prepared.job.asked)}


def _tests(prepared: PreparedTests, fitted: FittedGene) -> list[CovariateTest]:
    """Find the null, and test at it."""
    counts = np.asarray(fitted.gene.counts, dtype=np.float64)
    seen = counts[:, counts.sum(axis=0) > 0]
    why = untestable(seen, np.flatnonzero(counts.sum(axis=1) > 0))
    if fitted.params is None:
        why = f"the fit without it is {fitted.status}"
    if why:
        return [CovariateTest(reason=why)] * len(prepared.columns)
    spec = prepared.run.for_isoforms(counts.shape[1]).spec
    null = _null(spec, counts, fitted) if prepared.job.spatial else _white(spec, counts)
    return covariate_tests(spec.options, null, prepared.columns, prepared.job.refit_below)


def _null(spec: GLMMSpec, counts: FloatArray, fitted: FittedGene) -> EvaluatedObjective:
    """Return where the run's fit ended."""
    assert fitted.params is not None
    known = {name: np.array(value) for name, value in fitted.params.items()}
    coefficients = known.pop("coefficients")
    return null_at(spec, counts, known | {"beta": coefficients[:-1], "bias_eta": coefficients[-1]})


def _white(spec: GLMMSpec, counts: FloatArray) -> EvaluatedObjective:
    """Fit the run's model with theta at 0."""
    n_logits = counts.shape[1] - 1
    n_components = 1 if spec.share_variance else n_logits
    start = {
        "beta": np.zeros((spec.design.given.shape[1], n_logits)),
        "bias_eta": np.zeros(n_logits),
        "sigma": np.ones(n_components),
        "theta_logit": np.zeros(n_components),
    }
    fit = fit_gene(without_space(spec), counts, start, keep_end=True)
    if not fit.settled:
        raise ArithmeticError(f"the fit with white noise is {fit.status}")
    ended: EvaluatedObjective = fit.ended
    return ended


def _turn(gene: GeneInput) -> Turn:
    """Return coordinates of two isoforms that do not see which of them is the last; else none."""
    counts = np.asarray(gene.counts, dtype=np.float64)
    return Turn.by_counts(counts) if counts.shape[1] == 2 else NOTHING


def _row(test: CovariateTest, rows: Rows | None, gene: GeneInput, turn: Turn) -> Row:
    """Return a test as plain values, with the largest change of usage where that is known."""
    names = ("statistic", "df", "p", "kind", "score_p", "reason")
    row = {name: getattr(test, name) for name in names}
    if test.reason or test.estimate is None or rows is None:
        return row
    own = test.estimate
    coefficients = turn.from_logits(own.coefficients)
    turn = own.turn if turn.plain else turn
    largest = largest_change(coefficients, own.moves, own.covariance, own.sigma, rows, turn)
    changes = dict(zip(("change", "low", "high"), largest[1:], strict=True))
    return row | {"isoform": gene.isoforms[largest[0]]} | changes


def _with_strongest(rows: list[Row], asked: Sequence[Asked]) -> list[Row]:
    """Give a covariate of several columns the change of the level that changes usage most."""
    found = [row | {"contrast": one.contrast} for row, one in zip(rows, asked, strict=True)]
    for k, one in enumerate(asked):
        if one.contrast or found[k]["reason"]:
            continue
        own = [row for row, other in zip(found, asked, strict=True) if _is_of(one, other, row)]
        if own:
            most = max(own, key=lambda row: abs(row["change"]))
            found[k] |= {
                name: most[name] for name in ("contrast", "isoform", "change", "low", "high")
            }
    return found


def _is_of(whole: Asked, other: Asked, row: Row) -> bool:
    """Whether a row is of a level of this covariate, with a change."""
    return other.covariate == whole.covariate and bool(other.contrast) and "change" in row
