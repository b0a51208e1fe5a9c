"""What a model says at its current parameters beyond the objective, gene by gene.

The certificate of ``log_marginal``, posterior means of the isoform ratios, standard errors, and the
ratios at spots that were not fitted: spots of no reads on a larger graph.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from splisosm_pyro.fit.accelerator.lockstep_fit import each_gene
from splisosm_pyro.fit.glm.standard_design import StandardDesign
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
from splisosm_pyro.maths.axes import ArrayLike, DesignLike
from splisosm_pyro.maths.covariance.as_kernel import as_kernel
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.covariance.dense import as_matrix
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.model.as_arrays import ModelArrays

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


def on_more_spots(spec: GLMMSpec, kernel: Kernel, design: FloatArray) -> GLMMSpec:
    """Return the specification on a larger graph; ``design`` (M, F) is that of the new spots.

    Standard columns stay what they were on the fitted spots, and so do the coefficients.
    """
    own = spec.design
    return replace(
        spec,
        kernel=kernel,
        design=StandardDesign(
            np.vstack([own.given, design]),
            np.vstack([own.columns, (design - own.centre) / own.scale]),
            own.centre,
            own.scale,
        ),
    )


def with_empty_spots(counts: FloatArray, n_new: int) -> FloatArray:
    """Return counts (*, S, P) followed by spots without reads, (*, S + M, P)."""
    empty = np.zeros((*counts.shape[:-2], n_new, counts.shape[-1]))
    return np.concatenate([counts, empty], axis=-2)


class WithSpec(Protocol):
    """A model with a spatial field and data."""

    def as_arrays(self, *, fitted: bool = False) -> ModelArrays:
        """Return data, parameters and last fit as plain arrays."""
        ...

    def _spec(self) -> GLMMSpec:
        """Say what is fitted."""
        ...


def inputs(self: WithSpec) -> tuple[GLMMSpec, FloatArray, list[Params]]:
    """Return what is fitted, the counts, and every gene's parameters in force."""
    model = self.as_arrays()
    return self._spec(), model.counts, model.each_params()


def predict(
    self: WithSpec,
    *,
    coords: ArrayLike | None = None,
    corr_sp: ArrayLike | Kernel | None = None,
    design_mtx: DesignLike | None = None,
    errors: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Return the usage of all isoforms at M new spots, and its standard error.

    Parameters
    ----------
    coords : array_like, shape (M, d)
        Places of the new spots, where the model's kernel was made by ``CARKernel.from_coords``:
        the graph of old and new spots is made anew, with the same k and rho.
    corr_sp : Kernel or array_like, shape (S + M, S + M)
        In the place of ``coords``: the spatial correlation of all spots, the fitted ones first.
    design_mtx : array_like, shape (M, F)
        Covariates of the new spots, if the model has some.
    errors : bool
        Without them, NaN, it is a few times quicker.

    Returns
    -------
    usage : ndarray, shape (G, M, P)
        Posterior means; a new spot has no reads of its own.
    error : ndarray, shape (G, M, P)
        With the fitted parameters' own uncertainty; infinite where they do not determine it.

    Raises
    ------
    ValueError
        If there is neither ``coords`` nor ``corr_sp`` or both, or a shape is wrong.

    Notes
    -----
    The parameters stay at the fit; with a CAR kernel new spots change the correlation of the
    old ones a little, as neighbours do. Costs an evaluation of the objective a gene, with
    errors two for each parameter.

    Examples
    --------
    >>> from splisosm_pyro import CARKernel, MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=60, n_genes=1, depth=3.0, design="none", seed=0)
    >>> model = MultinomGLMM(fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=CARKernel.from_coords(tissue.coords))
    >>> model.fit(quiet=True)
    >>> usage, error = model.predict(coords=tissue.coords[:2] + 0.3)
    >>> usage.shape, bool((error > 0).all())
    ((1, 2, 3), True)
    """
    spec, counts, params = inputs(self)
    kernel = _larger(spec.kernel, coords, corr_sp)
    n_old = counts.shape[1]
    n_new = kernel.n_spots - n_old
    if n_new < 1:
        raise ValueError(
            f"corr_sp must be of the {n_old} fitted spots and new ones, came {kernel.n_spots}"
        )
    design = _rows(design_mtx, n_new, spec.design.given.shape[1])
    wide, more = on_more_spots(spec, kernel, design), with_empty_spots(counts, n_new)
    usage = mean_ratios(wide, more, params)[:, n_old:]
    if not errors:
        return usage, np.full_like(usage, np.nan)
    found = [gene_errors(wide, one, own) for one, own in zip(more, params, strict=True)]
    return usage, np.stack([one.ratio[n_old:] for one in found])


def _larger(kernel: Kernel, coords: ArrayLike | None, corr_sp: ArrayLike | Kernel | None) -> Kernel:
    """Return the kernel of old and new spots."""
    if (coords is None) == (corr_sp is None):
        raise ValueError("predict needs either coords or corr_sp")
    if corr_sp is not None:
        size = corr_sp.n_spots if isinstance(corr_sp, Kernel) else len(corr_sp)
        return as_kernel(corr_sp, None, None, size)
    if not isinstance(kernel, CARKernel) or kernel.made_from is None:
        raise ValueError(
            "coords need a kernel made by CARKernel.from_coords, came another one: give corr_sp of "
            "old and new spots"
        )
    old, k = kernel.made_from
    new = as_matrix(coords, "coords")[0]
    if new.shape[1] != old.shape[1]:
        raise ValueError(f"coords must have {old.shape[1]} columns, came {new.shape[1]}")
    return CARKernel.from_coords(np.vstack([old, new]), k, kernel.rho)


def _rows(design_mtx: DesignLike | None, n_new: int, n_factors: int) -> FloatArray:
    """Return the covariates (M, F) of the new spots."""
    given = np.empty((n_new, 0)) if design_mtx is None else design_mtx
    rows = as_matrix(given, "design_mtx")[0]
    if rows.shape != (n_new, n_factors):
        raise ValueError(f"design_mtx must be ({n_new}, {n_factors}), came {rows.shape}")
    return rows
