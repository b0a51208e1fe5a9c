"""A fitted model taken apart for a sensitivity study, and what a study hands back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.options import choose
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import Variable, stated_on
from splisosm_pyro.model import MultinomGLM, MultinomGLMM
from splisosm_pyro.posterior.draws.arguments import Labels
from splisosm_pyro.studies.sensitivity import figures as plots
from splisosm_pyro.studies.sensitivity.labelled import tidy

MAP_IN = ("sigma", "sigma_sq", "log_sigma")
# Usage maps of all genes and priors together may take this many bytes.
MAPS_BUDGET = 256 * 2**20
BROKEN = (ArithmeticError, ValueError, np.linalg.LinAlgError)


@dataclass(frozen=True, eq=False)
class PriorSensitivity:
    """What a study found; ``dataset, table = study`` takes it apart.

    Attributes
    ----------
    how : str
        ``'refit'``, ``'power_scaling'`` or ``'local'``.
    dataset : xarray Dataset
        Labelled arrays; ``attrs['map_in']`` names the variable of sigma in whose density the modes
        are meant.
    table : DataFrame
        The same, tidy: one row for every gene, prior (or direction) and entry of a parameter.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, design="none", seed=0)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> model.fit(quiet=True)
    >>> from splisosm_pyro.studies import prior_sensitivity
    >>> study = prior_sensitivity(model, how="local")
    >>> study.how, "theta_logit" in study.dataset
    ('local', True)
    """

    how: str
    dataset: xr.Dataset
    table: pd.DataFrame

    def __iter__(self) -> Iterator[Any]:
        return iter((self.dataset, self.table))

    def plot_estimates(self, gene: Any = None, parameter: str = "log_sigma") -> Figure:
        """Draw a refitted parameter under every prior, with 95 % intervals."""
        self._only("refit")
        return plots.estimates_figure(self.dataset, gene, parameter)

    def plot_maps(
        self, coords: Any, first: str, second: str, gene: Any = None, isoform: int = 0
    ) -> Figure:
        """Draw the usage of an isoform under two priors, and its difference, on the tissue."""
        self._only("refit")
        return plots.maps_figure(self.dataset, coords, (first, second), gene, isoform)

    def plot_densities(self, gene: Any = None, parameters: Sequence[str] | None = None) -> Figure:
        """Draw the posterior under scaled priors and scaled likelihoods."""
        self._only("power_scaling")
        return plots.densities_figure(self.dataset, gene, parameters)

    def plot_quantities(self, gene: Any = None, parameter: str = "theta") -> Figure:
        """Draw mean, sd and quantiles against the power."""
        self._only("power_scaling")
        return plots.quantities_figure(self.dataset, gene, parameter)

    def plot_ranking(self, parameter: str = "theta_logit", top: int = 30) -> Figure:
        """Draw the genes whose parameter is most sensitive."""
        return plots.ranking_figure(self.table, self.how, parameter, top)

    def _only(self, how: str) -> None:
        if self.how != how:
            raise ValueError(f"this figure needs how={how!r}, came a study by {self.how!r}")


@dataclass(frozen=True, eq=False)
class Study:
    """A fitted model taken apart, once for all genes."""

    spec: GLMMSpec
    counts: FloatArray
    params: list[Any]
    places: tuple[int, ...]
    labels: Labels
    map_in: Variable
    moved: bool
    progress: bool

    @classmethod
    def of_model(
        cls, model: MultinomGLM, map_in: Variable | None, genes: Any, names: Any, progress: bool
    ) -> "Study":
        """Check the model and the arguments that every study has."""
        if not isinstance(model, MultinomGLMM):
            raise TypeError(f"model must be a fitted MultinomGLMM, came {type(model).__name__}")
        if model.objective != "log_marginal":
            raise ValueError(
                "model must be fitted by a marginal fitting_method, the joint density says next to "
                f"nothing about sigma and theta; came {model.fitting_method!r}"
            )
        arrays = model.as_arrays(fitted=True)
        spec = arrays.spec
        assert spec is not None  # a GLMM has one
        wanted: Any = map_in or spec.priors.sigma.variable
        choose("map_in", wanted, MAP_IN)
        places, labels = arrays.chosen(genes, names)
        counts, params = arrays.counts, arrays.each_params()
        moved = stated_on(spec.priors.sigma, wanted) is not spec.priors.sigma
        return cls(spec, counts, params, places, labels, wanted, moved, progress)

    def genes(self) -> Iterator[tuple[int, FloatArray, Params]]:
        """Yield place in the result, counts and parameters of every gene."""
        for place, gene in enumerate(tqdm(self.places, unit="gene", disable=not self.progress)):
            yield place, self.counts[gene], self.params[gene]

    def attrs(self, how: str) -> dict[str, Any]:
        """Return what is true of all of the study."""
        words = {"sigma": "sigma", "sigma_sq": "sigma^2", "log_sigma": "log sigma"}
        meant = f"modes of the density in {words[self.map_in]}, theta, beta and bias_eta"
        return {"how": how, "map_in": self.map_in, "map": meant}

    def keeps_maps(self, maps: bool | None, n_sets: int) -> bool:
        """Whether usage maps are kept."""
        cells = len(self.places) * n_sets * self.counts.shape[1] * self.counts.shape[2]
        return 16 * cells <= MAPS_BUDGET if maps is None else maps


def result_of(
    how: str,
    study: Study,
    dataset: xr.Dataset,
    by: list[str],
    columns: Mapping[str, str],
    common: tuple[str, ...],
) -> PriorSensitivity:
    """Make the tidy table of a dataset."""
    table = tidy(dataset, by, columns, [name for name in common if name in dataset])
    table.insert(list(table.columns).index(by[0]) + 1, "map_in", study.map_in)
    if "shift" in table:
        table["shift_in_se"] = table["shift"] / table["se"]
    return PriorSensitivity(how, dataset, table)
