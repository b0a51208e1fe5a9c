import numpy as np
import pytest
from scipy import stats

from splisosm_pyro.hypotheses.quadratic_form import QuadraticForm, quadratic_form_tail


def inverted(q, eigenvalues):
    """P(Q > q), q > 0, by Fourier inversion along a parabola through a point right of 0.

    It turns around the cut of the characteristic function, so that the integrand dies like a
    Gaussian and the factor of the tail stands before the sum.
    """
    end = 0.5 / eigenvalues.max()
    at = max(QuadraticForm.of(eigenvalues).saddlepoint(q), 0.1 * end)
    width = end - at
    u = np.linspace(-60.0, 60.0, 8_001) * width
    t = at + 1j * u + u**2 / (4 * width)
    log = -0.5 * np.log(1 - 2 * t * eigenvalues[:, None]).sum(0) - t * q
    top = log.real.max()
    total = np.trapezoid(np.exp(log - top) / t * (1j + u / (2 * width)), u)
    return float(np.exp(top) * (total / (2j * np.pi)).real)


FORMS = {
    "handful": (np.array([3.0, 1.0, 1.0, -0.5, -0.5, -1.0]), 0.11),
    "two": (np.array([1.0, 0.5]), 0.11),
    "dozens": (np.random.default_rng(0).normal(0.05, 1.0, 60), 0.11),
    "one leads": (np.append(8.0, np.linspace(-1.0, 1.0, 40)), 0.12),
}


@pytest.mark.parametrize("name", FORMS)
def test_tails_are_those_of_numerical_inversion(name):
    lam, tolerance = FORMS[name]
    sd = np.sqrt(2 * (lam**2).sum())
    q = lam.sum() + sd * np.array([0.3, 1.0, 2.0, 4.0, 10.0, 30.0])
    truth = np.array([inverted(one, lam) for one in q])
    got = quadratic_form_tail(q, lam)
    np.testing.assert_allclose(got, truth, rtol=tolerance)
    assert np.all(np.abs(got[:3] / truth[:3] - 1) < 0.045)


def test_the_inversion_is_right_where_there_is_a_closed_form():
    q = np.array([0.5, 3.0, 200.0])
    truth = stats.chi2.sf(q / 2.0, 5)
    got = [inverted(one, np.full(5, 2.0)) for one in q]
    np.testing.assert_allclose(got, truth, rtol=1e-9)


def test_equal_eigenvalues_are_exact_far_out_and_of_either_sign():
    q = np.array([[0.1, 4.0], [30.0, 1370.0]])
    np.testing.assert_allclose(quadratic_form_tail(q, np.ones(1)), stats.chi2.sf(q, 1), rtol=1e-12)
    negative = quadratic_form_tail(-q, np.full(3, -2.0))
    np.testing.assert_allclose(negative, stats.chi2.cdf(q / 2.0, 3), rtol=1e-12)


def test_tails_reach_1e300():
    far = quadratic_form_tail(1370.0, np.array([1.0, 0.5]))
    assert abs(np.log10(far / inverted(1370.0, np.array([1.0, 0.5])))) < 0.1


def test_the_mean_is_no_special_point():
    lam = np.random.default_rng(1).normal(0.1, 1.0, 40)
    steps = np.array([-1e-2, -1e-3, -1e-5, -1e-9, 0.0, 1e-9, 1e-5, 1e-3, 1e-2])
    tails = quadratic_form_tail(lam.sum() + steps, lam)
    assert np.all(np.diff(tails) < 1e-7)
    slope = (tails[-1] - tails[0]) / (steps[-1] - steps[0])
    np.testing.assert_allclose(tails, tails[4] + slope * steps, atol=2e-6)


def test_a_form_of_one_sign_has_an_end():
    both = np.array([-3.0, 0.0, 2.0])
    assert quadratic_form_tail(both, np.array([1.0, 2.0]))[:2].tolist() == [1.0, 1.0]
    assert quadratic_form_tail(both, np.array([-1.0, -2.0]))[1:].tolist() == [0.0, 0.0]


def test_a_form_and_its_mirror_image_share_the_whole():
    lam = np.array([1.0, 0.4, -0.7, -0.3, 0.2])
    q = np.linspace(-4, 5, 7)
    both = quadratic_form_tail(q, lam) + quadratic_form_tail(-q, -lam)
    np.testing.assert_allclose(both, 1.0, atol=1e-9)


def test_weights_stand_for_repeated_eigenvalues_and_a_shift_moves_all():
    lam, weights, q = np.array([1.0, -0.5]), np.array([3.0, 2.0]), np.array([-1.0, 2.0, 9.0])
    form = QuadraticForm(lam, weights, 0.7)
    repeated = np.repeat(lam, [3, 2])
    np.testing.assert_allclose(form.tail(q + 0.7), quadratic_form_tail(q, repeated), rtol=1e-9)
    moments = [form.mean - 0.7, form.variance, form.third_cumulant]
    truth = [repeated.sum(), 2 * (repeated**2).sum(), 8 * (repeated**3).sum()]
    np.testing.assert_allclose(moments, truth, rtol=1e-12)


@pytest.mark.parametrize(
    ("q", "lam", "words"),
    [(np.nan, [1.0], "finite"), (1.0, [np.inf], "finite"), (1.0, [0.0, 0.0], "not all be zero")],
)
def test_what_is_no_form_is_said(q, lam, words):
    with pytest.raises(ValueError, match=words):
        quadratic_form_tail(q, np.array(lam))
