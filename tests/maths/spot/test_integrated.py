"""The integrated nugget against brute force, differences, symmetries and its own halved step."""

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp, roots_hermitenorm

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.quadrature.poisson_star_table import ALIASING, longest_steps
from splisosm_pyro.maths.spot.terms import SpotTerms


def log_lik(eta: FloatArray, y: FloatArray) -> FloatArray:
    """Multinomial log-likelihood without its coefficient; eta (*, Q)."""
    full = np.concatenate([eta, np.zeros((*eta.shape[:-1], 1))], axis=-1)
    return np.asarray(full @ y - y.sum() * logsumexp(full, axis=-1))


def brute(
    y: FloatArray, x: FloatArray, nugget: FloatArray, points: int, reach: float = 12.0
) -> float:
    """Integrate over the active e by a dense grid of the prior, +-``reach`` sd, plain sum."""
    active = np.flatnonzero(nugget)
    z = np.linspace(-reach, reach, points)
    grid = np.stack(np.meshgrid(*[z] * active.size, indexing="ij"), axis=-1)
    eta = np.broadcast_to(x, (*grid.shape[:-1], x.size)).copy()
    eta[..., active] += grid * np.sqrt(nugget[active])
    density = -0.5 * (grid**2).sum(axis=-1) - 0.5 * active.size * np.log(2.0 * np.pi)
    return float(logsumexp(log_lik(eta, y) + density) + active.size * np.log(z[1] - z[0]))


def draw(n_logits: int, n: int, top: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Random spots: totals 1 to top, logits of sd 1.5."""
    rng = np.random.default_rng(seed)
    totals = rng.integers(1, top + 1, n)
    y = np.stack([rng.multinomial(m, rng.dirichlet(np.ones(n_logits + 1))) for m in totals])
    return y.astype(float), rng.normal(0.0, 1.5, (n, n_logits))


def weights(n: int, n_logits: int) -> FloatArray:
    """Random symmetric positive definite weights."""
    root = np.random.default_rng(5).normal(size=(n, n_logits, n_logits))
    return np.asarray(root @ root.swapaxes(1, 2))


@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
def test_without_a_nugget_it_is_the_log_likelihood(n_logits: int) -> None:
    y, x = draw(n_logits, 8, 9, 1)
    terms = QuadratureNugget(y).evaluate(x, np.zeros(n_logits))
    full = np.concatenate([x, np.zeros((8, 1))], axis=1)
    p = np.exp(full - logsumexp(full, axis=1, keepdims=True))[:, :-1]
    m = y.sum(axis=1)
    value = sum(float(log_lik(x[s], y[s])) for s in range(8))
    info = m[:, None, None] * (p[:, :, None] * np.eye(n_logits) - p[:, :, None] * p[:, None, :])
    np.testing.assert_allclose(terms.value, value, rtol=1e-14)
    np.testing.assert_allclose(terms.score, y[:, :-1] - m[:, None] * p, atol=1e-13)
    np.testing.assert_allclose(terms.neg_hessian, info, atol=1e-13)
    assert terms.correction == 0.0


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_two_isoforms_agree_with_gauss_hermite_of_400_nodes(sigma: float) -> None:
    y, x = draw(1, 30, 4, 2)
    z, w = roots_hermitenorm(400)
    eta = (x[:, None, :] + sigma * z[:, None])[..., 0]
    log = y[:, :1] * eta - y.sum(axis=1, keepdims=True) * np.logaddexp(0.0, eta)
    with np.errstate(divide="ignore"):
        truth = logsumexp(log + np.log(w / w.sum()), axis=1).sum()
    terms = QuadratureNugget(y).evaluate(x, np.array([sigma**2]))
    assert abs(terms.value - truth) < 1e-9  # 30 spots


@pytest.mark.parametrize(
    ("y", "x", "sigma"),
    [
        ([0, 1], -2.0, 20.0),
        ([3, 0], 1.0, 7.0),
        ([0, 1000], 2.0, 20.0),
        ([4000, 1e6 - 4000], -5.0, 0.001),
        ([4000, 1e6 - 4000], 3.0, 20.0),
        ([0, 1e6], -8.0, 5.0),
        ([0.3, 0.4], 0.5, 3.0),
        ([0.3, 2.4], -30.0, 4.0),
    ],
)
def test_two_isoforms_agree_with_a_dense_sum(y: list[float], x: float, sigma: float) -> None:
    counts, at, nugget = np.array([y], dtype=float), np.array([[x]]), np.array([sigma**2])
    truth = brute(counts[0], at[0], nugget, 240_001)
    value = QuadratureNugget(counts).evaluate(at, nugget).value
    assert abs(value - truth) < 5e-9 * max(1.0, 1e-6 * abs(truth))


@pytest.mark.parametrize(
    ("n_logits", "sigma", "points", "tolerance"),
    [(2, 0.3, 101, 2e-9), (2, 1.0, 151, 2e-9), (2, 3.0, 351, 4e-9), (2, 8.0, 901, 4e-9),
     (3, 0.5, 51, 1e-9), (3, 1.0, 81, 1e-9)],
)  # fmt: skip
def test_more_isoforms_agree_with_a_dense_lattice(
    n_logits: int, sigma: float, points: int, tolerance: float
) -> None:
    y, x = draw(n_logits, 3, 4, 3)
    y[0] *= 1.5  # not in a table
    nugget = np.array([sigma**2 * (1.0 + 0.3 * q) for q in range(n_logits)])
    truth = sum(brute(y[s], x[s], nugget, points) for s in range(3))
    assert abs(QuadratureNugget(y).evaluate(x, nugget).value - truth) < tolerance


@pytest.mark.parametrize("nugget", [[0, 0, 1.5, 0, 0], [0, 0.7, 0, 0, 2.0], [30.0, 0, 0, 0, 0]])
def test_six_isoforms_agree_where_few_nuggets_are_active(nugget: list[float]) -> None:
    y, x = draw(5, 4, 12, 4)
    variance = np.array(nugget, dtype=float)
    truth = sum(brute(y[s], x[s], variance, 351) for s in range(4))
    assert abs(QuadratureNugget(y).evaluate(x, variance).value - truth) < 1e-9


@pytest.mark.parametrize("scale", [1.0, 1.3, 900.0])  # the lattice twice, the plane
def test_plane_and_star_agree_on_three_isoforms(scale: float) -> None:
    y, x = draw(2, 20, 6, 6)
    y *= scale
    padded = np.concatenate([y[:, :2], np.zeros((20, 1)), y[:, 2:]], axis=1)
    far = np.concatenate([x, np.full((20, 1), -700.0)], axis=1)  # an isoform that is not there
    nugget = np.array([0.8, 1.7])
    plane = QuadratureNugget(y).evaluate(x, nugget)
    star = QuadratureNugget(padded).evaluate(far, np.append(nugget, 0.0))
    third = QuadratureNugget(y).derivatives(plane, weights(20, 2))
    weight = np.zeros((20, 3, 3))
    weight[:, :2, :2] = weights(20, 2)
    other = QuadratureNugget(padded).derivatives(star, weight)
    assert abs(plane.value - star.value) < 1e-8
    np.testing.assert_allclose(plane.score, star.score[:, :2], atol=1e-8)
    np.testing.assert_allclose(plane.neg_hessian, star.neg_hessian[:, :2, :2], atol=2e-8)
    np.testing.assert_allclose(third.phi_nugget, other.phi_nugget[:, :2], atol=1e-6)


@pytest.mark.parametrize("n_logits", [2, 3])
@pytest.mark.parametrize("sigma", [0.05, 0.6, 1.5, 4.0, 12.0])
def test_the_table_agrees_with_lines(n_logits: int, sigma: float) -> None:
    y, x = draw(n_logits, 12, 9, 22)
    y[:4] *= 0.7
    y[4:6] *= 30.0
    nugget, weight = sigma**2 * np.array([1.0, 1.0, 0.6])[:n_logits], weights(12, n_logits)
    spots, lines = QuadratureNugget(y), QuadratureNugget(y)
    lines._longest = np.full(12, 1e-9)  # so fine that no table serves
    a, b = spots.evaluate(x, nugget), lines.evaluate(x, nugget)
    assert abs(a.value - b.value) < 1e-8
    np.testing.assert_allclose(a.score, b.score, atol=1e-8)
    np.testing.assert_allclose(a.neg_hessian, b.neg_hessian, atol=1e-7)
    third, other = spots.derivatives(a, weight), lines.derivatives(b, weight)
    # of these the lines are the rougher ones: differences tell
    for found, expected in zip(vars(third).values(), vars(other).values(), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    for k in range(n_logits):
        close(third.phi_x[:, k], differences(spots, x, nugget, weight, k, in_x=True)[2], 1e-6)


@pytest.mark.parametrize("total", [0.2, 1.0, 4.0, 50.0, 900.0])
def test_the_step_keeps_the_bound_on_aliasing(total: float) -> None:
    h = float(longest_steps(np.array([total]))[0])
    t = np.arange(-60.0 / min(total, 1.0), np.log(total) + 8.0, h)
    shifts = h * np.linspace(0.0, 1.0, 9)
    sums = [h * np.exp(total * (t + c) - np.exp(t + c) - gammaln(total)).sum() for c in shifts]
    error = np.abs(np.array(sums) - 1.0).max()
    assert 0.1 * ALIASING < error < 1.1 * ALIASING


def differences(
    spots: QuadratureNugget,
    x: FloatArray,
    nugget: FloatArray,
    weight: FloatArray,
    k: int,
    in_x: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Central differences (fourth order) of value, score and phi along x_k or T_k."""

    def at(shift: float) -> SpotTerms:
        step = np.zeros(x.shape[1])
        step[k] = shift
        return spots.evaluate(x + step, nugget) if in_x else spots.evaluate(x, nugget + step)

    def slope(values: list[FloatArray]) -> FloatArray:
        return np.asarray(8.0 * (values[2] - values[1]) - (values[3] - values[0])) / (12.0 * h)

    h = 2e-3 if in_x else 2e-3 * min(nugget[k], 1.0)
    terms = [at(j * h) for j in (-2, -1, 1, 2)]
    return (
        slope([np.asarray(t.value) for t in terms]),
        slope([t.score for t in terms]),
        slope([0.5 * (weight * t.neg_hessian).sum(axis=(1, 2)) for t in terms]),
    )


@pytest.mark.parametrize(
    ("n_logits", "nugget", "top"),
    [
        (1, [0.3], 5),
        (1, [4.0], 3),
        (1, [60.0], 40),
        (1, [0.02], 3000),
        (2, [0.4, 1.2], 4),
        (2, [0.4, 1.2], 400),
        (2, [3.0, 1.0], 90),
        (2, [9.0, 30.0], 3),
        (2, [0.0, 1.2], 6),
        (3, [0.5, 1.0, 0.2], 6),
        (5, [0.5, 0.0, 0.2, 3.0, 1.0], 6),
    ],
)
def test_derivatives_agree_with_central_differences(
    n_logits: int, nugget: list[float], top: int
) -> None:
    y, x = draw(n_logits, 5, top, 7)
    variance, weight = np.array(nugget), weights(5, n_logits)
    spots = QuadratureNugget(y)
    terms = spots.evaluate(x, variance)
    third = spots.derivatives(terms, weight)
    for k in range(n_logits):
        value, score, phi = differences(spots, x, variance, weight, k, in_x=True)
        close(terms.score[:, k].sum(), value, 1e-6)
        close(-terms.neg_hessian[:, :, k], score, 1e-6)
        close(third.phi_x[:, k], phi, 1e-6)
        if variance[k] > 0.0:
            value, score, phi = differences(spots, x, variance, weight, k, in_x=False)
            close(third.value_nugget[:, k].sum(), value, 1e-6)
            close(third.score_nugget[:, :, k], score, 1e-6)
            close(third.phi_nugget[:, k], phi, 1e-6)


def close(found: FloatArray, expected: FloatArray, tolerance: float) -> None:
    """Relative to the largest entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("n_logits", [1, 2, 3])
def test_derivatives_in_the_nugget_at_zero_are_limits(n_logits: int) -> None:
    y, x = draw(n_logits, 6, 5, 8)
    spots, weight = QuadratureNugget(y), weights(6, n_logits)
    flat = spots.derivatives(spots.evaluate(x, np.zeros(n_logits)), weight)
    tiny = spots.evaluate(x, np.full(n_logits, 1e-9))
    near = spots.derivatives(tiny, weight)
    np.testing.assert_allclose(flat.phi_x, near.phi_x, atol=1e-6)
    np.testing.assert_allclose(flat.phi_nugget, near.phi_nugget, atol=3e-5)
    np.testing.assert_allclose(flat.value_nugget, near.value_nugget, atol=1e-6)
    np.testing.assert_allclose(flat.score_nugget, near.score_nugget, atol=1e-6)


@pytest.mark.parametrize(("n_logits", "sigma"), list(product([1, 2, 3, 4], [0.1, 1.0, 6.0])))
def test_it_is_concave(n_logits: int, sigma: float) -> None:
    y, x = draw(n_logits, 25, 8, 9)
    terms = QuadratureNugget(y).evaluate(x, np.full(n_logits, sigma**2))
    smallest = np.linalg.eigvalsh(terms.neg_hessian)[:, 0]
    assert smallest.min() > -1e-9
    assert np.abs(terms.neg_hessian - terms.neg_hessian.swapaxes(1, 2)).max() < 1e-12


@pytest.mark.parametrize("n_logits", [1, 2, 4])
@pytest.mark.parametrize("sigma", [1e-3, 0.05, 1.0, 4.0, 20.0])
def test_error_stays_small_for_every_total_and_sigma(n_logits: int, sigma: float) -> None:
    rng = np.random.default_rng(10)
    totals = [1, 3, 30, 1000, 1_000_000]
    ratio = rng.dirichlet(np.ones(n_logits + 1), len(totals))
    y = np.stack([rng.multinomial(m, p) for m, p in zip(totals, ratio, strict=True)]).astype(float)
    x = rng.normal(0.0, 2.0, (len(totals), n_logits))
    assert QuadratureNugget(y).error(x, np.full(n_logits, sigma**2)) < 1e-8 * len(totals)


def test_error_estimate_is_the_error() -> None:
    y, x = draw(1, 10, 3, 11)
    nugget = np.array([9.0])
    truth = sum(brute(y[s], x[s], nugget, 4001) for s in range(10))
    for nodes in (5, 9, 15):
        spots = QuadratureNugget(y, nodes=nodes)
        error, actual = spots.error(x, nugget), abs(spots.evaluate(x, nugget).value - truth)
        assert 0.3 * actual < error
        assert actual > 1e-7  # so few nodes do err
    assert QuadratureNugget(y).error(x, nugget) < 1e-8


@pytest.mark.parametrize(
    ("n_logits", "nodes", "tolerance"),
    [(1, 15, 1e-6), (1, 16, 1e-6), (2, 14, 1e-5), (2, 15, 1e-5), (3, 15, 1e-2), (3, 31, 3e-4)],
)
def test_fixed_nodes_are_good_where_the_posterior_is_nearly_gaussian(
    n_logits: int, nodes: int, tolerance: float
) -> None:
    y, x = draw(n_logits, 10, 5, 12)
    nugget = np.full(n_logits, 0.2)
    fixed, auto = QuadratureNugget(y, nodes=nodes), QuadratureNugget(y)
    assert abs(fixed.evaluate(x, nugget).value - auto.evaluate(x, nugget).value) < tolerance
    assert fixed.error(x, nugget) > auto.error(x, nugget)


@pytest.mark.parametrize("n_logits", [2, 3])
def test_isoforms_may_be_permuted(n_logits: int) -> None:
    y, x = draw(n_logits, 10, 6, 13)
    nugget, weight = np.array([0.3, 2.0, 0.9])[:n_logits], weights(10, n_logits)
    order = np.roll(np.arange(n_logits), 1)
    spots = QuadratureNugget(y)
    turned = QuadratureNugget(y[:, [*order, n_logits]])
    a, b = spots.evaluate(x, nugget), turned.evaluate(x[:, order], nugget[order])
    third = spots.derivatives(a, weight)
    other = turned.derivatives(b, weight[:, order][:, :, order])
    assert abs(a.value - b.value) < 1e-8
    np.testing.assert_allclose(a.score[:, order], b.score, atol=1e-8)
    np.testing.assert_allclose(a.neg_hessian[:, order][:, :, order], b.neg_hessian, atol=3e-8)
    np.testing.assert_allclose(third.phi_nugget[:, order], other.phi_nugget, atol=1e-6)


def test_fractional_counts_lie_between_whole_ones() -> None:
    y, x = draw(2, 10, 5, 14)
    nugget = np.array([0.6, 1.1])
    whole = QuadratureNugget(y).evaluate(x, nugget)
    nearly = QuadratureNugget(y * (1.0 + 1e-9)).evaluate(x, nugget)  # another branch of the code
    assert abs(whole.value - nearly.value) < 1e-7
    np.testing.assert_allclose(whole.score, nearly.score, atol=1e-7)


def test_calls_leave_no_trace() -> None:
    y, x = draw(2, 10, 5, 15)
    spots, nugget = QuadratureNugget(y), np.array([0.6, 1.1])
    first = spots.evaluate(x, nugget)
    spots.evaluate(x + 3.0, 9.0 * nugget)
    again = spots.evaluate(x, nugget)
    assert first.value == again.value
    np.testing.assert_array_equal(first.neg_hessian, again.neg_hessian)


def test_bad_arguments_are_named() -> None:
    y, x = draw(1, 3, 4, 18)
    with pytest.raises(
        ValueError, match="nodes: expected 'auto' or an integer from 1 to 500, got 0"
    ):
        QuadratureNugget(y, nodes=0)
    with pytest.raises(ValueError, match="counts: every spot must have a positive total"):
        QuadratureNugget(np.zeros((2, 2)))
    spots = QuadratureNugget(y)
    with pytest.raises(ValueError, match=r"nugget: expected finite variances >= 0, got \[-1.\]"):
        spots.evaluate(x, np.array([-1.0]))
    with pytest.raises(ValueError, match=r"expected shapes \(3, 1\) and \(1,\)"):
        spots.evaluate(x[:2], np.array([1.0]))
    for wrong in (np.nan, np.inf, -np.inf):
        x[1, 0] = wrong
        with pytest.raises(ValueError, match=r"x: expected finite logits, got \[.*\] at spot 1"):
            spots.evaluate(x, np.array([1.0]))


@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
def test_every_finite_logit_and_nugget_gives_finite_terms(n_logits: int) -> None:
    rng = np.random.default_rng(19)
    for k in range(150):
        total = np.floor(10.0 ** rng.uniform(0.0, 6.0)) if k % 2 else rng.integers(1, 9)
        y = rng.multinomial(total, rng.dirichlet(np.full(n_logits + 1, 0.3)), 2).astype(float)
        y *= 0.37 if k % 7 == 0 else 1.0
        x = rng.choice([-1.0, 1.0], y[:, 1:].shape) * 10.0 ** rng.uniform(0.0, 8.0, y[:, 1:].shape)
        nugget = 10.0 ** rng.uniform(-9.0, 3.5, n_logits) * (rng.uniform(size=n_logits) < 0.9)
        spots = QuadratureNugget(y)
        terms = spots.evaluate(x, nugget)
        third = spots.derivatives(terms, weights(2, n_logits))
        found = [np.array(terms.value), terms.score, terms.neg_hessian, *vars(third).values()]
        assert all(np.isfinite(part).all() for part in found)
        assert (np.abs(terms.score) <= total * (1.0 + 1e-6)).all()


@pytest.mark.parametrize("far", [1e3, 1e5, 1e8])
@pytest.mark.parametrize("nugget", [0.0, 1e-9, 0.3, 9.0])
def test_far_from_the_wall_the_logarithm_is_linear(far: float, nugget: float) -> None:
    y = np.array([[3.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.6, 2.0]])  # an isoform drops out
    for x, left in ((-far, y[:, 0]), (far, -y[:, 1])):
        terms = QuadratureNugget(y).evaluate(np.full((4, 1), x), np.array([nugget]))
        np.testing.assert_allclose(terms.value, (left * x + 0.5 * left**2 * nugget).sum(), 1e-13)
        np.testing.assert_allclose(terms.score[:, 0], left, rtol=1e-12, atol=1e-12)
        assert (np.abs(terms.neg_hessian) < 1e-12).all()


@pytest.mark.parametrize(
    ("y", "x", "nugget"),
    [
        ([0.0, 30728.5], 2.992978746957995, 0.0008590898235895279),
        ([204469.0, 0.0], -2.700096073633255, 0.0032756291859670325),
    ],
)
def test_a_mode_where_newtons_steps_circle_is_found(
    y: list[float], x: float, nugget: float
) -> None:
    counts, at = np.array([y]), np.array([[x]])
    width = 60_000.0 * np.sqrt(nugget)
    e = np.linspace(-width, width, 2_400_001) * 1e-2  # the mode lies many prior sd away
    log = y[0] * (x + e) - sum(y) * np.logaddexp(0.0, x + e) - 0.5 * e * e / nugget
    truth = logsumexp(log) + np.log((e[1] - e[0]) / np.sqrt(2.0 * np.pi * nugget))
    assert abs(QuadratureNugget(counts).evaluate(at, np.array([nugget])).value / truth - 1) < 1e-12


@pytest.mark.parametrize("nugget", [25.0, 100.0, 400.0, 1000.0, 2231.0, 2500.0])
@pytest.mark.parametrize("y", [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 5.0], [20.0, 3.0]])
def test_wide_nuggets_far_from_the_wall(y: list[float], nugget: float) -> None:
    counts, variance = np.array([y]), np.array([nugget])
    for x in (-100.0, -30.0, -3.0, 10.0, 30.0, 100.0):
        spots, at = QuadratureNugget(counts), np.array([[x]])
        terms = spots.evaluate(at, variance)
        assert abs(terms.value - brute(counts[0], at[0], variance, 40_001, 40.0)) < 1e-9
        assert spots.error(at, variance) < 1e-9
        values = [spots.evaluate(at + j * 0.01, variance) for j in (-2, -1, 1, 2)]
        v, s = np.array([t.value for t in values]), np.array([t.score[0, 0] for t in values])
        difference = [(8.0 * (f[2] - f[1]) - (f[3] - f[0])) / 0.12 for f in (v, s)]
        assert abs(terms.score[0, 0] - difference[0]) < 1e-8 * max(1.0, abs(terms.value))
        assert abs(terms.neg_hessian[0, 0, 0] + difference[1]) < 1e-8


@pytest.mark.parametrize("sigma", [0.3, 3.0, 20.0, 45.0])
@pytest.mark.parametrize("n_logits", [1, 2, 3])
def test_newtons_method_contracts_to_rounding(n_logits: int, sigma: float) -> None:
    y, x = draw(n_logits, 40, 4, 20)
    root = np.random.default_rng(21).normal(size=(40, 40))
    cov = 0.5 * sigma**2 * (0.2 * np.eye(40) + root @ root.T / 40.0)
    precision = np.kron(np.linalg.inv(cov), np.eye(n_logits))
    spots, nugget = QuadratureNugget(y), np.full(n_logits, 0.5 * sigma**2)
    w: FloatArray = np.zeros(40 * n_logits)
    step: FloatArray = np.zeros_like(w)
    decrements, before = [1.0], -np.inf
    for _ in range(60):
        terms = spots.evaluate(x + (w + step).reshape(-1, n_logits), nugget)
        value = terms.value - 0.5 * float((w + step) @ precision @ (w + step))
        if value < before - 1e-9 * abs(before):
            step *= 0.5
            continue
        w, before = w + step, value
        hessian = precision.copy()
        for s in range(40):
            here = slice(s * n_logits, (s + 1) * n_logits)
            hessian[here, here] += terms.neg_hessian[s]
        gradient = terms.score.ravel() - precision @ w
        step = np.asarray(np.linalg.solve(hessian, gradient))
        decrements.append(float(step @ gradient))
        if decrements[-1] < 1e-18:
            break
    assert decrements[-1] < 1e-18
    for last, now in pairwise(decrements):
        assert now < max(60.0 * last**2, 1e-18) or last > 1e-2


@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
def test_a_total_near_nothing_says_next_to_nothing(n_logits: int) -> None:
    """Nor does it lead out of the table, whose last cells are at logits of 950."""
    for total in (1e-9, 1e-4):
        far = np.arange(930.0, 960.0)
        x = np.column_stack([far, np.zeros((far.size, n_logits - 1))])
        y = np.zeros((far.size, n_logits + 1))
        y[:, 0], y[::2] = total, total * np.eye(n_logits + 1)[-1]
        terms = QuadratureNugget(y).evaluate(x, np.full(n_logits, 0.4))
        lost = total * far[::2].sum()  # of the odd ones, which the first isoform holds
        assert terms.value == pytest.approx(-lost, rel=1e-3)
        np.testing.assert_allclose(terms.score[::2, 0], -total, rtol=1e-6)


@pytest.mark.parametrize("n_logits", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [1.0, 1.3, 1000.0])  # by table, fractional, rich
def test_curvature_has_no_negative_eigenvalue_at_saturated_spots(
    n_logits: int, scale: float
) -> None:
    rng = np.random.default_rng(22)
    y = scale * np.eye(n_logits + 1)[rng.integers(0, n_logits + 1, 60)]
    x = rng.normal(0.0, 12.0, (60, n_logits))
    for nugget in (0.0, 0.4, 9.0, 400.0):
        a = QuadratureNugget(y).evaluate(x, np.full(n_logits, nugget)).neg_hessian
        assert np.linalg.eigvalsh(a).min() > -1e-14 * scale


@pytest.mark.parametrize(
    ("y", "x", "nugget"),
    [
        ([9.0, 0.0, 0.0], [608.13, -3.42], [307.9, 0.0]),
        ([2.22, 0.37, 0.0], [768.35, 7.24], [1455.5, 9.07]),
        ([1.11, 0.0, 0.0, 0.0], [216.64, -9.59, -88.85], [1416.8, 0.0, 0.0]),
        ([0.0, 0.0, 3.0, 0.0], [-314.8, 3.57, 277.24], [1.3, 0.0, 884.8]),
    ],
)
def test_a_star_whose_wall_is_out_of_reach(
    y: list[float], x: list[float], nugget: list[float]
) -> None:
    counts, at, variance = np.array([y]), np.array([x]), np.array(nugget)
    spots = QuadratureNugget(counts)
    points = 10_001 if (variance > 0.0).sum() == 1 else 501
    truth = brute(counts[0], at[0], variance, points, 25.0)
    assert abs(spots.evaluate(at, variance).value - truth) < 2e-9
    assert spots.error(at, variance) < 1e-8
