r"""Outward rounding of scalars and arrays.

The standard model: every operation is rounded to nearest, ``fl(a op b) = (a op b)(1 + d) + e`` with
``|d| <= u`` (the unit roundoff), ``|e| <= eta`` for products and quotients that underflow, and
``e = 0`` for sums. Hence the exact result lies between the two neighbours of the computed one,
which is all that ``_up`` and ``_down`` use: no switching of the processor's rounding mode.

A sum of ``k`` products, evaluated in *any* order, with or without fused multiply-add, has an error
of at most ``gamma(k) * sum |x_i y_i| + 2 k eta`` (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2nd ed., section 3.1; the underflow term is Demmel's).
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import frexp, inf, isfinite, ldexp, nextafter, sqrt

import numpy as np
from jaxtyping import Float

from overparam.numbers.sums import gamma

UNDERFLOW = 2.0**-1022
"""eta: a bound on what one underflow loses, generous enough for flush-to-zero (IEEE: 2^-1075)."""


def decimal_up(value: float, digits: int) -> float:
    """An upper bound shortened to significant digits: the double nearest to the decimal."""
    return _shortened(value, digits, ROUND_CEILING)


def decimal_down(value: float, digits: int) -> float:
    """A lower bound shortened to significant digits: the double nearest to the decimal."""
    return _shortened(value, digits, ROUND_FLOOR)


def _shortened(value: float, digits: int, direction: str) -> float:
    if not isfinite(value) or value == 0:
        return value
    exact = Decimal(value)
    unit = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return float(exact.quantize(unit, rounding=direction))


def add_up(a: float, b: float) -> float:
    """A float64 not below ``a + b``."""
    return nextafter(a + b, inf)


def add_down(a: float, b: float) -> float:
    """A float64 not above ``a + b``."""
    return nextafter(a + b, -inf)


def sub_up(a: float, b: float) -> float:
    """A float64 not below ``a - b``."""
    return nextafter(a - b, inf)


def sub_down(a: float, b: float) -> float:
    """A float64 not above ``a - b``."""
    return nextafter(a - b, -inf)


def mul_up(a: float, b: float) -> float:
    """A float64 not below ``a * b``."""
    return nextafter(a * b, inf)


def mul_down(a: float, b: float) -> float:
    """A float64 not above ``a * b``."""
    return nextafter(a * b, -inf)


def div_up(a: float, b: float) -> float:
    """A float64 not below ``a / b``."""
    return nextafter(a / b, inf)


def div_down(a: float, b: float) -> float:
    """A float64 not above ``a / b``."""
    return nextafter(a / b, -inf)


def sqrt_up(a: float) -> float:
    """A float64 not below the square root of ``a >= 0``."""
    return nextafter(sqrt(a), inf)


def sqrt_down(a: float) -> float:
    """A nonnegative float64 not above the square root of ``a >= 0``."""
    return max(0.0, nextafter(sqrt(a), -inf))


def sum_up(*terms: float) -> float:
    """A float64 not below the sum of the terms."""
    total = 0.0
    for term in terms:
        total = add_up(total, term)
    return total


def scale_up(a: float, exponent: int) -> float:
    """A float64 not below ``a * 2**exponent``, and equal to it wherever it can be."""
    return -scale_down(-a, exponent)


def scale_down(a: float, exponent: int) -> float:
    """A float64 not above ``a * 2**exponent``, and equal to it wherever it can be."""
    try:
        scaled = ldexp(a, exponent)
    except OverflowError:
        return nextafter(inf, 0.0) if a > 0 else -inf
    # A power of two rounds only where the result is subnormal.
    return scaled if ldexp(scaled, -exponent) == a else nextafter(scaled, -inf)


def array_up(a: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Each entry's upper neighbour: not below the exact result of the operation that made it."""
    with np.errstate(over="ignore"):  # past the largest float64 comes inf
        return np.nextafter(a, inf)


def array_down(a: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Each entry's lower neighbour: not above the exact result of the operation that made it."""
    with np.errstate(over="ignore"):
        return np.nextafter(a, -inf)


def square_sum_up(a: Float[np.ndarray, "..."]) -> float:
    """A float64 not below the sum of the squares of the entries, in any order of summation.

    Args:
        a: Finite float64 array of any shape.

    Returns:
        An upper bound with a relative excess of about ``2 a.size u``.
    """
    flat = a.ravel(order="K")
    with np.errstate(over="ignore"):
        computed = float(flat @ flat)
    relative = add_up(1.0, gamma(2 * flat.size))
    # computed >= exact (1 - gamma(k)) - 2 k eta, and 1 / (1 - gamma(k)) <= 1 + gamma(2 k).
    return mul_up(add_up(computed, 4.0 * flat.size * UNDERFLOW), relative)


def frobenius_up(a: Float[np.ndarray, "..."]) -> float:
    """A float64 not below the Frobenius norm of a finite float64 array."""
    squares = square_sum_up(a)
    if 2.0**-800 < squares < 2.0**800 or not a.size:
        return sqrt_up(squares)
    # Squares that overflow or vanish: scale by a power of two. What that makes vanish is less
    # than the underflow term of `square_sum_up`, since the largest entry is now near one.
    exponent = frexp(max(float(a.max()), -float(a.min())))[1]
    return scale_up(sqrt_up(square_sum_up(np.ldexp(a, -exponent))), exponent)
