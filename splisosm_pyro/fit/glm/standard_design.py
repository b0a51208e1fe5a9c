"""Covariates as the solvers take them, whatever the user's units and origins, and the way back.

``x = m + s z`` is the model of ``z``: no estimate, error, test or status depends on ``m`` or ``s``.
So solvers see every column about its mean over the spots, in units of its standard deviation; a
column of two values, such as the indicator of a level, in units of the step between them. With
``C`` (F+1, Q) the coefficients of these columns Z, and of an intercept at the mean of all,

    X beta + bias_eta = Z C[:-1] + C[-1],
    beta_f = C_f / scale_f,      bias_eta = C[-1] - sum_f centre_f / scale_f C_f.

``beta`` and ``bias_eta`` are always in the user's units. Stacked coefficients and search vectors
are always those of the standard columns: bounds, steps and differences are stated on them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splisosm_pyro.fit.glm.reduced_problem import DesignRows
from splisosm_pyro.maths.dependent_columns import CONSTANT_ROUNDING, centred
from splisosm_pyro.maths.numeric.arrays import FloatArray

# A column that varies by no more than this share of its size is constant.
ROUNDING = CONSTANT_ROUNDING * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class StandardDesign:
    """The covariates of S spots, without intercept.

    Attributes
    ----------
    given : ndarray, shape (S, F)
        The user's columns X.
    columns : ndarray, shape (S, F)
        The standard columns Z; a constant one is 0.
    centre, scale : ndarray, shape (F,)
        ``Z = (X - centre) / scale``.
    """

    given: FloatArray
    columns: FloatArray
    centre: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, design: FloatArray) -> "StandardDesign":
        """Centre and scale the columns of a design (S, F), O(S F).

        Examples
        --------
        >>> year = StandardDesign.of(np.array([[2019.0], [2020.0], [2021.0]]))
        >>> year.columns.round(3).ravel().tolist(), year.back.round(3).tolist()
        ([-1.225, 0.0, 1.225], [[1.225, 0.0], [-2473.985, 1.0]])
        >>> StandardDesign.of(np.array([[7.0], [9.0], [7.0], [7.0]])).scale.tolist()
        [2.0]
        """
        given = np.ascontiguousarray(design, dtype=np.float64)
        apart, centre = centred(given)
        low, high = given.min(axis=0, initial=np.inf), given.max(axis=0, initial=-np.inf)
        constant = high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high))
        apart[:, constant] = 0.0
        largest = np.where(constant, 1.0, np.abs(apart).max(axis=0, initial=0.0))
        spread = largest * np.sqrt(((apart / largest) ** 2).mean(axis=0))
        two_values = ((given == low) | (given == high)).all(axis=0)
        scale = np.where(constant, 1.0, np.where(two_values, high - low, spread))
        return cls(given, apart / scale, centre, scale)

    def about_origin(self) -> "StandardDesign":
        """Return the columns in the same units, not centred: the intercept is the user's own."""
        return StandardDesign(
            self.given, self.given / self.scale, np.zeros_like(self.centre), self.scale
        )

    @cached_property
    def back(self) -> FloatArray:  # (F+1, F+1)
        """What takes standard coefficients to the user's, ``back @ C``."""
        back = np.diag(np.append(1.0 / self.scale, 1.0))
        back[-1, :-1] = -self.centre / self.scale
        return back

    @cached_property
    def there(self) -> FloatArray:  # (F+1, F+1)
        """What takes the user's coefficients to the standard ones, the inverse of ``back``."""
        there = np.diag(np.append(self.scale, 1.0))
        there[-1, :-1] = self.centre
        return there

    @cached_property
    def with_intercept(self) -> FloatArray:  # (S, F+1)
        """The standard columns and one of ones."""
        return np.column_stack([self.columns, np.ones(len(self.columns))])

    @cached_property
    def rows(self) -> DesignRows:
        """The distinct rows of the standard columns."""
        return DesignRows.from_design(self.columns)

    def standard(self, beta: FloatArray, bias_eta: FloatArray) -> FloatArray:
        """Return the standard coefficients (*, F+1, Q) of the user's (*, F, Q) and (*, Q)."""
        stacked = np.concatenate([beta, bias_eta[..., None, :]], axis=-2)
        return np.asarray(self.there @ stacked)
