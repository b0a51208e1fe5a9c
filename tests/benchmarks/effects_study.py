"""Coverage of the intervals of a change of usage; docs/measurements/effects.md has the table.

    python tests/benchmarks/effects_study.py --data counts.npz --genes 1000 --effect 1 --seed 0

Counts of two isoforms are simulated at the totals of real genes (``hypotheses_study.py``), with two
bands of tissue and a smooth number as covariates. The truth of a change is the model's own: the
average over random effect and tissue at the true coefficients and sigma.
"""

import argparse

import numpy as np
import pandas as pd
from hypotheses_study import CLASSES, covariate, draw, field, slide

from splisosm_pyro import fit_genes
from splisosm_pyro.genes.average_usage import Parameters, Rows, change_of_usage


def truth(coefficients, sigma, X):
    """Return the changes of the first isoform from band a to b, and by one sd of the number."""
    own = Parameters(coefficients, np.array([sigma]), np.zeros((4, 4)))
    sides = [[X.copy(), X.copy()] for _ in range(2)]
    sides[0][0][:, 0], sides[0][1][:, 0] = 0.0, 1.0
    sides[1][1][:, 1] += X[:, 1].std()
    return [change_of_usage(own, Rows.of_spots(*pair))[0][0] for pair in sides]


def study(options):
    """Simulate, fit; return a row for each gene and change."""
    real, coords, kernel = slide(options.data, options.genes)
    real = real[real.sum(axis=(1, 2)) >= options.min_reads]
    rng = np.random.default_rng(options.seed)
    number = covariate("smooth", coords, kernel, rng)[:, 0]
    band = (coords[:, 0] > np.median(coords[:, 0])).astype(np.float64)
    X = np.column_stack([band, number, np.ones(len(coords))])
    counts, changes = [], []
    for gene in range(options.genes):
        rng = np.random.default_rng([options.seed, gene])
        B = np.append(options.effect * rng.standard_normal(2), 0.5 * rng.standard_normal())
        nu = field(kernel, 1, options.sigma, options.theta, rng)
        totals = real[gene % len(real)].sum(axis=1).astype(int)
        counts.append(draw(totals, X @ B[:, None] + nu, rng))
        changes += truth(B[:, None], options.sigma, X)
    covariates = pd.DataFrame({"band": np.where(band, "b", "a"), "number": number})
    fits = fit_genes(np.array(counts), coords=coords, covariates=covariates, n_jobs=options.n_jobs)
    table = fits.effects[fits.effects["number"] == 0].reset_index(drop=True)
    table["reads"] = np.repeat(np.array(counts).sum(axis=(1, 2)), 2)
    table["truth"] = changes
    return table


def report(table):
    """Print coverage and how many exclude 0, by covariate and depth."""
    known = table.assign(
        covered=(table["low"] <= table["truth"]) & (table["truth"] <= table["high"]),
        excludes=(table["low"] > 0) | (table["high"] < 0),
        unknown=table["change"].isna(),
        width=table["high"] - table["low"],
        depth=pd.cut(table["reads"], CLASSES, right=False),
    )
    columns = ["covered", "excludes", "unknown", "width"]
    for by in (["covariate"], ["covariate", "depth"]):
        groups = known.groupby(by, observed=True)
        print(groups[columns].mean().assign(n=groups.size()).round(3).to_string())


def main():
    """Read the options, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--effect", type=float, default=1.0, help="sd of the true coefficients")
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--theta", type=float, default=0.7)
    parser.add_argument("--min-reads", type=int, default=0, help="of the real genes")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    report(study(parser.parse_args()))


if __name__ == "__main__":
    main()
