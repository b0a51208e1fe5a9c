"""Simulation-based calibration: whether posteriors are right on average over their own prior.

Draw parameters from the prior, counts given them, the posterior given these counts; the rank of
every true value among L draws of its posterior is uniform on 0..L if the posterior is right. Too
narrow a posterior puts ranks at both ends, one that is off puts them at one.

References: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv:1804.06788.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from splisosm_pyro.fit.options import choose, positive_int
from splisosm_pyro.fit.result import failed
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.numeric.worker_processes import worker_options
from splisosm_pyro.model import MultinomGLM
from splisosm_pyro.model.densities import Densities
from splisosm_pyro.posterior.arviz.predictive_groups import predictive_counts
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.arguments import METHODS, Request
from splisosm_pyro.posterior.draws.from_prior import prior_draws
from splisosm_pyro.posterior.draws.gene_draws import Density, GeneDraws
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.field.summary import ratios
from splisosm_pyro.posterior.run import draw_gene
from splisosm_pyro.studies.calibration.result import Calibration, summarised

# Takes counts (S, P), design (S, F), the kernel (None in a GLM) and a seed; returns draws by name,
# (L, *) each: any of beta, bias_eta, sigma, theta, isoform_ratio.
Sampler = Callable[[FloatArray, FloatArray, Kernel | None, int], Mapping[str, FloatArray]]
# One of so many draws of a chain is ranked: they should be near to independent.
THIN = {"marginal_nuts": 4, "nuts": 10}
BROKEN = (ArithmeticError, ValueError, np.linalg.LinAlgError)


@dataclass(frozen=True, eq=False)
class _Study:
    """What every simulated gene shares."""

    densities: Densities
    totals: FloatArray  # (G, S)
    genes: tuple[int, ...]  # (G,) their places in the model
    n_isos: int
    spots: tuple[int, ...]
    draws: int
    seed: int

    def named(self, draws: GeneDraws, density: Density) -> dict[str, FloatArray]:
        """Return parameters and ratios at the chosen spots by name, (N, *) each."""
        named = density.space.named(draws.u)
        named.pop("theta_logit", None)
        if density.space.n_sigma == 0:
            named.pop("sigma", None)  # it has no posterior
        usage = ratios(draws.eta[list(self.spots)])  # (spots, P, N)
        return named | {"isoform_ratio": np.moveaxis(usage, -1, 0)}


def calibrate(
    model: MultinomGLM,
    method: str | Sampler = "nested_laplace",
    n_sims: int = 200,
    draws: int = 99,
    seed: int = 0,
    *,
    prior: PosteriorPriors | None = None,
    spots: Sequence[int] | None = None,
    nugget: str = "quadrature",
    alpha: float = 0.05,
    n_jobs: int = 1,
    quiet: bool = True,
) -> Calibration:
    """Check a way to posteriors by simulation-based calibration.

    Parameters
    ----------
    model : MultinomGLM or MultinomGLMM
        With data: its kernel, design and totals are used, those of its genes in turn, its counts
        are not. It stays as it is.
    method : str or callable
        A method of ``model.posterior``, or a function of ``counts`` (S, P), ``design`` (S, F),
        ``kernel`` and ``seed`` that returns draws by name, (L, *) each: any of ``beta``,
        ``bias_eta``, ``sigma``, ``theta``, and ``isoform_ratio`` (L, S, P).
    n_sims : int
        Simulated genes, 20 or more.
    draws : int
        L, draws that a truth is ranked among; of a chain one in four (``marginal_nuts``) or ten
        (``nuts``) is taken.
    seed : int
    prior : PosteriorPriors, optional
        What parameters are drawn from and what the posterior has for a prior; as in
        ``model.posterior`` by default. With coefficients of sd 10 most simulated genes have one
        isoform only: weakly informative priors make a sharper check.
    spots : sequence of int, optional
        Where isoform ratios are ranked; three spots spread over the most occupied half by default.
    nugget : {'quadrature', 'laplace'}
        As in ``model.posterior``.
    alpha : float
        False-alarm budget of the whole study, shared evenly by its quantities.
    n_jobs : int
        Workers, by joblib.
    quiet : bool
        No progress bar.

    Returns
    -------
    Calibration
        ``table`` (one row a quantity: p-value, whether it is flagged, what is wrong, coverage),
        ``passed``, ``ranks``, ``plot()``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal.

    Notes
    -----
    Costs a posterior a simulated gene. A gene whose posterior breaks is left out, counted in
    ``n_failed`` and named in ``failures``.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLM
    >>> from splisosm_pyro.posterior import PosteriorPriors
    >>> model = MultinomGLM()
    >>> model.setup_data(np.tile([[3, 2]], (20, 1)))
    >>> prior = PosteriorPriors(bias_sd=1.0)
    >>> calibrate(model, "nested_laplace", n_sims=50, draws=19, prior=prior).passed
    True
    """
    study = _study(model, draws, seed, prior, spots, nugget)
    if positive_int("n_sims", n_sims) < 20:
        raise ValueError(f"n_sims must be 20 or more, came {n_sims}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, came {alpha}")
    if not callable(method):
        choose("method", method, METHODS)

    def one(place: int) -> dict[str, FloatArray] | str:
        with threadpool_limits(limits=1):
            return _ranks_of(study, method, place)

    tasks = tqdm(range(n_sims), desc="calibrate", unit="gene", disable=quiet)
    outcomes = Parallel(n_jobs=n_jobs, **worker_options())(delayed(one)(place) for place in tasks)
    labels = {
        "covariate": model.data.names,
        "spot": [str(s) for s in study.spots],
        "method": method if isinstance(method, str) else getattr(method, "__name__", "callable"),
    }
    return summarised(list(outcomes), labels, draws, alpha)


def _study(
    model: MultinomGLM,
    draws: int,
    seed: int,
    prior: PosteriorPriors | None,
    spots: Sequence[int] | None,
    nugget: str,
) -> _Study:
    """Check the arguments that shape the simulated genes."""
    Request("laplace", draws, 1, seed, (0,))  # checks draws and seed
    arrays = model.as_arrays()
    totals = arrays.counts.sum(-1).round()
    genes = np.flatnonzero(totals.any(axis=1))
    densities = Densities.of_model(arrays, prior, nugget)
    places = _chosen_spots(spots, totals)
    return _Study(
        densities, totals[genes], tuple(genes.tolist()), model.n_isos, places, draws, seed
    )


def _chosen_spots(spots: Sequence[int] | None, totals: FloatArray) -> tuple[int, ...]:
    """Return the spots whose ratios are ranked."""
    if not totals.any():
        raise ValueError("model must have a gene with counts, whose totals are used; came none")
    if spots is None:
        order = np.argsort(-totals.sum(axis=0), kind="stable")
        half = order[: max(1, totals.shape[1] // 2)]
        return tuple(sorted({int(s) for s in half[np.linspace(0, half.size - 1, 3).astype(int)]}))
    chosen = tuple(int(s) for s in spots)
    if not chosen or min(chosen) < 0 or max(chosen) >= totals.shape[1]:
        raise ValueError(f"spots must be from 0 to {totals.shape[1] - 1}, came {spots!r}")
    return chosen


@interrupts_heard()
def _ranks_of(study: _Study, method: str | Sampler, place: int) -> dict[str, FloatArray] | str:
    """Simulate a gene; return the ranks of its truths by name, or why there are none."""
    turn = place % len(study.totals)
    gene, densities = study.genes[turn], study.densities
    noise = Noise.of_gene(study.seed, np.full((1, 1), float(place)))
    totals = study.totals[turn]
    blank = np.zeros((totals.size, study.n_isos))
    blank[:, 0] = totals
    density = densities.of_gene(blank, gene)
    truth = prior_draws(density, densities.design.with_intercept, densities.kernel, 1, noise)
    counts = predictive_counts(truth.eta, totals, noise.numpy)[0].astype(np.float64)
    own_seed = study.seed + place  # two genes with like counts have draws of their own
    try:
        found = _draws_of(study, method, counts, gene, own_seed)
    except BROKEN as error:
        return failed(error)
    known = study.named(truth, density)
    return {
        name: (values < known[name]).sum(axis=0).astype(float) for name, values in found.items()
    }


def _draws_of(
    study: _Study, method: str | Sampler, counts: FloatArray, gene: int, seed: int
) -> dict[str, FloatArray]:
    """Return ``study.draws`` draws of the posterior by name, (L, *) each."""
    densities = study.densities
    if isinstance(method, str):
        thin = THIN.get(method, 1)
        density = densities.of_gene(counts, gene)
        request = Request(method, study.draws * thin, 1, seed, (0,))
        drawn, _, _ = draw_gene(density, counts, densities.design, densities.kernel, request)
        named = study.named(drawn, density)
        return {name: values[::thin] for name, values in named.items()}
    given = {
        k: np.asarray(v)
        for k, v in method(counts, densities.design.given, densities.kernel, seed).items()
    }
    if "isoform_ratio" in given:
        given["isoform_ratio"] = given["isoform_ratio"][:, list(study.spots)]
    for name, values in given.items():
        if len(values) != study.draws:
            raise ValueError(
                f"method must return {study.draws} draws of {name}, came {len(values)}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"method returned a draw of {name} that is not finite")
    return given
