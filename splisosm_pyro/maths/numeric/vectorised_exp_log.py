"""exp and log of whole arrays, written so that the compiler turns them into vector instructions.

A call of the C library handles one number at a time; these loops handle four or eight, to within
two units of the last place. Ranges are reduced by Cody and Waite's splitting of log 2:

    x = k log 2 + r,  |r| <= log(2)/2          exp x = 2^k (1 + r + r^2/2 + ... + r^12/12!)
    x = 2^k f,  sqrt(1/2) <= f < sqrt(2)       log x = k log 2 + 2 artanh((f - 1) / (f + 1))

Reference: Muller (2016), Elementary Functions, 3rd ed., Birkhauser, chapter 11.
"""

import numpy as np

from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.compiled import compiled

# Adding it rounds a small number to a whole one, which then stands in the last bits.
ROUNDER = 1.5 * 2.0**52
LOG2_E = 1.4426950408889634
# log 2 in two parts; a whole number of some ten bits times the first is exact.
LOG2_HIGH = 0.6931471803691238
LOG2_LOW = 1.9082149292705877e-10
# exp below this is as good as zero, and would need denormal numbers.
LEAST_EXPONENT = -700.0
EXPONENT_BIAS = 1023
EXPONENT_SHIFT = 52
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
E2, E3, E4, E5, E6, E7 = 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040
E8, E9, E10, E11, E12 = 1 / 40320, 1 / 362880, 1 / 3628800, 1 / 39916800, 1 / 479001600
A1, A2, A3, A4, A5 = 2 / 3, 2 / 5, 2 / 7, 2 / 9, 2 / 11
A6, A7, A8, A9, A10 = 2 / 13, 2 / 15, 2 / 17, 2 / 19, 2 / 21


@compiled
def exp_in_place(x: FloatArray) -> None:
    """Replace x (n,) by its exponential; x is at most 700, and below -700 it counts as -700."""
    power = np.empty(x.size)
    for s in range(x.size):
        x[s] = max(x[s], LEAST_EXPONENT)
        power[s] = x[s] * LOG2_E + ROUNDER
    for s in range(x.size):
        k = power[s] - ROUNDER
        r = (x[s] - k * LOG2_HIGH) - k * LOG2_LOW
        tail = E7 + r * (E8 + r * (E9 + r * (E10 + r * (E11 + r * E12))))
        x[s] = 1.0 + r * (1.0 + r * (E2 + r * (E3 + r * (E4 + r * (E5 + r * (E6 + r * tail))))))
    bits = power.view(np.int64)
    for s in range(x.size):
        bits[s] = (bits[s] + EXPONENT_BIAS) << EXPONENT_SHIFT
    for s in range(x.size):
        x[s] *= power[s]


@compiled
def log_in_place(x: FloatArray) -> None:
    """Replace x (n,) by its logarithm; x is positive and not denormal."""
    power = np.empty(x.size)
    bits = x.view(np.int64)
    for s in range(x.size):
        k = (bits[s] - SQRT_HALF_BITS) >> EXPONENT_SHIFT
        power[s] = k
        bits[s] -= k << EXPONENT_SHIFT
    for s in range(x.size):
        z = (x[s] - 1.0) / (x[s] + 1.0)
        w = z * z
        tail = A5 + w * (A6 + w * (A7 + w * (A8 + w * (A9 + w * A10))))
        series = z * (2.0 + w * (A1 + w * (A2 + w * (A3 + w * (A4 + w * tail)))))
        x[s] = power[s] * LOG2_HIGH + (series + power[s] * LOG2_LOW)
