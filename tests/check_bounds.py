"""Run every compiled function of the package under numba's check of bounds.

Numba compiles without it: an index beyond an array writes into other memory. The setting is read
when a function is compiled, so this needs a cache of its own, and starts itself again with one. A
compiled function that nothing here reaches is a failure as well: add what calls it.
"""

import os
import pkgutil
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

N_PROBLEMS = 15


def compiled_functions():
    """All compiled functions by name; what is written out in its callers is checked with them."""
    import splisosm_pyro

    found = {}
    for info in pkgutil.walk_packages(splisosm_pyro.__path__, "splisosm_pyro."):
        if info.name.endswith("__main__"):
            continue
        for name, value in vars(import_module(info.name)).items():
            own = hasattr(value, "py_func") and value.py_func.__module__ == info.name
            if own and value.targetoptions.get("inline") != "always":
                found[f"{info.name}.{name}"] = value
    return found


def run_all():
    """Fit random problems, a larger tissue, counts near nothing; draw; leave spots out."""
    from random_problems import random_problem

    from splisosm_pyro import MultinomGLMM, fit_genes, simulate_tissue
    from splisosm_pyro.maths.spot.gaussian import log_counts_density

    for seed in range(N_PROBLEMS):
        model = random_problem(seed).model()
        model.fit(quiet=True)
        assert not model.status[0].startswith("failed"), random_problem(seed)
    for n_isos in (2, 3, 4):
        tissue = simulate_tissue(60, 1, n_isos, depth=2.0, theta=0.7, seed=n_isos)
        counts = tissue.counts.numpy() * np.array([1.0, 1e-3, 1e-300, 300.0])[:, None, None]
        table = fit_genes(counts, coords=tissue.coords, progress=False).table
        assert not table["status"].str.startswith("failed").any(), table["status"].tolist()
        model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
        model.setup_data(tissue.counts, tissue.kernel)
        model.fit(quiet=True)
        model.standard_errors()
        model.log_marginal_error(draws=30)
        model.get_isoform_ratio("posterior_mean")
        model.loo()
        model.posterior("laplace", draws=20, chains=1)
        if n_isos == 2:
            model.posterior("marginal_nuts", draws=10, chains=1, warmup=20)
    with_covariate(simulate_tissue(60, 1, 2, depth=2.0, seed=5))
    log_counts_density(np.ones((1, 7)), np.zeros((1, 6)), np.eye(6)[None])


def with_covariate(tissue):
    """Fit a gene of two isoforms under a dense kernel, and with a covariate."""
    from splisosm_pyro import MultinomGLMM, fit_genes

    steps = pd.DataFrame({"x": tissue.coords[:, 0] > np.median(tissue.coords[:, 0])})
    fit_genes(
        tissue.counts.numpy(), coords=tissue.coords, covariates=steps.astype(float), progress=False
    )
    model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    model.setup_data(tissue.counts, np.exp(-cdist(tissue.coords, tissue.coords)))
    model.fit(quiet=True)
    model.standard_errors()
    model.ratio_standard_errors()


def main():
    """Start again with the check, run all, name what was not reached."""
    if os.environ.get("NUMBA_BOUNDSCHECK") != "1":
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": folder}
            return subprocess.call([sys.executable, __file__], env=env)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    run_all()
    functions = compiled_functions()
    left = [name for name, function in functions.items() if not function.signatures]
    print(f"{len(functions)} compiled functions, none wrote or read beyond an array")
    print("".join(f"not reached: {name}\n" for name in left), end="")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
