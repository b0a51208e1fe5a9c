"""Draws of many genes as labelled datasets, the field within a stated budget of memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.psis import Weights
from splisosm_pyro.posterior.density.space import PosteriorSpace
from splisosm_pyro.posterior.draws.arguments import Labels, Request
from splisosm_pyro.posterior.draws.chain_check import ChainCheck
from splisosm_pyro.posterior.draws.gene_draws import GeneDraws
from splisosm_pyro.posterior.field.drawn_or_gaussian import Field, log_lik_by_spot
from splisosm_pyro.posterior.field.summary import QUANTILES, cached_parts, ratios

# Draws of eta and isoform_ratio together may take this many bytes; else their quantiles are kept.
FIELD_BUDGET = 256 * 2**20
SAMPLE = ("chain", "draw")
# Of every spot given its own latent field. Not under the name that arviz.loo takes, whose weights
# cannot leave out a spot that has a latent variable of its own.
GIVEN_FIELD = "log_likelihood_given_field"
# What the attributes of the groups of likelihoods say.
CONDITIONAL = (
    "log p(counts | eta) of every spot, or of a whole gene, given its own latent field: meant for "
    "power-scaling, unreliable for leave-one-out; use model.loo() for that"
)
DIMS = {
    "beta": ("gene", "covariate", "logit"),
    "bias_eta": ("gene", "logit"),
    "sigma": ("gene", "component"),
    "theta": ("gene", "component"),
    "theta_logit": ("gene", "component"),
    "eta": ("gene", "spot", "logit"),
    "isoform_ratio": ("gene", "spot", "isoform"),
}


@dataclass
class DrawStore:
    """Where the draws of one gene after another are put.

    Attributes
    ----------
    keep_draws
        Whether ``eta`` and ``isoform_ratio`` are kept draw by draw.
    """

    request: Request
    labels: Labels
    keep_draws: bool = field(init=False)
    values: dict[str, FloatArray] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {axis: len(values) for axis, values in self.labels.coords().items()}
        cells = sizes["gene"] * sizes["spot"] * (sizes["logit"] + sizes["isoform"])
        affordable = 8 * self.request.size * cells <= FIELD_BUDGET
        self.keep_draws = {"auto": affordable, "draws": True, "quantiles": False}[
            self.request.field
        ]
        self.words = {name: [""] * sizes["gene"] for name in ("method", "status")}

    def add(
        self, place: int, draws: GeneDraws, space: PosteriorSpace, method: str, counts: FloatArray
    ) -> None:
        """Take the draws of the gene at ``place`` among those asked for; counts (S, P)."""
        self.words["method"][place] = method
        self._field(place, draws.field, counts)
        for name, value in space.named(draws.u).items():
            self._put("posterior", name, place, value)
        self._stats(place, draws)
        self._densities(place, draws, space)

    def _stats(self, place: int, draws: GeneDraws) -> None:
        """Keep what the method says of itself."""
        for name, figure in check_figures(draws.check).items():
            self._row("sample_stats", name)[place] = figure
        for name, value in draws.stats.items():
            self._put("sample_stats", name, place, value.ravel())
        if "lp" not in draws.stats and np.isfinite(draws.log_density).all():
            self._put("sample_stats", "lp", place, draws.log_density)

    def _densities(self, place: int, draws: GeneDraws, space: PosteriorSpace) -> None:
        """Keep the log prior of every parameter; what is left is the marginal likelihood."""
        parts, jacobian = space.log_priors(draws.u)
        for name, value in parts.items():
            self._put("log_prior", name, place, value)
        if np.isfinite(draws.log_density).all():
            log_marginal = draws.log_density - jacobian - sum(parts.values())
            self._put("sample_stats", "log_marginal", place, log_marginal)

    def _field(self, place: int, field: Field, counts: FloatArray) -> None:
        """Keep ``eta``, the ratios and the likelihood of every spot, or summaries and its sum."""
        if self.keep_draws:
            self._field_draws(place, field.eta, counts)
            return
        self._put("log_likelihood", "counts", place, field.log_lik(counts))
        for name, summary in field.summaries().items():
            for kind, row in vars(summary).items():
                shape = (len(self.labels.gene), *row.shape)
                self._row("posterior_quantiles", f"{name}_{kind}", shape)[place] = row

    def _field_draws(self, place: int, eta: FloatArray, counts: FloatArray) -> None:
        """Keep the draws (S, Q, N), few spots at a time: nothing of their size is made beside."""
        sample = (self.request.chains, self.request.draws)
        latent = len(self.labels.component) > 0
        kept = {
            ("posterior", "eta"): eta.shape[:2],
            ("posterior", "isoform_ratio"): counts.shape,
            (GIVEN_FIELD if latent else "log_likelihood", "counts"): counts.shape[:1],
        }
        rows = []
        for (group, name), shape in kept.items():
            whole = (*sample, len(self.labels.gene), *shape)
            if len(self.labels.gene) == 1:  # about to be written whole: no NaN first
                self.values.setdefault(f"{group}/{name}", np.empty(whole))
            row = self._row(group, name, whole)
            rows.append(np.moveaxis(row[:, :, place], (0, 1), (-2, -1)))  # (S, *, C, D)
        for part in cached_parts(eta):
            some = eta[part]
            values = some, ratios(some), log_lik_by_spot(counts[part], some)
            for row, value in zip(rows, values, strict=True):
                row[part] = value.reshape(*value.shape[:-1], *sample)
        if latent:
            self._put("log_likelihood", "counts", place, rows[-1].sum(axis=0).ravel())

    def _put(self, group: str, name: str, place: int, value: FloatArray) -> None:
        """Put (N, *) at the gene's place of (chain, draw, gene, *)."""
        sample = (self.request.chains, self.request.draws)
        shape = (*sample, len(self.labels.gene), *value.shape[1:])
        self._row(group, name, shape)[:, :, place] = value.reshape(*sample, *value.shape[1:])

    def clear(self, place: int) -> None:
        """Forget what there is of the gene at ``place``."""
        self.words["method"][place] = ""
        for key, value in self.values.items():
            group, name = key.split("/")
            axis = _dims(group, name, value.ndim).index("gene")
            np.moveaxis(value, axis, 0)[place] = np.nan

    def _row(self, group: str, name: str, shape: tuple[int, ...] | None = None) -> FloatArray:
        """Return the array of that name, made of NaN when first asked for."""
        key = f"{group}/{name}"
        if key not in self.values:
            self.values[key] = np.full(shape or (len(self.labels.gene),), np.nan)
        return self.values[key]

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return the variables of every group, with their dimensions."""
        out: dict[str, dict[str, Any]] = {"posterior": {}, "sample_stats": {}}
        for key, value in self.values.items():
            group, name = key.split("/")
            out.setdefault(group, {})[name] = (_dims(group, name, value.ndim), value)
        stats = out["sample_stats"]
        stats |= {name: ("gene", words) for name, words in self.words.items()}
        if "diverging" in stats:  # a method without chains has none
            dims, value = stats["diverging"]
            stats["diverging"] = (dims, np.nan_to_num(value).astype(bool))
        return out


def _dims(group: str, name: str, rank: int) -> tuple[str, ...]:
    """Name the dimensions of a variable."""
    if group == "posterior_quantiles":
        base, kind = name.rsplit("_", 1)
        own = DIMS[base]
        return (own[0], "quantile", *own[1:]) if kind == "quantile" else own
    if group == "posterior":
        return (*SAMPLE, *DIMS[name])
    if rank == 4:
        return (*SAMPLE, "gene", "spot")
    return ("gene",) if rank == 1 else (*SAMPLE, "gene")


def check_figures(check: Weights | ChainCheck) -> dict[str, float]:
    """Return the figures of a gene's check by name."""
    if isinstance(check, Weights):
        return {
            "khat": check.khat,
            "effective_points": check.effective,
            "points": check.values.size,
        }
    return {
        "r_hat": check.r_hat,
        "ess_bulk": check.ess_bulk,
        "ess_tail": check.ess_tail,
        "divergences": check.divergences,
    }


def as_datasets(
    groups: Mapping[str, Mapping[str, Any]],
    labels: Labels,
    request: Request,
    attrs: Mapping[str, Any],
) -> dict[str, xr.Dataset]:
    """Return a labelled dataset for every group that has variables."""
    coords: dict[str, Any] = labels.coords() | {
        "chain": np.arange(request.chains),
        "draw": np.arange(request.draws),
        "quantile": np.array(QUANTILES),
    }
    out = {}
    for group, variables in groups.items():
        if not variables:
            continue
        plain = xr.Dataset(dict(variables))
        named = [dim for dim in plain.dims if dim in coords and dim not in plain.coords]
        used = {dim: coords[dim] for dim in named}
        own = {"note": CONDITIONAL} if group.startswith("log_likelihood") else {}
        out[group] = plain.assign_coords(used).assign_attrs({**attrs, **own})
    return out
