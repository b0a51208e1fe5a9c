"""Refits of every gene under a grid of priors, each warm-started from the last."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.uncertainty import GeneErrors, gene_errors, unknown_errors
from splisosm_pyro.fit.result import GeneFit, Status, broken_fit
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.priors import Priors, Variable
from splisosm_pyro.posterior.field.summary import ratios
from splisosm_pyro.studies.sensitivity.directions import labelled
from splisosm_pyro.studies.sensitivity.fitted import (
    BROKEN,
    PriorSensitivity,
    Study,
    result_of,
)
from splisosm_pyro.studies.sensitivity.labelled import (
    PARAMETERS,
    empty_arrays,
    estimates,
    with_natural,
)

# Modes further apart than this are different maxima, not one that moved.
APART_LOGIT, APART_SIGMA = 0.5, 0.3


@dataclass(frozen=True, eq=False)
class Refit:
    """One gene under one set of priors.

    Attributes
    ----------
    fit, errors
        The mode and its standard errors.
    log_prior
        The sum of the log priors at the mode, as densities of the variables they are meant in.
    """

    fit: GeneFit
    errors: GeneErrors
    log_prior: float

    @property
    def log_marginal(self) -> float:
        """``log p(Y | sigma, theta, beta, bias_eta)`` at the mode, without the priors."""
        return self.fit.value - self.log_prior


def refits(
    spec: GLMMSpec,
    counts: FloatArray,  # (S, P)
    start: Params,
    grid: Mapping[str, Priors],
    map_in: Variable,
) -> dict[str, Refit]:
    """Refit one gene under every set of priors; what breaks has a status that says why."""
    n_isos = counts.shape[1]
    specs = {
        label: replace(spec, priors=priors.stated_on(map_in)).for_isoforms(n_isos)
        for label, priors in grid.items()
    }
    found: dict[str, Refit] = {}
    for label, fit in _settled(specs, counts, start).items():
        try:
            errors = gene_errors(specs[label], counts, fit.params)
        except BROKEN:
            errors = unknown_errors(counts, fit.params)
        found[label] = Refit(fit, errors, specs[label].log_prior(fit.params))
    return found


def _settled(
    specs: Mapping[str, GLMMSpec], counts: FloatArray, start: Params
) -> dict[str, GeneFit]:
    """Fit under every specification, from the last one's mode and then from all other modes.

    The objective may have several maxima; the second round makes the result independent of the
    order of the grid, as far as one of the priors led to the better one.
    """
    fits: dict[str, GeneFit] = {}
    last = start
    for label, spec in specs.items():
        try:
            fits[label] = best_fit(spec, counts, last, start)
            last = fits[label].params
        except BROKEN as error:
            fits[label] = broken_fit(start, "log_marginal", error)
    ends = [fit.params for fit in fits.values() if fit.settled]
    for label, spec in specs.items():
        if fits[label].settled:
            others = [end for end in ends if _apart(end, fits[label].params)]
            again = [fit_gene(spec, counts, end, warm=True) for end in others]
            fits[label] = max([fits[label], *again], key=lambda fit: fit.value)
    return fits


def _apart(first: Params, second: Params) -> bool:
    """Whether two modes are not merely shifted."""
    return any(
        bool((np.abs(first[name] - second[name]) > far).any())
        for name, far in (("theta_logit", APART_LOGIT), ("sigma", APART_SIGMA))
    )


@interrupts_heard()
def best_fit(spec: GLMMSpec, counts: FloatArray, *starts: Params, cold: bool = False) -> GeneFit:
    """Return the best fit from warm starts, and from none where one of them ends at a bound."""
    different = {id(start): start for start in starts}.values()
    fits = [fit_gene(spec, counts, start, warm=True) for start in different]
    if cold or any(fit.status != Status.CONVERGED for fit in fits):
        fits.append(fit_gene(spec, counts, starts[0]))
    return max(fits, key=lambda fit: fit.value)


def usage_of(spec: GLMMSpec, params: Params) -> FloatArray:  # (S, P)
    """Return the fitted isoform ratios of one gene, at ``nu``."""
    own = spec.design.standard(params["beta"], params["bias_eta"])
    eta = spec.design.with_intercept @ own + params["nu"]
    return ratios(eta[:, :, None])[:, :, 0]


def by_refit(study: Study, priors: Any, maps: bool | None) -> PriorSensitivity:
    """Refit every gene under every prior."""
    grid = labelled(priors, study.spec.priors)
    frame = empty_arrays(study.labels, prior=list(grid))
    keep = study.keeps_maps(maps, len(grid))
    for place, counts, params in study.genes():
        found = refits(study.spec, counts, params, grid, study.map_in)
        for p, refit in enumerate(found.values()):
            at, dims = (place, p), ("gene", "prior")
            frame.put("status", dims, at, str(refit.fit.status))
            frame.put("reason", dims, at, refit.fit.reason)
            if str(refit.fit.status).startswith("failed"):
                continue
            values = estimates(refit.fit.params)
            errors = dict(refit.errors.standard_errors)
            errors = with_natural(errors, values["sigma"], values["theta"])
            for name, own in PARAMETERS.items():
                frame.put(name, (*dims, *own), at, values[name])
                frame.put(f"{name}_se", (*dims, *own), at, errors[name])
            frame.put("log_marginal", dims, at, refit.log_marginal)
            frame.put("log_prior", dims, at, refit.log_prior)
            usage = usage_of(study.spec, refit.fit.params)
            frame.put("usage_range", (*dims, "isoform"), at, np.ptp(usage, axis=0))
            if keep:
                frame.put("usage", (*dims, "spot", "isoform"), at, usage)
                frame.put("usage_se", (*dims, "spot", "isoform"), at, refit.errors.ratio)
    dataset = frame.dataset(study.attrs("refit"))
    common = ("status", "reason", "log_marginal", "log_prior")
    columns = {"estimate": "{}", "se": "{}_se"}
    return result_of("refit", study, dataset, ["prior"], columns, common)
