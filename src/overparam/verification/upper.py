"""Upper bounds in floating point, with the rounding errors counted instead of switched.

Every recursion of the modulus adds, multiplies and takes roots, maxima and minima of nonnegative
numbers; nothing is ever subtracted. With correctly rounded operations of unit roundoff u, the
computed value of such an expression is at least (1 - u)^N times the exact one, where N grows by
simple rules: a sum takes the larger count plus one, a product the sum plus one, a root half plus
one. :class:`Upper` carries the values and N; dividing by (1 - u)^N once, in ball arithmetic, turns
the result into a proved upper bound. Overflow and underflow, which the rules do not cover, raise.

Extended precision (x87) is used where the platform has it, for tightness only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

_X87 = 63  # bits of the fraction; other long doubles are slow, or pairs of doubles and not IEEE
REAL: Any = np.longdouble if np.finfo(np.longdouble).nmant == _X87 else np.float64
"""The floating-point type of the recursions."""

ROUNDOFF_BITS = int(np.finfo(REAL).nmant) + 1


def strict() -> np.errstate:
    """The context that turns overflow, underflow and invalid operations into exceptions."""
    return np.errstate(over="raise", under="raise", invalid="raise", divide="raise")


@dataclass(frozen=True)
class Upper:
    """An array of nonnegative numbers, each at least (1 - u)^roundings times what it stands for.

    Attributes:
        values: The array, of type ``REAL``.
        roundings: N.
    """

    values: Any  # an array, or NumPy's scalar
    roundings: int = 0

    @staticmethod
    def exact(values: object) -> "Upper":
        """Nonnegative floats taken as they are."""
        return Upper(np.asarray(values, dtype=REAL))

    @staticmethod
    def of_balls(balls: "Sequence[arb] | arb") -> "Upper":
        """The upper ends of nonnegative balls, rounded to nearest."""
        if isinstance(balls, arb):
            return Upper(_rounded(balls), 2)
        return Upper(np.array([_rounded(ball) for ball in balls], dtype=REAL), 2)

    @staticmethod
    def ratio(numerators: np.ndarray, denominator: int) -> "Upper":
        """Quotients of whole numbers."""
        return Upper(numerators.astype(REAL) / REAL(denominator), 1)

    def __add__(self, other: "Upper") -> "Upper":
        return Upper(self.values + other.values, max(self.roundings, other.roundings) + 1)

    def __mul__(self, other: "Upper") -> "Upper":
        return Upper(self.values * other.values, self.roundings + other.roundings + 1)

    def over(self, divisor: np.ndarray) -> "Upper":
        """Quotients by positive floats."""
        return Upper(self.values / np.asarray(divisor, dtype=REAL), self.roundings + 1)

    def column(self) -> "Upper":
        """The same vector as a column."""
        return Upper(self.values[:, None], self.roundings)

    def sqrt(self) -> "Upper":
        """Square roots."""
        return Upper(np.sqrt(self.values), (self.roundings + 1) // 2 + 1)

    def squared(self) -> "Upper":
        """Squares."""
        return self * self

    def minimum(self, other: "Upper") -> "Upper":
        """The smaller of two bounds on the same thing."""
        return Upper(np.minimum(self.values, other.values), max(self.roundings, other.roundings))

    def max(self, axis: int) -> "Upper":
        """The largest along an axis."""
        return Upper(self.values.max(axis=axis), self.roundings)

    def sum(self, axis: int) -> "Upper":
        """Sums along an axis, in whatever order NumPy takes."""
        return Upper(self.values.sum(axis=axis), self.roundings + self.values.shape[axis])

    def bound(self) -> arb:
        """A proved upper bound on the largest entry."""
        top = self.values.max()
        high = float(top)
        value = arb(high) + arb(float(top - REAL(high)))
        return (value / (1 - arb(2) ** -ROUNDOFF_BITS) ** self.roundings).upper()


def hypot(a: Upper, b: Upper) -> Upper:
    """sqrt(a^2 + b^2)."""
    return (a.squared() + b.squared()).sqrt()


def _rounded(ball: arb) -> Any:
    """The upper end, relative error at most 2 u: a double plus what it leaves over."""
    top = ball.abs_upper()
    high = float(top)
    return REAL(high) + REAL(float(top - arb(high)))
