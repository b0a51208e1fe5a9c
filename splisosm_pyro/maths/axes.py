"""The border: input becomes float64 tensors of known axes, or an error in one sentence.

Axes are genes G, spots S, isoforms P and covariates F. Nothing beyond checks a shape again.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from splisosm_pyro.maths.dependent_columns import Dependent, dependent_columns
from splisosm_pyro.maths.numeric.arrays import FloatArray

ArrayLike = Tensor | npt.NDArray[np.generic]
DesignLike = ArrayLike | pd.DataFrame

DEVICES = ("cpu", "cuda", "mps")
# A spot with fewer reads is empty: estimated counts leave such specks, worth less than 1e-8 nats.
LEAST_TOTAL = 1e-9
# More reads of an isoform at a spot are none: sums over spots would keep too few digits.
MOST_READS = 1e9


class SplisosmWarning(UserWarning):
    """The class of every warning that this package gives."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Isoform counts of a batch of genes that share spots and the number of isoforms.

    Attributes
    ----------
    values : Tensor, shape (G, S, P)
        The counts, float64, dense, on the CPU.
    dtype : torch.dtype or None
        The counts' own where it is floating.
    totals : Tensor, shape (G, S)
        Sums over isoforms.
    occupied : Tensor of bool, shape (G, S)
        True where the total is positive.
    fractional : bool
        True if any count is not a whole number.
    """

    values: Tensor
    dtype: torch.dtype | None
    totals: Tensor
    occupied: Tensor
    fractional: bool

    @property
    def n_genes(self) -> int:
        """G."""
        return self.values.shape[0]

    @property
    def n_spots(self) -> int:
        """S."""
        return self.values.shape[1]

    @property
    def n_isos(self) -> int:
        """P."""
        return self.values.shape[2]


def as_counts(counts: ArrayLike | Counts) -> Counts:
    """Check counts and bring them to float64.

    Parameters
    ----------
    counts : Tensor (dense, sparse COO or CSR) or ndarray, shape (G, S, P) or (S, P)
        Non-negative numbers of an integer or floating dtype, P >= 2. Fractional counts are legal
        (the multinomial coefficient is continued by the gamma function) and draw one warning. A
        spot with less than 1e-9 reads in all is taken as empty.

    Returns
    -------
    Counts
        A copy; a single gene gets a leading axis of length 1.

    Raises
    ------
    TypeError
        If ``counts`` is no tensor or array, or has a bool, complex or other non-numeric dtype.
    ValueError
        If the rank is not 2 or 3, an axis is empty, or a count is negative, NaN, infinite or above
        1e9.
    NotImplementedError
        If there is one isoform only: its ratio is 1 everywhere.

    Examples
    --------
    >>> data = as_counts(np.array([[3, 1], [0, 0], [2, 2]]))
    >>> data.values.shape, data.totals.tolist()
    (torch.Size([1, 3, 2]), [[4.0, 0.0, 4.0]])
    """
    if isinstance(counts, Counts):
        return counts
    given = _as_tensor(counts, "counts")
    if given.dtype == torch.bool or given.dtype.is_complex:
        raise TypeError(
            f"counts must have an integer or floating dtype, came {_dtype_name(given.dtype)}"
        )
    if given.dim() not in (2, 3):
        raise ValueError(
            "counts must have shape (n_genes, n_spots, n_isos) or (n_spots, n_isos), "
            f"came {tuple(given.shape)}"
        )
    values = _dense_float64(given)
    if values.dim() == 2:
        values = values[None]
    _check_counts_axes(tuple(values.shape))
    _check_counts_values(values)
    totals = values @ torch.ones(values.shape[-1], dtype=values.dtype)  # much faster than a sum
    specks = (totals > 0) & (totals < LEAST_TOTAL)
    if bool(specks.any()):
        values[specks], totals[specks] = 0.0, 0.0
    fractional = given.dtype.is_floating_point and not torch.equal(values, values.round())
    if fractional:
        warnings.warn(
            "counts holds fractional numbers; they enter the multinomial likelihood as they are",
            SplisosmWarning,
            stacklevel=2,
        )
    dtype = given.dtype if given.dtype.is_floating_point else None
    return Counts(values, dtype, totals, totals > 0, fractional)


def _check_counts_axes(shape: tuple[int, ...]) -> None:
    """Refuse empty axes and a single isoform."""
    for size, axis in zip(shape, ("genes", "spots", "isoforms"), strict=True):
        if size == 0:
            raise ValueError(f"counts must have at least one of {axis}, came zero {axis}")
    if shape[2] == 1:
        raise NotImplementedError(
            "counts must have at least two isoforms, came one: the usage of a single isoform is 1"
        )


def _check_counts_values(values: Tensor) -> None:
    """Refuse counts outside [0, MOST_READS]."""
    least, most = (float(end) for end in values.aminmax())  # NaN if there is one
    if least >= 0.0 and most <= MOST_READS:
        return
    wrong = ~torch.isfinite(values) | (values < 0) | (values > MOST_READS)
    gene, spot, isoform = (int(i) for i in wrong.nonzero()[0])
    came = float(values[gene, spot, isoform])
    raise ValueError(
        f"counts must be {expected_of_count(came)}, "
        f"came {came} for gene {gene}, spot {spot}, isoform {isoform}"
    )


def expected_of_count(came: float) -> str:
    """Return what a count that is wrong should have been.

    Examples
    --------
    >>> expected_of_count(-1.0), expected_of_count(1e300)
    ('finite and not negative', 'at most 1e+09')
    """
    return f"at most {MOST_READS:g}" if MOST_READS < came < math.inf else "finite and not negative"


def as_design(design_mtx: DesignLike | None, n_spots: int) -> Tensor:
    """Check the design matrix; the intercept is not part of it.

    Parameters
    ----------
    design_mtx : Tensor, ndarray or DataFrame, shape (S, F) or (1, S, F), or None
        Covariates; None stands for no covariate. Rows of a DataFrame are taken in their order.
    n_spots : int
        S.

    Returns
    -------
    Tensor, shape (S, F)
        float64, on the CPU.

    Raises
    ------
    TypeError
        If it is not numeric.
    ValueError
        If the shape is not (S, F), a value is NaN or infinite, a column is constant (the intercept
        is always there), or columns are linearly dependent, alone or together with the intercept.

    Notes
    -----
    One pivoted QR factorisation of the centred columns, O(S F^2).

    Examples
    --------
    >>> as_design(None, 4).shape
    torch.Size([4, 0])
    >>> as_design(np.array([[0.0], [1.0], [3.0]]), 3).squeeze(-1).tolist()
    [0.0, 1.0, 3.0]
    """
    values, dependent = design_with_dependent(design_mtx, n_spots)
    refuse_dependent(dependent, covariate_names(design_mtx))
    return values


def design_with_dependent(
    design_mtx: DesignLike | None, n_spots: int
) -> tuple[Tensor, tuple[Dependent, ...]]:
    """Check the design matrix as ``as_design`` does, but return what depends on the rest."""
    if design_mtx is None:
        return torch.zeros(n_spots, 0, dtype=torch.float64), ()
    given = _as_tensor(_frame_values(design_mtx), "design_mtx")
    if given.dtype.is_complex:
        raise TypeError(f"design_mtx must be real, came {_dtype_name(given.dtype)}")
    if given.dim() == 1:
        raise ValueError(
            f"design_mtx must have shape (n_spots, n_factors) = ({n_spots}, n_factors), came "
            f"({given.shape[0]},): give one covariate as a column, design_mtx[:, None]"
        )
    if given.dim() == 3 and given.shape[0] == 1:
        given = given[0]
    if given.dim() != 2 or given.shape[0] != n_spots:
        raise ValueError(
            f"design_mtx must have shape (n_spots, n_factors) = ({n_spots}, n_factors), "
            f"came {tuple(given.shape)}"
        )
    values = _dense_float64(given)
    rounding = torch.finfo(given.dtype if given.dtype.is_floating_point else torch.float64).eps
    _check_finite(values.numpy(), covariate_names(design_mtx))
    return values, tuple(dependent_columns(values.numpy(), rounding))


def covariate_names(design_mtx: DesignLike | None) -> list[str]:
    """Names of the covariates: a DataFrame's columns, else ``covariate_0``, ``covariate_1``, ...

    Examples
    --------
    >>> covariate_names(pd.DataFrame({"layer": [0.0, 1.0]}))
    ['layer']
    """
    if design_mtx is None:
        return []
    if isinstance(design_mtx, pd.DataFrame):
        return [str(name) for name in design_mtx.columns]
    return [f"covariate_{f}" for f in range(design_mtx.shape[-1])]


def _frame_values(design_mtx: DesignLike) -> ArrayLike:
    """Take the numbers of a DataFrame, anything else as it is."""
    if not isinstance(design_mtx, pd.DataFrame):
        return design_mtx
    for name, dtype in zip(design_mtx.columns, design_mtx.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(dtype):
            raise TypeError(
                f"design_mtx must hold numbers, came column {str(name)!r} of dtype {dtype}: "
                "encode categories as indicators first"
            )
    return design_mtx.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_finite(values: FloatArray, names: Sequence[str]) -> None:
    """Refuse values that are not finite."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        spot, column = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"design_mtx must be finite, came {values[spot, column]} at spot {spot} "
            f"in column {names[column]!r}"
        )


def refuse_dependent(dependent: Sequence[Dependent], names: Sequence[str]) -> None:
    """Raise if a column is constant or follows from others and the intercept."""
    if not dependent:
        return
    first = dependent[0]
    must = (
        "have linearly independent columns, also together with the intercept"
        if first.partners
        else "have no constant column, since the model has an intercept"
    )
    raise ValueError(f"design_mtx must {must}: {first.in_words(names)}")


def as_device(device: str | torch.device) -> torch.device:
    """Check the name of a device and that the device is there.

    Parameters
    ----------
    device : {'cpu', 'cuda', 'mps'} or torch.device
        An index, as in ``'cuda:1'``, is legal.

    Raises
    ------
    TypeError, ValueError
        If it names no device, one of another kind, or one that this machine lacks.

    Examples
    --------
    >>> as_device("cpu")
    device(type='cpu')
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be one of {DEVICES}, came {type(device).__name__}")
    name = str(device)
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise ValueError(f"device must be one of {DEVICES}, came {name!r}")
    n_there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[kind]
    if int(index or 0) >= n_there:
        raise ValueError(f"device {name!r} is not there: this machine has {n_there} of {kind!r}")
    return torch.device(name)


def _as_tensor(values: ArrayLike, name: str) -> Tensor:
    """Make a tensor of the given numbers, or raise a TypeError."""
    if isinstance(values, Tensor):
        return values.detach()
    if not isinstance(values, np.ndarray):
        raise TypeError(
            f"{name} must be a torch tensor or a numpy array, came {_type_name(values)}"
        )
    if values.dtype.kind not in "iufb":
        raise TypeError(f"{name} must have a numeric dtype, came {values.dtype}")
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    native = values.astype(values.dtype.newbyteorder("="))  # torch takes the machine's order only
    return torch.from_numpy(np.ascontiguousarray(native))


def _dense_float64(values: Tensor) -> Tensor:
    """Copy to a dense float64 tensor on the CPU."""
    dense = values if values.layout == torch.strided else values.to_dense()
    return dense.to(device="cpu", dtype=torch.float64, copy=True).contiguous()


def _dtype_name(dtype: torch.dtype) -> str:
    """'bool' rather than 'torch.bool'."""
    return str(dtype).removeprefix("torch.")


def _type_name(value: object) -> str:
    """Name a value's class."""
    return type(value).__name__
