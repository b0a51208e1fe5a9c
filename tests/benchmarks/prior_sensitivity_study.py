"""What the prior sensitivity studies show on real genes and on simulated ones.

    python tests/benchmarks/prior_sensitivity_study.py local --genes 50
    python tests/benchmarks/prior_sensitivity_study.py table
    python tests/benchmarks/prior_sensitivity_study.py alarms --genes 200
    python tests/benchmarks/prior_sensitivity_study.py joint
    python tests/benchmarks/prior_sensitivity_study.py figures

Real data: the folder that ``SPLISOSM_PYRO_SHARED`` names. Each part prints its figures and writes
its tables and pictures into ``--out``.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from splisosm_pyro import CARKernel, MultinomGLMM, fit_genes, simulate_tissue
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.maths.priors import (
    BetaPrior,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    InvGammaPrior,
    NoPrior,
    PCPrior,
    PoweredPrior,
    Priors,
)
from splisosm_pyro.posterior import PosteriorPriors
from splisosm_pyro.studies import prior_predictive, prior_sensitivity
from splisosm_pyro.studies.sensitivity.directions import directions_of
from splisosm_pyro.studies.sensitivity.mode_shift import GeneMode

QUADRATURE = {"nugget": "quadrature"}
DRIVEN = 0.3  # standard errors that theta_logit moves for a unit of weight


def real():
    """Counts (G, S, 2), names, places and kernel of the olfactory bulb."""
    shared = Path(os.environ["SPLISOSM_PYRO_SHARED"])
    data = np.load(shared / "data" / "sit_mob_ont_isoforms.npz")
    kernel = CARKernel.from_coords(data["coords"].astype(float), k=6)
    return data["counts"].astype(float), data["gene_names"], data["coords_um"], kernel


def model_of(counts, kernel, priors="none", method="marginal_newton"):
    """A fitted model."""
    configs = QUADRATURE if method.startswith("marginal") else None
    model = MultinomGLMM(
        var_fix_sigma=False, var_prior_model=priors, fitting_method=method, fitting_configs=configs
    )
    model.setup_data(counts, corr_sp=kernel)
    model.fit(quiet=True)
    return model


def mode(spec, counts, params):
    """The mode, to rounding, from a fit nearby."""
    fit = fit_gene(spec, counts, params, warm=True)
    return GeneMode.of_gene(spec, counts, fit_glm(counts, spec.design.rows), fit.params)


def with_prior(spec, **prior):
    """The specification with another prior of one parameter."""
    return replace(spec, priors=replace(spec.priors, **prior))


def local(options):
    """``local`` against refits at weights 1 +- 0.01, priors of sigma, theta and the intercept."""
    counts, names, _, kernel = real()
    order = np.argsort(-counts.sum((1, 2)))[:: max(1, 643 // options.genes)][: options.genes]
    priors = Priors("gamma", BetaPrior(2.0, 2.0), None, ("normal", {"scale": 2.0}))
    changes = (
        lambda s, w: with_prior(s, sigma=PoweredPrior(s.priors.sigma, w)),
        lambda s, w: with_prior(s, theta=BetaPrior(1.0 + w, 1.0 + w)),
        lambda s, w: with_prior(s, bias=("normal", {"scale": 2 / w**0.5})),
    )
    rows = []
    for gene in order:
        model = model_of(counts[gene], kernel, priors)
        spec, own = model.as_arrays().spec, model.as_arrays().params_of(0)
        base = mode(spec, counts[gene], own)
        shifts = base.shifts(directions_of(None, spec.priors, "sigma"))
        for shift, change in zip(shifts, changes, strict=True):
            ends = [mode(change(spec, w), counts[gene], own).at.u for w in (1.01, 0.99)]
            slow = (ends[0] - ends[1]) / 0.02
            for k, (a, b) in enumerate(zip(shift, slow, strict=True)):
                rows.append((names[gene], k, a, b, abs(a - b) / abs(b), base.notes()[k]))
    columns = ["gene", "unknown", "local", "refit", "relative error", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(options.out / "prior_sensitivity_local.csv", index=False, float_format="%.8g")
    inside = table[table["note"] == ""]
    print(f"{len(order)} genes, {len(inside)} derivatives; {len(table) - len(inside)} at a bound")
    print("largest relative error", inside["relative error"].max())
    print("share below 1 %", (inside["relative error"] < 0.01).mean())
    print(inside.nlargest(5, "relative error").to_string())


def table(options):
    """All genes: the fits, and the columns of ``local``; under the flat prior and under gamma."""
    counts, names, places, _ = real()
    counts = counts[: options.genes] if options.genes else counts
    found = {}
    for prior in ("none", "gamma"):
        times = {}
        for sensitivity in (False, True):
            start = time.process_time()
            fits = fit_genes(
                counts, coords=places, gene_names=names[: len(counts)], var_prior_model=prior,
                sensitivity=sensitivity, progress=False,
            )  # fmt: skip
            times[sensitivity] = time.process_time() - start
        found[prior] = fits.table
        more = times[True] / times[False]
        print(f"{prior}: {times[False]:.1f} s of processor time, with local {times[True]:.1f} s, "
              f"{more:.2f} times")  # fmt: skip
        own = fits.table
        for kind in [c for c in own if c.startswith("sens_") and c.endswith("theta_logit")]:
            moved = (own[kind] / own["theta_logit_se"]).abs()
            inside = moved.notna()
            print(f"  {kind}: inside {inside.sum()}, at a bound {(~inside).sum()}; moves by more "
                  f"than {DRIVEN} SE: {(moved > DRIVEN).sum()}; median {moved.median():.4f}, "
                  f"largest {moved.max():.3f}")  # fmt: skip
            worst = own.assign(moved=moved).nlargest(8, "moved")
            print(worst[["gene", "reads", "sigma", "theta", "moved"]].to_string(index=False))
            sigma = (own[kind.replace("theta_logit", "log_sigma")] / own["log_sigma_se"]).abs()
            print(f"  log sigma: moves by more than {DRIVEN} SE: {(sigma > DRIVEN).sum()} of "
                  f"{sigma.notna().sum()}; median {sigma.median():.4f}")  # fmt: skip
    flat, gamma = found["none"], found["gamma"]
    for name in ("theta", "sigma"):
        print(f"{name}: none against gamma, correlation {flat[name].corr(gamma[name]):.4f}, "
              f"median |difference| {(flat[name] - gamma[name]).abs().median():.4f}")  # fmt: skip
    extreme = [(t["theta"] < 1e-5).sum() for t in found.values()]
    extreme += [(t["theta"] > 1 - 1e-5).sum() for t in found.values()]
    print("theta at 0, at 1 (none, gamma):", extreme)
    for prior, own in found.items():
        kept = [c for c in own if c.startswith("sens_")]
        kept = [
            "gene",
            "reads",
            "status",
            "sigma",
            "theta",
            "log_sigma_se",
            "theta_logit_se",
            *kept,
        ]
        own[kept].to_csv(options.out / f"prior_sensitivity_genes_{prior}.csv", index=False,
                         float_format="%.6g")  # fmt: skip


def simulated(sigma, theta, seed):
    """One gene of 100 spots, 4 reads a spot."""
    return simulate_tissue(
        n_spots=100, n_genes=1, n_isos=2, depth=4.0, sigma=sigma, theta=theta, seed=seed
    )


def alarms(options):
    """False alarms under the default prior of posteriors, and planted conflicts that are found.

    Without a conflict sigma is uniform in 0.3 to 1.5, theta in 0 to 1, as of real genes, or drawn
    from the very prior, HalfNormal(1); with one sigma is 2 and its prior HalfNormal(0.2).
    """
    out = options.out / "prior_sensitivity_alarms.csv"
    for i in range(options.first, options.first + (options.genes or 200)):
        rng = np.random.default_rng(i)
        sigma, theta = rng.uniform(0.3, 1.5), rng.uniform()
        drawn = abs(float(rng.standard_normal()))
        cases = {"agrees": (sigma, GammaPrior()), "drawn": (drawn, HalfNormalPrior(1.0))}
        if i % 10 == 0:
            cases["conflict"] = (2.0, HalfNormalPrior(0.2))
        for name, (truth, prior) in cases.items():
            tissue = simulated(truth, theta, i)
            model = model_of(tissue.counts, tissue.kernel)
            found = prior_sensitivity(
                model, PosteriorPriors(sigma=prior), "power_scaling", draws=500
            ).table
            row = found[found["parameter"].isin(["sigma", "theta", "bias_eta"])]
            row.assign(gene=i, case=name, truth=truth).to_csv(
                out, mode="a", header=not out.exists(), index=False
            )
    found = pd.read_csv(out).drop_duplicates(["gene", "case", "parameter"])
    for name, own in found.groupby("case"):
        for threshold in (0.05, 0.1):
            high = (own["prior"] >= threshold) & (own["likelihood"] >= threshold)
            genes = high.groupby(own["gene"]).any()
            by = high.groupby(own["parameter"]).sum().to_dict()
            print(f"{name}, threshold {threshold}: {genes.sum()} of {len(genes)} genes; {by}")
    print("k-hat above 0.7:", (found[["khat_prior", "khat_likelihood"]] > 0.7).any(axis=1).sum())


def joint(options):
    """The joint MAP beside the marginal, under each prior."""
    counts, names, _, kernel = real()
    rows = []
    grid = {
        "none": NoPrior(), "gamma": GammaPrior(), "inv_gamma": InvGammaPrior(),
        "half_normal": HalfNormalPrior(), "half_t": HalfTPrior(), "pc": PCPrior(),
    }  # fmt: skip
    for gene in ("Myl6", "Plp1", "Rps24"):
        own = counts[list(names).index(gene)]
        for label, prior in grid.items():
            ends = {}
            for method in ("joint_newton", "marginal_newton"):
                model = model_of(own, kernel, prior, method)
                ends[method] = float(model.var_total().sqrt()), float(model.var_sp_prop())
            rows.append((gene, label, *ends["joint_newton"], *ends["marginal_newton"]))
    columns = ["gene", "prior", "joint sigma", "joint theta", "marginal sigma", "marginal theta"]
    found = pd.DataFrame(rows, columns=columns)
    found.to_csv(options.out / "prior_sensitivity_joint.csv", index=False, float_format="%.4g")
    print(found.to_string(float_format=lambda x: f"{x:.4g}"))


def figures(options):
    """The pictures of the documentation, of the gene Myl6."""
    counts, names, places, kernel = real()
    own = counts[[list(names).index(gene) for gene in ("Myl6", "Plp1")]]
    model = model_of(own, kernel, "gamma")
    labels = {"gene": ["Myl6", "Plp1"]}
    refit = prior_sensitivity(model, names=labels)
    first, second = refit.dataset["prior"].values[[1, 6]]
    powers = prior_sensitivity(model, how="power_scaling", names=labels, draws=1000)
    print(refit.table.query("parameter == 'sigma'").to_string())
    print(powers.table.to_string())
    grid = {"gamma(2, 0.3)": "gamma", "inv_gamma(3, 0.5)": "inv_gamma", "half_normal(1)":
            "half_normal", "pc(2, 0.05)": "pc", "pc_usage(0.5, 0.05)": "pc_usage"}  # fmt: skip
    believed = prior_predictive(kernel=kernel, n_isos=2, priors=grid, draws=4000)
    print(believed.table.T.to_string())
    made = {
        "estimates": refit.plot_estimates("Myl6", "log_sigma"),
        "maps": refit.plot_maps(places, first, second, "Myl6"),
        "densities": powers.plot_densities("Myl6"),
        "quantities": powers.plot_quantities("Myl6", "theta"),
        "usage": believed.plot(),
    }
    genes = options.out / "prior_sensitivity_genes_gamma.csv"
    if genes.exists():
        made["ranking"] = ranking(pd.read_csv(genes))
    for name, figure in made.items():
        figure.savefig(options.out / f"prior_sensitivity_{name}.png", dpi=110)


def ranking(table):
    """The genes whose theta moves most with the weight of the gamma prior."""
    from splisosm_pyro.studies.sensitivity.figures import ranking_figure

    shift = table["sens_gamma_theta_logit"] / table["theta_logit_se"]
    tidy = pd.DataFrame({"gene": table["gene"], "by": "sigma ~ gamma(2, 0.3)",
                         "parameter": "theta_logit", "shift_in_se": shift})  # fmt: skip
    return ranking_figure(tidy, "local", "theta_logit", 30)


PARTS = {"local": local, "table": table, "alarms": alarms, "joint": joint, "figures": figures}


def main():
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--genes", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
