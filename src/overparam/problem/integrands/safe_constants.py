"""Constants on the safe side of their rounding, and checks of parameters.

The formulas of alpha are sums, products and elementary functions of numbers of one sign, some ten
operations each within a few units of the last place: a part in 2^40 covers them eight hundred
times over.
"""

import math

from overparam.errors import InputError

SLACK = 2.0**-40
"""What a computed constant gives way by."""


def from_below(value: float) -> float:
    """A number below the exact one, for a constant that is computed to a few units."""
    return value * (1 - SLACK)


def require_positive(value: float, loss: str, name: str) -> None:
    """Accept a positive, finite parameter.

    Raises:
        InputError: It is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} of the loss {loss} is {value!r}: give a number")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} of the loss {loss} is {value}: choose it positive and finite")
