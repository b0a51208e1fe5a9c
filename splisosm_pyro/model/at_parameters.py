"""What a model says at its current parameters beyond the objective, gene by gene.

The certificate of ``log_marginal``, posterior means of the isoform ratios, standard errors.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from splisosm_pyro.fit.accelerator.lockstep_fit import each_gene
from splisosm_pyro.fit.glmm.marginal_error import (
    NOT_KNOWN,
    Conditional,
    MarginalError,
    gene_generator,
    marginal_error,
)
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.uncertainty import GeneErrors, gene_errors, unknown_errors
from splisosm_pyro.fit.options import positive_int
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard

# Fewer weights have no tail to fit.
FEWEST_DRAWS = 30


def marginal_errors(
    spec: GLMMSpec,
    counts: FloatArray,  # (G, S, P)
    params: Sequence[Params],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return correction, standard error and Pareto's k of every gene."""
    if positive_int("draws", draws) < FEWEST_DRAWS:
        raise ValueError(f"draws must be at least {FEWEST_DRAWS}, came {draws}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number that is not negative, came {seed!r}")
    rows = [
        _marginal_error(spec, one, own, draws, int(seed))
        for one, own in zip(counts, params, strict=True)
    ]
    columns = ["correction", "standard_error", "pareto_k"]
    values = [(row.correction, row.standard_error, row.pareto_k) for row in rows]
    index = pd.RangeIndex(len(rows), name="gene")
    return pd.DataFrame(values, index=index, columns=columns, dtype=np.float64)


def _marginal_error(
    spec: GLMMSpec, counts: FloatArray, params: Params, draws: int, seed: int
) -> MarginalError:
    """One gene's; not known where its mode is not found."""
    try:
        at = Conditional.of_gene(spec, counts, params)
    except ArithmeticError:
        return NOT_KNOWN
    return marginal_error(at, draws, gene_generator(seed, counts))


@interrupts_heard()
def mean_ratios(
    spec: GLMMSpec,
    counts: FloatArray,  # (G, S, P)
    params: Sequence[Params],
) -> FloatArray:  # (G, S, P)
    """Return the posterior mean of every gene's isoform ratios given its outer parameters."""
    ratios = [
        Conditional.of_gene(spec, one, own).usage(spec.design.with_intercept).mean
        for one, own in zip(counts, params, strict=True)
    ]
    return np.stack(ratios)


@interrupts_heard()
def standard_errors(
    spec: GLMMSpec,
    counts: FloatArray,  # (G, S, P)
    params: Sequence[Params],
    fits: Sequence[GeneFit],
    device: torch.device,
) -> list[GeneErrors]:
    """Return every gene's standard errors; nothing is known where the fit or the errors break."""

    def errors(gene: int, kernel: Kernel = spec.kernel) -> GeneErrors:
        one, own, fit = counts[gene], params[gene], fits[gene]
        if not fit.settled and fit.epochs == 0:
            return unknown_errors(one, own)
        try:
            return gene_errors(replace(spec, kernel=kernel), one, own)
        except (ArithmeticError, ValueError):
            return unknown_errors(one, own)

    return each_gene(errors, spec.kernel, counts, device)
