"""First-order ascent on functions whose maximum is known."""

import numpy as np
import pytest

from splisosm_pyro.fit.options import GLMOptions
from splisosm_pyro.fit.search.first_order import LBFGS, Point, ascend

OPTIMS = ("adam", "sgd", "lbfgs")


def options(optim, **more):
    return GLMOptions.from_configs("gd", {"optim": optim, **more})


def quadratic(curvature, centre):
    def objective(at):
        gap = at - centre
        return -0.5 * float(gap @ curvature @ gap), -curvature @ gap

    return objective


@pytest.fixture
def hill():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(4, 4))
    return quadratic(root @ root.T + np.eye(4), np.array([1.0, -2.0, 0.5, 3.0]))


@pytest.mark.parametrize("optim", OPTIMS)
def test_reaches_the_maximum_of_a_quadratic(hill, optim):
    result = ascend(hill, np.zeros(4), options(optim))
    assert result.stopped
    np.testing.assert_allclose(result.best.at, [1.0, -2.0, 0.5, 3.0], atol=2e-5)
    assert result.best.value > -1e-9


@pytest.mark.parametrize("optim", OPTIMS)
def test_records_every_epoch_and_returns_the_best(hill, optim):
    result = ascend(hill, np.zeros(4), options(optim, max_epochs=9, patience=9))
    assert result.values.shape == (9,)
    assert result.path.shape == (9, 4)
    assert not result.stopped
    assert result.best.value == max(hill(np.zeros(4))[0], result.values.max())
    np.testing.assert_allclose([hill(at)[0] for at in result.path], result.values, rtol=1e-14)


@pytest.mark.parametrize("optim", ["sgd", "lbfgs"])
def test_never_falls(optim):
    def banana(at):
        x, y = at
        value = -((1 - x) ** 2) - 10 * (y - x**2) ** 2
        return value, np.array([2 * (1 - x) + 40 * x * (y - x**2), -20 * (y - x**2)])

    result = ascend(banana, np.array([-1.0, 1.5]), options(optim, lr=5.0))
    assert (np.diff(result.values) >= 0).all()
    np.testing.assert_allclose(result.best.at, [1.0, 1.0], atol=1e-3)


def test_the_step_length_that_is_given_is_taken():
    hill = quadratic(np.eye(1), np.array([100.0]))
    first = {lr: ascend(hill, np.zeros(1), options("adam", lr=lr)).path[0, 0] for lr in (0.1, 0.7)}
    assert first == pytest.approx({0.1: 0.1, 0.7: 0.7})
    assert ascend(hill, np.zeros(1), options("sgd", lr=0.25)).path[0, 0] == pytest.approx(25.0)


def test_curvature_makes_the_first_step_exact_on_a_diagonal_quadratic():
    curvature = np.array([1e-3, 1.0, 1e6])
    hill = quadratic(np.diag(curvature), np.array([2.0, -1.0, 0.5]))
    for optim in ("sgd", "lbfgs"):
        result = ascend(hill, np.zeros(3), options(optim, max_epochs=1), curvature)
        np.testing.assert_allclose(result.best.at, [2.0, -1.0, 0.5], rtol=1e-12)


def test_relative_tolerance_stops_earlier_on_a_large_objective():
    base = quadratic(np.diag([1.0, 30.0]), np.array([3.0, -3.0]))

    def large(at):
        value, gradient = base(at)
        return value - 1e4, gradient

    absolute = ascend(large, np.zeros(2), options("sgd", tol=1e-4))
    relative = ascend(large, np.zeros(2), options("sgd", tol=1e-4, tol_relative=True))
    assert len(relative.values) < len(absolute.values)


def test_patience_counts_epochs_without_improvement():
    flat = quadratic(np.eye(1), np.zeros(1))
    for patience in (1, 6):
        result = ascend(flat, np.zeros(1), options("sgd", patience=patience))
        assert len(result.values) == patience


@pytest.mark.parametrize("optim", OPTIMS)
def test_steps_into_illegal_points_are_taken_back(optim):
    def log_barrier(at):  # maximum at 2, undefined below 0
        x = at[0]
        if x <= 0:
            return np.nan, np.array([np.nan])
        return float(2 * np.log(x) - x), np.array([2 / x - 1])

    result = ascend(log_barrier, np.array([0.05]), options(optim, lr=0.5))
    assert np.isfinite(result.best.value)
    assert result.best.at[0] == pytest.approx(2.0, abs=1e-4)


def test_a_start_without_a_value_is_an_error():
    with pytest.raises(ValueError, match="not finite at the start"):
        ascend(lambda at: (np.nan, at), np.zeros(2), options("lbfgs"))


def test_lbfgs_direction_solves_a_quadratic_once_it_has_seen_all_directions(hill):
    stepper = LBFGS(1.0, np.ones(4))
    point = Point.evaluate(hill, np.zeros(4))
    for _ in range(25):
        point = stepper.step(hill, point)
    fresh = Point.evaluate(hill, point.at + 0.01)
    newton = np.array([1.0, -2.0, 0.5, 3.0]) - fresh.at
    direction = stepper.direction(fresh.gradient)
    assert direction @ newton > 0.8 * np.linalg.norm(direction) * np.linalg.norm(newton)
