"""The distribution of sigma and theta over genes, estimated from all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from splisosm_pyro.fit.options import choose
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.maths.priors.sigma import LogNormalPrior
from splisosm_pyro.maths.priors.theta import LogitNormalPrior
from splisosm_pyro.population.forms import FORMS
from splisosm_pyro.population.gaussian import GaussianOverGenes, fit_gaussian
from splisosm_pyro.population.grid import GRID, NO_FIELD, NO_SPACE, Masses
from splisosm_pyro.population.mixture import MixtureOverGenes, fit_mixture
from splisosm_pyro.population.moderated import Moderated
from splisosm_pyro.population.surface import Surface

MASSES = (NO_SPACE, NO_FIELD)
# The population is estimated from at most so many genes, evenly picked: its errors are small then.
MOST_GENES = 3000
# Folds of the check; a gain of so many standard errors is a finding.
FOLDS, ERRORS = 5, 2.0


@dataclass(frozen=True, eq=False)
class PopulationPrior:
    """The distribution over genes of ``(log sigma, theta_logit)``.

    Attributes
    ----------
    form : {'gaussian', 'mixture'}
        A bivariate normal distribution, or a mixture of fixed bumps.
    masses : tuple of str
        Point masses beside it: ``'without_space'`` (theta = 0), ``'without_field'`` (sigma = 0).
    fitted : GaussianOverGenes or MixtureOverGenes
    covariates : tuple of str
        Of genes, on which the means of the normal distribution depend.
    n_genes : int
        From how many genes with information it was estimated.

    Examples
    --------
    >>> from splisosm_pyro import fit_genes, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=40, n_genes=2, n_isos=2, depth=3.0, design="none", seed=0)
    >>> common = {"coords": tissue.coords, "tests": False, "progress": False}
    >>> fits = fit_genes(tissue.counts.numpy(), population=True, **common)
    >>> fits.population.hyperparameters.index.tolist()[:2], fits.population.priors.sigma.name
    (['mean_log_sigma', 'mean_theta_logit'], 'log_normal')
    """

    form: str
    masses: Masses
    fitted: GaussianOverGenes | MixtureOverGenes
    covariates: tuple[str, ...] = ()
    n_genes: int = 0

    @property
    def log_likelihood(self) -> float:
        """Of the genes that it was estimated from, in nats above genes without a field."""
        return self.fitted.log_likelihood

    @property
    def hyperparameters(self) -> pd.DataFrame:
        """Estimates and standard errors by name; those of a mixture are moments, without errors."""
        found = self.fitted.named()
        table = pd.DataFrame(found, index=["estimate", "standard_error"]).T
        slopes = {f"slope_{z}_": f"{name}_" for z, name in enumerate(self.covariates)}
        for slope, name in slopes.items():
            table.index = table.index.str.replace(slope, name, regex=False)
        return table

    def log_mass(self, covariates: FloatArray | None = None) -> FloatArray:
        """Return the log probability of every entry of the grid for genes (G, Z), (G, size)."""
        return self.fitted.log_mass(np.zeros((1, 0)) if covariates is None else covariates)

    def moderated(self, surface: Surface | None, covariates: FloatArray | None = None) -> Moderated:
        """Return the posterior of a gene; without a surface it is the population itself."""
        own = None if covariates is None else covariates[None]
        return Moderated.of_gene(GRID.log_likelihood(surface), self.log_mass(own)[0])

    @property
    def priors(self) -> Priors:
        """The population as priors of a model: sigma log-normal, theta logit-normal, independent.

        Those with the mean and sd of the part that has a field in space: a density has no point
        masses.
        """
        mass = np.exp(self.log_mass()[0, : GRID.inside])
        share = mass / mass.sum()
        moments = []
        for at in (GRID.log_sigma[: GRID.inside], GRID.theta_logit[: GRID.inside]):
            mean = float(share @ at)
            moments.append((mean, math.sqrt(float(share @ (at - mean) ** 2))))
        (log_sigma, log_sd), (logit, logit_sd) = moments
        return Priors(
            LogNormalPrior(math.exp(log_sigma), log_sd),
            LogitNormalPrior(float(expit(logit)), logit_sd),
        )


def fit_population(
    surfaces: Sequence[Surface | None],
    form: str = "gaussian",
    masses: Sequence[str] = (NO_SPACE,),
    covariates: pd.DataFrame | None = None,
) -> PopulationPrior:
    """Estimate the distribution of sigma and theta over genes, by empirical Bayes.

    Parameters
    ----------
    surfaces : sequence of Surface or None
        Of G genes; None where a gene says nothing.
    form : {'gaussian', 'mixture'}
        A normal distribution of ``(log sigma, theta_logit)``, whose errors count in every gene's
        posterior; or a mixture of bumps, for populations of several kinds.
    masses : sequence of {'without_space', 'without_field'}
        Beside it genes with theta = 0, and genes with sigma = 0.
    covariates : DataFrame, shape (G, Z), optional
        Of genes, such as log depth, centred: the means are linear in them. Only with 'gaussian'.

    Returns
    -------
    PopulationPrior

    Raises
    ------
    ValueError
        If an option is not legal, or no gene has a surface.

    Notes
    -----
    Costs a second for 300 genes, memory of 13 kB a gene; of more than 3,000 genes every so many are
    taken.

    Examples
    --------
    A gene that has measured sigma to be about 1, and says nothing of theta:

    >>> rows = np.array([-0.5, 0.0, 0.5])
    >>> values = np.repeat(30.0 - 0.5 * (rows[:, None] / 0.2) ** 2, 6, axis=1)
    >>> gene = Surface(rows, values, np.zeros((3, 6, 1, 1)), np.ones((3, 6, 1, 1)), np.ones((1, 1)))
    >>> population = fit_population([gene] * 20, masses=())
    >>> round(float(population.priors.sigma.median), 1)
    1.0
    """
    choose("form", form, FORMS)
    for name in masses:
        choose("masses", name, MASSES)
    if covariates is not None and form != "gaussian":
        raise ValueError(f"covariates of genes need form='gaussian', came form={form!r}")
    if covariates is not None and len(covariates) != len(surfaces):
        raise ValueError(
            f"covariates must have a row for each of {len(surfaces)} genes, came {len(covariates)}"
        )
    known = np.array([g for g, one in enumerate(surfaces) if one is not None], dtype=np.int64)
    if not len(known):
        raise ValueError("surfaces must hold those of one gene at least, came none")
    picked = known[:: math.ceil(len(known) / MOST_GENES)]
    likelihoods = np.array([GRID.log_likelihood(surfaces[g]) for g in picked])
    given = np.zeros((len(surfaces), 0)) if covariates is None else covariates.to_numpy(float)
    fitted = _fit(form, likelihoods, given[picked], tuple(masses))
    names = () if covariates is None else tuple(map(str, covariates.columns))
    return PopulationPrior(form, tuple(masses), fitted, names, len(picked))


def _fit(
    form: str, likelihoods: FloatArray, covariates: FloatArray, masses: Masses
) -> GaussianOverGenes | MixtureOverGenes:
    """Fit one form to genes' log likelihoods (G, size)."""
    if form == "mixture":
        return fit_mixture(likelihoods, masses=masses)
    return fit_gaussian(likelihoods, covariates, masses=masses)


@dataclass(frozen=True)
class PopulationCheck:
    """How much better a mixture foretells genes that it has not seen than the normal distribution.

    Attributes
    ----------
    gain, error : float
        The difference of their log scores, summed over genes, in nats, and its standard error.
    n_genes : int

    Examples
    --------
    >>> PopulationCheck(gain=18.4, error=4.1, n_genes=300).flagged
    True
    """

    gain: float
    error: float
    n_genes: int

    @property
    def flagged(self) -> bool:
        """Whether the normal distribution does not describe the genes."""
        return self.gain > ERRORS * self.error

    def __str__(self) -> str:
        verdict = "does not describe" if self.flagged else "describes"
        return (
            f"one normal distribution {verdict} these {self.n_genes} genes: a mixture foretells "
            f"genes left out by {self.gain:.1f} nats more (standard error {self.error:.1f})"
        )


def check_population(
    surfaces: Sequence[Surface | None], masses: Sequence[str] = (NO_SPACE,)
) -> PopulationCheck:
    """Check the normal form against the mixture on genes left out, in five folds.

    Parameters
    ----------
    surfaces, masses
        As for `fit_population`.

    Returns
    -------
    PopulationCheck
    """
    known = [one for one in surfaces if one is not None]
    picked = known[:: math.ceil(len(known) / MOST_GENES)]
    if len(picked) < 2 * FOLDS:
        raise ValueError(f"surfaces must be of {2 * FOLDS} genes at least, came {len(picked)}")
    likelihoods = np.array([GRID.log_likelihood(one) for one in picked])
    fold, gains = np.arange(len(picked)) % FOLDS, np.empty(len(picked))
    for k in range(FOLDS):
        seen, out = likelihoods[fold != k], likelihoods[fold == k]
        score = {}
        for form in FORMS:
            fitted = _fit(form, seen, np.zeros((len(seen), 0)), tuple(masses))
            score[form] = np.logaddexp.reduce(out + fitted.log_mass(np.zeros((1, 0))), axis=1)
        gains[fold == k] = score["mixture"] - score["gaussian"]
    error = float(gains.std(ddof=1) * math.sqrt(len(gains)))
    return PopulationCheck(float(gains.sum()), error, len(gains))
