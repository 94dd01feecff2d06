"""Constants on the safe side of their rounding.

The formulas of alpha are sums, products and elementary functions of numbers of one sign, some ten
operations each within a few units of the last place: a part in 2^40 covers them eight hundred
times over.
"""

SLACK = 2.0**-40
"""What a computed constant gives way by."""


def from_below(value: float) -> float:
    """A number below the exact one, for a constant that is computed to a few units."""
    return value * (1 - SLACK)
