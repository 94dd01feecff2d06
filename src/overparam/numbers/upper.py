"""Upper bounds in floating point, with the rounding errors counted instead of switched.

The recursions of the modulus add, multiply and take roots, maxima and minima of nonnegative
numbers; nothing is ever subtracted. With correctly rounded operations of unit roundoff u, the
computed value of such an expression is at least (1 - u)^N times the exact one, where N grows by
simple rules: a sum takes the larger count plus one, a product the sum plus one, a root half plus
one. :class:`Upper` carries the values and N; dividing by (1 - u)^N once, at the end, turns the
result into a proved upper bound, and leaving that out gives the usual value in floating point.

Overflow and underflow, which the rules do not cover, raise within :func:`strict`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_X87 = 63  # bits of the fraction; other long doubles are slow, or pairs of doubles and not IEEE
EXTENDED: Any = np.longdouble if np.finfo(np.longdouble).nmant == _X87 else np.float64
"""Extended precision where the platform has it: for tightness and range only."""


def strict() -> np.errstate:
    """The context that turns overflow, underflow and invalid operations into exceptions."""
    return np.errstate(over="raise", under="raise", invalid="raise", divide="raise")


@dataclass(slots=True, eq=False)  # not frozen, which would make it three times slower
class Upper:
    """An array of nonnegative numbers, each at least (1 - u)^roundings times what it stands for.

    Attributes:
        values: The array; its type, float64 or ``EXTENDED``, has the roundoff u.
        roundings: N.
    """

    values: Any  # an array, or NumPy's scalar
    roundings: int = 0

    @staticmethod
    def exact(values: object, dtype: Any = np.float64) -> "Upper":
        """Nonnegative floats taken as they are."""
        return Upper(np.asarray(values, dtype=dtype))

    @property
    def roundoff_bits(self) -> int:
        """-log2 u."""
        return int(np.finfo(self.values.dtype).nmant) + 1

    def __add__(self, other: "Upper") -> "Upper":
        return Upper(self.values + other.values, _of_one_type(self, other) + 1)

    def __mul__(self, other: "Upper") -> "Upper":
        _of_one_type(self, other)
        return Upper(self.values * other.values, self.roundings + other.roundings + 1)

    def __rmul__(self, power: int | float) -> "Upper":
        """The product with a power of two, which rounds nothing."""
        if math.frexp(power)[0] != 0.5:
            raise TypeError(f"{power!r} is no power of two: its product would be rounded")
        return Upper(self.values * self.values.dtype.type(power), self.roundings)

    def over(self, divisor: np.ndarray) -> "Upper":
        """Quotients by positive floats."""
        return Upper(self.values / divisor.astype(self.values.dtype), self.roundings + 1)

    def column(self) -> "Upper":
        """The same vector as a column."""
        return Upper(self.values[:, None], self.roundings)

    def spread(self, shape: tuple[int, ...]) -> "Upper":
        """The same numbers, repeated to a shape."""
        return Upper(np.broadcast_to(self.values, shape), self.roundings)

    def sqrt(self) -> "Upper":
        """Square roots."""
        return Upper(np.sqrt(self.values), (self.roundings + 1) // 2 + 1)

    def squared(self) -> "Upper":
        """Squares."""
        return self * self

    def minimum(self, other: "Upper") -> "Upper":
        """The smaller of two bounds on the same thing."""
        return Upper(np.minimum(self.values, other.values), _of_one_type(self, other))

    def max(self, axis: int) -> "Upper":
        """The largest along an axis."""
        return Upper(self.values.max(axis=axis), self.roundings)

    def sum(self, axis: int) -> "Upper":
        """Sums along an axis, in whatever order NumPy takes."""
        return Upper(self.values.sum(axis=axis), self.roundings + self.values.shape[axis])

    def bound(self) -> float:
        """A proved upper bound on the largest entry, as a float64."""
        top = self.values.max()
        value = float(top)
        if value < top:
            value = math.nextafter(value, math.inf)
        # (1 - u)^-N <= 1 + 2 N u; the rest covers the rounding of this line.
        used = (3 * self.roundings * 2.0 ** (53 - self.roundoff_bits) + 4) * 2.0**-53
        if not used < 2.0**-4:
            return math.inf
        return math.nextafter(value * (1 + used), math.inf) if value else 0.0


def _of_one_type(a: Upper, b: Upper) -> int:
    """The larger count; roundings of two precisions cannot be counted together."""
    if a.values.dtype != b.values.dtype and min(a, b, key=_bits).roundings:
        raise TypeError("roundings of different precisions do not add up")
    return max(a.roundings, b.roundings)


def _bits(number: Upper) -> int:
    return number.roundoff_bits


def hypot(a: Upper, b: Upper) -> Upper:
    """sqrt(a^2 + b^2)."""
    return (a.squared() + b.squared()).sqrt()


def total(terms: list[Upper]) -> Upper:
    """The sum of at least one term."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
