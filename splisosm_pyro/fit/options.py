"""What a user may ask of a fit: the documented ``fitting_configs``, checked and typed once.

Every key is legal for every method, as documented; a value that is given always wins over the
method's default. Defaults are those that reach the optimum to rounding.
"""

import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

Validator = Callable[[str, object], Any]

NUGGETS = ("laplace", "quadrature")
SMOOTHS = ("laplace", "ep")
# With more isoforms expectation propagation costs many times as much: a lattice in 3 dimensions.
PROPAGATED_ISOFORMS = 3
# Epochs that stand for no limit: nothing that converges takes a share of them.
NO_LIMIT = 1_000_000
OPTIMISERS = ("adam", "sgd", "lbfgs")


def smooth_by_default(nugget: str, n_isos: int) -> str:
    """Return how the smooth part of a gene of P isoforms goes where nobody says.

    By expectation propagation where the nugget goes by quadrature and that is affordable, else by
    Laplace's method.

    Examples
    --------
    >>> smooth_by_default("quadrature", 3), smooth_by_default("quadrature", 4)
    ('ep', 'laplace')
    """
    return "ep" if nugget == "quadrature" and n_isos <= PROPAGATED_ISOFORMS else "laplace"


def choose(name: str, value: object, valid: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``valid``.

    Parameters
    ----------
    name : str
        What the value is for; it opens the message of the error.
    value : object
        What came.
    valid : sequence of str
        What is legal.

    Raises
    ------
    TypeError
        If ``value`` is not a string.
    ValueError
        If it is not among ``valid``; the message names them and the nearest one.

    Examples
    --------
    >>> choose("optim", "adam", OPTIMISERS)
    'adam'
    """
    listed = ", ".join(repr(v) for v in valid)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, came {type(value).__name__}")
    if value not in valid:
        raise ValueError(f"{name} must be one of {listed}, came {value!r}{_nearest(value, valid)}")
    return value


def as_names(name: str, value: object) -> tuple[str, ...]:
    """Return names as a tuple; one word is a list of one.

    Raises
    ------
    TypeError
        If they are no words.

    Examples
    --------
    >>> as_names("covariates", "region"), as_names("covariates", ["region", "age"])
    (('region',), ('region', 'age'))
    >>> as_names("covariates", [3])
    Traceback (most recent call last):
    TypeError: covariates must be names, came 3
    """
    if isinstance(value, str):
        return (str(value),)
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of names, came {value!r}")
    names = tuple(value)
    for one in names:
        if not isinstance(one, str):
            raise TypeError(f"{name} must be names, came {one!r}")
    return tuple(map(str, names))


def one_of(valid: Sequence[str]) -> Validator:
    """Return a validator of strings among ``valid``."""
    return lambda name, value: choose(name, value, valid)


def positive_float(name: str, value: object) -> float:
    """Return a finite number above zero as float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a positive number, came {type(value).__name__}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number above 0, came {number}")
    return number


def positive_int(name: str, value: object) -> int:
    """Return a whole number above zero as int."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number above 0, came {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be a whole number above 0, came {value}")
    return int(value)


def epochs(name: str, value: object) -> int:
    """Return a whole number from -1 (no limit) on as int."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, came {value!r}")
    if value < -1:
        raise ValueError(f"{name} must be a whole number, or -1 for no limit, came {value}")
    return int(value)


def auto_or_positive_int(name: str, value: object) -> int | str:
    """Return ``'auto'`` or a whole number above zero."""
    if isinstance(value, str):
        return choose(name, value, ("auto",))
    return positive_int(name, value)


def boolean(name: str, value: object) -> bool:
    """Return True or False; numbers are not taken for them."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, came {value!r}")
    return value


COMMON_KEYS: dict[str, Validator] = {
    "lr": positive_float,
    "optim": one_of(OPTIMISERS),
    "tol": positive_float,
    "tol_relative": boolean,
    "max_epochs": epochs,
    "patience": positive_int,
}


def read_configs(
    configs: Mapping[str, object] | None, allowed: Mapping[str, Validator]
) -> dict[str, Any]:
    """Check a ``fitting_configs`` dictionary, key by key.

    Parameters
    ----------
    configs : mapping or None
        What the user gave; None stands for nothing.
    allowed : mapping of name to validator
        A validator takes (name, value) and returns the value or raises.

    Returns
    -------
    dict
        The checked values of the keys that were given, and no others.

    Raises
    ------
    TypeError
        If ``configs`` is not a mapping or a value has the wrong type.
    ValueError
        If a key is unknown (the message names the nearest and all valid ones) or a value illegal.

    Examples
    --------
    >>> read_configs({"lr": 1}, COMMON_KEYS)
    {'lr': 1.0}
    >>> read_configs({"patiense": 3}, COMMON_KEYS)
    Traceback (most recent call last):
    ValueError: fitting_configs has no key 'patiense' (did you mean 'patience'?); its keys are ...
    """
    if configs is None:
        return {}
    if not isinstance(configs, Mapping):
        raise TypeError(f"fitting_configs must be a dict or None, came {type(configs).__name__}")
    for key in configs:
        if key not in allowed:
            listed = ", ".join(repr(name) for name in allowed)
            raise ValueError(
                f"fitting_configs has no key {key!r}{_nearest(str(key), list(allowed))}; "
                f"its keys are {listed}"
            )
    return {key: allowed[key](f"fitting_configs[{key!r}]", value) for key, value in configs.items()}


def _nearest(word: str, valid: Sequence[str]) -> str:
    """Hint at the nearest valid word."""
    nearest = difflib.get_close_matches(word.lower(), valid, n=1, cutoff=0.0)
    return f" (did you mean {nearest[0]!r}?)"


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options that every method has.

    Attributes
    ----------
    method : str
        The documented ``fitting_method``.
    lr : float
        First step length of a first-order method; damping factor of a Newton step.
    optim : {'adam', 'sgd', 'lbfgs'}
        The first-order optimiser, where the method uses one.
    tol : float
        An epoch that gains (or, for Newton steps, can still gain) no more than this, in nats, does
        not count as an improvement.
    tol_relative : bool
        Measure gains in units of the objective's absolute value instead of nats.
    max_epochs : int
        Most epochs of one gene, by default the more the shorter the steps that ``lr`` asks for; 0
        leaves the values of the start, -1 is no limit.
    patience : int
        A gene stops after this many epochs without improvement in a row.
    """

    method: str
    lr: float
    optim: str = "lbfgs"
    tol: float
    tol_relative: bool = False
    max_epochs: int
    patience: int

    KEYS: ClassVar[dict[str, Validator]] = COMMON_KEYS
    METHODS: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def defaults(cls, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults of a method; they may depend on what was given."""
        raise NotImplementedError

    @classmethod
    def from_configs(cls, method: str, configs: Mapping[str, object] | None = None) -> Self:
        """Translate the documented arguments.

        Parameters
        ----------
        method : str
            ``fitting_method``, one of ``METHODS``.
        configs : mapping or None
            ``fitting_configs``; what it leaves out takes the method's default.

        Raises
        ------
        TypeError, ValueError
            If the method, a key or a value is not legal.

        Examples
        --------
        >>> GLMOptions.from_configs("newton", {"max_epochs": 7}).max_epochs
        7
        """
        choose("fitting_method", method, cls.METHODS)
        given = read_configs(configs, cls.KEYS)
        return cls(method=method, **{**cls.defaults(method, given), **given})

    @property
    def most_epochs(self) -> int:
        """``max_epochs`` as a number to count up to."""
        return NO_LIMIT if self.max_epochs < 0 else self.max_epochs

    def as_configs(self) -> dict[str, Any]:
        """Return the documented dictionary with every key."""
        return {name: value for name, value in asdict(self).items() if name in self.KEYS}


def epochs_for(given: Mapping[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults with as many more epochs as the steps that were asked for are shorter.

    Examples
    --------
    >>> epochs_for({"lr": 0.01}, {"lr": 1.0, "max_epochs": 100})["max_epochs"]
    10000
    """
    shorter = max(1.0, defaults["lr"] / given.get("lr", defaults["lr"]))
    most = min(NO_LIMIT, math.ceil(defaults["max_epochs"] * shorter))
    return {**defaults, "max_epochs": most}


# Adam needs many short steps; the other two adapt their step length to what they find.
FIRST_ORDER_DEFAULTS: dict[str, dict[str, Any]] = {
    "lbfgs": {"lr": 1.0, "tol": 1e-11, "max_epochs": 2_000, "patience": 3},
    "adam": {"lr": 0.1, "tol": 1e-11, "max_epochs": 20_000, "patience": 50},
    "sgd": {"lr": 1.0, "tol": 1e-11, "max_epochs": 20_000, "patience": 50},
}


@dataclass(frozen=True, kw_only=True)
class GLMOptions(FitOptions):
    """Options of the GLM: ``'iwls'``, ``'newton'`` or ``'gd'``.

    Examples
    --------
    >>> GLMOptions.from_configs("gd", {"optim": "adam"}).lr
    0.1
    """

    METHODS: ClassVar[tuple[str, ...]] = ("iwls", "newton", "gd")

    @classmethod
    def defaults(cls, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults of a method; for ``'gd'`` they are those of its optimiser."""
        if method == "gd":
            return epochs_for(given, FIRST_ORDER_DEFAULTS[given.get("optim", "lbfgs")])
        return epochs_for(given, {"lr": 1.0, "tol": 1e-10, "max_epochs": 100, "patience": 1})


# Of the outer search: 'lbfgs' stops by the gain that it promises, the others by what they gained.
GLMM_DEFAULTS: dict[str, dict[str, Any]] = {
    "lbfgs": {"lr": 1.0, "tol": 1e-10, "max_epochs": 500, "patience": 1},
    "adam": {"lr": 0.1, "tol": 1e-7, "max_epochs": 2_000, "patience": 30},
    "sgd": {"lr": 1.0, "tol": 1e-7, "max_epochs": 2_000, "patience": 30},
}


@dataclass(frozen=True, kw_only=True)
class GLMMOptions(FitOptions):
    """Options of the GLMM, whose methods are ``METHODS``.

    Attributes
    ----------
    update_nu_every_k : int
        Epochs between two updates of ``nu`` in ``'marginal_newton'``.
    nugget : {'laplace', 'quadrature'}
        How the ``marginal_*`` methods eliminate the white-noise part of the field, spot by spot: at
        its mode (the documented second-order Laplace approximation) or by exact integration.
    nugget_nodes : 'auto' or int
        Nodes of the quadrature a dimension; ``'auto'`` takes as many as every spot needs.
    smooth : {'laplace', 'ep'}
        How they integrate the smooth part out: by Laplace's method at its mode, or by expectation
        propagation, which goes with ``nugget='quadrature'`` and makes it the default.

    Raises
    ------
    ValueError
        If ``smooth='ep'`` meets ``nugget='laplace'``.

    Examples
    --------
    >>> GLMMOptions.from_configs("marginal_newton").update_nu_every_k
    1
    """

    update_nu_every_k: int = 1
    nugget: str = "laplace"
    nugget_nodes: int | str = "auto"
    smooth: str = "laplace"

    KEYS: ClassVar[dict[str, Validator]] = {
        **COMMON_KEYS,
        "update_nu_every_k": positive_int,
        "nugget": one_of(NUGGETS),
        "nugget_nodes": auto_or_positive_int,
        "smooth": one_of(SMOOTHS),
    }
    METHODS: ClassVar[tuple[str, ...]] = (
        "joint_gd",
        "joint_newton",
        "marginal_gd",
        "marginal_newton",
    )

    @classmethod
    def defaults(cls, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults of a method, or those of its optimiser."""
        optim = "lbfgs" if method == "joint_newton" else given.get("optim", "lbfgs")
        nugget = "quadrature" if given.get("smooth") == "ep" else "laplace"
        return {**epochs_for(given, GLMM_DEFAULTS[optim]), "nugget": nugget}

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.smooth == "ep" and self.nugget != "quadrature":
            raise ValueError(
                "fitting_configs['smooth'] = 'ep' integrates the nugget as well: expected "
                f"fitting_configs['nugget'] = 'quadrature' or none, came {self.nugget!r}"
            )
