"""Numbers as JSON holds them, and errors as people read them."""

import math
from typing import Any


def finite(value: float | None) -> float | None:
    """The number, or None if it is infinite or NaN, which JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def error_text(error: dict[str, Any]) -> str:
    """An error as ``Dataset.error`` gives it."""
    if "error" in error:
        return f"{100 * error['error']:.2f} % of {error['rows']:,}"
    r2 = "" if error["r2"] is None else f", R2 {error['r2']:.4f}"
    return f"RMSE {error['rmse']:.4g}{r2} on {error['rows']:,}"
