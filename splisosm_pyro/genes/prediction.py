"""Usage at spots that a run was not fitted to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from splisosm_pyro.genes.data.covariates import Covariate
from splisosm_pyro.genes.data.names import listed
from splisosm_pyro.genes.data.places import graph_of
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.job import Job, RunOptions
from splisosm_pyro.genes.population.usage import usage_under
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, StrArray
from splisosm_pyro.model.at_parameters import on_more_spots, with_empty_spots
from splisosm_pyro.population.effects import GeneUnderPopulation


class WithPrediction:
    """The predictions of a run."""

    slide: Slide
    options: RunOptions
    surfaces: tuple[Any, ...]
    _place: Callable[[str | int], int]
    counts: Callable[[str | int], AnyArray]
    model: Callable[[str | int], Any]
    _under_population: Callable[[int], GeneUnderPopulation | None]

    def predict(
        self,
        gene: str | int,
        coords: AnyArray,
        covariates: pd.DataFrame | None = None,
        *,
        library: Sequence[str] | None = None,
        errors: bool = True,
        moderated: bool | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return a gene's usage (M, P) at M new spots, its posterior mean, and its standard error.

        Parameters
        ----------
        gene : str or int
            Its name, or its row in the table.
        coords : ndarray, shape (M, d)
            Places of the new spots, in the unit of the fitted ones: all are joined to one graph.
        covariates : DataFrame, M rows
            The run's covariates at the new spots, by their names.
        library : sequence of str, optional
            The slide of each new spot, where the run had several.
        errors : bool
            Without them, NaN, it is a few times quicker.
        moderated : bool, optional
            Under the population, sigma and theta averaged; by default where the run has one.
            Otherwise the parameters stay at the fit.

        Returns
        -------
        usage, error : ndarray, shape (M, P)
            The error is infinite where the counts do not determine the usage.

        Raises
        ------
        ValueError
            If the run has no spatial model or came with a graph of its own, the gene has no fit, or
            places, covariates or slides are not those of M spots.

        Examples
        --------
        >>> from splisosm_pyro import fit_genes, simulate_tissue
        >>> tissue = simulate_tissue(n_spots=60, n_genes=1, n_isos=2, depth=3.0, seed=0)
        >>> fits = fit_genes(tissue.counts.numpy(), coords=tissue.coords, progress=False)
        >>> usage, error = fits.predict("gene_0", tissue.coords[:2] + 0.3)
        >>> usage.sum(axis=1).round(6).tolist(), bool((error < 0.5).all())
        ([1.0, 1.0], True)
        """
        kernel, rows = self._with_new_spots(coords, covariates, library)
        place, n_old = self._place(gene), self.slide.n_spots
        under = None
        if moderated if moderated is not None else bool(self.surfaces):
            under = self._under_population(place)
        if under is None:
            usage, error = self.model(place).predict(
                corr_sp=kernel, design_mtx=rows if rows.shape[1] else None, errors=errors
            )
            return usage[0], error[0]
        counts = with_empty_spots(self.counts(place).astype(np.float64), len(rows))
        prepared = Job.of(self.slide, self.options).prepared().for_isoforms(counts.shape[1])
        spec = on_more_spots(prepared.spec, kernel, rows)
        usage, error = usage_under(spec, counts, under, errors=errors)
        return usage[n_old:], error[n_old:]

    def _with_new_spots(
        self, coords: AnyArray, covariates: pd.DataFrame | None, library: Sequence[str] | None
    ) -> tuple[CARKernel, FloatArray]:
        """Return the kernel of old and new spots, and the covariates (M, F) of the new ones."""
        slide, new = self.slide, np.asarray(coords, dtype=np.float64)
        if not self.options.glmm:
            raise ValueError("predict needs the spatial model, this run has model='glm'")
        if slide.adjacency is not None:
            raise ValueError(
                "predict needs spots joined by their coordinates, this run came with a graph: use "
                "model(gene).predict(corr_sp=...) with that of all spots"
            )
        if new.ndim != 2 or new.shape[1] != slide.coords.shape[1] or not np.isfinite(new).all():
            raise ValueError(
                f"coords must be finite and of shape (M, {slide.coords.shape[1]}), came {new.shape}"
            )
        places = np.vstack([slide.coords, new])
        slides = _slides(slide, library, len(new))
        wide = replace(slide, coords=places, library=slides, covariates=(), groups=())
        graph, apart = graph_of(wide, self.options.k)
        rows = _columns(slide.covariates, covariates, len(new))
        return CARKernel(graph, self.options.rho, apart), rows


def _slides(slide: Slide, library: Sequence[str] | None, n_new: int) -> StrArray | None:
    """Return the slide of every old and new spot, None where the run has one."""
    if slide.library is None:
        if library is not None:
            raise ValueError("library names slides of new spots, this run has one slide")
        return None
    if library is None or len(library) != n_new:
        came = "none" if library is None else str(len(library))
        raise ValueError(f"library must name the slides of {n_new} new spots, came {came}")
    return np.append(slide.library, np.asarray(library, dtype=str))


def _columns(known: Sequence[Covariate], given: pd.DataFrame | None, n_new: int) -> FloatArray:
    """Return the design (M, F) of new spots."""
    if not known:
        return np.empty((n_new, 0))
    names = [str(c) for one in known for c in ([one.name] if one.levels else one.columns)]
    if given is None or len(given) != n_new or not set(names) <= set(map(str, given.columns)):
        came = "none" if given is None else f"{len(given)} rows of {listed(list(given.columns))}"
        raise ValueError(f"covariates must give {listed(names)} at {n_new} new spots, came {came}")
    parts = []
    for one in known:
        if not one.levels:
            parts.append(given[list(one.columns)].to_numpy(dtype=np.float64))
            continue
        words = given[one.name].astype(str)
        strange = sorted(set(words) - set(one.levels))
        if strange:
            raise ValueError(
                f"covariate {one.name!r} has the levels {listed(one.levels)}, came {strange[0]!r}"
            )
        parts.append(np.column_stack([words == level for level in one.levels[1:]]).astype(float))
    rows = np.hstack(parts)
    if not np.isfinite(rows).all():
        raise ValueError("covariates must be finite numbers, came NaN or infinity")
    return rows
