"""Genes under their population against genes one by one; docs/measurements/ has the tables.

    python tests/benchmarks/population_study.py --data counts.npz --genes 400 --isoforms 2 --seed 0

Genes are drawn from a known population at the totals of real genes (``hypotheses_study.py``): log
sigma ~ N(log 0.8, 0.5), theta_logit ~ N(0.5, 1.2), theta = 0 in a share of them; a band of tissue
has an effect in half of them. Printed: the hyperparameters beside the truth; root mean square
errors of sigma, theta and usage of four estimates (flat, half_normal(1) with posterior means, the
population, the gene's pooled share) by depth; coverage of 90 % intervals; ``p_spatial`` and
``lfsr``, stated against actual.
"""

import argparse
import time

import numpy as np
import pandas as pd
from hypotheses_study import CLASSES, draw, field, slide
from scipy.special import expit

from splisosm_pyro import fit_genes
from splisosm_pyro.genes.average_usage import Parameters, Rows, change_of_usage
from splisosm_pyro.genes.kept_usage import softmax
from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.population.grid import GRID
from splisosm_pyro.population.moderated import Moderated

SIGMA, THETA, EFFECT = (np.log(0.8), 0.5), (0.5, 1.2), 0.7


def gene(options, totals, band, kernel, number):
    """Draw one gene: counts, usage, sigma, theta, the changes of usage between the bands."""
    rng = np.random.default_rng([options.seed, number])
    sigma, theta = np.exp(rng.normal(*SIGMA)), expit(rng.normal(*THETA))
    theta *= rng.random() >= options.without_space
    n_logits = options.isoforms - 1
    B = np.zeros((2, n_logits))
    B[1] = 0.7 * rng.standard_normal(n_logits)
    if rng.random() < 0.5:
        B[0] = EFFECT * rng.standard_normal(n_logits)
    turn = Turn.of_size(options.isoforms)
    nu = turn.to_logits(field(kernel, n_logits, sigma, theta, rng))
    eta = np.outer(band, B[0]) + B[1] + nu
    own = Parameters(
        turn.from_logits(B), np.array([sigma]), np.zeros((2 * n_logits + 1,) * 2), turn
    )
    low, high = np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]])
    change = np.zeros(options.isoforms)
    if B[0].any():
        change = change_of_usage(own, Rows.of_spots(low, high))[0]
    return draw(totals, eta, rng), softmax(eta), sigma, theta, change


def simulate(options):
    """Return the genes, laid out, with the tissue."""
    real, coords, kernel = slide(options.data, options.genes)
    band = (coords[:, 0] > np.median(coords[:, 0])).astype(np.float64)
    totals = [real[g % len(real)].sum(axis=1).astype(int) for g in range(options.genes)]
    genes = [gene(options, own, band, kernel, g) for g, own in enumerate(totals)]
    columns = [np.array(column) for column in zip(*genes, strict=True)]
    return columns, coords, pd.DataFrame({"band": np.where(band, "b", "a")})


def under_half_normal(surface):
    """Return posterior means of sigma and theta under HalfNormal(1) and a uniform share."""
    sigma, theta = np.exp(GRID.log_sigma[: GRID.inside]), GRID.theta[: GRID.inside]
    log_mass = np.full(GRID.size, -np.inf)
    log_mass[: GRID.inside] = np.log(sigma) - 0.5 * sigma**2 + np.log(theta * (1.0 - theta))
    own = Moderated.of_gene(GRID.log_likelihood(surface), log_mass)
    return own.sigma()["mean"], own.theta()["mean"]


def estimates(options, counts, coords, covariates):
    """Fit; return sigma, theta and usage by estimate, the run with its population, the seconds."""
    common = {"coords": coords, "covariates": covariates, "n_jobs": options.n_jobs}
    start = time.process_time()
    fits = fit_genes(counts, population=True, **common)
    middle = time.process_time()
    without = fit_genes(counts, **common)
    seconds = middle - start, time.process_time() - middle
    flat = fit_genes(counts, var_prior_model="none", tests=False, **common)
    means = np.array([under_half_normal(one) for one in fits.surfaces])
    pooled = counts.sum(axis=1, keepdims=True) / counts.sum(axis=(1, 2))[:, None, None]
    number = range(len(counts))
    found = {
        "flat": (
            flat.table["sigma"],
            flat.table["theta"],
            [flat.usage(g, errors=False)[0] for g in number],
        ),
        "half_normal(1)": (*means.T, [without.usage(g, errors=False)[0] for g in number]),
        "population": (
            fits.table["pop_sigma"],
            fits.table["pop_theta"],
            [fits.usage(g, errors=False)[0] for g in number],
        ),
        "pooled share": (np.zeros(len(counts)), np.zeros(len(counts)), pooled),
    }
    return found, fits, seconds


def report(options):
    """Simulate, fit, print."""
    (counts, usage, sigma, theta, change), coords, covariates = simulate(options)
    found, fits, seconds = estimates(options, counts.astype(np.float64), coords, covariates)
    depth = pd.cut(counts.sum(axis=(1, 2)), CLASSES, right=False)
    print(f"seconds with the population {seconds[0]:.0f}, without {seconds[1]:.0f}")
    print(fits.population.hyperparameters.round(3).to_string())
    print(f"true: {SIGMA}, {THETA}, share_without_space {np.mean(theta == 0.0):.3f}")
    print(fits.check_population())
    errors = {
        (name, what): (np.asarray(own) - true) ** 2
        for name, three in found.items()
        for what, own, true in zip(("sigma", "theta"), three[:2], (sigma, theta), strict=True)
    } | {
        (name, "usage"): ((np.asarray(three[2]) - usage) ** 2).mean(axis=(1, 2))
        for name, three in found.items()
    }
    print("\nroot mean square errors")
    print(_by_depth(pd.DataFrame(errors), depth).pow(0.5).round(3).T.to_string())
    table = fits.table
    covered = pd.DataFrame(
        {
            what: (table[f"pop_{what}_low"] <= true) & (true <= table[f"pop_{what}_high"])
            for what, true in (("sigma", sigma), ("theta", theta))
        }
    )
    effects, true = fits.effects, change.ravel()
    inside = (effects["pop_low"] <= true) & (true <= effects["pop_high"])
    covered["change"] = inside.to_numpy().reshape(change.shape).mean(axis=1)
    print("\ncoverage of 90 % intervals")
    print(_by_depth(covered, depth).round(3).T.to_string())
    wrong = np.sign(effects["pop_change"]) != np.sign(true)
    _calibration("p_spatial", table["p_spatial"], theta > 0)
    _calibration("lfsr", effects["lfsr"], wrong)


def _by_depth(values, depth):
    """Average by depth class, and over all genes."""
    values = values.reset_index(drop=True)
    means = values.groupby(pd.Series(depth).to_numpy(), observed=True).mean()
    return pd.concat([means, values.mean().to_frame("all").T])


def _calibration(name, stated, actual):
    """Print a stated probability against how often it came true."""
    bins = pd.cut(stated, [-0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
    own = pd.DataFrame({"stated": stated, "actual": np.asarray(actual, dtype=float)})
    groups = own.groupby(bins, observed=True)
    print(f"\n{name}\n{groups.mean().assign(n=groups.size()).round(3).to_string()}")


def main():
    """Read the options, run."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data")
    parser.add_argument("--genes", type=int, default=400)
    parser.add_argument("--isoforms", type=int, default=2)
    parser.add_argument("--without-space", type=float, default=0.3, help="share with theta = 0")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    report(parser.parse_args())


if __name__ == "__main__":
    main()
