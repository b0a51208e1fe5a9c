"""False positive rates and power of the tests: docs/measurements/hypotheses.md.

    python tests/benchmarks/hypotheses_study.py space --sigma 1 --isoforms 3 --genes 643 --seed 0
    python tests/benchmarks/hypotheses_study.py covariates --sigma 1 --theta 0.7 --covariate smooth

Counts are simulated from the model at the totals of real genes, ``--data`` (an ``.npz`` with
``counts`` (genes, spots, isoforms) and ``coords``), or of ``simulate_tissue`` where there is none.
With ``--permute`` the counts of the real genes themselves are given to other spots.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from splisosm_pyro import CARKernel, simulate_tissue
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.hypotheses.covariates import white_covariate_score_test
from splisosm_pyro.hypotheses.refits import covariate_tests
from splisosm_pyro.hypotheses.spatial import spatial_score_test, untestable
from splisosm_pyro.hypotheses.white_null import fit_white_null
from splisosm_pyro.maths.priors import Priors

LEVELS = (0.05, 0.01, 0.001)
CLASSES = (0, 100, 300, 1000, np.inf)  # reads a gene


def slide(path, n_genes):
    """Return real (or realistic) counts (G, S, P) and the kernel of the slide."""
    if path is None:
        tissue = simulate_tissue(n_genes=n_genes, n_isos=2, design="none", seed=0)
        return tissue.counts.numpy(), tissue.coords, tissue.kernel
    with np.load(path) as data:
        counts, coords = data["counts"].astype(np.int64), data["coords"].astype(np.float64)
    return counts, coords, CARKernel.from_coords(coords, k=6)


def covariate(kind, coords, kernel, rng):
    """Return (S, F) covariates without a relation to the counts."""
    if kind == "none":
        return np.empty((len(coords), 0))
    if kind == "smooth":
        field = kernel.sample((1,), torch.Generator().manual_seed(int(rng.integers(2**31))))
        return field.numpy().T
    if kind == "region":
        bands = np.digitize(coords[:, 0], np.quantile(coords[:, 0], [1 / 3, 2 / 3]))
        return (bands[:, None] == [1, 2]).astype(np.float64)
    return rng.standard_normal((len(coords), 1))


def field(kernel, n_logits, sigma, theta, rng):
    """Draw nu (S, Q)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    smooth = kernel.sample((n_logits,), generator).numpy().T
    white = rng.standard_normal(smooth.shape)
    return sigma * (np.sqrt(theta) * smooth + np.sqrt(1 - theta) * white)


def draw(totals, eta, rng):
    """Draw counts (S, P) at the totals."""
    logits = np.column_stack([eta, np.zeros(len(eta))])
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    return rng.multinomial(totals, share / share.sum(axis=1, keepdims=True)).astype(np.float64)


def space(options):
    """Test every gene for space; a row each."""
    real, coords, kernel = slide(options.data, options.genes)
    rows = []
    for gene in range(options.genes):
        rng = np.random.default_rng([options.seed, gene])
        counts = real[gene % len(real)]
        X = StandardDesign.of(covariate(options.covariate, coords, kernel, rng))
        if options.permute:
            counts = counts[rng.permutation(len(counts))].astype(np.float64)
        else:
            bias = 0.5 * rng.standard_normal(options.isoforms - 1)
            nu = field(kernel, options.isoforms - 1, options.sigma, options.theta, rng)
            counts = draw(counts.sum(axis=1), bias + nu, rng)
        began = time.perf_counter()
        test = spatial_score_test(counts, X, kernel)
        rows.append((counts.sum(), test.p, time.perf_counter() - began))
    return pd.DataFrame(rows, columns=["reads", "p", "seconds"])


def covariates(options):
    """Test covariates of no effect, ten a gene, given a field; a row each."""
    real, coords, kernel = slide(options.data, options.genes)
    configs = {"nugget": "quadrature", "smooth": "ep"}
    spec = GLMMSpec(
        kernel=kernel,
        design=StandardDesign.of(np.empty((len(coords), 0))),
        share_variance=True,
        fix_sigma=False,
        priors=Priors.of("none", None),
        options=GLMMOptions.from_configs("marginal_newton", configs),
    )
    q, rows = options.isoforms - 1, []
    start = {"beta": np.zeros((0, q)), "bias_eta": np.zeros(q)}
    start |= {"sigma": np.ones(1), "theta_logit": np.zeros(1)}
    for gene in range(options.genes):
        rng = np.random.default_rng([options.seed, gene])
        bias = 0.5 * rng.standard_normal(q)
        nu = field(kernel, q, options.sigma, options.theta, rng)
        effects = options.effect * covariate(options.covariate, coords, kernel, rng)[:, :1]
        counts = draw(real[gene % len(real)].sum(axis=1), bias + nu, rng)
        X = [covariate(options.covariate, coords, kernel, rng) for _ in range(10)]
        if options.effect:
            counts = draw(counts.sum(axis=1).astype(int), bias + nu + effects, rng)
            X = [effects / options.effect]
        X = [StandardDesign.of(one) for one in X]
        if untestable(counts[:, counts.sum(0) > 0], np.flatnonzero(counts.sum(1)), kernel):
            continue
        began = time.perf_counter()
        null = fit_gene(spec, counts, start, keep_end=True)
        middle = time.perf_counter()
        if options.white:
            white = fit_white_null(counts[:, counts.sum(axis=0) > 0], spec.design)
            tests = white_covariate_score_test(white, X)
        else:
            tests = covariate_tests(spec.options, null.ended, X, options.refit)
        after = time.perf_counter() - middle
        share = after / (middle - began)
        rows += [(counts.sum(), one.p, after / len(X), one.kind, share) for one in tests]
    table = pd.DataFrame(rows, columns=["reads", "p", "seconds", "kind", "share"])
    print(f"refitted {(table['kind'] != 'score').mean():.3f}, of the null's time", end=" ")
    print(f"{table['share'].median():.2f}")
    return table


def report(table):
    """Print how many are rejected at each level, overall and by depth."""
    table = table.assign(depth=pd.cut(table["reads"], CLASSES, right=False))
    groups = [("all", table), *table.groupby("depth", observed=True)]
    for name, part in groups:
        p = part["p"].dropna()
        rates = "  ".join(
            f"{(p <= level).mean():.4f} +- {1.96 * np.sqrt(level * (1 - level) / len(p)):.4f}"
            for level in LEVELS
        )
        print(f"{name!s:18} {len(p):6} tests  {rates}  {1e3 * part['seconds'].median():.0f} ms")


def main():
    """Run one study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("space", "covariates"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--genes", type=int, default=643)
    parser.add_argument("--isoforms", type=int, default=2)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--theta", type=float, default=0.0)
    parser.add_argument(
        "--covariate", choices=("none", "smooth", "region", "noise"), default="none"
    )
    parser.add_argument("--effect", type=float, default=0.0, help="of one covariate, logits")
    parser.add_argument("--refit", type=float, default=0.0, help="score p below which to refit")
    parser.add_argument("--white", action="store_true", help="at the null without a field")
    parser.add_argument("--permute", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(" ".join(f"{name}={value}" for name, value in vars(options).items()))
    report(globals()[options.study](options))


if __name__ == "__main__":
    main()
