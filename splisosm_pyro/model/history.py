"""What a fit records, and the guards around it: losses, parameter snapshots, seed, log lines."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from splisosm_pyro.fit.result import GeneFit

# Up to so many spots a gene's matrices are too small for threads to pay.
MANY_SPOTS = 20_000

logger = logging.getLogger("splisosm_pyro")


@dataclass(frozen=True, eq=False)
class FitLog:
    """The course of a fit over a batch of genes; a loss is minus the objective, in nats.

    Attributes
    ----------
    loss_history : Tensor, shape (epochs, G)
        Loss after each epoch; a gene that stopped early keeps its last one.
    best_loss : Tensor, shape (G,)
        The smallest loss of each gene.
    best_epoch : Tensor of int64, shape (G,)
        The row of ``loss_history`` where it stands first.
    convergence : Tensor of bool, shape (G,)
        True where the fit ended at an optimum or at a named boundary.
    epoch : Tensor of int64, shape (G,)
        Epochs that each gene took.
    params_iter : dict or None
        What ``fit(store_param_history=True)`` returned.
    """

    loss_history: Tensor
    best_loss: Tensor
    best_epoch: Tensor
    convergence: Tensor
    epoch: Tensor
    params_iter: dict[str, list[Any]] | None = None

    def get_params_iter(self) -> dict[str, list[Any]] | None:
        """Return ``params_iter``; None where no history was asked for."""
        return self.params_iter

    @classmethod
    def from_fits(
        cls, fits: Sequence[GeneFit], params_iter: dict[str, list[Any]] | None = None
    ) -> "FitLog":
        """Put the genes' courses side by side."""
        values = np.empty((len(fits), n_rows(fits)))
        for course, fit in zip(values, fits, strict=True):
            course[: fit.epochs] = fit.values
            course[fit.epochs :] = fit.value
        losses = torch.from_numpy(-values.T)
        best = losses.min(dim=0)
        settled = torch.tensor([fit.settled for fit in fits])
        epochs = torch.tensor([fit.epochs for fit in fits])
        return cls(losses, best.values, best.indices, settled, epochs, params_iter)


def n_rows(fits: Sequence[GeneFit]) -> int:
    """Rows of the history: the epochs of the slowest gene, at least one."""
    return max(1, *(fit.epochs for fit in fits))


def param_history(fits: Sequence[GeneFit], params: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    """Losses (G,) and all parameters after each epoch; ``params`` are those at the end."""
    losses = FitLog.from_fits(fits).loss_history
    snapshots = []
    for epoch in range(n_rows(fits)):
        snapshot = {name: value.detach().clone() for name, value in params.items()}
        for gene, fit in enumerate(fits):
            if epoch < len(fit.params_path):
                for name, value in fit.params_path[epoch].items():
                    snapshot[name][gene] = torch.as_tensor(value).to(snapshot[name])
        snapshots.append(snapshot)
    return {"loss": list(losses), "params": snapshots}


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's CPU generator for a while, then put it back."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"random_seed must be an int or None, came {type(seed).__name__}")
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def few_threads(n_spots: int) -> Iterator[None]:
    """Keep the linear algebra to one thread where a gene's matrices are too small to share."""
    limits = None if n_spots > MANY_SPOTS else 1
    with _linear_algebra().limit(limits=limits, user_api="blas"):
        yield


@cache
def _linear_algebra() -> Any:
    """Find the libraries of this process once; the search takes longer than many a fit."""
    return ThreadpoolController()


@contextmanager
def spoken(verbose: bool) -> Iterator[None]:
    """Let the package's INFO lines through for a while, by a handler of our own if need be."""
    if not verbose:
        yield
        return
    level = logger.level
    handler = None if logger.hasHandlers() else logging.StreamHandler()
    logger.setLevel(logging.INFO)
    if handler is not None:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        if handler is not None:
            logger.removeHandler(handler)
