"""The outer search on objectives whose maximum is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.fit.search.quasi_newton import (
    Box,
    best_start,
    differenced_hessian,
    maximise,
    search,
)

OPTIMS = ("lbfgs", "adam", "sgd")


@dataclass
class Boxed:
    """A search space that is a box and nothing else."""

    lower: np.ndarray
    upper: np.ndarray
    reach: float = 3.0

    def box(self):
        ones = np.ones_like(self.lower)
        return Box(self.lower, self.upper, 2.5 * ones, -self.reach * ones, self.reach * ones)


class Toy:
    """An objective made of a value and a gradient; counts how often it is asked."""

    def __init__(self, value, gradient, size, bound=50.0, reach=1e9):
        self.function, self.slope = value, gradient
        self.space = Boxed(np.full(size, -bound), np.full(size, bound), reach)
        self.values = self.gradients = 0

    def value(self, u, near):
        self.values += 1
        return float(self.function(u)), None

    def gradient(self, u, state):
        self.gradients += 1
        self.here = u
        return self.slope(u), state

    def information(self, at):
        return np.eye(at.u.size)


class Stateful(Toy):
    """Remembers the point with the state, as the gradient has nothing else to go by."""

    def value(self, u, near):
        self.values += 1
        return float(self.function(u)), u.copy()

    def gradient(self, u, state):
        np.testing.assert_array_equal(u, state)
        return self.slope(u), state


def options(optim="lbfgs", method="marginal_gd", **more):
    return GLMMOptions.from_configs(method, {"optim": optim, **more})


def quadratic(size=4, seed=1, scale=1.0, **more):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    curvature, centre = root @ root.T + np.eye(size), scale * rng.normal(size=size)
    toy = Stateful(
        lambda u: -0.5 * (u - centre) @ curvature @ (u - centre),
        lambda u: -curvature @ (u - centre),
        size,
        **more,
    )
    return toy, curvature, centre


def climb(toy, start, **more):
    return search(toy, best_start(toy, [np.asarray(start, dtype=float)]), options(**more))


def test_a_large_value_is_not_searched_below_its_rounding():
    centre, level = np.array([1.3, -0.4, 0.8, 2.1]), 1e6

    def value(u):
        noise = np.sin(1e13 * u.sum()) - 1.0
        return -np.log(np.cosh(u - centre)).sum() - level + 5e-14 * level * noise

    toy = Stateful(value, lambda u: -np.tanh(u - centre), 4)
    result = climb(toy, np.zeros(4))
    assert result.converged
    assert toy.values < 15
    np.testing.assert_allclose(result.best.u, centre, atol=1e-3)  # 1e-7 nats


# ---- inside


@pytest.mark.parametrize("optim", OPTIMS)
def test_all_optimisers_end_at_the_maximum_of_a_quadratic(optim):
    toy, _, centre = quadratic()
    result = climb(toy, np.zeros(4), optim=optim)
    assert result.converged
    assert not result.exhausted
    assert not result.at_bound.any()
    assert result.best.value > -1e-6
    np.testing.assert_allclose(result.best.u, centre, atol=1e-3)
    assert result.path[0] == toy.function(np.zeros(4))
    assert max(result.path) == pytest.approx(result.best.value, abs=1e-12)


def test_newton_steps_solve_a_quadratic_at_once():
    toy, _, centre = quadratic()
    result = climb(toy, np.zeros(4), method="joint_newton")
    np.testing.assert_allclose(result.best.u, centre, atol=1e-9)
    assert len(result.path) <= 4


def test_a_good_first_curvature_saves_epochs():
    epochs = []
    for good in (True, False):
        toy, curvature, _ = quadratic(size=6)
        if good:
            toy.information = lambda at, curvature=curvature: curvature
        result = climb(toy, np.zeros(6))
        assert result.best.value > -1e-9
        epochs.append(len(result.path))
    assert epochs[0] <= 3 < epochs[1]


def well(u):
    """Two maxima along x, at +1 and -1, the first the higher; curved up between them."""
    x, y = u
    return -((x**2 - 1) ** 2) + 0.2 * x - (y - 0.5 * x) ** 2


def well_slope(u):
    x, y = u
    return np.array([-4 * x * (x**2 - 1) + 0.2 + (y - 0.5 * x), -2 * (y - 0.5 * x)])


@pytest.mark.parametrize("method", ["marginal_gd", "joint_newton"])
@pytest.mark.parametrize("optim", OPTIMS)
def test_where_it_is_not_concave_it_climbs_all_the_same(optim, method):
    toy = Stateful(well, well_slope, 2)
    result = climb(toy, [0.05, -1.0], optim=optim, method=method)
    assert result.converged
    assert np.abs(result.best.gradient).max() < 1e-2
    assert abs(result.best.u[0]) > 0.9  # at a maximum, not at the saddle between
    hessian, _ = differenced_hessian(toy, result.best, result.at_bound)
    assert np.linalg.eigvalsh(hessian)[0] > 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("optim", OPTIMS)
def test_it_never_ends_below_its_start(optim, seed):
    """Whatever the gradient says: here it points anywhere."""
    rng = np.random.default_rng(seed)
    toy = Stateful(lambda u: np.sin(5 * u).sum() - 0.1 * u @ u, lambda u: rng.normal(size=3), 3)
    start = rng.normal(size=3)
    result = climb(toy, start, optim=optim, max_epochs=30)
    assert result.best.value >= toy.function(start)
    assert result.best.value == toy.function(result.best.u)
    if optim == "lbfgs":
        assert (np.diff(result.path) >= 0).all()


def test_a_wrong_gradient_is_not_called_convergence():
    toy, curvature, centre = quadratic()
    toy.slope = lambda u: curvature @ (u - centre)  # downhill
    result = climb(toy, np.zeros(4))
    assert not result.converged
    assert not result.exhausted


def test_values_that_are_not_numbers_are_steps_too_far():
    def value(u):
        return 2 * np.log(u[0]) - u[0] if u[0] > 0 else np.nan

    toy = Stateful(value, lambda u: np.array([2 / u[0] - 1]), 1)
    result = climb(toy, [0.05])
    assert result.converged
    assert result.best.u[0] == pytest.approx(2.0, abs=1e-4)


# ---- at the bounds


@pytest.mark.parametrize("method", ["marginal_gd", "joint_newton"])
@pytest.mark.parametrize("optim", OPTIMS)
def test_a_bound_is_reached_and_certified(optim, method):
    """The maximum over the box of a quadratic with its centre outside, by brute active sets."""
    toy, curvature, centre = quadratic(scale=3.0, bound=1.0)
    result = climb(toy, np.zeros(4), optim=optim, method=method)
    u, gradient = result.best.u, result.best.gradient
    assert result.converged
    assert (np.abs(u) <= 1.0).all()
    assert result.at_bound.any()
    np.testing.assert_array_equal(np.abs(u[result.at_bound]), 1.0)
    assert (gradient[result.at_bound] * u[result.at_bound] >= 0).all()
    free = ~result.at_bound
    rest = np.linalg.solve(
        curvature[np.ix_(free, free)],
        -curvature[np.ix_(free, ~free)] @ (u - centre)[~free],
    )
    np.testing.assert_allclose(u[free], centre[free] + rest, atol=2e-3)
    best = toy.function(np.where(free, 0, u) + np.where(free, 1, 0) * u)
    for trial in np.random.default_rng(0).uniform(-1, 1, size=(2000, 4)):
        assert toy.function(trial) <= best + 1e-6


def flattening(sign):
    """Rises for ever in the first coordinate, ever more slowly, as theta does towards its ends."""

    def value(u):
        return 1 / (1 + np.exp(-sign * u[0])) - (u[1] - 0.3) ** 2

    def slope(u):
        p = 1 / (1 + np.exp(-sign * u[0]))
        return np.array([sign * p * (1 - p), -2 * (u[1] - 0.3)])

    return Stateful(value, slope, 2, bound=15.0, reach=3.0)


@pytest.mark.parametrize("optim", OPTIMS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_coordinate_on_its_way_to_a_bound_is_tried_there(sign, optim):
    result = climb(flattening(sign), [0.0, 0.0], optim=optim)
    assert result.converged
    assert result.best.u[0] == 15.0 * sign
    assert result.best.u[1] == pytest.approx(0.3, abs=1e-3)
    np.testing.assert_array_equal(result.at_bound, [True, False])
    if optim == "lbfgs":
        assert len(result.path) < 15


def test_a_maximum_beyond_the_place_of_trial_is_not_lost_to_the_bound():
    """Past the place where bounds are tried, but with its maximum before the bound."""
    toy = Stateful(
        lambda u: -0.5 * (u[0] - 7.0) ** 2,
        lambda u: np.array([7.0 - u[0]]),
        1,
        bound=15.0,
        reach=3.0,
    )
    result = climb(toy, [0.0])
    assert result.best.u[0] == pytest.approx(7.0, abs=1e-4)
    assert not result.at_bound.any()


def test_a_start_at_the_wrong_bound_leaves_it():
    toy, _, centre = quadratic(bound=15.0)
    result = climb(toy, np.full(4, 15.0))
    np.testing.assert_allclose(result.best.u, centre, atol=1e-4)
    assert not result.at_bound.any()


# ---- when it stops


@pytest.mark.parametrize("optim", OPTIMS)
def test_max_epochs_exhausts(optim):
    toy, _, _ = quadratic(size=6, scale=5.0)
    result = climb(toy, np.zeros(6), optim=optim, max_epochs=2)
    assert result.exhausted
    assert not result.converged
    assert len(result.path) == 3  # the start and two epochs
    assert result.best.value >= toy.function(np.zeros(6))


def test_tolerance_and_patience():
    lengths = {}
    for tol, patience in ((1e-1, 1), (1e-10, 1), (1e-10, 2)):
        toy, _, _ = quadratic(size=6, scale=5.0)
        lengths[tol, patience] = len(climb(toy, np.zeros(6), tol=tol, patience=patience).path)
    assert lengths[1e-1, 1] < lengths[1e-10, 1] < lengths[1e-10, 2]


def test_a_relative_tolerance_is_measured_by_the_value():
    lengths = []
    for relative in (False, True):
        toy, _, _ = quadratic(size=6, scale=5.0)
        base = toy.function
        toy.function = lambda u, base=base: base(u) - 1e6
        result = climb(toy, np.zeros(6), tol=1e-6, tol_relative=relative)
        lengths.append(len(result.path))
    assert lengths[1] < lengths[0]


def test_the_start_may_be_the_maximum():
    toy, _, centre = quadratic()
    result = climb(toy, centre)
    assert result.converged
    assert len(result.path) == 1


def test_the_trace_holds_every_epoch():
    for optim in OPTIMS:
        toy, _, _ = quadratic()
        first = best_start(toy, [np.zeros(4)])
        result = search(toy, first, options(optim, max_epochs=7), keep_trace=True)
        assert [at.value for at in result.trace] == result.path
        assert [toy.function(at.u) for at in result.trace] == result.path
        assert search(toy, first, options(optim, max_epochs=7)).trace == []


# ---- starts and Hessians


def test_the_best_of_the_starts_is_taken():
    toy, _, centre = quadratic()
    starts = [centre + 3.0, centre + 0.1, centre - 1.0]
    at = best_start(toy, starts)
    np.testing.assert_array_equal(at.u, starts[1])
    np.testing.assert_allclose(at.gradient, toy.slope(starts[1]))
    with pytest.raises(ValueError, match="starts must hold at least one point"):
        best_start(toy, [])


def test_the_differenced_hessian_is_that_of_a_quadratic():
    toy, curvature, _ = quadratic()
    at = best_start(toy, [np.ones(4)])
    at_bound = np.array([False, True, False, False])
    hessian, same = differenced_hessian(toy, at, at_bound)
    expected = curvature.copy()
    expected[1] = expected[:, 1] = 0.0
    np.testing.assert_allclose(hessian, expected, atol=1e-9)
    assert same is at_bound


def test_a_curvature_that_is_given_is_used_at_every_epoch():
    toy, curvature, centre = quadratic()
    asked = []

    def given(objective, at):
        asked.append(at.u)
        return curvature

    result = maximise(toy, best_start(toy, [np.zeros(4)]), given, options())
    assert len(asked) == len(result.path)
    np.testing.assert_allclose(result.best.u, centre, atol=1e-12)


def far_out(logit, size):
    """A maximum at some theta_logit; the gradient fades on both sides of it, as dtheta does."""

    def share(u):
        return 1 / (1 + np.exp(u[0]))

    def slope(u):
        gap = share(u) - 1 / (1 + np.exp(logit))
        return np.array([2 * size * gap * share(u) * (1 - share(u)), -2 * (u[1] - 0.3)])

    def value(u):
        return -size * (share(u) - 1 / (1 + np.exp(logit))) ** 2 - (u[1] - 0.3) ** 2

    return Stateful(value, slope, 2, bound=15.0, reach=3.0)


@pytest.mark.parametrize("method", ["marginal_gd", "joint_newton"])
@pytest.mark.parametrize("start", [0.0, 15.0, -15.0])
@pytest.mark.parametrize("size", [1e2, 1e5, 1e8])
@pytest.mark.parametrize("logit", [1.0, 4.0, 6.0, 8.0])
def test_a_plateau_beyond_the_maximum_is_no_end(logit, size, start, method):
    toy = far_out(logit, size)
    first = best_start(toy, [np.array([start, 0.0])])
    result = search(toy, first, options(method=method), keep_trace=True)
    assert result.converged
    assert all(abs(at.u[0]) < 15.0 for at in result.trace[1:])  # the bound is no place to be
    assert result.best.value > -1e-8
    assert not result.at_bound.any()
