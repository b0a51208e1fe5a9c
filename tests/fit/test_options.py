"""The documented fitting_configs: what is legal, what wins, what the errors say."""

import numpy as np
import pytest

from splisosm_pyro.fit.options import COMMON_KEYS, GLMMOptions, GLMOptions, read_configs

GIVEN = {
    "lr": 0.3,
    "optim": "sgd",
    "tol": 1e-3,
    "tol_relative": True,
    "max_epochs": 17,
    "patience": 4,
}


@pytest.mark.parametrize(
    ("options", "method"),
    [(o, m) for o in (GLMOptions, GLMMOptions) for m in o.METHODS],
)
@pytest.mark.parametrize("key", sorted(GIVEN))
def test_a_given_value_wins_over_every_default(options, method, key):
    default = options.from_configs(method).as_configs()
    result = options.from_configs(method, {key: GIVEN[key]}).as_configs()
    assert default[key] != GIVEN[key]
    assert result[key] == GIVEN[key]


def test_configs_survive_a_round_trip():
    options = GLMMOptions.from_configs("marginal_newton", {**GIVEN, "update_nu_every_k": 3})
    assert GLMMOptions.from_configs("marginal_newton", options.as_configs()) == options


def test_defaults_of_gd_follow_the_optimiser():
    adam = GLMOptions.from_configs("gd", {"optim": "adam"})
    lbfgs = GLMOptions.from_configs("gd")
    assert (adam.lr, lbfgs.lr, lbfgs.optim) == (0.1, 1.0, "lbfgs")


def test_numpy_numbers_are_numbers():
    read = read_configs({"lr": np.float32(0.5), "max_epochs": np.int64(3)}, COMMON_KEYS)
    assert read == {"lr": 0.5, "max_epochs": 3}
    assert type(read["max_epochs"]) is int


@pytest.mark.parametrize("key", ["max_epoch", "LR", "learning_rate", "update_nu_every_k"])
def test_an_unknown_key_names_the_nearest_and_all_valid(key):
    with pytest.raises(ValueError, match="did you mean") as error:
        GLMOptions.from_configs("iwls", {key: 1})
    message = str(error.value)
    assert repr(key) in message
    assert all(repr(valid) in message for valid in GIVEN)


def test_the_nearest_key_is_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'max_epochs'"):
        read_configs({"max_epoch": 1}, COMMON_KEYS)


@pytest.mark.parametrize(
    ("configs", "kind", "words"),
    [
        ({"lr": 0.0}, ValueError, "above 0, came 0.0"),
        ({"lr": float("nan")}, ValueError, "finite number above 0"),
        ({"lr": "fast"}, TypeError, "positive number, came str"),
        ({"lr": True}, TypeError, "positive number, came bool"),
        ({"tol": -1e-3}, ValueError, "'tol'"),
        ({"tol_relative": 1}, TypeError, "True or False, came 1"),
        ({"max_epochs": -2}, ValueError, "or -1 for no limit, came -2"),
        ({"max_epochs": 1e3}, TypeError, "whole number, came 1000.0"),
        ({"patience": -2}, ValueError, "'patience'"),
        ({"optim": "adamw"}, ValueError, "'adam', 'sgd', 'lbfgs', came 'adamw'"),
        ({"optim": None}, TypeError, "'adam', 'sgd', 'lbfgs', came NoneType"),
        ([("lr", 1.0)], TypeError, "dict or None, came list"),
    ],
)
def test_illegal_values(configs, kind, words):
    with pytest.raises(kind, match=words):
        GLMOptions.from_configs("gd", configs)


def test_an_unknown_method_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"'iwls', 'newton', 'gd', came 'newon' .*'newton'"):
        GLMOptions.from_configs("newon")
    with pytest.raises(TypeError, match="fitting_method must be one of"):
        GLMMOptions.from_configs(3)
