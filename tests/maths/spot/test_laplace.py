"""The nugget at its mode against a long Newton ascent, spot by spot, and against differences."""

import numpy as np
import pytest
from scipy.special import logsumexp

from splisosm_pyro.maths.coding import NO_TURN
from splisosm_pyro.maths.spot.laplace import LaplaceNugget
from splisosm_pyro.maths.spot.laplace_any_isoforms import profile_multinomial, root_information
from splisosm_pyro.maths.spot.laplace_three_isoforms import profile_trinomial

NUGGETS = {
    "none": lambda q: np.zeros(q),
    "tiny": lambda q: np.full(q, 1e-8),
    "one_zero": lambda q: np.r_[0.0, np.full(q - 1, 0.7)],
    "mixed": lambda q: np.linspace(0.2, 2.5, q),
    "huge": lambda q: np.full(q, 400.0),
}


def draw(n_logits, total, seed=0, n=6):
    """Spots of about one total: counts (n, P), some isoforms absent, and logits of sd 1.5."""
    rng = np.random.default_rng(seed)
    ratio = rng.dirichlet(np.full(n_logits + 1, 0.7), n)
    y = np.stack([rng.multinomial(total, p) for p in ratio]).astype(float)
    return y, rng.normal(0.0, 1.5, (n, n_logits))


def log_lik(eta, y):
    return float(y[:-1] @ eta - y.sum() * logsumexp(np.r_[eta, 0.0]))


def score_and_information(eta, y):
    ratio = np.exp(eta - logsumexp(np.r_[eta, 0.0]))
    information = y.sum() * (np.diag(ratio) - np.outer(ratio, ratio))
    return y[:-1] - y.sum() * ratio, information


def long_newton(y, x, nugget):
    """The maximum over z of ``log_lik(x + T^1/2 z) - |z|^2 / 2`` by damped Newton steps."""
    root, z, before = np.sqrt(nugget), np.zeros_like(x), np.inf

    def merit(z):
        return log_lik(x + root * z, y) - 0.5 * z @ z

    for _ in range(500):
        score, information = score_and_information(x + root * z, y)
        slope = root * score - z
        step = np.linalg.solve(np.eye(x.size) + root[:, None] * information * root, slope)
        scale = 1.0
        while merit(z + scale * step) < merit(z) and slope @ step > 1e-8:
            scale *= 0.5
        z = z + scale * step
        if slope @ step < 1e-26 or before <= slope @ step < 1e-12:  # no more than rounding
            break
        before = slope @ step
    eta = x + root * z
    score, information = score_and_information(eta, y)
    score = np.where(nugget > 0, z / np.where(nugget > 0, root, 1.0), score)
    inner = np.eye(x.size) + information @ np.diag(nugget)
    return merit(z), score, np.linalg.solve(inner, information), -0.5 * np.linalg.slogdet(inner)[1]


@pytest.mark.parametrize("kind", NUGGETS)
@pytest.mark.parametrize("total", [1, 2, 30, 10**6])
@pytest.mark.parametrize("n_logits", [1, 2, 4])
def test_against_a_long_newton_ascent(n_logits, total, kind):
    y, x = draw(n_logits, total)
    nugget = NUGGETS[kind](n_logits)
    terms = LaplaceNugget(y).evaluate(x, nugget)
    truth = [long_newton(y[s], x[s], nugget) for s in range(len(y))]
    values, scores, hessians, corrections = (list(part) for part in zip(*truth, strict=True))
    assert terms.value == pytest.approx(sum(values), rel=1e-11)
    assert terms.correction == pytest.approx(sum(corrections), rel=1e-9, abs=1e-13)
    np.testing.assert_allclose(terms.score, scores, rtol=1e-8, atol=1e-9)
    size = np.abs(hessians).max()
    np.testing.assert_allclose(terms.neg_hessian, hessians, rtol=1e-8, atol=1e-9 * size)


@pytest.mark.parametrize("n_logits", [1, 2, 4])
def test_the_information_is_symmetric_and_positive(n_logits):
    y, x = draw(n_logits, 10**6, seed=3)
    for kind in NUGGETS.values():
        big_a = LaplaceNugget(y).evaluate(x, kind(n_logits)).neg_hessian
        np.testing.assert_allclose(big_a, big_a.swapaxes(1, 2), rtol=0, atol=1e-12 * big_a.max())
        assert np.linalg.eigvalsh(big_a).min() >= -1e-12 * big_a.max()


@pytest.mark.parametrize("far", [60.0, 300.0, 900.0])
@pytest.mark.parametrize("n_logits", [1, 3])
def test_far_from_the_data_everything_is_finite(n_logits, far):
    """Logits so large that a ratio under- or an exponential overflows."""
    y, _ = draw(n_logits, 5, seed=1)
    x = far * np.sign(np.random.default_rng(2).normal(size=(len(y), n_logits)))
    for kind in NUGGETS.values():
        nuggets = LaplaceNugget(y)
        terms = nuggets.evaluate(x, kind(n_logits))
        derivatives = nuggets.derivatives(terms, np.tile(np.eye(n_logits), (len(y), 1, 1)))
        parts = (terms.value, terms.score, terms.neg_hessian, terms.correction)
        parts += (derivatives.phi_x, derivatives.phi_nugget, derivatives.score_nugget)
        assert all(np.isfinite(part).all() for part in parts)
        for s in range(len(y)):
            one = LaplaceNugget(y[s : s + 1]).evaluate(x[s : s + 1], kind(n_logits))
            rest = score_and_information(x[s] + kind(n_logits) * one.score[0], y[s])[0]
            np.testing.assert_allclose(one.score[0], rest, atol=1e-9)


def test_the_result_does_not_depend_on_earlier_calls():
    for n_logits, total in ((1, 3), (2, 3), (4, 2000)):
        y, x = draw(n_logits, total, seed=4)
        travelled = LaplaceNugget(y)
        rng = np.random.default_rng(1)
        for scale in (0.0, 30.0, 1e-3, 400.0):
            travelled.evaluate(x + rng.normal(0.0, 8.0, x.shape), np.full(n_logits, scale))
        for kind in NUGGETS.values():
            nugget = kind(n_logits)
            fresh, used = LaplaceNugget(y).evaluate(x, nugget), travelled.evaluate(x, nugget)
            np.testing.assert_allclose(used.score, fresh.score, rtol=1e-12, atol=1e-12 * total)
            np.testing.assert_allclose(used.value, fresh.value, rtol=1e-12)
            np.testing.assert_allclose(used.correction, fresh.correction, rtol=1e-12, atol=1e-15)
            size = np.abs(fresh.neg_hessian).max()
            np.testing.assert_allclose(used.neg_hessian, fresh.neg_hessian, atol=1e-12 * size)


def test_a_point_that_is_not_a_number_is_forgotten():
    for n_logits in (1, 3):
        y, x = draw(n_logits, 4)
        nuggets, nugget = LaplaceNugget(y), np.full(n_logits, 0.5)
        assert not np.isfinite(nuggets.evaluate(np.full_like(x, np.nan), nugget).value)
        after = nuggets.evaluate(x, nugget)
        np.testing.assert_array_equal(after.score, LaplaceNugget(y).evaluate(x, nugget).score)


def test_terms_are_not_changed_by_later_calls():
    y, x = draw(3, 5)
    nuggets = LaplaceNugget(y)
    terms = nuggets.evaluate(x, np.full(3, 0.5))
    kept = terms.score.copy(), terms.neg_hessian.copy(), terms.extra[0].copy()
    nuggets.evaluate(x + 1.0, np.full(3, 2.0))
    for before, after in zip(kept, (terms.score, terms.neg_hessian, terms.extra[0]), strict=True):
        np.testing.assert_array_equal(after, before)


# ---- derivatives, by differences of fourth order of the class's own value, score and A


def spot_functions(y, x, nugget, weight):
    """Value, score and ``phi`` of one spot as one vector."""
    terms = LaplaceNugget(y).evaluate(x, nugget)
    phi = 0.5 * float(np.sum(weight * terms.neg_hessian)) - terms.correction
    return np.r_[terms.value, terms.score[0], phi]


def central(function, step=1e-3):
    sides = [function(k * step) for k in (-2, -1, 1, 2)]
    return (sides[0] - 8 * sides[1] + 8 * sides[2] - sides[3]) / (12 * step)


def forward(function, step=1e-3):
    f = [function(k * step) for k in range(5)]
    return (-25 * f[0] + 48 * f[1] - 36 * f[2] + 16 * f[3] - 3 * f[4]) / (12 * step)


@pytest.mark.parametrize("kind", ["none", "one_zero", "mixed", "huge"])
@pytest.mark.parametrize("total", [1, 12])
@pytest.mark.parametrize("n_logits", [1, 2, 4])
def test_derivatives_against_differences(n_logits, total, kind):
    y, x = draw(n_logits, total, seed=5, n=3)
    nugget = NUGGETS[kind](n_logits)
    root = np.random.default_rng(6).normal(size=(3, n_logits, n_logits))
    weight = root @ root.swapaxes(1, 2)
    nuggets = LaplaceNugget(y)
    terms = nuggets.evaluate(x, nugget)
    exact = nuggets.derivatives(terms, weight)
    close = {"rtol": 1e-6, "atol": 1e-7}
    for s in range(3):
        for q in range(n_logits):
            unit, difference = np.eye(n_logits)[q], central if nugget[q] > 0 else forward

            def at(x_step, t_step, s=s, unit=unit):
                moved = x[s : s + 1] + x_step * unit, nugget + t_step * unit
                return spot_functions(y[s : s + 1], *moved, weight[s])

            by_x = central(lambda h, at=at: at(h, 0.0))
            np.testing.assert_allclose(by_x[0], terms.score[s, q], **close)
            np.testing.assert_allclose(by_x[1:-1], -terms.neg_hessian[s, :, q], **close)
            np.testing.assert_allclose(by_x[-1], exact.phi_x[s, q], **close)
            by_t = difference(lambda h, at=at: at(0.0, h))
            np.testing.assert_allclose(by_t[0], exact.value_nugget[s, q], **close)
            np.testing.assert_allclose(by_t[1:-1], exact.score_nugget[s, :, q], **close)
            np.testing.assert_allclose(by_t[-1], exact.phi_nugget[s, q], **close)


# ---- the closed-form Cholesky root


@pytest.mark.parametrize(
    "ratio",
    [
        [0.3, 0.7],
        [0.2, 0.3, 0.1, 0.4],
        [1e-12, 0.5, 0.5 - 1e-12],
        [0.9, 1e-9, 0.1 - 1e-9, 1e-30],
        [1e-200, 1e-150, 1.0],
    ],
)
def test_the_root_of_the_information(ratio):
    pi, m = np.array(ratio), 7.0
    root = np.zeros((pi.size - 1, pi.size - 1))
    root_information(m, pi, NO_TURN, root)
    np.testing.assert_array_equal(root, np.tril(root))
    inner = pi[:-1]
    information = m * (np.diag(inner * (pi.sum() - inner)) - np.outer(inner, inner))
    information += m * np.diag(inner**2)  # the diagonal without a difference
    np.testing.assert_allclose(root @ root.T, information, rtol=1e-12, atol=1e-15)
    log_det = inner.size * np.log(m) + np.log(pi).sum()  # known in closed form
    assert 2 * np.log(root.diagonal()).sum() == pytest.approx(log_det, rel=1e-12)


def test_the_root_where_ratios_vanish():
    for ratio in ([0.0, 0.4, 0.6], [0.4, 0.0, 0.6], [0.0, 0.0, 1.0]):
        pi = np.array(ratio)
        root = np.zeros((2, 2))
        root_information(3.0, pi, NO_TURN, root)
        information = 3.0 * (np.diag(pi[:-1]) - np.outer(pi[:-1], pi[:-1]))
        np.testing.assert_allclose(root @ root.T, information, atol=1e-15)


@pytest.mark.parametrize("sigma", [0.0, 1e-3, 0.3, 2.0, 40.0])
def test_three_isoforms_in_scalars_agree_with_the_general_form(sigma):
    rng = np.random.default_rng(3)
    totals = np.floor(10.0 ** rng.uniform(0.0, 5.0, 60))
    ratio = rng.dirichlet(np.full(3, 0.4), 60)
    counts = np.stack([rng.multinomial(m, p) for m, p in zip(totals, ratio, strict=True)])
    y, x = counts[:, :2].astype(float), rng.normal(0.0, 4.0, (60, 2))
    x[:3] = [[600.0, 3.0], [-500.0, 700.0], [-600.0, -650.0]]
    nugget = sigma**2 * np.array([1.0, 0.2])
    start = np.zeros((60, 2))
    scalars = profile_trinomial(x, y, totals, nugget, start)
    general = profile_multinomial(x, y, totals, nugget, start, NO_TURN)
    for found, expected in zip(scalars, general, strict=True):
        scale = np.maximum(1.0, np.abs(np.asarray(expected)))
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-9)
