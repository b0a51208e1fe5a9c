"""Options that cost time and change nothing else: said once for each class of models."""

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger("splisosm_pyro")

# A first-order optimiser moves the unknowns of these; Newton's steps those of the others.
FIRST_ORDER_METHODS = ("gd", "joint_gd", "marginal_gd", "marginal_newton")
# Steps shorter than this share of their length are many.
SHORT_STEP = 0.5

_said: set[str] = set()


def slow_options(method: str, given: Mapping[str, Any] | None) -> list[str]:
    """Return the options, in words, that make a fit slower than the package's own search.

    Examples
    --------
    >>> slow_options("marginal_newton", {"optim": "adam", "lr": 0.01, "patience": 5})
    ["'optim': 'adam'"]
    >>> slow_options("iwls", {"lr": 0.01}), slow_options("iwls", {"optim": "adam"})
    (["'lr': 0.01"], [])
    """
    given = given or {}
    if method in FIRST_ORDER_METHODS and given.get("optim") in ("adam", "sgd"):
        return [f"'optim': {given['optim']!r}"]
    lr = given.get("lr", 1.0)
    return [f"'lr': {lr:g}"] if lr < SHORT_STEP else []


def say_once(kind: str, method: str, given: Mapping[str, Any] | None) -> None:
    """Log one line for a class of models, the first time that its options cost time."""
    slow = slow_options(method, given)
    if not slow or kind in _said:
        return
    _said.add(kind)
    logger.warning(
        "%s: fitting_configs %s goes to the same optimum in 2 to 30 times the time of the "
        "package's own search, which runs where 'optim', 'lr' and 'patience' are left out "
        "(said once)",
        kind,
        ", ".join(slow),
    )
