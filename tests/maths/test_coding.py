"""Turned coordinates: the covariance that they give, the way back, and the order of a gene."""

from itertools import permutations

import numpy as np
import pytest

from splisosm_pyro.maths.coding import Turn, turns


@pytest.mark.parametrize("P", [3, 4, 6])
def test_the_map_and_the_way_back(P):
    counts = np.random.default_rng(P).poisson(1.0, (9, P)).astype(float)
    turn, Q = Turn.of_gene("symmetric", counts), P - 1
    own = 0.5 * (np.eye(Q) + 1.0)
    for root in (turn.matrix, turn.root):
        np.testing.assert_allclose(root @ root.T, own, atol=1e-14)
    np.testing.assert_array_equal(turn.root, np.triu(turn.root))
    np.testing.assert_allclose(turn.matrix @ turn.inverse, np.eye(Q), atol=1e-14)
    assert turn.log_det == pytest.approx(np.log(abs(np.linalg.det(turn.matrix))))
    np.testing.assert_allclose(turn.centred.T @ turn.centred, np.eye(Q) / 2, atol=1e-14)
    logits = np.random.default_rng(0).normal(size=(5, Q))
    turned = turn.from_logits(logits)
    np.testing.assert_allclose(turn.to_logits(turned), logits, atol=1e-13)
    by_isoform = turn.isoforms(np.pad(turned @ turn.root.T, ((0, 0), (0, 1))))
    np.testing.assert_allclose(by_isoform[:, :-1] - by_isoform[:, -1:], logits, atol=1e-13)


def test_the_order_of_a_gene_is_that_of_its_counts():
    counts = np.array([[0.0, 3.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 2.0]])
    counts = np.vstack([counts, [[0.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 3.0]]])
    expected = counts[:, Turn.of_gene("symmetric", counts).order]
    assert expected.sum(axis=0).tolist() == [0.0, 6.0, 6.0, 6.0]
    for order in permutations(range(4)):
        own = counts[:, order]
        np.testing.assert_array_equal(Turn.of_gene("symmetric", own).counts(own), expected)


def test_where_nothing_is_turned():
    counts = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert Turn.of_gene("symmetric", counts).plain
    assert Turn.of_gene("reference", np.ones((2, 3))).plain
    assert not turns("symmetric", 2)
