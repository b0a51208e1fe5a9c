"""Spots whose isoforms all have noise: against lattices in logits, and against differences."""

import numpy as np
import pytest

from splisosm_pyro.maths.coding import Turn
from splisosm_pyro.maths.spot.gaussian import log_kernel_density
from splisosm_pyro.maths.spot.laplace import LaplaceNugget
from splisosm_pyro.maths.spot.symmetric import SymmetricNugget

RNG = np.random.default_rng(5)


def spots(P, depth=3.0, n=5):
    """Counts without an empty spot, and turned places."""
    counts = RNG.poisson(depth, (n, P)) + np.eye(n, P)
    return counts, RNG.normal(0.0, 1.5, (n, P - 1))


@pytest.mark.parametrize(("P", "error"), [(3, 2e-7), (4, 5e-5)])
@pytest.mark.parametrize("variance", [1e-4, 0.5, 4.0])
def test_values_against_a_lattice_in_logits(P, error, variance):
    (counts, x), turn = spots(P), Turn.of_size(P)
    cov = np.repeat(variance * 0.5 * (np.eye(P - 1) + 1.0)[None], len(x), axis=0)
    expected = log_kernel_density(counts, x @ turn.matrix.T, cov)
    found = SymmetricNugget(counts, turn).each(x, np.full(P - 1, variance))[0]
    np.testing.assert_allclose(found, expected, atol=error)


@pytest.mark.parametrize("variance", [0.0, 1.0, 30.0])
def test_values_do_not_see_the_order(variance):
    counts, x = spots(4, depth=40.0)
    turn, order = Turn.of_size(4), np.array([2, 3, 1, 0])
    places = x @ turn.centred.T
    other = 2.0 * places[:, order] @ turn.centred
    nugget = np.full(3, variance)
    found = SymmetricNugget(counts[:, order], turn).each(other, nugget)[0]
    np.testing.assert_allclose(found, SymmetricNugget(counts, turn).each(x, nugget)[0], rtol=1e-12)


@pytest.mark.parametrize("P", [3, 5])
@pytest.mark.parametrize("depth", [1.0, 60.0])
@pytest.mark.parametrize("kind", ["integrated", "profiled"])
def test_derivatives(P, depth, kind):
    (counts, x), turn, t = spots(P, depth, 3), Turn.of_size(P), 1.7
    own = LaplaceNugget(counts, turn.root)
    if kind == "integrated":
        own = SymmetricNugget(counts, turn)
    weight = RNG.normal(size=(3, P - 1, P - 1))
    weight = weight @ weight.transpose(0, 2, 1)

    def at(x, t):
        terms = own.evaluate(x, np.full(P - 1, t))
        phi = 0.5 * np.einsum("sab,sab->", weight, terms.neg_hessian) - terms.correction
        return terms.value, phi, terms.score

    def slope(k, move, moved_t=0.0):
        sides = [at(x + sign * move, t + sign * moved_t)[k] for sign in (1.0, -1.0)]
        return (sides[0] - sides[1]) / 2e-4

    terms = own.evaluate(x, np.full(P - 1, t))
    found = own.derivatives(terms, weight)
    close = {"rtol": 1e-5, "atol": 1e-5}
    for s, q in [(0, 0), (2, P - 2)]:
        unit = np.zeros_like(x)
        unit[s, q] = 1e-4
        np.testing.assert_allclose(terms.score[s, q], slope(0, unit), **close)
        np.testing.assert_allclose(found.phi_x[s, q], slope(1, unit), **close)
        np.testing.assert_allclose(-terms.neg_hessian[s, q], slope(2, unit)[s], **close)
    still = np.zeros_like(x)
    np.testing.assert_allclose(found.value_nugget.sum(), slope(0, still, 1e-4), **close)
    np.testing.assert_allclose(found.phi_nugget.sum(), slope(1, still, 1e-4), **close)
    np.testing.assert_allclose(found.score_nugget.sum(axis=2), slope(2, still, 1e-4), **close)
