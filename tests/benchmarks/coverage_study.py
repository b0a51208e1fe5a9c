"""Coverage of the posteriors' intervals on simulated genes: docs/measurements/posteriors.md.

    python tests/benchmarks/coverage_study.py --genes 200

Every gene's parameters come from the very priors of the fit (``PRIORS``) and its counts from the
model, on a slide of ``--spots`` spots with one covariate. Half of the genes have totals as sparse
as those of long-read Visium data, the other half are rich. A well-calibrated 90 % interval then
covers the truth in 90 % of the genes, whatever the data. The spread of a share of n independent
intervals is sqrt(0.09 / n): 0.021 for 200 genes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from splisosm_pyro import CARKernel, MultinomGLMM
from splisosm_pyro.maths.priors import GammaPrior
from splisosm_pyro.posterior import PosteriorPriors
from splisosm_pyro.simulate import hexagonal_lattice

# Weakly informative: usage ratios between a few percent and nearly all, sigma about 1.
PRIORS = PosteriorPriors(beta_sd=1.0, bias_sd=1.5, sigma=GammaPrior(3.0, 3.0))
RHO, NEIGHBOURS, DISPERSION, LIBRARY_SD = 0.99, 6, 0.3, 0.5
# Reads a spot: of the genes of the data (log-normal over genes), and of rich ones.
DEPTHS = {"sparse": (np.log(0.31), 0.9), "rich": (np.log(10.0), 0.7)}
LEAST_READS = 20  # a gene with fewer is not looked at in practice
LEVEL = 0.9
CHECKED_SPOTS = 5


def simulate(kernel, design, kind, rng):
    """Draw one gene: counts (S, 2), and its true parameters."""
    drawn = PRIORS.sample(1, 2, 1, 1, rng)
    n_spots, scale = len(design), torch.Generator().manual_seed(int(rng.integers(2**62)))
    B, sigma, theta = drawn["coefficients"][0], drawn["sigma"][0], drawn["theta"][0]
    smooth = kernel.sample((1,), scale).numpy()[0]
    nu = sigma * (np.sqrt(theta) * smooth + np.sqrt(1 - theta) * rng.standard_normal(n_spots))
    eta = design @ B[:1, 0] + B[1, 0] + nu
    log_depth, spread = DEPTHS[kind]
    while True:
        depth = np.exp(log_depth + spread * rng.standard_normal())
        library = np.exp(LIBRARY_SD * rng.standard_normal(n_spots) - LIBRARY_SD**2 / 2)
        noise = rng.gamma(1 / DISPERSION, DISPERSION, n_spots)
        totals = rng.poisson(depth * library * noise)
        if totals.sum() >= LEAST_READS:
            break
    first = rng.binomial(totals, 1 / (1 + np.exp(-eta)))
    truth = {"beta": B[0, 0], "bias_eta": B[1, 0], "sigma": sigma[0], "theta": theta[0]}
    ratio = np.stack([1 / (1 + np.exp(-eta)), 1 / (1 + np.exp(eta))], axis=-1)
    return np.stack([first, totals - first], axis=-1), truth, ratio


def covered(out, truth, ratio, spots):
    """Whether every interval of one gene holds the truth, by parameter."""
    tail = (1 - LEVEL) / 2
    posterior = out["posterior"].isel(gene=0)
    rows = {}
    for name, value in truth.items():
        low, high = np.quantile(posterior[name].values, [tail, 1 - tail])
        rows[name] = float(low <= value <= high)
    draws = posterior["isoform_ratio"].isel(isoform=0, spot=spots).values.reshape(-1, spots.size)
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    inside = (low <= ratio[spots, 0]) & (ratio[spots, 0] <= high)
    return rows | {"isoform_ratio": float(inside.mean())}


def study(n_genes, n_spots, draws, methods, seed, kinds=tuple(DEPTHS)):
    """Return a row for every gene and method."""
    _, coords = hexagonal_lattice(n_spots)
    kernel = CARKernel.from_coords(coords, k=NEIGHBOURS, rho=RHO)
    x = (coords[:, 0] - coords[:, 0].mean()) / coords[:, 0].std()
    rows = []
    for kind in kinds:
        for gene in range(n_genes):
            rng = np.random.default_rng([seed, gene, len(kind)])
            counts, truth, ratio = simulate(kernel, x[:, None], kind, rng)
            spots = rng.choice(n_spots, CHECKED_SPOTS, replace=False)
            model = MultinomGLMM(var_fix_sigma=False)
            model.setup_data(counts[None], kernel, x[:, None])
            for method in methods:
                start = time.process_time()
                out = model.posterior(method, draws=draws, chains=1, prior=PRIORS)
                row = covered(out, truth, ratio, spots)
                status = out["sample_stats"]["status"].item()
                row |= {"seconds": time.process_time() - start, "status": status}
                rows.append({"kind": kind, "gene": gene, "method": method} | row)
    return pd.DataFrame(rows)


def table(rows):
    """Share of covering intervals by kind and method, with both kinds together."""
    names = ["beta", "bias_eta", "sigma", "theta", "isoform_ratio", "seconds"]
    both = rows.assign(kind="both")
    grouped = pd.concat([rows, both]).groupby(["method", "kind"], sort=False)
    out = grouped[names].mean()
    trusted = grouped["status"].agg(lambda s: (s == "ok").mean())
    return out.assign(trusted=trusted, genes=grouped.size()).round(3)


def main():
    """Run the study and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genes", type=int, default=200, help="of each kind")
    parser.add_argument("--spots", type=int, default=150)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=["nested_laplace", "laplace"])
    parser.add_argument("--kinds", nargs="+", default=list(DEPTHS), choices=list(DEPTHS))
    parser.add_argument("--out", type=Path, help="where to write a row for every gene and method")
    asked = parser.parse_args()
    rows = study(
        asked.genes, asked.spots, asked.draws, asked.methods, asked.seed, tuple(asked.kinds)
    )
    if asked.out is not None:
        rows.to_csv(asked.out, index=False)
    print(table(rows).to_string())


if __name__ == "__main__":
    main()
