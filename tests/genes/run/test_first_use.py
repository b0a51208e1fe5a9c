"""What is compiled before the first gene: all of it, beside another process, and only once."""

import subprocess

import numpy as np
import pytest

from splisosm_pyro import CARKernel
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.run import first_use
from splisosm_pyro.genes.run.first_use import compile_ahead
from splisosm_pyro.maths.sparse_cholesky.first_use import compile_elimination
from splisosm_pyro.maths.sparse_cholesky.fronts import factor_fronts
from splisosm_pyro.maths.sparse_cholesky.selected_inverse import _invert_fronts
from splisosm_pyro.maths.sparse_cholesky.triangular_solves import backward_matrix, backward_vector

ELIMINATION = factor_fronts, _invert_fronts, backward_vector, backward_matrix


def started(*args, **kwargs):
    raise AssertionError("a process was started")


def test_it_says_so_and_waits_for_the_other_process(monkeypatch, capsys):
    monkeypatch.setattr(first_use, "missing_on_disk", lambda function: True)
    monkeypatch.setattr(first_use, "ELIMINATION", "platform")  # a short program
    compile_ahead(RunOptions(), [2, 2], progress=True)
    assert capsys.readouterr().err.count("first use") == 1
    compile_ahead(RunOptions(), [2], progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("missing", "model"), [(False, "glmm"), (True, "glm")])
def test_where_nothing_is_missing_nothing_is_done(monkeypatch, capsys, missing, model):
    monkeypatch.setattr(first_use, "missing_on_disk", lambda function: missing)
    monkeypatch.setattr(subprocess, "Popen", started)
    compile_ahead(RunOptions(model=model), [2], progress=True)
    assert capsys.readouterr().err == ""


def test_an_interrupt_ends_the_other_process(monkeypatch):
    made, popen = [], subprocess.Popen

    def note(command, **kwargs):
        made.append(popen([*command[:1], "-c", "import time; time.sleep(60)"], **kwargs))
        return made[0]

    def interrupt(options, n_isos):
        raise KeyboardInterrupt

    monkeypatch.setattr(first_use, "missing_on_disk", lambda function: True)
    monkeypatch.setattr(subprocess, "Popen", note)
    monkeypatch.setattr(first_use, "_fit_a_few_spots", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_ahead(RunOptions(), [2], progress=False)
    assert made[0].returncode is not None


def test_elimination_is_compiled_for_what_a_kernel_calls_it_with():
    compile_elimination()
    before = [function.signatures for function in ELIMINATION]
    kernel = CARKernel.from_coords(np.indices((12, 12)).reshape(2, -1).T * 1.0, k=4)
    factor = kernel.system(np.arange(144), 1).factorise(np.ones((144, 1, 1)))
    factor.blocks(), factor.solve(np.ones((144, 1))), factor.solve(np.ones((144, 1, 3)))
    assert [function.signatures for function in ELIMINATION] == before
