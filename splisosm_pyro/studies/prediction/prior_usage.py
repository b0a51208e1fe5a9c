"""What ranges of isoform usage a prior believes in, before data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure

from splisosm_pyro.fit.options import positive_int
from splisosm_pyro.maths.coding import NOTHING, Turn, turns
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.priors import PoweredPrior, Priors
from splisosm_pyro.maths.priors.usage_range import unit_fields, usage_ranges
from splisosm_pyro.model import MultinomGLMM
from splisosm_pyro.studies.sensitivity.directions import labelled
from splisosm_pyro.studies.sensitivity.figures import COLOURS, DASHES, cleaned

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Spots times draws times isoforms of one batch of fields.
BATCH = 4_000_000


@dataclass(frozen=True, eq=False)
class PriorUsage:
    """Draws of a prior in units of usage; ``dataset, table = found`` takes it apart.

    Attributes
    ----------
    dataset : xarray Dataset
        ``usage_range`` (prior, draw, isoform), ``widest`` (prior, draw) of the isoform that ranges
        most, ``sigma`` and ``theta``.
    table : DataFrame
        One row a prior: quantiles of ``widest`` and of sigma, and how often ``widest`` passes 0.1,
        0.25, 0.5 and 0.9.

    Examples
    --------
    >>> from splisosm_pyro import simulate_tissue
    >>> kernel = simulate_tissue(n_spots=37, n_genes=1, seed=0).kernel
    >>> found = prior_predictive(priors=["half_normal"], kernel=kernel, n_isos=2, draws=100)
    >>> len(found.table), found.dataset["widest"].shape
    (1, (1, 100))
    """

    dataset: xr.Dataset
    table: pd.DataFrame

    def __iter__(self) -> Any:
        return iter((self.dataset, self.table))

    def plot(self) -> Figure:
        """Draw how likely every prior holds it that usage ranges over more than r."""
        figure = Figure(figsize=(8.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        grid = np.linspace(0.0, 1.0, 201)
        for k, label in enumerate(self.dataset["prior"].values):
            one = self.dataset.sel(prior=label)
            above = (one["widest"].values[:, None] > grid).mean(axis=0)
            style = {"color": COLOURS[k % 6], "linestyle": DASHES[k % 5]}
            left.plot(grid, above, label=label, **style)
            sigma = np.sort(one["sigma"].values)
            right.plot(sigma, 1.0 - np.arange(sigma.size) / sigma.size, **style)
        left.set(xlabel="r, range of usage over the tissue", ylabel="P(usage ranges over more)")
        right.set(xlabel="sigma (logit scale)", ylabel="P(larger)", xscale="log")
        figure.legend(
            *left.get_legend_handles_labels(), loc="outside upper center", fontsize=8, ncols=2,
            frameon=False,
        )  # fmt: skip
        return cleaned(figure)


def prior_predictive(
    model: MultinomGLMM | None = None,
    priors: Any = None,
    *,
    kernel: Kernel | None = None,
    n_isos: int | None = None,
    usage: Sequence[float] | None = None,
    coverage: float = 1.0,
    draws: int = 1000,
    seed: int = 0,
) -> PriorUsage:
    """Draw usage over the tissue from priors, and say how far it ranges.

    Drawn are sigma, theta, the intercept where it has a proper prior, and the field
    ``nu_q ~ N(0, sigma^2 (theta V + (1 - theta) I))``, or every isoform's own where the model's
    coding is symmetric; the usage of isoform p at spot s is
    ``softmax([bias_eta + nu, 0])``, its range the largest less the smallest over the spots.
    Covariates stay out: their values are the data's.

    Parameters
    ----------
    model : MultinomGLMM, optional
        With data; its kernel, P and priors are taken. It needs no fit.
    priors : optional
        As for `prior_sensitivity`: a mapping of label to prior, or a sequence. Default: the model's
        own prior of sigma if it has one, else the default grid without ``none``.
    kernel, n_isos
        The tissue and P, where there is no model.
    usage : sequence of float, optional
        The usage (P,) that the field varies around where the intercept has no prior; default
        equal usage.
    coverage : float
        1, or the share of the spots in the middle whose usage the range spans.
    draws : int
    seed : int

    Returns
    -------
    PriorUsage
        ``dataset``, ``table``, and ``plot()``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal or a prior of sigma is improper.

    Notes
    -----
    ``draws`` fields of S spots and P - 1 logits for every prior: a second for 900 spots.

    Examples
    --------
    >>> from splisosm_pyro.maths.covariance.car import CARKernel
    >>> kernel = CARKernel.from_coords(np.random.default_rng(0).random((80, 2)), k=4)
    >>> priors = {"weak": "gamma", "asked": ("pc_usage", {"usage_range": 0.5, "prob": 0.05})}
    >>> found = prior_predictive(kernel=kernel, n_isos=2, priors=priors)
    >>> (found.table["P(range > 0.5)"] < 0.08).tolist()
    [False, True]
    """
    positive_int("draws", draws)
    own = Priors() if model is None else model.priors
    if model is not None:
        kernel, n_isos = model.data.kernel, model.n_isos
    if not isinstance(kernel, Kernel) or n_isos is None:
        raise TypeError("model must be a MultinomGLMM with data, or kernel and n_isos be given")
    grid = _proper(priors, own)
    centre = _centre(usage, n_isos)
    parts = []
    for whole in grid.values():
        fields = _Fields(kernel, n_isos, "reference" if model is None else model.coding)
        parts.append(_drawn(whole, fields, centre, coverage, draws, seed))
    dataset = xr.concat(parts, dim="prior").assign_coords(
        prior=list(grid), draw=np.arange(draws), isoform=np.arange(n_isos)
    )
    return PriorUsage(dataset.assign_attrs(coverage=coverage, seed=seed), _table(dataset))


def _proper(priors: Any, own: Priors) -> dict[str, Priors]:
    """Return the priors asked for, which must be proper."""
    if priors is None and own.sigma.proper:
        return {own.sigma.words: own}
    if priors is None:
        return {k: v for k, v in labelled(None, own).items() if v.sigma.proper}
    grid = labelled(priors, own)
    for label, whole in grid.items():
        if not whole.sigma.proper or isinstance(whole.sigma, PoweredPrior):
            raise ValueError(f"priors[{label!r}] must be proper on sigma, came {whole.sigma.words}")
    return grid


def _centre(usage: Sequence[float] | None, n_isos: int) -> FloatArray:
    """Return the logits (Q,) of the usage that the field varies around."""
    if usage is None:
        return np.zeros(n_isos - 1)
    given = np.asarray(usage, dtype=np.float64)
    whole = given.shape == (n_isos,) and bool((given > 0).all()) and abs(given.sum() - 1.0) < 1e-6
    if not whole:
        raise ValueError(f"usage must be {n_isos} positive numbers that sum to 1, came {usage!r}")
    return np.asarray(np.log(given[:-1]) - np.log(given[-1]))


@dataclass(frozen=True, eq=False)
class _Fields:
    """What fields of unit variance are drawn over and for."""

    kernel: Kernel
    n_isos: int
    coding: str

    def drawn(self, theta: FloatArray, seed: int) -> FloatArray:  # (n, Q, S)
        """Draw one of each theta (n, 1)."""
        turn = Turn.of_size(self.n_isos) if turns(self.coding, self.n_isos) else NOTHING
        fields = unit_fields(self.kernel, self.n_isos - 1, len(theta), seed, theta)
        return turn.columns_to_logits(fields)


def _drawn(
    priors: Priors,
    fields: _Fields,
    centre: FloatArray,
    coverage: float,
    draws: int,
    seed: int,
) -> xr.Dataset:
    """Draw from one set of priors."""
    priors, n_logits = priors.for_gene(fields.kernel, fields.n_isos), fields.n_isos - 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sigma = priors.sigma.draw((draws,))
        theta = priors.theta.distribution().sample((draws, 1)).to(torch.float64).numpy()
        bias = np.broadcast_to(centre, (draws, n_logits))
        if priors.bias.proper:
            bias = priors.bias.distribution().sample((draws, n_logits)).numpy()
    size = max(1, BATCH // (fields.kernel.n_spots * fields.n_isos))
    ranges = []
    for first in range(0, draws, size):
        part = slice(first, first + size)
        eta = sigma[part, None, None] * fields.drawn(theta[part], seed + 1 + first)
        eta += bias[part, :, None]
        ranges.append(usage_ranges(eta, coverage))
    found = np.concatenate(ranges)
    return xr.Dataset(
        {
            "usage_range": (("draw", "isoform"), found),
            "widest": (("draw",), found.max(axis=1)),
            "sigma": (("draw",), sigma),
            "theta": (("draw",), theta[:, 0]),
        }
    )


def _table(dataset: xr.Dataset) -> pd.DataFrame:
    """Summarise the draws, one row a prior."""
    rows: list[Mapping[str, Any]] = []
    for label in dataset["prior"].values:
        one = dataset.sel(prior=label)
        row: dict[str, Any] = {"prior": str(label)}
        for name, title in (("widest", "range"), ("sigma", "sigma")):
            for q, value in zip(PROBABILITIES, np.quantile(one[name], PROBABILITIES), strict=True):
                row[f"{title}_{100 * q:g}%"] = float(value)
        for r in (0.1, 0.25, 0.5, 0.9):
            row[f"P(range > {r:g})"] = float((one["widest"] > r).mean())
        rows.append(row)
    return pd.DataFrame(rows)
