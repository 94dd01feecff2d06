"""The result type of this subpackage: a closed interval that contains a real number.

Both ends include every rounding error on the way to them, so that an inequality between ends is an
inequality between the real numbers they enclose.
"""

from dataclasses import dataclass
from math import isnan

from overparam.errors import InputError


@dataclass(frozen=True)
class Enclosure:
    """A real number known to lie in ``[lower, upper]``.

    Attributes:
        lower: A float64 not above the number; may be ``-inf``.
        upper: A float64 not below the number; may be ``inf``.

    Example:
        >>> Enclosure(1.0, 1.5).width
        0.5
        >>> 1.25 in Enclosure(1.0, 1.5)
        True
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if isnan(self.lower) or isnan(self.upper) or self.lower > self.upper:
            raise InputError(
                f"lower = {self.lower} and upper = {self.upper} enclose no number:"
                " give lower <= upper, neither of them NaN."
            )

    @property
    def width(self) -> float:
        """How much is left unknown, ``upper - lower`` (rounded to nearest)."""
        return self.upper - self.lower

    def __contains__(self, value: float) -> bool:
        return bool(self.lower <= value <= self.upper)
