"""What chains say of themselves: R-hat, effective sizes, divergences, as ArviZ computes them.

Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), doi:10.1214/20-BA1221.
"""

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from splisosm_pyro.maths.numeric.arrays import FloatArray

# Chains agree below this R-hat, and carry so many effective draws each at least.
RHAT_TRUSTED = 1.01
ESS_A_CHAIN = 100
# Divergent transitions are a nuisance below this share of all, a bias above it.
DIVERGENT_SHARE = 0.01


@dataclass(frozen=True)
class ChainCheck:
    """The worst of all outer parameters: largest R-hat, smallest effective sizes.

    ``r_hat`` is NaN for a single chain, and all three for fewer than 4 draws a chain.
    """

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    n_chains: int
    n_draws: int

    @classmethod
    def of(cls, draws: FloatArray, divergences: int) -> "ChainCheck":
        """Compute the figures of draws (C, N, K).

        Examples
        --------
        >>> draws = np.random.default_rng(0).normal(size=(4, 500, 2))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", FutureWarning)
        ...     check = ChainCheck.of(draws, 0)
        >>> round(check.r_hat, 2), check.trusted
        (1.0, True)
        """
        n_chains, n_draws = draws.shape[:2]
        r_hat = bulk = tail = np.nan
        if n_draws >= 4:
            arviz = importlib.import_module("arviz")
            data = xr.Dataset({"u": (("chain", "draw", "k"), draws)})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a parameter that does not move
                bulk = _worst(arviz.ess(data, method="bulk"), np.nanmin)
                tail = _worst(arviz.ess(data, method="tail"), np.nanmin)
                if n_chains > 1:
                    r_hat = _worst(arviz.rhat(data), np.nanmax)
        return cls(r_hat, bulk, tail, divergences, n_chains, n_draws)

    @property
    def trusted(self) -> bool:
        """Whether the draws can be used."""
        return not self.words()

    def words(self) -> str:
        """Say what is wrong, nothing where all is well."""
        wrong = []
        if not self.r_hat <= RHAT_TRUSTED and self.n_chains > 1:
            wrong.append(f"R-hat {self.r_hat:.3f} is above {RHAT_TRUSTED}")
        least = ESS_A_CHAIN * self.n_chains
        ess = min(self.ess_bulk, self.ess_tail)
        if not ess >= least:
            wrong.append(f"effective sample size {ess:.0f} is below {least}")
        if self.divergences > DIVERGENT_SHARE * self.n_chains * self.n_draws:
            wrong.append(f"{self.divergences} divergent transitions")
        return ", ".join(wrong)


def _worst(figures: Any, of: Any) -> float:
    """Return the worst finite figure of a dataset with the variable ``u``."""
    values = np.asarray(figures["u"], dtype=float)
    return float(of(values)) if np.isfinite(values).any() else np.nan
