"""Before the first gene on a machine: what is compiled is compiled by two processes at a time.

Compilation holds a lock, so threads are no help. A process of its own takes sparse elimination,
this one the rest; what they compile stays on disk, where workers and later runs find it.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tqdm import tqdm

from splisosm_pyro.fit.glm.newton_iwls import newton_ascent
from splisosm_pyro.genes.job import METHOD, RunOptions
from splisosm_pyro.maths.numeric.compiled import ROOT, missing_on_disk
from splisosm_pyro.maths.sparse_cholesky.fronts import factor_fronts

ELIMINATION = f"{ROOT.name}.maths.sparse_cholesky.first_use"
SENTENCE = "compiling for the first use on this machine, which takes some 15 seconds once"
N_SPOTS = 4


def compile_ahead(options: RunOptions, numbers_of_isoforms: Iterable[int], progress: bool) -> None:
    """Compile what genes of so many isoforms need, if that has not been done on this machine.

    Parameters
    ----------
    options : RunOptions
    numbers_of_isoforms : iterable of int
    progress : bool
        Say so on the standard error.
    """
    missing = missing_on_disk(factor_fronts) or missing_on_disk(newton_ascent)
    if not (options.glmm and missing):
        return
    if progress:
        tqdm.write(SENTENCE, file=sys.stderr)
    with _another_process():
        for n_isos in sorted({n for n in numbers_of_isoforms if n > 1}):
            _fit_a_few_spots(options, n_isos)


@contextmanager
def _another_process() -> Iterator[None]:
    """Let another process compile elimination meanwhile, and wait for it at the end."""
    path = os.pathsep.join(filter(None, [str(ROOT.parent), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", ELIMINATION]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as other:
        try:
            yield
            other.wait()
        finally:
            other.kill()


def _fit_a_few_spots(options: RunOptions, n_isos: int) -> None:
    """Fit a gene of a few reads, whose covariance is dense: nothing sparse is compiled."""
    # workers, and runs whose code is compiled, do without what this imports
    from splisosm_pyro.model import MultinomGLMM

    coding: Any = options.coding  # it is checked
    model = MultinomGLMM(
        options.share_variance,
        var_fix_sigma=False,
        fitting_method=METHOD,
        fitting_configs=options.configs(n_isos),
        coding=coding,
    )
    model.setup_data(np.ones((1, N_SPOTS, n_isos)), 0.5 * (np.eye(N_SPOTS) + 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what such a fit says is of no interest
        model.fit(quiet=True)
