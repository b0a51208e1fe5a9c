"""Replicated counts, from posterior or prior draws of the logits, every spot with its own total."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, IntArray
from splisosm_pyro.posterior.arviz.groups import DIMS, FIELD_BUDGET, SAMPLE
from splisosm_pyro.posterior.draws.arguments import Labels, Request
from splisosm_pyro.posterior.draws.from_prior import prior_draws
from splisosm_pyro.posterior.draws.gene_draws import Density, GeneDraws
from splisosm_pyro.posterior.field.noise import Noise
from splisosm_pyro.posterior.field.summary import ratios

COUNTS = ("gene", "spot", "isoform")
PREDICTIVE = ("posterior_predictive", "prior_predictive")
# How a status goes on where there is something to say of them.
NOTE = "; replicated counts"
# The noise of replicated counts is independent of that of the draws.
OWN_STREAM = 1


def predictive_counts(
    eta: FloatArray,  # (S, Q, N)
    totals: FloatArray,  # (S,)
    generator: np.random.Generator,
) -> IntArray:  # (N, S, P)
    """Draw counts given logits; an empty spot stays empty.

    Parameters
    ----------
    eta
        N draws of the logits at all spots, (S, Q, N).
    totals
        Reads of each spot, whole numbers.
    generator
        The global generators are neither read nor changed.

    Raises
    ------
    ValueError
        If a total is not whole.

    Examples
    --------
    >>> eta, totals = np.zeros((3, 1, 2)), np.array([5.0, 0.0, 2.0])
    >>> predictive_counts(eta, totals, np.random.default_rng(0)).sum(axis=2).tolist()
    [[5, 0, 2], [5, 0, 2]]
    """
    whole = np.round(totals)
    if not np.allclose(whole, totals):
        raise ValueError("counts must be whole numbers where counts are drawn")
    occupied = np.flatnonzero(whole)
    usage = np.moveaxis(ratios(eta[occupied]), -1, 0)  # (N, n, P)
    out = np.zeros((eta.shape[2], totals.size, eta.shape[1] + 1), dtype=np.int64)
    out[:, occupied] = generator.multinomial(whole[occupied].astype(np.int64), usage)
    return out


@dataclass
class PredictiveStore:
    """Where replicated counts and prior draws of one gene after another are put.

    Of every chain's draws each ``step``-th is kept, so that the two arrays of counts fit the budget
    (they hold 32-bit numbers: whole ones unless a gene is lacking). ``there`` says which genes are.
    """

    request: Request
    labels: Labels
    values: dict[str, AnyArray] = field(default_factory=dict)
    there: set[int] = field(default_factory=set)

    @property
    def kept(self) -> IndexArray:
        """Which draws of a chain are kept."""
        n_genes, n_spots, n_isos = (
            len(axis) for axis in (self.labels.gene, self.labels.spot, self.labels.isoform)
        )
        a_draw = 2 * 4 * self.request.chains * n_genes * n_spots * n_isos
        most = max(1, FIELD_BUDGET // a_draw)
        return np.arange(0, self.request.draws, -(-self.request.draws // most))

    def add(
        self,
        place: int,
        density: Density,
        draws: GeneDraws,
        counts: FloatArray,  # (S, P)
        design: FloatArray,  # (S, F+1)
        kernel: Kernel | None,
    ) -> str:
        """Take the gene at ``place``: replicate its counts, draw from its prior and replicate.

        Spots keep their totals, fractional ones the nearest whole number.

        Returns
        -------
        str
            What the gene's status is to say of it: that totals were rounded, or why it is left out.
        """
        own = density.space.turn.counts(counts)
        noise = Noise.of_gene(self.request.seed, np.append(own, OWN_STREAM))
        totals, size = counts.sum(axis=1), self.request.chains * self.kept.size
        eta = draws.eta
        shape = (*eta.shape[:2], self.request.chains, self.request.draws)
        eta = eta.reshape(shape)[..., self.kept].reshape(*shape[:2], size)
        try:
            prior = prior_draws(density, design, kernel, size, noise)
            drawn = [predictive_counts(x, np.round(totals), noise.numpy) for x in (eta, prior.eta)]
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            return f"{NOTE} are left out: {error}"
        for name, value in density.space.named(prior.u).items():
            self._put("prior", name, place, value)
        for group, replicates in zip(PREDICTIVE, drawn, strict=True):
            self._put(group, "counts", place, replicates.astype(np.int32))
        self.there.add(place)
        return "" if (totals == np.round(totals)).all() else f"{NOTE} have rounded totals"

    def _put(self, group: str, name: str, place: int, value: AnyArray) -> None:
        """Put (N, *) at the gene's place of (chain, draw, gene, *)."""
        sample, key = (self.request.chains, self.kept.size), f"{group}/{name}"
        if key not in self.values:
            shape = (*sample, len(self.labels.gene), *value.shape[1:])
            self.values[key] = np.zeros(shape, dtype=value.dtype)
        self.values[key][:, :, place] = value.reshape(*sample, *value.shape[1:])

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return the variables of every group, with their dimensions; ``draw`` says which.

        A gene that is not there is NaN.
        """
        out: dict[str, dict[str, Any]] = {}
        lacking = sorted(set(range(len(self.labels.gene))) - self.there)
        for key, value in self.values.items():
            group, name = key.split("/")
            if lacking:
                value = value.astype(np.float32) if name == "counts" else value
                value[:, :, lacking] = np.nan
            dims = COUNTS if name == "counts" else DIMS[name]
            out.setdefault(group, {})[name] = ((*SAMPLE, *dims), value)
            out[group]["draw"] = ("draw", self.kept)
        return out
