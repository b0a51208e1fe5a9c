"""Many genes at once against one gene at a time."""

import numpy as np
import oracles
import pytest

from splisosm_pyro.fit.glm import fit_batch as glm_batch
from splisosm_pyro.fit.glm.fit_batch import GLMFits, fit_whole
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.reduced_problem import DesignRows
from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.result import Status

IWLS = GLMOptions.from_configs("iwls")


def slide(n_genes=8, n_spots=60, n_isos=3, n_factors=2, depth=2.0, grouped=False, seed=0):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(n_spots, n_factors))
    if grouped:
        design = np.eye(n_factors + 1)[np.arange(n_spots) % (n_factors + 1), 1:]
    effects = rng.normal(scale=0.5, size=(n_genes, n_factors, n_isos - 1))
    ratio = np.array([oracles.softmax_ratio(design @ effect) for effect in effects])
    counts = rng.multinomial(rng.poisson(depth, (n_genes, n_spots)), ratio).astype(float)
    return counts, DesignRows.from_design(design)


def assert_same(fast, slow):
    assert (fast.status, fast.reason, fast.epochs) == (slow.status, slow.reason, slow.epochs)
    assert fast.log_lik == pytest.approx(slow.log_lik, rel=1e-13)
    for name in ("B", "standard_errors", "information", "values"):
        own, other = getattr(fast, name), getattr(slow, name)
        assert own.shape == other.shape
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-11)
    assert fast.min_eigenvalue == pytest.approx(slow.min_eigenvalue, rel=1e-9)
    assert fast.gradient_norm == pytest.approx(slow.gradient_norm, abs=1e-9)
    np.testing.assert_array_equal(fast.fixed, slow.fixed)
    np.testing.assert_array_equal(fast.held, slow.held)
    assert fast.path.shape == slow.path.shape


@pytest.mark.parametrize("method", ["iwls", "newton"])
@pytest.mark.parametrize("n_isos", [2, 3, 5])
@pytest.mark.parametrize(("n_factors", "grouped"), [(0, False), (2, False), (3, True)])
def test_genes_inside_are_those_of_one_at_a_time(method, n_isos, n_factors, grouped):
    options = GLMOptions.from_configs(method)
    counts, rows = slide(n_isos=n_isos, n_factors=n_factors, depth=8.0, grouped=grouped)
    fits = fit_whole(counts, rows, options)
    assert len(fits) == len(counts)
    for own, fast in zip(counts, fits, strict=True):
        assert_same(fast, fit_glm(own, rows, options))


def test_genes_of_which_a_part_is_held_are_left_alone():
    counts, rows = slide(n_genes=5, grouped=True)
    counts[1] = 0.0
    counts[2, :, 1] = 0.0
    counts[3, :, 2] = 0.0
    counts[4, rows.values[:, 0] > 0] = 0.0  # a covariate without spots
    fits = fit_whole(counts, rows, IWLS)
    assert [fit is None for fit in fits] == [False, True, True, True, True]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("names", [(), ("age", "dose")])
def test_separated_genes_are_those_of_one_at_a_time(grouped, names):
    counts, rows = slide(n_genes=5, n_spots=90, grouped=grouped)
    high = rows.values[:, 0] > 0
    counts[0, high, 0] = 0.0
    counts[1, high, 0] = counts[1, ~high, 1] = 0.0
    counts[2, high, 1:] = 0.0
    counts[2, ~high, 0] = 0.0  # in every direction but one
    counts[3] = 0.0
    counts[3, :3] = np.eye(3)  # in every direction
    fits = fit_whole(counts, rows, IWLS, names)
    separated = [fit is not None and "separate" in fit.reason for fit in fits]
    assert separated[:3] + separated[4:] == [grouped, grouped, True, False]
    for own, fast in zip(counts, fits, strict=True):
        if fast is not None:
            assert_same(fast, fit_glm(own, rows, IWLS, names=names))


def test_an_ascent_that_runs_out_of_epochs_says_so():
    counts, rows = slide(n_genes=2)
    short = GLMOptions.from_configs("iwls", {"max_epochs": 1})
    for own, fast in zip(counts, fit_whole(counts, rows, short), strict=True):
        assert fast.status == Status.MAX_EPOCHS
        assert_same(fast, fit_glm(own, rows, short))


def test_a_gene_does_not_depend_on_its_company(monkeypatch):
    monkeypatch.setattr(glm_batch, "BLOCK", 3)
    counts, rows = slide()
    together = GLMFits(counts, rows, IWLS)
    for gene in (0, 4, 7, 5, 1):
        (alone,) = fit_whole(counts[gene : gene + 1], rows, IWLS)
        fit = together.get(gene)
        np.testing.assert_array_equal(fit.B, alone.B)
        np.testing.assert_array_equal(fit.standard_errors, alone.standard_errors)
        assert fit.log_lik == alone.log_lik


def test_a_stack_that_breaks_leaves_its_genes_to_themselves(monkeypatch):
    def breaking(*_):
        raise np.linalg.LinAlgError("a test broke it")

    monkeypatch.setattr(glm_batch, "_certified", breaking)
    counts, rows = slide(n_genes=2)
    assert GLMFits(counts, rows, IWLS).get(1) is None
