"""Labelled groups as ArviZ takes them: the one place that knows which ArviZ is installed.

Under ArviZ 0.x a posterior is an ``InferenceData``, from 1.0 on an ``xarray.DataTree``. ArviZ takes
seconds to import and is asked for only where a posterior is made or read.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import xarray as xr

from splisosm_pyro.paths import PathLike, expanded


def uses_data_tree(arviz: Any) -> bool:
    """Whether this ArviZ keeps posteriors as a ``DataTree``."""
    # looked up, and not asked for: a newer ArviZ answers to that name with a warning and a DataTree
    return "InferenceData" not in vars(arviz)


def to_container(groups: Mapping[str, xr.Dataset], arviz: Any = None) -> Any:
    """Put datasets by group name into the container of the installed ArviZ.

    Parameters
    ----------
    groups : mapping of Dataset
        Named as in ArviZ's schema, ``posterior`` for example.
    arviz : module, optional
        ArviZ, where it is not the installed one.

    Returns
    -------
    InferenceData or DataTree
    """
    arviz = importlib.import_module("arviz") if arviz is None else arviz
    if uses_data_tree(arviz):
        return xr.DataTree.from_dict(dict(groups))
    return arviz.InferenceData(**groups)


def dataset_of(container: Any, group: str) -> xr.Dataset:
    """Return a group of either container as a dataset, which both know how to index."""
    found = container[group]
    if isinstance(found, xr.DataTree):
        return found.to_dataset()
    dataset: xr.Dataset = found
    return dataset


def read_posterior(path: PathLike) -> Any:
    """Read a posterior that its ``to_netcdf`` wrote, into memory.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    InferenceData or DataTree
        As the installed ArviZ has it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from splisosm_pyro import MultinomGLM
    >>> model = MultinomGLM()
    >>> model.setup_data(torch.tensor([[30, 10], [10, 30], [0, 0], [20, 20]]))
    >>> file = Path(tempfile.mkdtemp()) / "posterior.nc"
    >>> _ = model.posterior("laplace", draws=50).to_netcdf(file)
    >>> dict(read_posterior(file)["posterior"].sizes)["draw"]
    50
    """
    arviz = importlib.import_module("arviz")
    if uses_data_tree(arviz):
        with xr.open_datatree(expanded(path)) as tree:
            return tree.load()
    return arviz.from_netcdf(str(expanded(path))).load()
