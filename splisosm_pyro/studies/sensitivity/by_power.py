"""Power-scaling of a fitted model's posterior, gene by gene, labelled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from splisosm_pyro.fit.options import as_names
from splisosm_pyro.fit.result import failed
from splisosm_pyro.model import MultinomGLMM
from splisosm_pyro.posterior.arviz.container import dataset_of
from splisosm_pyro.studies.sensitivity.fitted import BROKEN, PriorSensitivity, Study
from splisosm_pyro.studies.sensitivity.labelled import LabelledArrays, empty_arrays
from splisosm_pyro.studies.sensitivity.power_scaling import (
    ALPHAS,
    COMPONENTS,
    QUANTILES,
    THRESHOLD,
    diagnosis,
    power_scaling,
)

__all__ = ["THRESHOLD", "by_power"]
# Of the table, after the gene.
COLUMNS = (
    *("parameter", "index", "mean", "sd", "prior", "likelihood", "khat_prior", "khat_likelihood"),
    "diagnosis",
)


def by_power(
    study: Study,
    model: MultinomGLMM,
    posterior: Any,
    request: dict[str, Any],
    scaled: str | Sequence[str] | None,
    threshold: float,
) -> PriorSensitivity:
    """Weigh every gene's draws."""
    if posterior is None:
        posterior = model.posterior("nested_laplace", genes=study.places, **request)
    scaled = None if scaled is None else as_names("scaled", scaled)
    _checked(posterior, study, scaled)
    scales: dict[str, Sequence[Any]] = {"component_scaled": COMPONENTS, "alpha": ALPHAS}
    frame = empty_arrays(study.labels, quantile=QUANTILES, **scales)
    n_draws = posterior.posterior.sizes["chain"] * posterior.posterior.sizes["draw"]
    frame.coords["sample"] = list(range(n_draws))
    rows: list[dict[str, Any]] = []
    for place, _, _ in study.genes():
        try:
            found = power_scaling(_groups(posterior, place), ALPHAS, scaled)
            rows += _put_powers(frame, place, found, threshold)
            status = str(posterior["sample_stats"]["status"].values[place])
        except (*BROKEN, KeyError) as error:
            status = failed(error)
        frame.put("status", ("gene",), (place,), status)
    attrs = study.attrs("power_scaling") | {"threshold": threshold}
    attrs |= {"map": "no modes: posterior draws", "map_in": "none"}
    attrs |= {k: v for k, v in posterior.posterior.attrs.items() if k.startswith("prior_")}
    dataset = frame.dataset(attrs)
    table = pd.DataFrame(rows, columns=["place", *COLUMNS])
    table.insert(0, "gene", [study.labels.gene[place] for place in table.pop("place")])
    return PriorSensitivity("power_scaling", dataset, table)


def _groups(posterior: Any, place: int) -> dict[str, xr.Dataset]:
    """Return one gene's draws, log priors and log marginal likelihood."""
    log_lik = posterior["sample_stats"]["log_marginal"].rename("counts").to_dataset()
    groups = {name: dataset_of(posterior, name) for name in ("posterior", "log_prior")}
    groups["log_likelihood"] = log_lik
    return {name: group.isel(gene=place, drop=True) for name, group in groups.items()}


def _checked(posterior: Any, study: Study, scaled: Sequence[str] | None) -> None:
    """Refuse draws that lack what is scaled, or are of other genes."""
    if not hasattr(posterior, "log_prior") or "log_marginal" not in posterior.sample_stats:
        raise ValueError(
            "posterior must hold log_prior and, in sample_stats, log_marginal at every draw, as "
            "method='nested_laplace' gives them; came one without"
        )
    if posterior.posterior.sizes["gene"] != len(study.places):
        raise ValueError(
            f"posterior must be of the {len(study.places)} genes asked for, "
            f"came {posterior.posterior.sizes['gene']}"
        )
    names = [str(name) for name in posterior.log_prior.data_vars]
    for name in scaled or ():
        if name not in names:
            raise ValueError(f"scaled must hold names among {names}, came {name!r}")


def _put_powers(
    frame: LabelledArrays, place: int, found: Any, threshold: float
) -> list[dict[str, Any]]:
    """Lay out one gene's quantities under all powers; return its rows of the table."""
    khat = {component: found.khat(component) for component in COMPONENTS}
    for c, component in enumerate(COMPONENTS):
        frame.put("khat", ("gene", "component_scaled"), (place, c), khat[component])
        for a, weights in enumerate(found.weights[component]):
            over = ("gene", "component_scaled", "alpha", "sample")
            frame.put("weight", over, (place, c, a), weights.values)
    rows = []
    for name, draws in found.quantities.data_vars.items():
        own = tuple(str(dim) for dim in draws.dims if dim not in ("chain", "draw"))
        flat = draws.stack(sample=("chain", "draw")).transpose("sample", *own).values
        frame.put(f"draws_{name}", ("gene", "sample", *own), (place,), flat)
        for c, component in enumerate(COMPONENTS):
            value = found.sensitivity[component][name].transpose(*own).values
            frame.put(f"sensitivity_{name}", ("gene", "component_scaled", *own), (place, c), value)
            for a in range(len(ALPHAS)):
                summary = found.summary(str(name), component, a)
                for kind, number in summary.items():
                    more = ("quantile",) if kind == "quantile" else ()
                    under = ("gene", "component_scaled", "alpha", *more, *own)
                    frame.put(f"{name}_{kind}", under, (place, c, a), number)
        rows += _power_rows(place, str(name), draws, found, khat, threshold)
    return rows


def _power_rows(
    place: int, name: str, draws: Any, found: Any, khat: dict[str, float], threshold: float
) -> list[dict[str, Any]]:
    """Return one row for every entry of a quantity."""
    own = [dim for dim in draws.dims if dim not in ("chain", "draw")]
    rows = []
    for index in np.ndindex(*(draws.sizes[dim] for dim in own)):
        at = dict(zip(own, index, strict=True))
        entry = draws.isel(at)
        prior, likelihood = (float(found.sensitivity[c][name].isel(at)) for c in COMPONENTS)
        rows.append(
            {
                "place": place,
                "parameter": name,
                "index": ", ".join(str(entry.coords[dim].item()) for dim in own),
                "mean": float(entry.mean()),
                "sd": float(entry.std(ddof=1)),
                "prior": prior,
                "likelihood": likelihood,
                "khat_prior": khat["prior"],
                "khat_likelihood": khat["likelihood"],
                "diagnosis": diagnosis(prior, likelihood, threshold, trusted=found.trusted()),
            }
        )
    return rows
