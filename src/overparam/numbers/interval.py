"""Intervals of float64 that contain the real number, whatever was rounded on the way.

Every operation rounds to nearest and then moves each end to its outer neighbour, which lies beyond
the exact result; overflow and underflow need no case of their own. What has no value (0 times
infinity, a quotient by an interval that holds 0) is the whole line: nothing is known, and no
comparison with it is true.
"""

from dataclasses import dataclass
from math import inf, isnan, nextafter, sqrt
from typing import Any

import numpy as np

Ends = Any  # a float64 array, or a number


@dataclass(frozen=True, eq=False)
class Interval:
    """Numbers between two ends, elementwise.

    Attributes:
        lower: Lower ends, float64, a scalar or an array.
        upper: Upper ends, of the same shape.
    """

    lower: Ends
    upper: Ends

    __array_ufunc__ = None  # so that an array on the left leaves the operation to us

    @staticmethod
    def exact(values: Any) -> "Interval":
        """Floats taken as they are."""
        values = values if type(values) is float else np.asarray(values, dtype=np.float64)[()]
        return Interval(values, values)

    def __add__(self, other: Any) -> "Interval":
        other = _interval(other)
        if self._is_one() and other._is_one():
            return _sum_of_two(self, other)
        with _silent():
            found = _outwards(self.lower + other.lower, self.upper + other.upper)
        return _where(other._vanishes(), self, _where(self._vanishes(), other, found))

    def __neg__(self) -> "Interval":
        return Interval(-self.upper, -self.lower)

    def __sub__(self, other: Any) -> "Interval":
        return self + -_interval(other)

    def __mul__(self, other: Any) -> "Interval":
        other = _interval(other)
        if self._is_one() and other._is_one():
            return _product_of_two(self, other)
        found = _extremes(np.multiply, self, other)
        found = _where((self.lower >= 0) & (other.lower >= 0), found.larger(_ZERO), found)
        return _where(self._vanishes() | other._vanishes(), _ZERO, found)

    def __truediv__(self, other: Any) -> "Interval":
        other = _interval(other)
        if self._is_one() and other._is_one():
            return _quotient_of_two(self, other)
        found = _extremes(np.divide, self, other)
        unknown = (other.lower <= 0) & (other.upper >= 0)
        found = _where((self.lower >= 0) & (other.lower > 0), found.larger(_ZERO), found)
        return _where(unknown, _LINE, _where(self._vanishes(), _ZERO, found))

    def __radd__(self, other: Any) -> "Interval":
        return self + other

    def __rsub__(self, other: Any) -> "Interval":
        return _interval(other) - self

    def __rmul__(self, other: Any) -> "Interval":
        return self * other

    def __rtruediv__(self, other: Any) -> "Interval":
        return _interval(other) / self

    def __lt__(self, other: Any) -> Any:
        return self.upper < _interval(other).lower

    def __le__(self, other: Any) -> Any:
        return self.upper <= _interval(other).lower

    def __gt__(self, other: Any) -> Any:
        return self.lower > _interval(other).upper

    def __ge__(self, other: Any) -> Any:
        return self.lower >= _interval(other).upper

    def __getitem__(self, index: Any) -> "Interval":
        return Interval(self.lower[index], self.upper[index])

    def __len__(self) -> int:
        return len(self.lower)

    def sqrt(self) -> "Interval":
        """Square roots of what of the interval is not negative."""
        if self._is_one() and 0 < self.upper < inf:
            return _around([sqrt(max(self.lower, 0.0))], [sqrt(self.upper)], least=0.0)
        with _silent():
            found = _outwards(np.sqrt(np.maximum(self.lower, 0.0)), np.sqrt(self.upper))
        return _where(self._vanishes(), _ZERO, found.larger(_ZERO))

    def larger(self, other: Any) -> "Interval":
        """The larger of two numbers."""
        other = _interval(other)
        return Interval(np.maximum(self.lower, other.lower), np.maximum(self.upper, other.upper))

    def smaller(self, other: Any) -> "Interval":
        """The smaller of two numbers."""
        other = _interval(other)
        return Interval(np.minimum(self.lower, other.lower), np.minimum(self.upper, other.upper))

    def largest(self) -> "Interval":
        """The largest entry of a vector."""
        return Interval(np.max(self.lower), np.max(self.upper))

    def running_sum(self) -> "Interval":
        """Sums of the first entries of a vector."""
        total, sums = Interval.exact(0.0), []
        for i in range(len(self)):
            total = total + self[i]
            sums.append(total)
        return Interval(np.array([s.lower for s in sums]), np.array([s.upper for s in sums]))

    def _is_one(self) -> bool:
        """Whether this is one number, and not an array."""
        return isinstance(self.lower, float) and isinstance(self.upper, float)

    def _vanishes(self) -> Any:
        """Where the number is exactly zero: no operation with it rounds."""
        return (self.lower == 0) & (self.upper == 0)


_ZERO = Interval(np.float64(0.0), np.float64(0.0))
_LINE = Interval(np.float64(-np.inf), np.float64(np.inf))


def _interval(value: Any) -> Interval:
    return value if isinstance(value, Interval) else Interval.exact(value)


def _sum_of_two(a: Interval, b: Interval) -> Interval:
    """Of two numbers, like the two that follow: ten times as fast without NumPy."""
    if b.lower == 0 == b.upper:
        return a
    if a.lower == 0 == a.upper:
        return b
    return _around([float(a.lower) + float(b.lower)], [float(a.upper) + float(b.upper)])


def _product_of_two(a: Interval, b: Interval) -> Interval:
    p, q, r, s = float(a.lower), float(a.upper), float(b.lower), float(b.upper)
    if p == 0 == q or r == 0 == s:
        return _ZERO
    if p >= 0 and r >= 0:
        return _around([p * r], [q * s], least=0.0)
    products = [p * r, p * s, q * r, q * s]
    return _around(products, products)


def _quotient_of_two(a: Interval, b: Interval) -> Interval:
    p, q, r, s = float(a.lower), float(a.upper), float(b.lower), float(b.upper)
    if r <= 0 <= s:
        return _LINE
    if p == 0 == q:
        return _ZERO
    if p >= 0 and r > 0:
        return _around([p / s], [q / r], least=0.0)
    quotients = [p / r, p / s, q / r, q / s]
    return _around(quotients, quotients)


def _around(lower: list[float], upper: list[float], least: float = -inf) -> Interval:
    """From the smallest to the largest, one float64 further out; all if one is not a number."""
    low, high = min(lower), max(upper)
    if any(map(isnan, lower)) or any(map(isnan, upper)):
        return Interval(least, inf)
    return Interval(max(nextafter(low, -inf), least), nextafter(high, inf))


def _silent() -> np.errstate:
    """Overflow, underflow and undefined results are dealt with here."""
    return np.errstate(all="ignore")


def _extremes(operation: np.ufunc, a: Interval, b: Interval) -> Interval:
    """The hull of an operation that is monotone in each argument, on the four pairs of ends."""
    with _silent():
        found = [operation(x, y) for x in (a.lower, a.upper) for y in (b.lower, b.upper)]
    low = np.minimum(np.minimum(found[0], found[1]), np.minimum(found[2], found[3]))
    high = np.maximum(np.maximum(found[0], found[1]), np.maximum(found[2], found[3]))
    return _outwards(low, high)


def _outwards(lower: Ends, upper: Ends) -> Interval:
    """One float64 further out; the whole line where an end is not a number."""
    with _silent():
        moved = Interval(np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf))
    return _where(np.isnan(lower) | np.isnan(upper), _LINE, moved)


def _where(condition: Any, a: Interval, b: Interval) -> Interval:
    if not np.any(condition):
        return b  # the usual case, at no cost
    lower: Ends = np.where(condition, a.lower, b.lower)
    upper: Ends = np.where(condition, a.upper, b.upper)
    return Interval(lower[()], upper[()])
