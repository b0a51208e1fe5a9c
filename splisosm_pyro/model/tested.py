"""What a model offers of tests: tables of p-values, gene by gene."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.options import smooth_by_default
from splisosm_pyro.hypotheses.covariates import CovariateTest, white_covariate_score_test
from splisosm_pyro.hypotheses.many import false_discovery_rates
from splisosm_pyro.hypotheses.refits import covariate_tests
from splisosm_pyro.hypotheses.spatial import SpatialTest, spatial_score_test, untestable
from splisosm_pyro.hypotheses.white_null import fit_white_null
from splisosm_pyro.maths.axes import ArrayLike, DesignLike, as_design, covariate_names
from splisosm_pyro.maths.covariance.as_kernel import Kernel, as_kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.model.as_arrays import ModelArrays

Covariates = DesignLike | Mapping[str, Any]
COVARIATE_COLUMNS = ["statistic", "df", "p", "kind", "score_p", "reason"]


class WithTests:
    """The tests of a model with data; they fit what they need, and leave the model as it is."""

    def as_arrays(self, *, fitted: bool = False) -> ModelArrays:
        """Return data, parameters and last fit as plain arrays; ``fitted`` asks for a fit."""
        raise NotImplementedError

    def test_spatial(
        self, corr_sp: ArrayLike | Kernel | None = None, *, quiet: bool = True
    ) -> pd.DataFrame:
        """Test every gene for spatial variation beyond its covariates and white noise.

        A score test of theta = 0 at the white-noise fit, the same whichever isoform is the
        reference. The model need not be fitted; its options and priors do not matter.

        Parameters
        ----------
        corr_sp : Tensor or ndarray, shape (S, S), or a kernel object, optional
            The spatial covariance V that the test looks for; the model's own by default.
        quiet : bool
            No progress bar.

        Returns
        -------
        DataFrame
            One row a gene: ``statistic`` (in sd of the null, about its mean), ``p``, ``q``
            (Benjamini and Hochberg, over the genes tested), ``reason``: why there is no test, with
            NaN in the other columns.

        Raises
        ------
        TypeError, ValueError
            If the model has no data, or neither it nor the call has a spatial covariance.

        References
        ----------
        Kuonen (1999), doi:10.1093/biomet/86.4.929; docs/tests.md.

        Examples
        --------
        >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
        >>> tissue = simulate_tissue(200, 3, 2, design="none", depth=2.0, theta=0.9, sigma=1.5)
        >>> model = MultinomGLMM()
        >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
        >>> bool((model.test_spatial()["p"] < 0.05).any())
        True
        """
        model = self.as_arrays()
        kernel = _kernel(model, corr_sp)

        def test(counts: FloatArray) -> SpatialTest:
            return spatial_score_test(counts, model.design, kernel)

        tests = _each(model, test, lambda why: SpatialTest(reason=why), quiet)
        table = _table(tests, ["statistic", "p", "reason"])
        table.insert(2, "q", false_discovery_rates(table["p"].to_numpy()))
        table.index.name = "gene"
        return table

    def test_covariates(
        self,
        design: Covariates,
        *,
        spatial: bool = True,
        refit_below: float = 0.2,
        quiet: bool = True,
    ) -> pd.DataFrame:
        """Test covariates that the model does not have, one by one, in every gene.

        A GLMM is fitted without them, by a marginal method with free sigma; each is then tested by
        its score, given the spatial field, and by a likelihood ratio where that finds something. A
        GLM has no field: it is tested at the fit with white noise.

        Parameters
        ----------
        design : Tensor, ndarray or DataFrame, shape (S, K), or mapping of str to (S,) or (S, k)
            Numbers, each column a covariate; in a DataFrame or mapping, words are factors, and the
            columns of a matrix in a mapping are tested together.
        spatial : bool
            Whether a field is taken into account. Without it smooth covariates of no effect are
            found far too often.
        refit_below : float
            The score test's p below which the model is refitted with the covariate for the
            likelihood ratio: 0 for none, 1 for all.
        quiet : bool
            No progress bar.

        Returns
        -------
        DataFrame
            One row a gene and covariate: ``gene``, ``covariate``, ``statistic`` (chi-square),
            ``df``, ``p``, ``q`` (over the genes, for each covariate), ``kind`` of the test,
            ``score_p``, ``reason``: why there is no test, with NaN in the other columns.

        Raises
        ------
        TypeError, ValueError
            If the model has no data, or an argument is not legal.

        Examples
        --------
        >>> from splisosm_pyro import MultinomGLM, simulate_tissue
        >>> tissue = simulate_tissue(200, 2, 2, design="none", depth=2.0, sigma=0.0)
        >>> model = MultinomGLM()
        >>> model.setup_data(tissue.counts)
        >>> list(model.test_covariates({"layer": tissue.layers})["df"])
        [4, 4]
        """
        model = self.as_arrays()
        named = named_covariates(design, model.counts.shape[1])
        if not 0.0 <= refit_below <= 1.0:
            raise ValueError(f"refit_below must be within 0 and 1, came {refit_below!r}")
        field = spatial and model.spec is not None
        tester = _with_field(model, refit_below) if field else _without_field(model)
        columns = [StandardDesign.of(one) for one in named.values()]

        def broken(why: str) -> list[CovariateTest]:
            return [CovariateTest(reason=why)] * len(columns)

        tests = _each(model, lambda counts: tester(counts, columns), broken, quiet)
        table = _table([one for gene in tests for one in gene], COVARIATE_COLUMNS)
        table.insert(0, "gene", np.repeat(np.arange(len(tests)), len(columns)))
        table.insert(1, "covariate", list(named) * len(tests))
        q = table.groupby("covariate", sort=False)["p"].transform(
            lambda p: false_discovery_rates(p.to_numpy())
        )
        table.insert(5, "q", q)
        return table


T = TypeVar("T")
Tester = Callable[[FloatArray, list[StandardDesign]], list[CovariateTest]]


def _kernel(model: ModelArrays, corr_sp: ArrayLike | Kernel | None) -> Kernel:
    """Return the covariance that is tested for."""
    if corr_sp is not None:
        return as_kernel(corr_sp, None, None, model.counts.shape[1])
    if model.spec is None:
        raise ValueError("corr_sp must be given: a GLM has no spatial covariance of its own")
    return model.spec.kernel


def _each(
    model: ModelArrays, test: Callable[[FloatArray], T], broken: Callable[[str], T], quiet: bool
) -> list[T]:
    """Test every gene; what raises becomes a reason."""
    tests: list[T] = []
    for counts in tqdm(model.counts, desc="tests", unit="gene", disable=quiet):
        try:
            tests.append(test(counts))
        except (ArithmeticError, ValueError) as error:
            tests.append(broken(f"{type(error).__name__}: {error}"))
    return tests


def _table(tests: Sequence[Any], names: list[str]) -> pd.DataFrame:
    """Put tests under each other."""
    rows = [[getattr(one, name) for name in names] for one in tests]
    return pd.DataFrame(rows, columns=names)


def _with_field(model: ModelArrays, refit_below: float) -> Tester:
    """Test at a spatial fit."""
    assert model.spec is not None
    spec = marginal_spec(model.spec, model.counts.shape[2])
    start = _start(spec, model.counts.shape[2] - 1)

    def tests(counts: FloatArray, columns: list[StandardDesign]) -> list[CovariateTest]:
        seen = counts[:, counts.sum(axis=0) > 0]
        if why := untestable(seen, np.flatnonzero(counts.sum(axis=1) > 0), None):
            return [CovariateTest(reason=why)] * len(columns)
        null = fit_gene(spec, counts, start, keep_end=True)
        if not null.settled:
            return [CovariateTest(reason=f"without it the fit is {null.status}")] * len(columns)
        return covariate_tests(spec.options, null.ended, columns, refit_below)

    return tests


def _without_field(model: ModelArrays) -> Tester:
    """Test at the white-noise fit."""

    def tests(counts: FloatArray, columns: list[StandardDesign]) -> list[CovariateTest]:
        seen = counts[:, counts.sum(axis=0) > 0]
        if why := untestable(seen, np.flatnonzero(counts.sum(axis=1) > 0), None):
            return [CovariateTest(reason=why)] * len(columns)
        return white_covariate_score_test(fit_white_null(seen, model.design), columns)

    return tests


def marginal_spec(spec: GLMMSpec, n_isos: int) -> GLMMSpec:
    """Return what the null is fitted by: sigma free, a marginal method, the spec's own if it is."""
    if spec.joint:
        smooth = smooth_by_default("quadrature", n_isos)
        spec = spec.with_nugget("quadrature", smooth)
    return replace(spec, fix_sigma=False)


def _start(spec: GLMMSpec, n_logits: int) -> Params:
    """Return where the null's search starts; it looks around by itself."""
    n_components = 1 if spec.share_variance else n_logits
    return {
        "beta": np.zeros((spec.design.given.shape[1], n_logits)),
        "bias_eta": np.zeros(n_logits),
        "sigma": np.ones(n_components),
        "theta_logit": np.zeros(n_components),
    }


def named_covariates(design: Covariates, n_spots: int) -> dict[str, FloatArray]:
    """Return the columns (S, k) of every covariate by its name, words as indicators.

    Raises
    ------
    TypeError, ValueError
        If a covariate has another number of spots, is constant, or holds a value that is none.

    Examples
    --------
    >>> named_covariates({"region": ["a", "b", "c"], "age": [1, 2, 3]}, 3)["region"].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(design, pd.DataFrame):
        design = {str(name): design[name] for name in design}
    if not isinstance(design, Mapping):
        values = np.asarray(design)
        if values.ndim != 2:
            raise ValueError(f"design must have shape (S, K) or be a mapping, came {values.shape}")
        design = {name: values[:, f] for f, name in enumerate(covariate_names(design))}
    return {str(name): _covariate(str(name), value, n_spots) for name, value in design.items()}


def _covariate(name: str, value: Any, n_spots: int) -> FloatArray:
    """Return the columns of one covariate."""
    array = np.asarray(value)
    if array.ndim == 1 and not pd.api.types.is_numeric_dtype(array.dtype):
        words = pd.Series(array)
        if words.isna().any():
            raise ValueError(f"covariate {name!r} must have a value at every spot, came a gap")
        array = pd.get_dummies(words, drop_first=True).to_numpy(dtype=np.float64)
    columns = array[:, None] if array.ndim == 1 else array
    try:
        return np.asarray(as_design(columns, n_spots).numpy())
    except (TypeError, ValueError) as error:
        raise type(error)(f"covariate {name!r}: {error}") from error
