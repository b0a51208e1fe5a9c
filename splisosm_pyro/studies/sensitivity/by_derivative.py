"""Local sensitivity of a fitted model: the derivatives of every gene's mode, labelled."""

from dataclasses import replace
from typing import Any

import numpy as np

from splisosm_pyro.fit.glm.coefficients import Coefficients
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.specification import Params
from splisosm_pyro.fit.result import failed
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.studies.sensitivity.by_refit import best_fit
from splisosm_pyro.studies.sensitivity.directions import Direction, directions_of
from splisosm_pyro.studies.sensitivity.fitted import (
    BROKEN,
    PriorSensitivity,
    Study,
    result_of,
)
from splisosm_pyro.studies.sensitivity.labelled import (
    PARAMETERS,
    LabelledArrays,
    empty_arrays,
    spread,
    with_natural,
)
from splisosm_pyro.studies.sensitivity.mode_shift import GeneMode


def by_derivative(study: Study, priors: Any, maps: bool | None) -> PriorSensitivity:
    """Differentiate every gene's mode."""
    n_isos = study.counts.shape[2]
    own = study.spec.for_isoforms(n_isos).priors
    directions = directions_of(priors, own, study.map_in)
    ready = tuple(_ready(direction, study, n_isos) for direction in directions)
    by = {d.label: d.weight for d in ready}
    by |= {f"{d.label}: {name}": 1.0 for d in ready if d.weight for name in d.parameters}
    frame = empty_arrays(study.labels, by=list(by))
    for b, weight in enumerate(by.values()):
        frame.put("weight", ("by",), (b,), weight)
    keep = study.keeps_maps(maps, len(directions))
    for place, counts, params in study.genes():
        try:
            mode = _mode(study, counts, params)
            _put_shifts(frame, place, mode, ready, keep=keep)
            status = "ok"
        except BROKEN as error:
            status = failed(error)
        frame.put("status", ("gene",), (place,), status)
    dataset = frame.dataset(study.attrs("local"))
    columns = {"estimate": "{}", "se": "{}_se", "shift": "d_{}", "note": "note_{}"}
    return result_of("local", study, dataset, ["by"], columns, ("status", "weight"))


def _ready(direction: Direction, study: Study, n_isos: int) -> Direction:
    """Return the direction with its prior as it stands for the gene."""
    if not hasattr(direction.prior, "for_gene"):
        return direction
    prior = direction.prior.for_gene(study.spec.kernel, n_isos)
    return replace(direction, prior=prior)


def _own_scale(mode: GeneMode) -> Coefficients:
    """Return the coefficients in the user's units, of the logits."""
    return mode.coefficients.on_scale(mode.design.back, mode.space.turn)


@interrupts_heard()
def _mode(study: Study, counts: FloatArray, params: Params) -> GeneMode:
    """Return a gene's mode, found again where it is meant in another variable."""
    if not counts.any():
        raise ValueError("no counts")
    spec = study.spec
    if study.moved:
        spec = replace(spec, priors=spec.priors.stated_on(study.map_in))
        params = best_fit(spec, counts, params).params
    return GeneMode.of_gene(spec, counts, fit_glm(counts, spec.design.rows), params)


def _put_shifts(
    frame: LabelledArrays,
    place: int,
    mode: GeneMode,
    directions: tuple[Direction, ...],
    *,
    keep: bool,
) -> None:
    """Lay out the derivatives of one gene."""
    variances, own_scale = mode.shape[1], _own_scale(mode)
    space, missing = mode.space, np.array([bool(note) for note in mode.notes()])
    sigma, theta = variances.sigma, variances.theta
    here = {"sigma": sigma, "theta": theta, "log_sigma": np.log(sigma)}
    here |= {"theta_logit": np.log(theta) - np.log1p(-theta)}
    here |= {"beta": own_scale.values[:-1], "bias_eta": own_scale.values[-1]}
    errors = spread(space, mode.outer.standard_errors(), np.inf)
    errors["beta"], errors["bias_eta"] = np.split(own_scale.standard_errors(), [-1])
    errors["bias_eta"] = errors["bias_eta"][0]
    errors = with_natural(errors, sigma, theta)
    notes = spread_words(space, mode.notes())
    for name, own in PARAMETERS.items():
        frame.put(name, ("gene", *own), (place,), here[name])
        frame.put(f"{name}_se", ("gene", *own), (place,), errors[name])
        for index in np.ndindex(notes[name].shape):
            frame.put(f"note_{name}", ("gene", *own), (place, *index), str(notes[name][index]))
    shifts = mode.shifts(directions)
    by_label = dict(zip([d.label for d in directions], shifts, strict=True))
    by_label |= mode.parameter_shifts(directions)
    for label, shift in by_label.items():
        b = frame.coords["by"].index(label)
        moved = shift_by_name(space, np.where(missing, np.nan, shift))
        for name, value in with_natural(moved, sigma, theta).items():
            frame.put(f"d_{name}", ("gene", "by", *PARAMETERS[name]), (place, b), value)
    if mode.outer.covariance is not None:
        usage = mode.usage_shifts(mode.design.with_intercept, shifts)
        n = len(directions)
        largest = np.abs(usage).max(axis=1)
        frame.put("d_usage_largest", ("gene", "by", "isoform"), (place, slice(n)), largest)
        if keep:
            frame.put("d_usage", ("gene", "by", "spot", "isoform"), (place, slice(n)), usage)


def shift_by_name(space: OuterSpace, shift: FloatArray) -> dict[str, FloatArray]:
    """Lay a shift (K,) out by name, coefficients in the user's units; NaN is what does not move."""
    found = spread(space, shift)
    standard = np.vstack([found["beta"], found["bias_eta"]])
    still = np.isnan(standard)
    if not space.turn.plain:  # what moves one coefficient moves the logits of several isoforms
        still = np.broadcast_to(still.any(axis=1, keepdims=True), still.shape)
    own = space.turn.to_logits(space.back @ np.where(still, 0.0, standard))
    own = np.where(still, np.nan, own)
    return found | {"beta": own[:-1], "bias_eta": own[-1]}


def spread_words(space: OuterSpace, notes: list[str]) -> dict[str, Any]:
    """Lay notes out under the parameters' names."""
    places = spread(space, np.arange(1.0, len(notes) + 1.0), 0.0)
    rest = "not searched for: fixed, or without a finite optimum"
    words = np.array([rest, *notes], dtype=object)
    found = {name: words[value.astype(int)] for name, value in places.items()}
    return {"sigma": found["log_sigma"], "theta": found["theta_logit"], **found}
