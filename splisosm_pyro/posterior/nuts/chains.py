"""Pyro's NUTS over a log density with a gradient of its own.

Hoffman and Gelman (2014), JMLR 15(47); with multinomial sampling of the trajectory and the
generalised criterion of turning of Betancourt (2017), arXiv:1701.02434, as Pyro has them.

A chain can move by a cheap density ``s`` and be right for another one ``p``: transitions of NUTS
from x to y are reversible under ``s``, so accepting y with probability ``min(1, p(y) s(x) / (p(x)
s(y)))`` leaves ``p`` invariant (Liu, 2001, Monte Carlo Strategies in Scientific Computing, section
9.4.3: surrogate transitions). It costs one value of ``p`` a draw and no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import pyro
import torch
from pyro.infer.mcmc import NUTS
from torch import Tensor

from splisosm_pyro.maths.numeric.arrays import FloatArray

# Takes a position (M,); returns the log density and its gradient. Minus infinity is no place.
Slope = Callable[[FloatArray], tuple[float, FloatArray]]
OUTER, FIELD = "outer", "field"
# So many of the last transitions of the warm-up are corrected too.
SETTLING = 20
MAX_TREE_DEPTH = 10
TARGET_ACCEPTANCE = 0.8
# Likewise of corrected chains: where all directions are alike, few steps are enough.
CORRECTED_TREE_DEPTH, CORRECTED_ACCEPTANCE = 3, 0.6


class Exact(NamedTuple):
    """What the density that a chain is to have says of a position."""

    log_density: float
    log_ratio: float  # log p - log s
    kept: FloatArray  # what is drawn with the position


# Takes a position (M,).
Correction = Callable[[FloatArray], Exact]


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
        trajectory's start), ``step_size``; of corrected chains also ``accepted``, whether the
        transition stands.
    kept
        (C N, *) what the correction drew with the positions, chain by chain.
    """

    positions: FloatArray
    stats: dict[str, FloatArray]
    kept: FloatArray | None = None

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
    correction: Correction | None = None,
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
    correction : callable, optional
        The density that the draws are to have, where that is not ``density``. The mass matrix is
        then the identity.

    Returns
    -------
    Chains

    Examples
    --------
    >>> found = run_chains(lambda x: (-0.5 * x @ x, -x), np.zeros((1, 2)), 200, 100, [0])
    >>> found.positions.shape, bool(abs(found.positions.std() - 1) < 0.2)
    ((1, 200, 2), True)
    """
    runs = []
    for start, seed in zip(starts, seeds, strict=True):
        with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
            torch.default_generator.manual_seed(seed)
            walker = _Walker(density, start, warmup, n_outer or start.size, correction)
            runs.append(walker.run(n_draws, warmup))
    records = [[step.record for step in run] for run in runs]
    stats = {
        name: np.array([[record[name] for record in run] for run in records])
        for name in records[0][0]
    }
    positions = np.array([[step.position for step in run] for run in runs])
    kept = [step.exact.kept for run in runs for step in run if step.exact is not None]
    return Chains(positions, stats, np.stack(kept) if kept else None)


class _Step(NamedTuple):
    """Where a chain is after a transition."""

    position: FloatArray
    record: dict[str, float]
    exact: Exact | None


class _Walker:
    """One chain."""

    def __init__(
        self,
        density: Slope,
        start: FloatArray,
        warmup: int,
        n_outer: int,
        correction: Correction | None,
    ) -> None:
        sizes = {OUTER: n_outer, FIELD: start.size - n_outer}
        names = [name for name, size in sizes.items() if size]

        def potential(params: dict[str, Tensor]) -> Tensor:
            value: Tensor = cast(Any, _Potential).apply(density, *(params[name] for name in names))
            return value

        self.kernel = cast(Any, _RecordingNUTS)(
            potential_fn=potential,
            full_mass=[(OUTER,)],
            adapt_mass_matrix=correction is None,
            max_tree_depth=MAX_TREE_DEPTH if correction is None else CORRECTED_TREE_DEPTH,
            target_accept_prob=TARGET_ACCEPTANCE if correction is None else CORRECTED_ACCEPTANCE,
        )
        parts = torch.from_numpy(start.copy()).split([sizes[name] for name in names])
        self.params = {name: part.clone() for name, part in zip(names, parts, strict=True)}
        self.kernel.initial_params = self.params
        self.kernel.setup(warmup)
        self.correction = correction
        self.exact: Exact | None = None

    def run(self, n_draws: int, warmup: int) -> list[_Step]:
        """Return the draws after the warm-up."""
        steps = []
        for step in range(-warmup, n_draws):
            position, record = self.move(corrected=step >= -SETTLING)
            if step >= 0:
                steps.append(_Step(position, record, self.exact))
        return steps

    def move(self, *, corrected: bool) -> tuple[FloatArray, dict[str, float]]:
        """Make a transition; the position and the record.

        A trajectory that ends where it began asks nothing, and what was drawn there stays too.
        """
        proposed = self.kernel.sample(self.params)
        position, record = _flat(proposed), self.kernel.record
        if self.correction is None or not corrected:
            self.params = proposed
            return position, record
        here = self.exact
        stayed = here is not None and np.array_equal(position, _flat(self.params))
        there = here if here is not None and stayed else self.correction(position)
        accepted = _stands(self.exact, there, float(torch.rand(())))
        if accepted:
            self.params, self.exact = proposed, there
        else:
            self.kernel.clear_cache()  # of the proposed position
        log_density = (self.exact or there).log_density
        record |= {"lp": log_density, "accepted": float(accepted)}
        return _flat(self.params), record


def _stands(here: Exact | None, there: Exact, chance: float) -> bool:
    """Whether a transition is accepted; a chain that is nowhere yet takes any."""
    if here is None or here.log_ratio == -np.inf:
        return True
    return bool(np.log(max(chance, 1e-300)) < there.log_ratio - here.log_ratio)


def _flat(params: dict[str, Tensor]) -> FloatArray:
    """Return the position (M,)."""
    return np.concatenate([part.detach().numpy() for part in params.values()])
