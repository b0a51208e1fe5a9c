import numpy as np
import pytest

from splisosm_pyro.hypotheses.many import combined, false_discovery_rates


def test_false_discovery_rates_by_hand_and_without_what_was_not_tested():
    p = np.array([0.01, np.nan, 0.02, 0.5, 0.021])
    np.testing.assert_allclose(
        false_discovery_rates(p), [0.028, np.nan, 0.028, 0.5, 0.028], rtol=1e-12
    )
    assert np.isnan(false_discovery_rates(np.full(3, np.nan))).all()


def test_combination_is_exact_for_copies_and_led_by_the_smallest():
    for p in (0.3, 1e-12, 1e-250):
        np.testing.assert_allclose(combined(np.full(4, p)), p, rtol=1e-9)
    np.testing.assert_allclose(combined(np.array([1e-30, 1.0, 0.5, np.nan])), 3e-30, rtol=1e-6)
    assert np.isnan(combined(np.array([np.nan])))


def test_independent_nulls_keep_their_level():
    p = np.random.default_rng(0).random((1000, 3))
    share = np.mean([combined(row) < 0.05 for row in p])
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("function", [false_discovery_rates, combined])
def test_a_p_outside_is_refused(function):
    with pytest.raises(ValueError, match="within 0 and 1"):
        function(np.array([0.5, 1.5]))
