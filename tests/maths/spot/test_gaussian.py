"""Spots blurred by a Gaussian of any covariance: dense sums, differences, the lattice."""

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp, roots_hermitenorm

from splisosm_pyro.maths.spot.gaussian import (
    LATTICE,
    blur_spots,
    coarser,
    log_counts_density,
    sampled_spots,
    standard_points,
)
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.quadrature.lattice import integrate
from splisosm_pyro.maths.spot.quadrature.line import AUTO, fixed_rule
from splisosm_pyro.maths.spot.quadrature.plane import plane, plane_mode, plane_sums, plane_value
from splisosm_pyro.maths.spot.quadrature.wide_plane import wide

FINE = (0.5, 0.7, 35.0, 0)


def log_lik(eta, y):
    """Multinomial log-likelihood without its coefficient; eta (*, Q)."""
    full = np.concatenate([eta, np.zeros((*eta.shape[:-1], 1))], axis=-1)
    return full @ y - y.sum() * logsumexp(full, axis=-1)


def dense_sum(y, x, cov, points, reach=10.0):
    """Value, mean score and minus the second derivative by a plain lattice of the prior."""
    n_logits, z = x.size, np.linspace(-reach, reach, points)
    grid = np.stack(np.meshgrid(*[z] * n_logits, indexing="ij"), axis=-1).reshape(-1, n_logits)
    values, vectors = np.linalg.eigh(cov)
    eta = x + grid @ (vectors * np.sqrt(values)).T
    log = log_lik(eta, y) - 0.5 * (grid**2).sum(1)
    value = logsumexp(log) + n_logits * np.log((z[1] - z[0]) / np.sqrt(2.0 * np.pi))
    weight = np.exp(log - logsumexp(log))
    full = np.concatenate([eta, np.zeros((len(eta), 1))], axis=1)
    pi = np.exp(full - logsumexp(full, axis=1, keepdims=True))[:, :-1]
    score = y[:-1] - y.sum() * pi
    info = y.sum() * (np.diag(weight @ pi) - (weight[:, None] * pi).T @ pi)
    off = score - weight @ score
    return value, weight @ score, info - (weight[:, None] * off).T @ off


def draw(n_logits, totals, sigma, seed=0):
    """Counts, means and full covariances of mean variance sigma^2."""
    rng = np.random.default_rng(seed)
    ratios = rng.dirichlet(np.ones(n_logits + 1), len(totals))
    y = np.array([rng.multinomial(m, p) for m, p in zip(totals, ratios, strict=True)], float)
    root = rng.normal(size=(len(totals), n_logits, n_logits))
    cov = root @ root.swapaxes(1, 2)
    cov *= (sigma**2 * n_logits / np.trace(cov, axis1=1, axis2=2))[:, None, None]
    return y, rng.normal(size=(len(totals), n_logits)), cov


@pytest.mark.parametrize(
    ("n_logits", "sigma", "points", "tolerance"),
    [
        (2, 0.3, 101, 2e-8),
        (2, 1.0, 151, 2e-8),
        (2, 2.5, 301, 1e-7),
        (2, 9.0, 901, 1e-7),  # mostly a product of lines
        (3, 0.5, 45, 1e-6),
    ],
)
def test_coupled_logits_agree_with_a_dense_sum(n_logits, sigma, points, tolerance):
    y, x, cov = draw(n_logits, (1, 2, 6, 15), sigma)
    y[0] *= 0.75  # fractions take no powers
    value, score, neg_hessian = blur_spots(y, x, cov, AUTO)
    for s in range(len(y)):
        truth = dense_sum(y[s], x[s], cov[s], points)
        assert value[s] == pytest.approx(truth[0], abs=tolerance)
        np.testing.assert_allclose(score[s], truth[1], atol=tolerance)
        np.testing.assert_allclose(neg_hessian[s], truth[2], atol=5 * tolerance)


@pytest.mark.parametrize("total", [1, 3, 40, 10**6])
@pytest.mark.parametrize("sigma", [1e-3, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("n_logits", [1, 2])
def test_a_diagonal_covariance_is_the_nugget(n_logits, sigma, total):
    y, x, _ = draw(n_logits, (total, total, total), 1.0, seed=1)
    y[0] = np.eye(n_logits + 1)[0] * total
    nugget = sigma**2 * np.linspace(1.0, 0.6, n_logits)
    cov = np.broadcast_to(np.diag(nugget), (3, n_logits, n_logits))
    value, score, neg_hessian = blur_spots(y, x, cov, AUTO)
    terms = QuadratureNugget(y).evaluate(x, nugget)
    assert value.sum() == pytest.approx(terms.value, abs=1e-7, rel=1e-12)
    np.testing.assert_allclose(score, terms.score, atol=1e-7, rtol=1e-7)
    scale = np.abs(terms.neg_hessian).max()
    np.testing.assert_allclose(neg_hessian, terms.neg_hessian, atol=5e-8 + 1e-6 * scale)


@pytest.mark.parametrize("error", [1e-5, 1e-7])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 15.0])
@pytest.mark.parametrize("n_logits", [1, 2, 3])
def test_fewer_nodes_stay_near_the_error_asked_for(n_logits, sigma, error):
    y, x, cov = draw(n_logits, (1, 2, 5, 14, 60, 200), min(sigma, 3.0) if n_logits > 2 else sigma)
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    strong = np.full((n_logits, n_logits), 0.995) + 0.005 * np.eye(n_logits)
    cov[1::2] = (strong * sd[:, :, None] * sd[:, None])[1::2]
    fine, rough = (blur_spots(y, x, cov, AUTO, off) for off in (0.0, error))
    off = np.abs(rough[0] - fine[0]).max()
    assert 0.02 * error < off < max(2.0 * n_logits * error, 2e-6)
    np.testing.assert_allclose(sd * rough[1], sd * fine[1], atol=20.0 * error + 1e-6)
    both = sd[:, :, None] * sd[:, None]
    np.testing.assert_allclose(both * rough[2], both * fine[2], atol=2e-2 if sigma > 3 else 2e-3)


@pytest.mark.parametrize("sigma", [0.5, 15.0])
@pytest.mark.parametrize("n_logits", [1, 2])
def test_the_error_of_fewer_nodes_hardly_changes_along_a_path(n_logits, sigma):
    y, x, cov = draw(n_logits, (1, 2, 9, 40), sigma)
    path = [(y, x + 0.01 * k, cov * np.exp(0.01 * k)) for k in range(40)]
    errors = [blur_spots(*at, AUTO, 1e-5)[0] - blur_spots(*at, AUTO)[0] for at in path]
    assert np.ptp(errors, axis=0).max() < 4e-6
    assert np.abs(np.diff(errors, n=2, axis=0)).max() < 1e-6


def test_nodes_that_are_fixed_stay_as_many():
    assert coarser(fixed_rule(9), 1e-5) == fixed_rule(9)
    assert coarser((1.5, 2.0, 9.0, 0), 1e-5) == (1.5, 2.0, 9.0, 0)


def test_a_gaussian_mean_joins_the_nugget():
    y, x, _ = draw(1, (1, 2, 5), 1.0)
    z, weight = roots_hermitenorm(60)
    nodes = (x + 1.3 * z).reshape(-1, 1)
    spots = QuadratureNugget(np.repeat(y, 60, axis=0))
    each = spots.blurred(nodes, np.full((180, 1, 1), 0.7))[0].reshape(3, 60)
    expected = logsumexp(each + np.log(weight / weight.sum()), axis=1)
    value, _, _ = blur_spots(y, x, np.full((3, 1, 1), 0.7 + 1.69), AUTO)
    np.testing.assert_allclose(value, expected, atol=1e-9)


@pytest.mark.parametrize("n_logits", [1, 2, 3, 4])
def test_derivatives_are_those_of_the_value(n_logits):
    y, x, cov = draw(n_logits, (1, 4), 1.2, seed=2)
    _, score, neg_hessian = blur_spots(y, x, cov, AUTO)
    h = 0.05  # fourth order: the lattice's own error is divided by it
    for q in range(n_logits):
        step = h * np.eye(n_logits)[q]
        sides = [blur_spots(y, x + k * step, cov, AUTO) for k in (-2, -1, 1, 2)]
        slopes = [
            (a - 8 * b + 8 * c - d) / (12 * h)
            for a, b, c, d in ([side[i] for side in sides] for i in (0, 1))
        ]
        np.testing.assert_allclose(score[:, q], slopes[0], atol=2e-5 if n_logits > 2 else 2e-6)
        np.testing.assert_allclose(-neg_hessian[:, :, q], slopes[1], atol=5e-5)
    assert (np.linalg.eigvalsh(neg_hessian) > 0).all()


@pytest.mark.parametrize("n_logits", [2, 3, 4])
def test_the_curvature_at_saturated_spots_is_positive(n_logits):
    """Where an isoform has all reads there is hardly any, and what is left is rounding."""
    total = 10.0 ** np.arange(3)
    for p in range(n_logits + 1):
        counts = total[:, None] * np.eye(n_logits + 1)[p]
        x = 40.0 * (np.eye(n_logits + 1)[p, :-1] - np.eye(n_logits)[-1]) * np.ones((3, 1))
        cov = np.multiply.outer([0.01, 0.2, 3.0], 0.9 * np.eye(n_logits) + 0.1)
        curved = blur_spots(counts, x, cov, FINE)[2]
        assert (np.linalg.eigvalsh(curved) > 0.0).all()
        if p < n_logits - 1:
            assert (curved < 1e-12 * total[:, None, None]).all()


def test_covariances_without_full_rank():
    y, x, _ = draw(2, (3, 7), 1.0, seed=3)
    info = blur_spots(y, x, np.zeros((2, 2, 2)), AUTO)
    terms = QuadratureNugget(y).evaluate(x, np.zeros(2))
    assert info[0].sum() == pytest.approx(terms.value, abs=1e-7)
    np.testing.assert_allclose(info[1], terms.score, atol=1e-7)
    np.testing.assert_allclose(info[2], terms.neg_hessian, atol=1e-7)
    way = np.array([1.0, -0.5])
    z, weight = roots_hermitenorm(80)
    log = np.array([log_lik(x[s] + z[:, None] * way, y[s]) for s in range(2)])
    expected = logsumexp(log + np.log(weight / weight.sum()), axis=1)
    value, _, _ = blur_spots(y, x, np.broadcast_to(np.outer(way, way), (2, 2, 2)), AUTO)
    np.testing.assert_allclose(value, expected, atol=1e-7)


@pytest.mark.parametrize("sigma", [8.0, 15.0, 50.0])
def test_a_product_of_lines_agrees_with_the_plane(sigma):
    y, x, cov = draw(2, (1, 2, 6, 12, 30), sigma, seed=4)
    cov[1] = sigma**2 * np.array([[1.0, -0.995], [-0.995, 1.0]])
    noise = [(c[0, 0], c[0, 1], c[1, 1]) for c in cov]
    for s in range(len(y)):
        mode = plane_mode(y[s], x[s], noise[s])
        at, sums = plane(y[s], x[s], noise[s], FINE, mode), np.empty(11)
        plane_sums(at, FINE, sums)
        results = [(np.empty(2), np.empty((2, 2))) for _ in range(2)]
        expected = plane_value(at, sums, *results[0])
        sd = float(np.hypot(at.b00, at.b01)), at.b11
        found = wide(y[s], x[s], cov[s], mode, sd, LATTICE[2][0], *results[1])
        assert found == pytest.approx(expected, abs=2e-9)
        np.testing.assert_allclose(results[1][0], results[0][0], atol=2e-8)
        np.testing.assert_allclose(results[1][1], results[0][1], atol=2e-7)


def by_lattice(y, x, cov, rule=FINE):
    """The slow twin of all rules, right for any number of isoforms and any covariance."""
    score, neg_hessian = np.empty_like(x), np.empty_like(cov)
    value = [
        integrate(y[s], x[s], cov[s], rule, 400, score[s], neg_hessian[s]) for s in range(len(y))
    ]
    return np.array(value), score, neg_hessian


TWINS = {  # number of logits, totals, sd, whether the noise is a nugget
    "line": (1, (1, 4, 30), 2.0, False),
    "plane": (2, (1, 4, 30), 1.2, False),
    "wide_plane": (2, (1, 4, 30), 8.0, False),
    "poisson_star of three": (2, (1, 4, 30), 1.2, True),
    "poisson_star of four": (3, (1, 4, 30), 1.0, True),
    "poisson_star by lines": (3, (3000, 5000), 1.0, True),
}


@pytest.mark.parametrize("rule", TWINS)
def test_the_lattice_is_the_twin_of_every_rule(rule):
    n_logits, totals, sigma, is_nugget = TWINS[rule]
    y, x, cov = draw(n_logits, totals, sigma, seed=5)
    if is_nugget:
        nugget = sigma**2 * np.linspace(1.0, 0.6, n_logits)
        cov = np.tile(np.diag(nugget), (len(y), 1, 1))
        terms = QuadratureNugget(y).evaluate(x, nugget)
        found = terms.value, terms.score, terms.neg_hessian
    else:
        value, score, neg_hessian = blur_spots(y, x, cov, AUTO)
        found = value.sum(), score, neg_hessian
    value, score, neg_hessian = by_lattice(y, x, cov)
    assert found[0] == pytest.approx(value.sum(), abs=3e-8, rel=1e-11)
    np.testing.assert_allclose(found[1], score, atol=1e-7, rtol=1e-7)
    np.testing.assert_allclose(found[2], neg_hessian, atol=1e-6, rtol=1e-6)


def test_sampled_points_come_near_the_lattice():
    y, x, cov = draw(3, (1, 3, 12, 200), 1.5, seed=6)
    expected = by_lattice(y, x, cov, (0.8, 1.1, 30.0, 0))[0]
    for n, tolerance in ((256, 6e-2), (8192, 6e-3)):
        found = sampled_spots(y, x, cov, standard_points(3, n))[0]
        np.testing.assert_allclose(found, expected, atol=tolerance)


# ---- the probability of a spot's counts


def log_coefficient(y):
    """Log multinomial coefficient of one spot, by the book."""
    return gammaln(y.sum() + 1) - gammaln(y + 1).sum()


@pytest.mark.parametrize(
    ("n_logits", "points", "tolerance"), [(1, 801, 1e-8), (2, 301, 3e-7), (3, 61, 3e-5)]
)
def test_the_density_of_counts_is_a_dense_sum(n_logits, points, tolerance):
    for sigma in (0.4, 1.5):
        y, x, cov = draw(n_logits, (1, 3, 12), sigma, seed=7)
        found = log_counts_density(y, x, cov)
        for s in range(len(y)):
            truth = dense_sum(y[s], x[s], cov[s], points, reach=8.0)[0] + log_coefficient(y[s])
            assert found[s] == pytest.approx(truth, abs=tolerance)


@pytest.mark.parametrize(("n_logits", "tolerance"), [(4, 3e-4), (5, 3e-2), (8, 5e-2)])
def test_the_density_of_many_isoforms(n_logits, tolerance):
    """Against the Poisson star, which is right to 1e-9 for any number of them."""
    y, x, _ = draw(n_logits, (1, 3, 12), 1.5, seed=8)
    nugget = 1.5**2 * np.linspace(1.0, 0.5, n_logits)
    found = log_counts_density(y, x, np.tile(np.diag(nugget), (len(y), 1, 1)))
    for s in range(len(y)):
        truth = QuadratureNugget(y[s : s + 1]).evaluate(x[s : s + 1], nugget).value
        assert found[s] == pytest.approx(truth + log_coefficient(y[s]), abs=tolerance)


@pytest.mark.parametrize(("n_logits", "tolerance"), [(1, 1e-12), (2, 2e-7), (6, 1e-12)])
def test_the_density_without_variance_is_the_multinomial(n_logits, tolerance):
    y, x, _ = draw(n_logits, (1, 5), 1.0, seed=9)
    found = log_counts_density(y, x, np.zeros((2, n_logits, n_logits)))
    truth = [log_lik(x[s], y[s]) + log_coefficient(y[s]) for s in range(2)]
    np.testing.assert_allclose(found, truth, atol=tolerance)


def test_densities_of_all_counts_sum_to_one():
    y = np.array([[a, b, 3 - a - b] for a in range(4) for b in range(4 - a)], dtype=float)
    cov = np.tile([[2.0, 0.5], [0.5, 1.0]], (len(y), 1, 1))
    assert np.exp(log_counts_density(y, np.zeros((len(y), 2)), cov)).sum() == pytest.approx(
        1.0, abs=5e-7
    )
