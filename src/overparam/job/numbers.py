"""Numbers as JSON holds them."""

import math


def finite(value: float | None) -> float | None:
    """The number, or None if it is infinite or NaN, which JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)
