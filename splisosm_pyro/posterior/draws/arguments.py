"""What a user asks of a posterior, checked once, and the names of the axes."""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splisosm_pyro.fit.options import boolean, choose, positive_int

METHODS = ("auto", "laplace", "nested_laplace", "marginal_nuts", "nuts")
FIELDS = ("auto", "draws", "quantiles")


@dataclass(frozen=True)
class Request:
    """The checked arguments of ``model.posterior``.

    Attributes
    ----------
    method : {'auto', 'laplace', 'nested_laplace', 'marginal_nuts', 'nuts'}
    draws, chains : int
    seed : int
    genes : tuple of int
        Places of the genes.
    field : {'auto', 'draws', 'quantiles'}
        How ``eta`` and the ratios are kept.
    warmup : int, optional
        Transitions of a chain before its draws; by default what the method needs.
    predictive : bool
        Whether counts are drawn from the posterior and from the prior, too.
    """

    method: str
    draws: int
    chains: int
    seed: int
    genes: tuple[int, ...]
    field: str = "auto"
    warmup: int | None = None
    predictive: bool = False

    def __post_init__(self) -> None:
        choose("method", self.method, METHODS)
        choose("field", self.field, FIELDS)
        positive_int("draws", self.draws)
        positive_int("chains", self.chains)
        if self.warmup is not None:
            positive_int("warmup", self.warmup)
        boolean("predictive", self.predictive)
        _check_seed(self.seed)

    @property
    def size(self) -> int:
        """How many draws a gene has in all."""
        return self.draws * self.chains


def _check_seed(seed: object) -> None:
    """Refuse what is no whole number from 0 on."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed must be a whole number, came {type(seed).__name__}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, came {seed}")


def chosen_genes(genes: object, n_genes: int) -> tuple[int, ...]:
    """Return the places of the genes asked for, all of them by default.

    Examples
    --------
    >>> chosen_genes([2, -1], 3)
    Traceback (most recent call last):
    ValueError: genes must be different whole numbers from 0 to 2, came -1
    """
    if genes is None:
        return tuple(range(n_genes))
    if isinstance(genes, str) or not isinstance(genes, Sequence | np.ndarray):
        raise TypeError(f"genes must be a sequence of places, came {type(genes).__name__}")
    seen: list[int] = []
    places: list[Any] = list(genes)
    for gene in places:
        whole = isinstance(gene, numbers.Integral) and not isinstance(gene, bool)
        if not whole or not 0 <= gene < n_genes or gene in seen:
            raise ValueError(
                f"genes must be different whole numbers from 0 to {n_genes - 1}, came {gene!r}"
            )
        seen.append(int(gene))
    if not seen:
        raise ValueError("genes must name at least one gene, came an empty sequence")
    return tuple(seen)


@dataclass(frozen=True, eq=False)
class Labels:
    """The names along every axis."""

    gene: tuple[Any, ...]
    spot: tuple[Any, ...]
    isoform: tuple[Any, ...]
    covariate: tuple[Any, ...]
    component: tuple[Any, ...]

    @classmethod
    def of(
        cls,
        names: Mapping[str, Sequence[Any]] | None,
        genes: tuple[int, ...],
        shape: tuple[int, int, int],
        covariates: tuple[str, ...],
        n_components: int,
    ) -> "Labels":
        """Take the user's names of ``gene`` (all G), ``spot``, ``isoform``, else places.

        Raises
        ------
        ValueError
            If ``names`` has another key, or not as many names as the axis is long.
        """
        sizes = dict(zip(("gene", "spot", "isoform"), shape, strict=True))
        given: dict[str, tuple[Any, ...]] = {
            axis: tuple(range(size)) for axis, size in sizes.items()
        }
        for axis, values in (names or {}).items():
            if axis not in sizes:
                raise ValueError(f"names must have keys among {tuple(sizes)}, came {axis!r}")
            given[axis] = (values,) if isinstance(values, str) else tuple(values)
            if len(given[axis]) != sizes[axis]:
                raise ValueError(
                    f"names[{axis!r}] must have {sizes[axis]} entries, came {len(given[axis])}"
                )
        isoforms = given["isoform"]
        components = ("shared",) if n_components == 1 else isoforms[:n_components]
        chosen = tuple(given["gene"][g] for g in genes)
        return cls(chosen, given["spot"], isoforms, covariates, components)

    def coords(self) -> dict[str, list[Any]]:
        """Return coordinates by dimension; a logit is named after its isoform."""
        return {
            "gene": list(self.gene),
            "spot": list(self.spot),
            "isoform": list(self.isoform),
            "logit": list(self.isoform[:-1]),
            "covariate": list(self.covariate),
            "component": list(self.component),
        }
