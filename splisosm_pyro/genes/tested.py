"""A gene's tests as columns of the table: of space (``sv_``), of each covariate (``du_``)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.genes.job import PreparedJob
from splisosm_pyro.hypotheses.covariates import CovariateTest, white_covariate_score_test
from splisosm_pyro.hypotheses.refits import fitted_covariate_test
from splisosm_pyro.hypotheses.spatial import SpatialTest, spatial_score_test, untestable
from splisosm_pyro.hypotheses.white_null import fit_white_null
from splisosm_pyro.maths.numeric.arrays import FloatArray

Row = dict[str, Any]


def columns_of_tests(prepared: PreparedJob, counts: FloatArray, fit: GeneFit | None) -> Row:
    """Return the columns of one gene, counts (S, P); a test that breaks is a reason.

    ``fit`` is that of the GLMM; without it covariates are tested against white noise alone.
    """
    if not prepared.job.options.tests:
        return {}
    space = _tried(
        lambda: spatial_score_test(counts, prepared.spec.design, prepared.kernel),
        lambda why: SpatialTest(reason=why),
    )
    row: Row = {"sv_reason": space.reason}
    if not space.reason:
        row |= {"sv_stat": space.statistic, "sv_p": space.p}
    if not prepared.job.design.covariates:
        return row
    reasons = []
    for name, own in prepared.job.design.covariates:
        test = _tried(
            partial(_covariate, prepared, counts, fit, own),
            lambda why: CovariateTest(reason=why),
        )
        if test.reason:
            reasons.append(f"{name}: {test.reason}")
        else:
            row[f"du_{name}_p"] = test.p
    return row | {"du_reason": "; ".join(reasons)}


def _covariate(
    prepared: PreparedJob, counts: FloatArray, fit: GeneFit | None, own: slice
) -> CovariateTest:
    """Test one covariate that was fitted."""
    seen = counts[:, counts.sum(axis=0) > 0]
    if why := untestable(seen, np.flatnonzero(counts.sum(axis=1) > 0)):
        return CovariateTest(reason=why)
    if fit is not None:
        return fitted_covariate_test(prepared.spec, counts, fit, own)
    given = prepared.spec.design.given
    less, tested = (
        StandardDesign.of(np.delete(given, own, axis=1)),
        StandardDesign.of(given[:, own]),
    )
    return white_covariate_score_test(fit_white_null(seen, less), [tested])[0]


def _tried(test: Callable[[], Any], broken: Callable[[str], Any]) -> Any:
    """Return a test, or what stands for one that broke."""
    try:
        return test()
    except Exception as error:
        return broken(f"{type(error).__name__}: {error}")
