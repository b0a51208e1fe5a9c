"""NUTS over the outer parameters beside NUTS over the whole program: speed and agreement.

    python tests/benchmarks/nuts_study.py [--cases NAME ...] [--draws 1000]

Prints a row for every simulated gene and method: processor seconds of ``model.posterior`` at its
defaults, warm-up and everything else included; the bulk effective sample sizes of sigma and theta
(the least of their entries); how many times faster than ``nuts`` for the same least of the two; and
how far means (in posterior sd) and sds (relative) of all outer parameters and isoform ratios are
from those of ``nuts``: the median and the largest. The Monte-Carlo error of a mean of ``nuts`` with
n effective draws is 1 / sqrt(n) sd.
"""

import argparse
import time
import warnings

import arviz as az
import numpy as np
import torch

from splisosm_pyro import CARKernel, MultinomGLMM
from splisosm_pyro.simulate import hexagonal_lattice

# Spots, isoforms, reads a spot, one variance for all logits.
CASES = {
    "n100_P2_2": (100, 2, 2.0, True),
    "n100_P2_5": (100, 2, 5.0, True),
    "n100_P3_2": (100, 3, 2.0, True),
    "n100_P3_5": (100, 3, 5.0, True),
    "n100_P3_3_periso": (100, 3, 3.0, False),
    "n60_P3_10": (60, 3, 10.0, True),
    "n30_P2_10": (30, 2, 10.0, True),
    "n30_P5_10": (30, 5, 10.0, True),
}
METHODS = ("nuts", "marginal_nuts", "nested_laplace")
SIGMA, THETA = 1.0, 0.6


def simulated(n_spots, n_isos, depth, share):
    """Return a model of one gene with one covariate."""
    rng = np.random.default_rng([n_spots, n_isos, int(10 * depth)])
    _, coords = hexagonal_lattice(n_spots)
    kernel = CARKernel.from_coords(coords, k=6, rho=0.99)
    x = (coords[:, :1] - coords[:, :1].mean(0)) / coords[:, :1].std(0)
    generator = torch.Generator().manual_seed(n_isos)
    smooth = kernel.sample((n_isos - 1,), generator).numpy().T
    white = rng.standard_normal(smooth.shape)
    eta = SIGMA * (np.sqrt(THETA) * smooth + np.sqrt(1 - THETA) * white)
    eta += x @ (0.5 * rng.standard_normal((1, n_isos - 1))) + 0.3 * rng.standard_normal(n_isos - 1)
    ratio = np.exp(np.column_stack([eta, np.zeros(len(eta))]))
    totals = rng.poisson(depth, len(coords))
    counts = [rng.multinomial(t, r / r.sum()) for t, r in zip(totals, ratio, strict=True)]
    model = MultinomGLMM(share_variance=share, var_fix_sigma=False)
    model.setup_data(np.array(counts, dtype=float)[None], kernel, x)
    return model


def measured(model, method, draws):
    """Return the posterior, the processor seconds, and the effective sizes."""
    few = {} if method == "nested_laplace" else {"warmup": 3}
    model.posterior(method, draws=3, chains=1, **few)  # compiles
    start = time.process_time()
    out = model.posterior(method, draws=draws)
    seconds = time.process_time() - start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ess = az.ess(out["posterior"][["sigma", "theta"]], method="bulk")
    return out, seconds, float(ess["sigma"].min()), float(ess["theta"].min())


def moments(out):
    """Mean and sd of the outer parameters (log sigma, theta) and of the ratios."""
    posterior = out["posterior"]
    names = ("beta", "bias_eta", "sigma", "theta", "isoform_ratio")
    flat = {n: posterior[n].stack(sample=("chain", "draw")).transpose("sample", ...) for n in names}
    draws = {n: v.values.reshape(len(v.sample), -1) for n, v in flat.items()}
    draws["sigma"] = np.log(draws["sigma"])
    outer = np.concatenate([draws[name] for name in names[:-1]], axis=1)
    return [(d.mean(0), d.std(0)) for d in (outer, draws["isoform_ratio"])]


def apart(one, other):
    """Return how far moments are from others: largest and median, means and sds."""
    rows = []
    for (mean, sd), (true_mean, true_sd) in zip(one, other, strict=True):
        off = np.abs(mean - true_mean) / true_sd, np.abs(sd / true_sd - 1)
        rows.append(" ".join(f"{np.median(o):.3f}/{o.max():.3f}" for o in off))
    return "  ".join(rows)


def main():
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--draws", type=int, default=1000)
    asked = parser.parse_args()
    print("case method seconds ess_sigma ess_theta ms_per_ess  median/largest difference from nuts")
    print("of means and sds: outer parameters, ratios")
    for case in asked.cases:
        model, truth = simulated(*CASES[case]), None
        for method in asked.methods:
            out, seconds, sigma, theta = measured(model, method, asked.draws)
            here = moments(out)
            truth = here if method == "nuts" else truth
            cost = 1e3 * seconds / min(sigma, theta)
            row = f"{case} {method} {seconds:.1f} {sigma:.0f} {theta:.0f} {cost:.2f}"
            row += "" if truth is None or truth is here else f"  {apart(here, truth)}"
            print(row, out["sample_stats"]["status"].values, flush=True)


if __name__ == "__main__":
    main()
