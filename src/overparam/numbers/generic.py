"""What theorems need of numbers beside the four operations, for every type of them.

Balls are not named here, so that only the re-check loads their library: whatever is neither a float
nor an :class:`Interval` brings its own ``sqrt``, ``max``, ``min`` and ``upper``.
"""

import math
from typing import Any

import numpy as np

from overparam.numbers.interval import Interval

Number = Any
"""A number, or a vector of numbers, of one of the three types."""

FLOAT_RESOLUTION, BALL_RESOLUTION = 1e-13, 2.0**-90


def exactly(value: float | int, like: Number) -> Number:
    """A number that float64 holds, as one of another's type."""
    if _is_float(like):
        return value
    return Interval.exact(value) if isinstance(like, Interval) else type(like)(value)


def sqrt(x: Number) -> Number:
    """The square root; of a negative float, which only rounding makes, 0."""
    return np.sqrt(np.maximum(x, 0.0)) if _is_float(x) else x.sqrt()


def larger(a: Number, b: Number) -> Number:
    """The larger of two numbers."""
    if _is_float(a) and _is_float(b):
        return np.maximum(a, b)
    if isinstance(a, Interval) or isinstance(b, Interval):
        return a.larger(b) if isinstance(a, Interval) else b.larger(a)
    ball = type(b if _is_float(a) else a)
    return ball(a).max(ball(b))


def smaller(a: Number, b: Number) -> Number:
    """The smaller of two numbers."""
    return -larger(-a, -b)


def scaled(bound: Number, factor: Number) -> Number:
    """bound * factor for a factor >= 0, infinite where the bound is, even if the factor is 0.

    Of intervals and balls that product is not known at all, which no comparison survives either.
    """
    if not _is_float(bound):
        return bound * factor
    unbounded = np.full(np.shape(bound), math.inf)
    return np.multiply(bound, factor, out=unbounded, where=np.isfinite(bound))[()]


def over(a: Number, b: Number) -> Number:
    """a / b for a >= 0; infinite where b is not certainly positive."""
    return a / b if b > 0 else math.inf


def holds(condition: Any) -> Any:
    """Truth values of an elementwise comparison, as an array of booleans."""
    return np.asarray(condition, dtype=bool)


def largest(vector: Number) -> Number:
    """The largest entry."""
    if isinstance(vector, Interval):
        return vector.largest()
    if vector.dtype != object:
        return vector.max()
    best = vector[0]
    for entry in vector[1:]:
        best = best.max(entry)
    return best


def running_sum(vector: Number) -> Number:
    """The sums of the first entries: of one, of two, ..."""
    return vector.running_sum() if isinstance(vector, Interval) else np.cumsum(vector)


def upper_end(x: Number) -> Number:
    """The largest of what a number may be, as a number of the same type."""
    if _is_float(x):
        return x
    return Interval.exact(x.upper) if isinstance(x, Interval) else x.upper()


def resolution(x: Number) -> float:
    """The relative progress that is worth another round of a fixed-point iteration."""
    return FLOAT_RESOLUTION if _is_float(x) or isinstance(x, Interval) else BALL_RESOLUTION


def _is_float(x: Any) -> bool:
    return isinstance(x, float | int | np.number) or (
        isinstance(x, np.ndarray) and x.dtype != object
    )
