"""A small simulated tissue, as a slide, for the tests of many genes."""

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro.genes.data.covariates import covariate
from splisosm_pyro.genes.data.slide import GeneGroup, Slide
from splisosm_pyro.simulate import simulate_tissue


@pytest.fixture(scope="session")
def tissue():
    return simulate_tissue(
        n_spots=61, n_genes=6, n_layers=2, depth=2.0, sigma=1.5, theta=0.8, seed=3
    )


@pytest.fixture(scope="session")
def slide(tissue):
    """Four genes of three isoforms, two of two; a category and a number as covariates."""
    counts = tissue.counts.numpy()
    region = covariate("region", pd.Series(tissue.layers))
    age = covariate("age", 5.0 + 2.0 * np.random.default_rng(0).random(61))
    groups = [
        GeneGroup(counts[:2, :, :2], np.array(["a", "b"]), np.array([["a0", "a1"], ["b0", "b1"]])),
        GeneGroup(
            counts[2:],
            np.array(list("cdef")),
            np.array([[f"{g}{p}" for p in range(3)] for g in "cdef"]),
        ),
    ]
    names = np.array([f"s{s}" for s in range(61)])
    return Slide(tissue.coords, (region, age), tuple(groups), spot_names=names)
