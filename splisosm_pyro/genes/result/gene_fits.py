"""The result of a run over many genes: tables, fitted models, AnnData, files."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from tqdm import tqdm

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.options import as_names
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.differential.of_fits import WithDifferentialUsage
from splisosm_pyro.genes.job import METHOD, Job, RunOptions
from splisosm_pyro.genes.kept_usage import glm_usage, unpacked
from splisosm_pyro.genes.population.figures import WithPopulationFigures
from splisosm_pyro.genes.population.of_fits import WithPopulation, with_population
from splisosm_pyro.genes.prediction import WithPrediction
from splisosm_pyro.genes.result import folder as result_folder
from splisosm_pyro.genes.result.anndata import Shown, as_anndata, into_anndata
from splisosm_pyro.genes.result.figures_of_tests import WithTestFigures
from splisosm_pyro.genes.result.table import effect_table, gene_table, in_order, isoform_table
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray
from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.paths import PathLike, expanded, made_folder
from splisosm_pyro.population.surface import Surface

Params = dict[str, Any]
Outcome = dict[str, Any]


@dataclass(frozen=True, eq=False)
class GeneFits(
    WithDifferentialUsage, WithPopulation, WithPopulationFigures, WithPrediction, WithTestFigures
):
    """What `fit_genes` found.

    Attributes
    ----------
    table : DataFrame
        One row a gene: ``gene``, ``n_isos``, ``reads``, ``occupied_spots``; ``status``, whether the
        fit is at its optimum; ``at_bound``, which of sigma and theta ended at a bound there, as
        theta does for most genes; ``unknown``, the coefficients that the counts do not determine;
        ``reason`` in words; ``sigma`` and ``theta`` (numbered where the variance is not shared),
        with their errors on the scales where these are symmetric, ``log_sigma_se`` and
        ``theta_logit_se``, infinite at a bound; ``usage_p``, the mean over the spots of the usage
        of isoform p (posterior means), and ``fitted_usage_range``, the largest range of them over
        the tissue; ``bias_eta_q`` and
        ``beta_<covariate>_q`` (logits against the last isoform, the user's units) with ``_se``;
        ``loglik_glm``, ``log_marginal_white`` (theta = 0), ``log_marginal`` and the gains of the
        spatial model over both (nats; with a prior on sigma the latter two hold its density);
        ``sv_stat``, ``sv_p``, ``sv_q``, a test of spatial variation beyond covariates and noise,
        and ``sv_reason`` where there is none; ``du_<covariate>_p``, ``_q``, all levels of a factor
        together, and ``du_reason``;
        under a population ``pop_sigma``, ``pop_theta``, posterior means, with ``_sd`` and the ends
        of 90 % intervals, ``_low`` and ``_high``, ``p_spatial``, the probability of a field with
        space, ``sv_lfdr``, 1 less that, the least ``lfsr_<covariate>``, ``pop_reason``;
        ``gradient_norm``, ``min_eigenvalue``, ``seconds``, ``seed``.
    isoforms : DataFrame
        One row an isoform: ``reads``, mean and range over the tissue of its usage (posterior
        means), ``delta_<contrast>`` with the ends of a 95 % interval, ``_low`` and ``_high``: the
        changes of ``effects`` against the reference.
    effects : DataFrame
        One row an isoform and contrast: ``covariate``, ``level`` and the ``reference`` that it is
        compared with (``+sd`` and nothing for a number); ``change`` of the usage, averaged over the
        random effect and over the spots with their other covariates, with the ends ``low`` and
        ``high`` of its 95 % interval; where the counts do not determine it, no change, -1 and 1,
        and the ``reason``. Under a population ``pop_change``, the ends of a 90 % interval,
        ``pop_low``, ``pop_high``, and ``lfsr``, the probability that the sign is wrong.
    removed : DataFrame
        Genes and isoforms that were not fitted, and why.
    slide : Slide
        The data that were fitted.
    options : RunOptions
    params : tuple of dict or None
        Fitted parameters of each gene, None where the fit broke.
    kept : tuple of ndarray or None
        Usage and its error (2, S, P) of each gene, in single precision, where they were asked for.
    surfaces : tuple of Surface or None
        Every gene's likelihood over sigma and theta, where a population was asked for.
    complete : bool
        False if the run was interrupted; the tables then hold the genes that were done.

    Examples
    --------
    >>> from splisosm_pyro import fit_genes, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=2, n_isos=2, depth=4.0, seed=0)
    >>> fits = fit_genes(tissue.counts.numpy(), coords=tissue.coords, progress=False)
    >>> fits.table[["gene", "status"]].values.tolist()
    [['gene_0', 'converged'], ['gene_1', 'converged']]
    >>> usage, error = fits.usage("gene_1")
    >>> usage.shape, type(fits.model("gene_1")).__name__
    ((37, 2), 'MultinomGLMM')
    """

    table: pd.DataFrame
    isoforms: pd.DataFrame
    effects: pd.DataFrame
    removed: pd.DataFrame
    slide: Slide
    options: RunOptions
    params: tuple[Params | None, ...]
    complete: bool = True
    kept: tuple[AnyArray | None, ...] = ()
    surfaces: tuple[Surface | None, ...] = ()

    @classmethod
    def of_outcomes(
        cls,
        slide: Slide,
        options: RunOptions,
        removed: pd.DataFrame,
        outcomes: Sequence[Outcome],
        complete: bool,
        progress: bool = False,
    ) -> Self:
        """Lay out what was done; ``outcomes`` as `fit_one` returns them, in any order."""
        ordered = sorted(outcomes, key=lambda outcome: int(outcome["index"]))
        fits = cls(
            table=gene_table(ordered),
            isoforms=isoform_table(ordered),
            effects=effect_table(ordered),
            removed=removed,
            slide=slide if complete else slide.take([one["index"] for one in ordered]),
            options=options,
            params=tuple(one["params"] for one in ordered),
            complete=complete,
            kept=tuple(map(_kept, ordered)) if options.keep_usage else (),
            surfaces=() if options.population == "none" else tuple(map(_surface, ordered)),
        )
        table, effects = with_population(fits, progress=progress)
        return replace(fits, table=in_order(table), effects=effects)

    @cached_property
    def kernel(self) -> CARKernel:
        """The spatial covariance that all genes share."""
        return Job.of(self.slide, self.options).prepared().kernel

    def row(self, gene: str | int) -> "pd.Series[Any]":
        """Return a gene's row of the table, by its name or its place there."""
        found: pd.Series[Any] = self.table.iloc[self._place(gene)]
        return found

    def counts(self, gene: str | int) -> AnyArray:
        """Return the counts (S, P) of a gene, by its name or its row in the table."""
        place = self._place(gene)
        for group in self.slide.groups:
            if place < len(group.gene_names):
                return np.asarray(group.counts[place])
            place -= len(group.gene_names)
        raise AssertionError("the table has more genes than the slide")

    def model(self, gene: str | int) -> MultinomGLM:
        """Return the fitted model of one gene.

        Parameters
        ----------
        gene : str or int
            Its name, or its row in the table.

        Returns
        -------
        MultinomGLMM or MultinomGLM
            A batch of this gene alone, at the optimum.

        Raises
        ------
        ValueError
            If there is no such gene, or its fit broke.

        Notes
        -----
        Costs one to three evaluations of the objective: the random effect is found again.
        """
        place = self._place(gene)
        params, row = self.params[place], self.table.iloc[place]
        if params is None:
            raise ValueError(f"gene {row['gene']!r} has no fit: {row['status']}")
        counts = self.counts(place).astype(np.float64)[None]
        options = self.options
        if not options.glmm:
            glm = MultinomGLM()
            glm.setup_data(counts, design_mtx=self.slide.design)
            glm.fit(quiet=True)
            return glm
        model = MultinomGLMM(
            share_variance=options.share_variance,
            var_fix_sigma=False,
            var_prior_model=options.prior,
            var_prior_model_params=options.prior_params,
            fitting_method=METHOD,
            fitting_configs=options.configs(counts.shape[-1]),
            coding="symmetric" if options.coding == "symmetric" else "reference",
        )
        model.setup_data(counts, corr_sp=self.kernel, design_mtx=self.slide.design)
        model.take_up([_earlier(row, params, counts.shape[1:])])
        model.fit(quiet=True)
        return model

    def usage(
        self, gene: str | int, *, errors: bool = True, moderated: bool | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return the usage (S, P) of a gene, its posterior mean, and its standard error.

        The mean is over random effect and nugget at the fitted parameters; the error has these
        parameters' part too, and is infinite where the counts do not determine the usage. Without
        ``errors`` it is NaN. What the fit has kept is read; otherwise the random effect is found
        again. ``moderated``: mean and error over sigma and theta as well, under the population;
        by default where the run has one.
        """
        if moderated if moderated is not None else bool(self.surfaces):
            return self.usage_under_population(gene, errors=errors)
        kept = self.kept[self._place(gene)] if self.kept else None
        if kept is not None:
            ratio, error = kept.astype(np.float64)
            return ratio, error if errors else np.full_like(ratio, np.nan)
        model = self.model(gene)
        if isinstance(model, MultinomGLMM):
            ratio = model.get_isoform_ratio("posterior_mean")[0].numpy()
            error = model.ratio_standard_errors()[0].numpy() if errors else None
        else:
            design = Job.of(self.slide, self.options).prepared().spec.design
            counts = self.counts(gene).astype(np.float64)
            ratio, error = glm_usage(design, fit_glm(counts, design.rows))
        return ratio, error if errors and error is not None else np.full_like(ratio, np.nan)

    def to_anndata(
        self,
        adata: Any = None,
        *,
        genes: str | Sequence[str] | None = None,
        errors: bool = True,
        inplace: bool = False,
        progress: bool = True,
    ) -> Any:
        """Return the fitted usage in an AnnData, spots x isoforms, for scanpy and squidpy.

        Parameters
        ----------
        adata : AnnData, optional
            The data that were fitted, or more of them: the result is a copy of it with the fitted
            usage beside what it has. Spots and isoforms go by their names.
        genes : str or sequence of str, optional
            Of which genes; all by default.
        errors : bool
            Also compute standard errors, a third of the time of the fit.
        inplace : bool
            Write into ``adata`` itself.
        progress : bool
            Show a bar.

        Returns
        -------
        AnnData
            ``layers['usage']``, ``layers['usage_se']``, as `usage` has them, under the population
            where the run has one, NaN for genes without a fit; ``var``: the isoforms' table and
            the main columns of the genes'; ``obs``: the covariates;
            ``obsm['spatial']``; ``obsp['spatial_connectivities']``: which spots are neighbours;
            ``uns['splisosm_pyro']['table']``: the genes' table. A new one has the counts as ``X``
            and ``layers['counts']``. In a given one nothing is overwritten: where a name is taken
            ours begins with ``splisosm_pyro_``.

        Raises
        ------
        ModuleNotFoundError
            If the package anndata is not installed.
        TypeError, ValueError
            If there is no such gene, or ``adata`` lacks the spots or all isoforms of the fit.
        """
        if adata is None and inplace:
            raise ValueError("inplace must come with adata, came without")
        wanted = self.table["gene"] if genes is None else as_names("genes", genes)
        places = list(dict.fromkeys(map(self._place, wanted)))
        if not places:
            raise ValueError("genes must name at least one gene, came none")
        found = [
            self._layers(place, errors)
            for place in tqdm(places, desc="to_anndata", unit="gene", disable=not progress)
        ]
        counts, usage, error = (np.column_stack(layer) for layer in zip(*found, strict=True))
        shown = Shown(
            self.table, self._isoforms(places), self.slide, self.options, counts, usage, error
        )
        return as_anndata(shown) if adata is None else into_anndata(adata, shown, inplace=inplace)

    def _isoforms(self, places: Sequence[int]) -> pd.DataFrame:
        """Return the rows of some genes' isoforms."""
        sizes = self.table["n_isos"].to_numpy()
        ends = np.cumsum(sizes)
        rows = [np.arange(ends[place] - sizes[place], ends[place]) for place in places]
        return self.isoforms.iloc[np.concatenate(rows)]

    def _layers(self, place: int, errors: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return counts, fitted usage and its error of one gene, (S, P) each."""
        counts = self.counts(place).astype(np.float64)
        if self.params[place] is None:
            missing = np.full_like(counts, np.nan)
            return counts, missing, missing
        return counts, *self.usage(place, errors=errors)

    def save(self, folder: PathLike) -> None:
        """Write tables (.csv), parameters and data (.npz) and options (.json); no pickles.

        Parameters
        ----------
        folder : str or path
            Created if it is not there; files of an earlier result are replaced.
        """
        result_folder.save(
            {field.name: getattr(self, field.name) for field in fields(self)}, made_folder(folder)
        )

    @classmethod
    def load(cls, folder: PathLike) -> "GeneFits":
        """Read what `save` wrote.

        Raises
        ------
        OSError
            If a file is missing.
        ValueError
            If a file was changed since: nothing of it is used then.
        """
        return cls(**result_folder.load(expanded(folder)))

    def _place(self, gene: str | int) -> int:
        """Return the row of a gene in the table."""
        if isinstance(gene, str):
            rows = np.flatnonzero(self.table["gene"] == gene)
            if len(rows) == 0:
                raise ValueError(f"there is no gene {gene!r} among the {len(self.table)} fitted")
            return int(rows[0])
        if isinstance(gene, bool) or not isinstance(gene, int | np.integer):
            raise TypeError(f"gene must be a name or a row of the table, came {gene!r}")
        if not -len(self.table) <= gene < len(self.table):
            raise ValueError(f"gene must be below {len(self.table)}, came {gene}")
        return int(gene) % len(self.table)

    def summary(self) -> str:
        """Return how many genes ended how, and what is not known of them, on one line."""
        ends = self.table["status"].str.partition(":")[0].value_counts()
        found = ", ".join(f"{n} {end}" for end, n in ends.items())
        limits = {
            "at_bound": "with sigma or theta at a bound",
            "unknown": "with coefficients that their counts do not determine",
        }
        for column, words in limits.items():
            n = int((self.table[column] != "").sum()) if column in self.table else 0
            found += f"; {n} {words}" if n else ""
        return f"{len(self.table)} genes: {found}" + ("" if self.complete else " (interrupted)")

    def __repr__(self) -> str:
        return f"<GeneFits of {self.summary()}>"

    def _repr_html_(self) -> str:
        """Show the summary and the first rows of the table, in a notebook."""
        return f"<p>{html.escape(self.summary())}</p>{self.table.head(10).to_html(index=False)}"


def _kept(outcome: Outcome) -> AnyArray | None:
    """Return the usage and its error (2, S, P) that a gene's fit has kept."""
    word = outcome.get("usage")
    return None if word is None else unpacked(word, int(outcome["row"]["n_isos"]))


def _surface(outcome: Outcome) -> Surface | None:
    """Return a gene's likelihood over sigma and theta, if it has one."""
    words = outcome.get("surface")
    return None if words is None else Surface.unpacked(words)


def _earlier(row: "pd.Series[Any]", params: Params, shape: tuple[int, ...]) -> GeneFit:
    """Return what is known of a gene's fit to counts of shape (S, P); its field is found again."""
    coefficients = np.array(params["coefficients"])
    known = {
        "beta": coefficients[:-1],
        "bias_eta": coefficients[-1],
        "nu": np.zeros((shape[0], shape[1] - 1)),
        "sigma": np.array(params["sigma"]),
        "theta_logit": np.array(params["theta_logit"]),
    }
    return GeneFit(
        params=known,
        standard_errors={},
        objective="log_marginal",
        value=float(row["log_marginal"]),
        status=str(row["status"]),
        reason=str(row["reason"]),
        gradient_norm=float(row["gradient_norm"]),
        min_eigenvalue=float(row["min_eigenvalue"]),
        epochs=1,
        values=np.empty(0),
    )
