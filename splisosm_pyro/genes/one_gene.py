"""One gene: the GLM, the white-noise model and the spatial model, as rows of plain numbers.

What comes out is made of strings and numbers alone, so that it goes through JSON and back without
losing a digit. A gene that cannot be fitted is a row as well: its status says why.
"""

import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glm.fit_gene import GLMFit, fit_glm
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.glmm.starting_values import starting_values
from splisosm_pyro.fit.glmm.uncertainty import OuterUncertainty, coefficients_of, outer_uncertainty
from splisosm_pyro.fit.glmm.without_space import fit_white_noise
from splisosm_pyro.fit.result import GeneFit, Status, failed
from splisosm_pyro.genes.average_usage import Parameters
from splisosm_pyro.genes.batches import GeneInput
from splisosm_pyro.genes.effects import effect_rows, with_effects
from splisosm_pyro.genes.job import PreparedJob, gene_seed
from splisosm_pyro.genes.kept_usage import glm_usage, packed, softmax, usage_where_it_ended
from splisosm_pyro.genes.over_variances import averaged_over_variances
from splisosm_pyro.genes.tested import columns_of_tests
from splisosm_pyro.maths.axes import LEAST_TOTAL, SplisosmWarning, as_counts
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.population.surface import NO_PLACE, Surface, surface_of_fit

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A fit laid out alike for both models; coefficients of the standard columns."""

    coefficients: Coefficients
    drawn: Parameters
    usage: FloatArray  # (S, P), as its error
    usage_error: FloatArray
    certificate: Row
    variances: Row
    params: Row
    surface: Surface | None = None


@interrupts_heard()
def fit_one(prepared: PreparedJob, gene: GeneInput) -> Row:
    """Fit one gene; never raises for what is wrong with it.

    Parameters
    ----------
    prepared : PreparedJob
    gene : GeneInput

    Returns
    -------
    dict
        ``index``; ``row``, column name to value; ``isoforms``, a row for each isoform; ``effects``,
        a row for each isoform and contrast; ``params``, the parameters as nested lists, or None
        where the fit broke; on ask ``usage``, as `kept_usage` packs it, and ``surface``, packed.
    """
    start = time.perf_counter()
    total = np.asarray(gene.counts).sum(axis=1)
    reads = float(total.sum())
    row: Row = {
        "gene": gene.name,
        "isoforms": ";".join(gene.isoforms),
        "n_isos": len(gene.isoforms),
        "reads": int(reads) if reads.is_integer() else reads,
        "occupied_spots": int((total >= LEAST_TOTAL).sum()),
        "seed": gene_seed(prepared.job.options.seed, gene.name),
    }
    isoforms, effects, params = _isoform_rows(gene), [], None
    more: Row = {}
    try:
        prepared = prepared.for_isoforms(len(gene.isoforms))
        fitted, compared = _fit(prepared, gene)
        row |= compared | fitted.certificate
        if not str(row["status"]).startswith("failed"):
            row |= fitted.variances | _flat(fitted, prepared)
            row["unknown"] = _unknown(fitted, prepared)
            row["fitted_usage_range"] = float(np.ptp(fitted.usage, axis=0).max())
            isoforms = _with_usage(isoforms, fitted.usage)
            own = fitted.drawn.in_order_of(np.asarray(gene.counts, dtype=np.float64))
            unknown = fitted.coefficients.unknown
            effects = effect_rows(isoforms, own, unknown, prepared.contrasts)
            isoforms = with_effects(isoforms, effects, prepared.contrasts)
            params = fitted.params
            more = _kept(prepared, fitted)
    except Exception as error:
        row |= {"status": failed(error), "reason": f"{type(error).__name__}: {error}"}
    row["seconds"] = round(time.perf_counter() - start, 4)
    tables = {"row": row, "isoforms": isoforms, "effects": effects}
    return {"index": gene.index, **tables, "params": params, **more}


def _kept(prepared: PreparedJob, fitted: _Fitted) -> Row:
    """Return what was asked for beside the tables, packed."""
    kept: Row = {}
    if prepared.job.options.keep_usage:
        kept["usage"] = packed(fitted.usage, fitted.usage_error)
    if fitted.surface is not None:
        kept["surface"] = fitted.surface.packed()
    return kept


def _fit(prepared: PreparedJob, gene: GeneInput) -> tuple[_Fitted, Row]:
    """Fit the models; return the one asked for, and the likelihoods and gains of all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SplisosmWarning)  # said once for the whole slide
        # in double precision also where a file has single
        checked = as_counts(np.asarray(gene.counts, dtype=np.float64)[None])
    counts = checked.values[0].numpy()
    if prepared.job.options.glmm:
        prepared = replace(prepared, spec=prepared.spec.of_gene(counts))
    spec = prepared.spec
    glm = fit_glm(spec.turn.counts(counts), spec.design.rows, names=spec.names)
    row: Row = {"loglik_glm": glm.log_lik}
    if not prepared.job.options.glmm:
        return _of_glm(prepared, glm), row | columns_of_tests(prepared, counts, None)
    n_components = 1 if prepared.spec.share_variance else counts.shape[1] - 1
    n_covariates = len(prepared.spec.names)
    begin = starting_values(checked, n_covariates, n_components, "uniform")
    start = {name: value[0].numpy() for name, value in begin.items()}
    fit, white = _with_and_without_space(prepared, counts, start)
    row |= {"log_marginal": fit.value, "smooth": prepared.spec.options.smooth}
    row["coding"] = prepared.spec.coding
    row["at_bound"] = "; ".join(fit.at_bound)
    if fit.status != Status.NO_COUNTS:
        row |= {
            "log_marginal_white": white.value,
            "gain_over_white": fit.value - white.value,
            "gain_over_glm": fit.value - _without_field(prepared.spec, glm, fit),
        }
        row |= _numbered("sigma_white", white.params["sigma"])
    row |= columns_of_tests(prepared, counts, fit)
    return _of_glmm(prepared, glm, fit), row


def _without_field(spec: GLMMSpec, glm: GLMFit, fit: GeneFit) -> float:
    """Return the GLM's value: what the objective tends to as sigma goes to 0.

    Where the prior of sigma has no density there, the fit's own stands for it.
    """
    at_zero = spec.log_prior({**fit.params, "sigma": np.zeros_like(fit.params["sigma"])})
    return glm.log_lik + (at_zero if np.isfinite(at_zero) else spec.log_prior(fit.params))


def _with_and_without_space(
    prepared: PreparedJob, counts: FloatArray, start: Params
) -> tuple[GeneFit, GeneFit]:
    """Fit the spatial model, its end kept, and the white-noise model."""
    spatial = partial(fit_gene, prepared.spec, counts, keep_end=True)
    fit, white = spatial(start), fit_white_noise(prepared.spec, counts, start)
    if white.value > fit.value:
        # a side maximum: the white-noise model is a point of the spatial one's search
        fit = max(fit, spatial(white.params, warm=True), key=lambda one: one.value)
    return fit, white


def _of_glm(prepared: PreparedJob, glm: GLMFit) -> _Fitted:
    """Lay out the fit of the GLM."""
    design = prepared.spec.design
    usage, error = glm_usage(design, glm)
    return _Fitted(
        coefficients=glm.coefficients,
        drawn=Parameters(glm.B, np.empty(0), glm.covariance),
        usage=usage,
        usage_error=error,
        certificate=_certificate(glm, glm.min_eigenvalue),
        variances={},
        params={"coefficients": (design.back @ glm.B).tolist()},
    )


def _of_glmm(prepared: PreparedJob, glm: GLMFit, fit: GeneFit) -> _Fitted:
    """Lay out the fit of the GLMM with the covariance of its outer parameters."""
    params, spec = fit.params, prepared.spec
    B = spec.coefficients(params) if fit.ended is None else fit.ended.at.state.mode.coefficients
    sigma, theta_logit = params["sigma"], params["theta_logit"]
    outer = _outer(fit)
    n_components = sigma.size
    errors = np.full(2 * n_components, np.inf)
    if outer is None:
        coefficients = Coefficients.all_unknown(B)
    else:
        errors = outer.standard_errors()[: 2 * n_components]
        assert fit.ended is not None
        coefficients = coefficients_of(spec, fit.ended.objective.space, B, outer, glm)
    variances = _numbered("sigma", sigma) | _numbered("theta", expit(theta_logit))
    variances |= _numbered("log_sigma_se", errors[:n_components], se=True)
    variances |= _numbered("theta_logit_se", errors[n_components:], se=True)
    if outer is not None and prepared.job.options.sensitivity is not None:
        # brings what takes a second to import, and most runs do without
        from splisosm_pyro.studies.sensitivity.columns import sensitivity_columns

        asked = prepared.job.options.sensitivity
        variances |= sensitivity_columns(spec, ~glm.held, params, outer, asked)
    least = outer.min_eigenvalue if outer is not None else np.inf
    errors_too = prepared.job.options.keep_usage
    usage = usage_where_it_ended(spec, coefficients, fit.ended, outer, errors=errors_too)
    if usage is None:
        at_mode = softmax(spec.turn.to_logits(spec.design.with_intercept @ B) + params["nu"])
        usage = at_mode, np.full_like(at_mode, np.inf)
    return _Fitted(
        coefficients=coefficients,
        drawn=_drawn(prepared, coefficients, fit, outer),
        usage=usage[0],
        certificate=_certificate(fit, least),
        variances=variances,
        params={
            "coefficients": spec.turn.to_logits(spec.design.back @ B).tolist(),
            "sigma": sigma.tolist(),
            "theta_logit": theta_logit.tolist(),
        },
        usage_error=usage[1],
        surface=_surface(prepared, fit),
    )


def _surface(prepared: PreparedJob, fit: GeneFit) -> Surface | None:
    """Return the gene's likelihood over sigma and theta, if it was asked for and can be had."""
    if prepared.job.options.population == "none" or fit.ended is None:
        return None
    try:
        return surface_of_fit(fit.ended)
    except (*NO_PLACE, ValueError):  # its own row says so; the fit stands
        return None


def _outer(fit: GeneFit) -> OuterUncertainty | None:
    """Return the curvature where the fit ended, None where it cannot be had."""
    try:
        return None if fit.ended is None else outer_uncertainty(fit.ended)
    except (ArithmeticError, ValueError):
        return None


def _drawn(
    prepared: PreparedJob, coefficients: Coefficients, fit: GeneFit, outer: OuterUncertainty | None
) -> Parameters:
    """Return coefficients and sigma with what is known of them; what is at a bound is held.

    Where changes of usage are asked for they are averaged over the variances.
    """
    size, sigma, turn = coefficients.values.size, fit.params["sigma"], prepared.spec.turn
    covariance = np.zeros((size + sigma.size, size + sigma.size))
    if outer is None or outer.covariance is None or fit.ended is None:
        return Parameters(coefficients.values, sigma, covariance, turn)
    space = fit.ended.objective.space
    place = np.append(np.flatnonzero(space.free), size + np.arange(space.n_sigma))
    among = np.append(np.arange(space.n_variance, space.size), np.arange(space.n_sigma))
    covariance[np.ix_(place, place)] = outer.covariance[np.ix_(among, among)]
    own = Parameters(coefficients.values, sigma, covariance, turn)
    return averaged_over_variances(fit.ended, outer, own) if prepared.contrasts else own


def _certificate(fit: GLMFit | GeneFit, min_eigenvalue: float) -> Row:
    """Return whether the fit is at its optimum, why not, and what certifies it."""
    at_optimum = fit.status in (Status.CONVERGED, Status.BOUNDARY)
    return {
        "status": str(Status.CONVERGED if at_optimum else fit.status),
        "reason": fit.reason,
        "gradient_norm": float(fit.gradient_norm),
        "min_eigenvalue": float(min_eigenvalue),
    }


def _unknown(fitted: _Fitted, prepared: PreparedJob) -> str:
    """Name the coefficients that neither the counts nor a prior determine."""
    own = fitted.coefficients.on_scale(prepared.spec.design.back, fitted.drawn.turn)
    names = [f"beta_{name}" for name in prepared.spec.names] + ["bias_eta"]
    return "; ".join(name for name, one in zip(names, own.known, strict=True) if not one.all())


def _numbered(name: str, values: FloatArray, *, se: bool = False) -> Row:
    """Return values under a name, numbered where there are several; ``_se`` comes last."""
    stem, ending = (name.removesuffix("_se"), "_se") if se else (name, "")
    if values.size == 1:
        return {f"{stem}{ending}": float(values[0])}
    return {f"{stem}_{c}{ending}": float(value) for c, value in enumerate(values)}


def _flat(fitted: _Fitted, prepared: PreparedJob) -> Row:
    """Return coefficients, their errors and the mean usages as columns."""
    row: Row = {}
    names = [f"beta_{name}" for name in prepared.spec.names] + ["bias_eta"]
    own_scale = fitted.coefficients.on_scale(prepared.spec.design.back, fitted.drawn.turn)
    errors = own_scale.standard_errors()
    for name, values, own in zip(names, own_scale.values, errors, strict=True):
        for q, (value, error) in enumerate(zip(values, own, strict=True)):
            row[f"{name}_{q}"], row[f"{name}_{q}_se"] = float(value), float(error)
    for p, usage in enumerate(fitted.usage.mean(axis=0)):
        row[f"usage_{p}"] = float(usage)
    return row


def _isoform_rows(gene: GeneInput) -> list[Row]:
    """Return what is known of the isoforms without a fit."""
    reads = np.asarray(gene.counts, dtype=np.float64).sum(axis=0)
    return [
        {"gene": gene.name, "isoform": name, "number": p, "reads": float(reads[p])}
        for p, name in enumerate(gene.isoforms)
    ]


def _with_usage(rows: list[Row], usage: FloatArray) -> list[Row]:
    """Add the fitted usage (S, P) over the tissue."""
    names = "mean_usage", "min_usage", "max_usage"
    found = zip(usage.mean(axis=0), usage.min(axis=0), usage.max(axis=0), strict=True)
    return [
        row | dict(zip(names, map(float, own), strict=True))
        for row, own in zip(rows, found, strict=True)
    ]
