"""Pyro's NUTS over a log density with a gradient of its own.

Hoffman and Gelman (2014), JMLR 15(47); with multinomial sampling of the trajectory and the
generalised criterion of turning of Betancourt (2017), arXiv:1701.02434, as Pyro has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from pyro.infer.mcmc import NUTS
from torch import Tensor

from splisosm_pyro.maths.spot import FloatArray

# Takes a position (M,); returns the log density and its gradient. Minus infinity is no place.
Slope = Callable[[FloatArray], tuple[float, FloatArray]]
OUTER, FIELD = "outer", "field"
MAX_TREE_DEPTH = 10
TARGET_ACCEPTANCE = 0.8


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws after the warm-up.

    Attributes
    ----------
    positions
        (C, N, M).
    stats
        (C, N) each, by ArviZ's names: ``lp`` (of the position), ``diverging``,
        ``acceptance_rate``, ``n_steps``, ``tree_depth`` (doublings begun), ``energy`` (at the
        trajectory's start), ``step_size``.
    """

    positions: FloatArray
    stats: dict[str, FloatArray]

    @property
    def flat(self) -> FloatArray:
        """The positions (C N, M), chain by chain."""
        return self.positions.reshape(-1, self.positions.shape[-1])


class _Potential(torch.autograd.Function):
    """The negative log density, with the gradient that came along with its value."""

    @staticmethod
    def forward(ctx: Any, density: Slope, *parts: Tensor) -> Tensor:
        position = np.concatenate([part.detach().numpy() for part in parts])
        try:
            value, slope = density(position)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            value, slope = -np.inf, np.zeros(position.size)
        ctx.slopes = torch.from_numpy(-slope).split([part.numel() for part in parts])
        return torch.tensor(-value, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(by[0] * slope for slope in ctx.slopes))


class _RecordingNUTS(NUTS):
    """NUTS that keeps what a transition did."""

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        self.steps, self.accepted, self.energy = 0, 0.0, np.nan
        self.diverged = False
        step_size, parent = self.step_size, cast(Any, super())
        out: dict[str, Tensor] = parent.sample(params)
        self.record = {
            "lp": -float(cast(Tensor, self._potential_energy_last)),
            "diverging": float(self.diverged),
            "acceptance_rate": self.accepted / max(self.steps, 1),
            "n_steps": float(self.steps),
            "tree_depth": float(self.steps.bit_length()),
            "energy": self.energy,
            "step_size": float(step_size),
        }
        return out

    def _build_basetree(self, *args: Any) -> Any:
        parent = cast(Any, super())
        tree = parent._build_basetree(*args)
        self.steps += 1
        self.accepted += float(tree.sum_accept_probs)
        self.diverged |= bool(tree.diverging)
        self.energy = float(args[-1])
        return tree


def run_chains(
    density: Slope,
    starts: FloatArray,
    n_draws: int,
    warmup: int,
    seeds: Sequence[int],
    n_outer: int | None = None,
) -> Chains:
    """Run Pyro's NUTS from every start.

    Parameters
    ----------
    density : callable
        Where it says minus infinity, or where it breaks, no chain goes.
    starts : ndarray, shape (C, M)
    n_draws, warmup : int
        Transitions that are kept, and those before.
    seeds : sequence of int
        One a chain. The global generator is put back.
    n_outer : int, optional
        So many leading coordinates (all, by default) have a dense mass matrix, the others a
        diagonal one.

    Returns
    -------
    Chains

    Examples
    --------
    >>> found = run_chains(lambda x: (-0.5 * x @ x, -x), np.zeros((1, 2)), 200, 100, [0])
    >>> found.positions.shape, bool(abs(found.positions.std() - 1) < 0.2)
    ((1, 200, 2), True)
    """
    positions = np.empty((len(starts), n_draws, starts.shape[1]))
    records = []
    for chain, (start, seed) in enumerate(zip(starts, seeds, strict=True)):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            kept, record = _one_chain(density, start, n_draws, warmup, n_outer or start.size)
        positions[chain] = kept
        records.append(record)
    names = records[0][0]
    stats = {
        name: np.array([[step[name] for step in record] for record in records]) for name in names
    }
    return Chains(positions, stats)


def _one_chain(
    density: Slope, start: FloatArray, n_draws: int, warmup: int, n_outer: int
) -> tuple[FloatArray, list[dict[str, float]]]:
    """Return the positions (N, M) of one chain and its records."""
    sizes = {OUTER: n_outer, FIELD: start.size - n_outer}
    sizes = {name: size for name, size in sizes.items() if size}

    def potential(params: dict[str, Tensor]) -> Tensor:
        value: Tensor = cast(Any, _Potential).apply(density, *(params[name] for name in sizes))
        return value

    kernel = cast(Any, _RecordingNUTS)(
        potential_fn=potential,
        full_mass=[(OUTER,)],
        max_tree_depth=MAX_TREE_DEPTH,
        target_accept_prob=TARGET_ACCEPTANCE,
    )
    parts = torch.from_numpy(start.copy()).split(list(sizes.values()))
    params = {name: part.clone() for name, part in zip(sizes, parts, strict=True)}
    kernel.initial_params = params
    kernel.setup(warmup)
    positions, records = np.empty((n_draws, start.size)), []
    for step in range(-warmup, n_draws):
        params = kernel.sample(params)
        if step >= 0:
            positions[step] = np.concatenate([params[name].detach().numpy() for name in sizes])
            records.append(kernel.record)
    return positions, records
