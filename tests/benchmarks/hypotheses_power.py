"""Power and time beside splisosm's tests, at an equal rate: docs/measurements/hypotheses.md.

    python tests/benchmarks/hypotheses_power.py space --genes 200 --seed 0
    python tests/benchmarks/hypotheses_power.py covariates --genes 150 --seed 0

Needs splisosm (extra ``bench``). Genes of two isoforms are simulated at the totals of real ones
(``--data``, see ``hypotheses_study.py``), once without an effect and once with one. A test's level
is where it rejects 5 % of the genes without; its power is what it rejects of those with, there and
at a nominal p of 0.05.
"""

import argparse
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from hypotheses_study import covariate, draw, field, slide

from splisosm_pyro import fit_genes

LEVEL = 0.05
DEEP = 300  # reads a gene
N_COVARIATES = 10


def simulated(options, theta, effect, seed):
    """Return counts (G, S, 2), places, and covariates (S, K) of which gene g has that of g % K."""
    real, coords, kernel = slide(options.data, options.genes)
    picked = np.linspace(0, len(real) - 1, options.genes).astype(int)
    shared = np.random.default_rng(options.seed)
    X = np.hstack([covariate("smooth", coords, kernel, shared) for _ in range(N_COVARIATES)])
    counts = []
    for g, place in enumerate(picked):
        rng = np.random.default_rng([seed, g])
        nu = field(kernel, 1, 1.0, theta, rng) + effect * X[:, [g % N_COVARIATES]]
        counts.append(draw(real[place].sum(axis=1), 0.5 * rng.standard_normal(1) + nu, rng))
    return np.array(counts), coords, X


def as_anndata(counts, coords):
    """Return the genes as splisosm takes them."""
    n_genes, n_spots, n_isos = counts.shape
    wide = counts.transpose(1, 0, 2).reshape(n_spots, -1)
    var = pd.DataFrame({"gene_symbol": np.repeat([f"g{g}" for g in range(n_genes)], n_isos)})
    var.index = [f"i{i}" for i in range(len(var))]
    adata = anndata.AnnData(wide, var=var, layers={"counts": wide})
    adata.obs_names, adata.obsm["spatial"] = [f"s{s}" for s in range(n_spots)], coords
    return adata


def theirs(counts, coords, method, X=None):
    """Return p (G,) or (G, K) of splisosm's test and the seconds that it took."""
    from splisosm import SplisosmNP

    began, model = time.perf_counter(), SplisosmNP()
    kept = {"min_counts": 0, "filter_single_iso_genes": False}
    model.setup_data(as_anndata(counts, coords), design_mtx=X, **kept)
    if X is None:
        model.test_spatial_variability(method=method, n_jobs=1, print_progress=False)
        found = model.get_formatted_test_results("sv").set_index("gene")["pvalue"]
    else:
        model.test_differential_usage(method=method, n_jobs=1, print_progress=False)
        table = model.get_formatted_test_results("du")
        found = table.pivot(index="gene", columns="covariate", values="pvalue")
        found = found[sorted(found, key=lambda name: int(str(name).rpartition("_")[2]))]
    seconds = time.perf_counter() - began
    return found.loc[[f"g{g}" for g in range(len(counts))]].to_numpy(dtype=float), seconds


def fitted(counts, coords, tests):
    """Fit the genes; return the run and its seconds."""
    began = time.perf_counter()
    fits = fit_genes(counts, coords=coords, tests=tests, progress=False)
    return fits, time.perf_counter() - began


def space(options):
    """Return p of genes without and with a field, by test."""
    found = {}
    for kind, theta in (("null", 0.0), ("effect", 0.7)):
        counts, coords, _ = simulated(options, theta, 0.0, options.seed + (theta > 0))
        fits, seconds = fitted(counts, coords, True)
        found["sv_p", kind] = fits.table["sv_p"].to_numpy(), seconds
        found["HSIC-IR", kind] = theirs(counts, coords, "hsic-ir")
    return found, counts


def covariates(options):
    """Return p of genes without and with an effect under a field, by test."""
    found = {}
    for kind, effect in (("null", 0.0), ("effect", options.effect)):
        counts, coords, X = simulated(options, 0.7, effect, options.seed + (effect > 0))
        fits, fit = fitted(counts, coords, False)
        for name, below in (("score", 0.0), ("likelihood ratio", 0.2)):
            began = time.perf_counter()
            table = fits.differential_usage(X, refit_below=below, progress=False)
            p = table["p"].to_numpy().reshape(len(counts), -1)
            found[name, kind] = p, fit + time.perf_counter() - began
        for method in ("hsic", "hsic-gp"):
            found[method, kind] = theirs(counts, coords, method, X)
    own = np.arange(len(counts)), np.arange(len(counts)) % N_COVARIATES
    for name, kind in list(found):
        p, seconds = found[name, kind]
        found[name, kind] = (p[own] if kind == "effect" else p), seconds
    return found, counts


def report(found, counts):
    """Print rates, power and seconds of each test."""
    deep = counts.sum(axis=(1, 2)) >= DEEP
    for name in dict.fromkeys(name for name, _ in found):
        null, seconds = found[name, "null"]
        power = found[name, "effect"][0]
        known = null[np.isfinite(null)]
        level = np.quantile(known, LEVEL)
        spread = 1.96 * np.sqrt(LEVEL * (1 - LEVEL) / known.size)
        print(
            f"{name:18} nulls {known.size}: {(known <= LEVEL).mean():.3f} +- {spread:.3f}"
            f"  power at p .05 {np.nanmean(power <= LEVEL):.3f}"
            f"  at equal rate {np.nanmean(power <= level):.3f}"
            f" (from {DEEP} reads, {deep.sum()} genes: {np.nanmean(power[deep] <= level):.3f})"
            f"  {seconds:.0f} s"
        )


def main():
    """Run one study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("space", "covariates"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--genes", type=int, default=200)
    parser.add_argument("--effect", type=float, default=0.5, help="of one covariate, logits a sd")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(" ".join(f"{name}={value}" for name, value in vars(options).items()))
    report(*globals()[options.study](options))


if __name__ == "__main__":
    main()
