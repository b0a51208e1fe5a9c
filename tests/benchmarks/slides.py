"""The data of the benchmark: grids drawn from the model, and the real slide if it is there."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splisosm_pyro import CARKernel
from splisosm_pyro.maths.covariance.kernel import Kernel

ROOT = Path(__file__).resolve().parents[2]
REAL_FILE = "sit_mob_ont_isoforms.npz"
SIGMA, THETA, BIAS = 1.0, 0.7, 0.3


@dataclass(frozen=True)
class Scale:
    """How large a run is: quick, or full with at most ``genes`` in the rows that take long."""

    quick: bool
    genes: int

    def at_most(self, genes: int) -> int:
        """Return the number of genes of a long row."""
        return min(genes, self.genes)


@dataclass(frozen=True, eq=False)
class Slide:
    """Counts (G, S, P) in float64, the kernel of both programs, covariates (S, F) or None."""

    counts: Tensor
    kernel: Kernel
    design: Tensor | None = None

    def part(self, n_genes: int) -> "Slide":
        """Keep the first genes."""
        return Slide(self.counts[:n_genes], self.kernel, self.design)


def grid_kernel(side: int, width: int | None = None) -> CARKernel:
    """Return the kernel of a grid of ``side`` x ``width`` spots with four neighbours each."""
    places = np.mgrid[:side, : side if width is None else width].reshape(2, -1).T
    return CARKernel.from_coords(places.astype(np.float64), k=4)


def grid(
    sides: tuple[int, int], genes: int, *, depth: float, covariates: int = 0, seed: int = 0
) -> Slide:
    """Draw genes of 3 isoforms on a grid, ``depth`` reads a spot on average."""
    kernel = grid_kernel(*sides)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    smooth = kernel.sample((genes, 2), generator).transpose(1, 2).numpy()  # (G,S,Q)
    noise = rng.standard_normal(smooth.shape)
    eta = BIAS + SIGMA * (np.sqrt(THETA) * smooth + np.sqrt(1.0 - THETA) * noise)
    design = rng.standard_normal((kernel.n_spots, covariates))
    eta += design @ (0.5 * rng.standard_normal((genes, covariates, 2)))
    odds = np.exp(np.concatenate([eta, np.zeros_like(eta[..., :1])], axis=2))
    totals = rng.poisson(depth, eta.shape[:2])
    counts = rng.multinomial(totals, odds / odds.sum(axis=2, keepdims=True))
    covariate = torch.from_numpy(design) if covariates else None
    return Slide(torch.from_numpy(counts.astype(np.float64)), kernel, covariate)


def real_file() -> Path | None:
    """Return the file of the real slide, beside the project or where the environment says."""
    folder = Path(os.environ.get("SPLISOSM_PYRO_SHARED", ROOT.parent / "shared"))
    path = folder / "data" / REAL_FILE
    return path if path.is_file() else None


def real(path: Path, counts: str = "counts") -> Slide:
    """Read 643 genes of 2 isoforms at 918 spots; covariates are the regions but the first.

    ``'counts_3'`` are the 213 genes that have three.

    With the intercept they span the five regions; all five would be linearly dependent.
    """
    with np.load(path) as file:
        values = torch.from_numpy(file[counts].astype(np.float64))
        places = file["array_coords"] * np.array([np.sqrt(3.0), 1.0])
        regions = torch.from_numpy(file["region_onehot"].astype(np.float64))
    return Slide(values, CARKernel.from_coords(places, k=6), regions[:, 1:].contiguous())
