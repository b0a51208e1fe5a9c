"""What counts leave open: levels without reads, separated levels, isoforms that never occur."""

import numpy as np
import pytest

from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.undetermined import Undetermined

LEVELS = np.repeat([0, 1, 2], 20)
ROWS = np.column_stack([np.eye(3)[:, 1:], np.ones(3)])  # of the three levels, level 0 the reference


def counts_by_level(usage, empty=()):
    rng = np.random.default_rng(3)
    total = np.where(np.isin(LEVELS, empty), 0, 1 + rng.poisson(4.0, LEVELS.size))
    return rng.multinomial(total, np.array(usage)[LEVELS]).astype(float)


def fit(counts, reference=0):
    order = [reference, *(level for level in range(3) if level != reference)]
    return fit_glm(counts, np.eye(3)[LEVELS][:, order[1:]])


@pytest.mark.parametrize("usage", [[[0.5, 0.5]] * 3, [[0.2, 0.3, 0.5]] * 3])
def test_a_reference_without_reads_takes_everything_along(usage):
    found = fit(counts_by_level(usage, empty=[0]))
    n_logits = len(usage[0]) - 1
    assert found.fixed.all()
    assert np.isinf(found.standard_errors).all()
    assert found.held.sum() == n_logits
    np.testing.assert_array_equal(found.unknown.moves_usage(ROWS), [True, False, False])
    between = np.kron([[1.0, -1.0, 0.0]], np.eye(n_logits))
    assert not found.unknown.moves(between).any()


def test_a_level_without_reads_is_unknown_alone():
    found = fit(counts_by_level([[0.5, 0.5]] * 3, empty=[1]))
    np.testing.assert_array_equal(found.fixed.ravel(), [True, False, False])
    np.testing.assert_array_equal(found.unknown.moves_usage(ROWS), [False, True, False])


@pytest.mark.parametrize("reference", [0, 1, 2])
def test_what_a_separated_level_leaves_open_does_not_depend_on_the_reference(reference):
    found = fit(counts_by_level([[1.0, 0.0], [0.3, 0.7], [0.5, 0.5]]), reference)
    order = [reference, *(level for level in range(3) if level != reference)]
    np.testing.assert_array_equal(found.unknown.moves_usage(ROWS), [o == 0 for o in order])
    assert found.fixed.sum() == (3 if reference == 0 else 1)


@pytest.mark.parametrize("absent", [0, 2])
def test_an_isoform_that_never_occurs_leaves_the_usage_alone(absent):
    usage = np.array([[0.4, 0.6], [1.0, 0.0], [0.5, 0.5]])
    found = fit(counts_by_level(np.insert(usage, min(absent, 2), 0.0, axis=1)))
    assert found.fixed.any(axis=0).all()
    np.testing.assert_array_equal(found.unknown.moves_usage(ROWS), [False, True, False])


def test_a_gene_without_limits_leaves_nothing_open():
    found = fit(counts_by_level([[0.2, 0.8], [0.3, 0.7], [0.5, 0.5]]))
    assert found.unknown.directions.shape == (3, 0)
    assert not found.unknown.moves(np.eye(3)).any()
    assert not found.unknown.moves_usage(ROWS).any()


def test_another_scale_moves_what_is_open_along():
    open_ = Undetermined(np.array([[1.0], [0.0]]), np.array([False]))
    shifted = np.array([[1e-3, 0.0], [-7.0, 1.0]])
    np.testing.assert_array_equal(open_.on_scale(shifted).coefficients, [True, True])
    both = open_.and_coefficients(np.array([True, True]))
    np.testing.assert_array_equal(both.coefficients, [True, True])
    assert both.directions.shape == (2, 2)
