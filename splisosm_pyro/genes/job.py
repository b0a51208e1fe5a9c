"""What is fitted to every gene, small enough to send along with every batch."""

import zlib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import joblib
import numpy as np
from scipy.sparse import csc_array

from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.options import SMOOTHS, GLMMOptions, boolean, choose, smooth_by_default
from splisosm_pyro.genes.contrasts import Asked, Contrast, checked_contrasts, contrasts_of
from splisosm_pyro.genes.data.covariates import Design, design_of
from splisosm_pyro.genes.data.places import graph_of
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.effects import PreparedContrast
from splisosm_pyro.maths.axes import as_design
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.priors import Priors, prior_from_name
from splisosm_pyro.maths.priors.symmetric import check_coding
from splisosm_pyro.population.forms import FORMS

PriorName = str
ModelName = Literal["glmm", "glm"]
METHOD: Literal["marginal_newton"] = "marginal_newton"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is fitted to every gene.

    Attributes
    ----------
    model : {'glmm', 'glm'}
        With 'glmm' the GLM and the white-noise model are fitted as well, to compare with.
    nugget : {'quadrature', 'laplace'}
        How the white part of the random effect is eliminated: by exact integration, or at its mode.
    smooth : {'auto', 'ep', 'laplace'}
        How the smooth part is: by expectation propagation or Laplace's method; 'auto' takes the
        first for genes of up to three isoforms where the white part is integrated.
    share_variance : bool
        One sigma and theta for all logits of a gene.
    coding : {'symmetric', 'reference'}
        Whether every isoform has a field of its own, or every logit against the last isoform.
    prior : str
        Of sigma, by its name; see `MultinomGLMM`. 'none': maximum likelihood.
    prior_params : dict, optional
        Of the prior; default as documented for `MultinomGLMM`.
    k : int
        Mutual nearest neighbours of a spot.
    rho : float
        Of the CAR kernel.
    standardise : bool
        Kept for older scripts: covariates are fitted in standard units in any case, and estimates
        come back in the user's.
    seed : int
        From which each gene's own seed is derived.
    fitting_configs : dict
        Further options of the fit, see `MultinomGLMM`.
    contrasts : {'reference', 'pairwise'} or sequence of (str, str or float, str or float)
        What is compared, see `contrasts_of`.
    sensitivity : tuple of (str, dict), optional
        Priors of sigma, by name and parameters, whose effect on the estimates is a column each.
    keep_usage : bool
        Keep the fitted usage of every isoform at every spot, and its error.
    tests : bool
        Test every gene for space, and for each covariate.
    population : {'none', 'gaussian', 'mixture'}
        Form of the distribution of sigma and theta over genes.
    """

    model: ModelName = "glmm"
    nugget: str = "quadrature"
    smooth: str = "auto"
    share_variance: bool = True
    coding: str = "symmetric"
    prior: PriorName = "half_normal"
    prior_params: dict[str, float] | None = None
    k: int = 6
    rho: float = 0.99
    standardise: bool = False
    seed: int = 0
    fitting_configs: dict[str, Any] = field(default_factory=dict)
    contrasts: str | tuple[Asked, ...] = "reference"
    sensitivity: tuple[tuple[str, dict[str, float]], ...] | None = None
    keep_usage: bool = False
    tests: bool = True
    population: str = "none"

    def __post_init__(self) -> None:
        choose("model", self.model, ("glmm", "glm"))
        choose("smooth", self.smooth, ("auto", *SMOOTHS))
        object.__setattr__(self, "contrasts", checked_contrasts(self.contrasts))
        boolean("share_variance", self.share_variance)
        shared = self.share_variance or not self.glmm
        check_coding(self.coding, share_variance=shared, priors=Priors())
        boolean("standardise", self.standardise)
        boolean("keep_usage", self.keep_usage)
        boolean("tests", self.tests)
        self._check_population()
        prior_from_name(self.prior, self.prior_params)
        if self.sensitivity is not None:
            # brings what takes a second to import, and workers do without
            from splisosm_pyro.studies.sensitivity.columns import checked_sensitivity

            # JSON gives lists back
            pairs = tuple((str(name), dict(params)) for name, params in self.sensitivity)
            object.__setattr__(self, "sensitivity", pairs)
            checked_sensitivity(pairs)
        self.glmm_options()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, came {self.seed!r}")

    def _check_population(self) -> None:
        """Raise if genes have no sigma and theta in common."""
        choose("population", self.population, ("none", *FORMS))
        if self.population != "none" and not (self.glmm and self.share_variance):
            came = "model='glm'" if not self.glmm else "share_variance=False"
            raise ValueError(
                "population needs the spatial model with one sigma and theta for all logits of a "
                f"gene, came {came}"
            )

    @property
    def glmm(self) -> bool:
        """Whether the spatial model is fitted."""
        return self.model == "glmm"

    def configs(self, n_isos: int = 2) -> dict[str, Any]:
        """Return ``fitting_configs`` of the GLMM of a gene of P isoforms."""
        given, smooth = {"nugget": self.nugget, **self.fitting_configs}, self.smooth
        if smooth == "auto":
            smooth = smooth_by_default(given["nugget"], n_isos)
        return {"smooth": smooth, **given}

    def glmm_options(self, n_isos: int = 2) -> GLMMOptions:
        """Return the checked options of the fit of a gene of P isoforms."""
        return GLMMOptions.from_configs(METHOD, self.configs(n_isos))

    def as_dict(self) -> dict[str, Any]:
        """Return the options as JSON can hold them."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Job:
    """A run's options, design and graph.

    Attributes
    ----------
    options : RunOptions
    design : Design
    contrasts : tuple of Contrast
    graph : csc_array, shape (S, S)
    places : ndarray, shape (S, d), optional
    """

    options: RunOptions
    design: Design
    contrasts: tuple[Contrast, ...]
    graph: csc_array
    places: FloatArray | None

    @classmethod
    def of(cls, slide: Slide, options: RunOptions) -> "Job":
        """Read what is the same for all genes off a slide; a bad design raises here."""
        design = design_of(slide.covariates, slide.n_spots)
        contrasts = contrasts_of(slide.covariates, design, options.contrasts)
        _check_design(slide)
        if not 0.0 <= options.rho < 1.0:
            raise ValueError(f"rho must be in [0, 1), came {options.rho}")
        graph, places = graph_of(slide, options.k)
        return cls(options, design, contrasts, graph, places)

    @cached_property
    def digest(self) -> str:
        """Checksum of everything that a gene's result depends on beside its counts."""
        graph, design = self.graph, self.design
        arrays = (graph.indptr, graph.indices, graph.data, self.places, design.standard.given)
        return str(joblib.hash((self.options.as_dict(), arrays, design.names)))

    @interrupts_heard()
    def prepared(self) -> "PreparedJob":
        """Build what the fits share; kept until another job comes, once in each process."""
        if self.digest not in _PREPARED:
            _PREPARED.clear()
            _PREPARED[self.digest] = PreparedJob.of(self)
        return _PREPARED[self.digest]


def _check_design(slide: Slide) -> None:
    """Raise if covariates depend on each other."""
    try:
        as_design(slide.design, slide.n_spots)
    except ValueError as error:
        raise ValueError(str(error).replace("design_mtx", "covariates")) from None


@dataclass(frozen=True, eq=False)
class PreparedJob:
    """A job made ready: its kernel, the specification of a fit, what is compared."""

    job: Job
    kernel: CARKernel
    spec: GLMMSpec
    contrasts: tuple[PreparedContrast, ...]

    @classmethod
    def of(cls, job: Job) -> "PreparedJob":
        """Analyse the graph and the design."""
        options, design = job.options, job.design
        kernel = CARKernel(job.graph, options.rho, job.places)
        spec = GLMMSpec(
            kernel=kernel,
            design=design.standard,
            share_variance=options.share_variance,
            fix_sigma=False,
            priors=Priors(prior_from_name(options.prior, options.prior_params)),
            options=options.glmm_options(),
            names=design.names,
            coding=options.coding,
        )
        return cls(job, kernel, spec, PreparedContrast.all_of(job.contrasts, design.standard))

    def for_isoforms(self, n_isos: int) -> "PreparedJob":
        """Return it with priors and options as they stand for a gene of P isoforms."""
        options = self.job.options.glmm_options(n_isos)
        return replace(self, spec=replace(self.spec.for_isoforms(n_isos), options=options))


_PREPARED: dict[str, PreparedJob] = {}


def gene_seed(seed: int, gene: str) -> int:
    """Return a gene's own seed, whatever the order of the genes.

    Examples
    --------
    >>> gene_seed(0, "Myl6") == gene_seed(0, "Myl6") != gene_seed(0, "Rpl5")
    True
    """
    state = np.random.SeedSequence([seed, zlib.crc32(gene.encode())]).generate_state(1)
    return int(state[0])
