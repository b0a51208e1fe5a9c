"""Labelled results of a sensitivity study: one array a variable, one row a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import expit

from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.posterior.draws.arguments import Labels

# The parameters of a table, in its order, with their dimensions after the gene.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "sigma": ("component",),
    "theta": ("component",),
    "log_sigma": ("component",),
    "theta_logit": ("component",),
    "beta": ("covariate", "logit"),
    "bias_eta": ("logit",),
}


@dataclass
class LabelledArrays:
    """Arrays with named axes, filled gene by gene; what is never filled stays missing.

    Attributes
    ----------
    coords
        Coordinates by dimension.
    """

    coords: dict[str, list[Any]]
    arrays: dict[str, tuple[tuple[str, ...], Any]] = field(default_factory=dict)

    def put(
        self, name: str, dims: tuple[str, ...], place: tuple[Any, ...], value: Any, fill: Any = None
    ) -> None:
        """Put a value at a place along the first dimensions of a variable."""
        if name not in self.arrays:
            shape = tuple(len(self.coords[dim]) for dim in dims)
            words = isinstance(value, str)
            nothing = ("" if words else np.nan) if fill is None else fill
            self.arrays[name] = (dims, np.full(shape, nothing, dtype=object if words else None))
        self.arrays[name][1][place] = value

    def dataset(self, attrs: Mapping[str, Any]) -> xr.Dataset:
        """Return the labelled dataset."""
        made = xr.Dataset(
            {
                name: (dims, array.astype(str) if array.dtype == object else array)
                for name, (dims, array) in self.arrays.items()
            }
        )
        used = {str(dim): self.coords[str(dim)] for dim in made.dims}
        return made.assign_coords(used).assign_attrs(attrs)


def empty_arrays(labels: Labels, **more: Sequence[Any]) -> LabelledArrays:
    """Make an empty frame with the model's coordinates and further ones."""
    return LabelledArrays(labels.coords() | {name: list(values) for name, values in more.items()})


def spread(space: OuterSpace, vector: FloatArray, nothing: float = np.nan) -> dict[str, FloatArray]:
    """Lay a search vector (K,) out under the parameters' names; what it lacks is ``nothing``."""
    coefficients = np.full(space.free.shape, nothing)
    coefficients[space.free] = vector[space.n_variance :]
    sigma = np.full(space.n_components, nothing)
    sigma[: space.n_sigma] = vector[: space.n_sigma]
    return {
        "log_sigma": sigma,
        "theta_logit": vector[space.n_sigma : space.n_variance],
        "beta": coefficients[:-1],
        "bias_eta": coefficients[-1],
    }


def with_natural(
    by_name: Mapping[str, FloatArray], sigma: FloatArray, theta: FloatArray
) -> dict[str, FloatArray]:
    """Add sigma and theta to first order: errors or shifts times the slope of the transform."""
    slopes = {"sigma": sigma * by_name["log_sigma"]}
    slopes["theta"] = theta * (1.0 - theta) * by_name["theta_logit"]
    return {**slopes, **by_name}


def estimates(params: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the estimates of a fit under the names of ``PARAMETERS``."""
    return {
        "sigma": params["sigma"],
        "theta": expit(params["theta_logit"]),
        "log_sigma": np.log(params["sigma"]),
        "theta_logit": params["theta_logit"],
        "beta": params["beta"],
        "bias_eta": params["bias_eta"],
    }


def tidy(
    dataset: xr.Dataset, by: Sequence[str], columns: Mapping[str, str], common: Sequence[str]
) -> pd.DataFrame:
    """Return one row for every gene, ``by`` and entry of a parameter.

    Parameters
    ----------
    dataset
        Of a study.
    by
        Dimensions that become columns, beside ``gene``.
    columns
        Column name to the pattern of the variable's name, such as ``'{}_se'``.
    common
        Variables over some of ``gene`` and ``by`` that become columns as they are.
    """
    parts = []
    keys = ["gene", *by]
    for name in PARAMETERS:
        found = {c: p.format(name) for c, p in columns.items() if p.format(name) in dataset}
        if not found or any(not dataset[own].size for own in found.values()):
            continue
        chosen = dataset[list(found.values())].rename({v: k for k, v in found.items()})
        whole = chosen.to_dataframe(dim_order=list(chosen.dims)).reset_index()
        own = [dim for dim in chosen.dims if dim not in keys]
        whole["index"] = whole[own].astype(str).agg(", ".join, axis=1) if own else ""
        whole["parameter"] = name
        given = [key for key in keys if key in whole]
        parts.append(whole[[*given, "parameter", "index", *found]])
    table = pd.concat(parts, ignore_index=True)
    for name in common:
        dims = [str(dim) for dim in dataset[name].dims]
        values = dataset[name].to_dataframe(dim_order=list(dims)).reset_index()[[*dims, name]]
        table = table.merge(values, on=dims, how="left")
    return table
