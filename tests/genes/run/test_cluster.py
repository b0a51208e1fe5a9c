"""Workers of other backends of joblib: a real Dask cluster on loopback, and one that only waits."""

from dataclasses import replace

import pandas as pd
import pytest
from joblib import parallel_config, register_parallel_backend
from joblib.parallel import ThreadingBackend

from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.run import workers
from splisosm_pyro.genes.run.fit_genes import fit_slide
from splisosm_pyro.genes.run.workers import on_this_machine

GLM = RunOptions(model="glm")


@pytest.fixture
def bare(slide):
    """The slide without covariates, quick to fit."""
    return replace(slide, covariates=())


def same(one, other):
    tables = [fits.table.drop(columns="seconds") for fits in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    pd.testing.assert_frame_equal(one.isoforms, other.isoforms, check_exact=True)


def test_on_a_dask_cluster(bare, tmp_path, monkeypatch):
    """The same numbers from two processes of a cluster; the memory here does not bind them."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "available_bytes", lambda: pytest.fail("not on this machine"))
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=tmp_path,
        ) as cluster,
        distributed.Client(cluster) as client,
        parallel_config(backend="dask"),
    ):
        assert not on_this_machine()
        there = fit_slide(
            bare, GLM, n_jobs=-1, progress=False, batch_size=2, resume=tmp_path / "run"
        )
        processes = client.run(lambda: __import__("os").getpid())
    assert len(set(processes.values())) == 2
    monkeypatch.undo()
    same(there, fit_slide(bare, GLM, progress=False))
    # and a run begun there goes on here
    same(there, fit_slide(bare, GLM, progress=False, resume=tmp_path / "run"))


class Waits(ThreadingBackend):
    """A backend that gives nothing before all is done, as Ray's."""

    supports_return_generator = False
    asked = 0

    def submit(self, func, callback=None):
        type(self).asked += 1
        return super().submit(func, callback)


def test_on_a_backend_without_generators(bare):
    assert on_this_machine()
    register_parallel_backend("waits", Waits)
    with parallel_config(backend="waits"):
        there = fit_slide(bare, GLM, n_jobs=2, progress=False, batch_size=1)
    assert Waits.asked == 6
    same(there, fit_slide(bare, GLM, progress=False))
