"""Numbers as people read them: four digits, powers of ten in superscript, rates as 1 - a.

A bound is rounded in its own direction, so that the shortened number is still a bound. All
functions return text that is good for HTML and for the figures alike; ``plain`` turns it into what
every terminal can show.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from overparam.enclosures.rounding import decimal_down, decimal_up

SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
THIN = "\u202f"
"""A narrow space that does not break the line."""
MINUS = "\u2212"

PLAIN = str.maketrans(
    {THIN: " ", MINUS: "-", "–": "-", "∞": "inf", "²": "2", "₀": "_0", "√": "sqrt", "Δ": "Delta"}
)
DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
POWER = re.compile(rf"(?:([0-9.]+){THIN}×{THIN})?10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)")


def number(value: object, digits: int = 4) -> str:
    """A number in the form that reads best at its size.

    Args:
        value: A float or an int; None, booleans and text are written out.
        digits: Significant digits of a float. Integers are exact.

    Returns:
        For example ``0.0123``, ``65,536``, ``1.2 × 10⁻⁶``, ``∞``.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    rounded = float(f"{value:.{digits - 1}e}")
    if rounded and not 1e-3 <= abs(rounded) < 1e6:
        return scientific(value, digits)
    text = f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"
    return text.replace("-", MINUS)


def scientific(value: float, digits: int = 2) -> str:
    """A finite number as mantissa times a power of ten, for example ``1.2 × 10⁻⁶``."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPT)}"
    text = power if mantissa == "1" else f"{mantissa}{THIN}×{THIN}{power}"
    return text.replace("-", MINUS)


def at_most(value: float, digits: int = 4) -> str:
    """An upper bound, rounded up."""
    return number(decimal_up(value, digits), digits)


def at_least(value: float, digits: int = 4) -> str:
    """A lower bound, rounded down."""
    return number(decimal_down(value, digits), digits)


def rate(value: float, digits: int = 4) -> str:
    """An upper bound below 1, rounded up; near 1 the gap is what matters: ``1 − 1.4 × 10⁻⁵``."""
    if 0.99 < value < 1:
        return f"1{THIN}{MINUS}{THIN}{at_least(1 - value, 3)}"  # the difference is exact
    return at_most(value, digits)


def percent(fraction: float) -> str:
    """A fraction between 0 and 1 in per cent, for example ``3.75 %``."""
    return f"{number(100 * fraction, 3)}{THIN}%"


def seconds(value: float) -> str:
    """A duration, for example ``18 ms``, ``2.4 s`` or ``3 min 20 s``."""
    if value < 1:
        return f"{1000 * value:.0f}{THIN}ms" if value >= 5e-4 else f"<{THIN}1{THIN}ms"
    if value < 60:
        return f"{value:.3g}{THIN}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def power_of_ten(value: float) -> str:
    """The label of a decade on a logarithmic axis: ``10⁻³``; empty between decades."""
    if value <= 0:
        return ""
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return ""
    whole = round(exponent)
    if 0 <= whole <= 3:
        return str(10**whole)
    return f"10{str(whole).translate(SUPERSCRIPT)}"


def steps_to_halve(factor: float) -> int | None:
    """The number of steps after which factor^t is at most 1/2; None if it never is."""
    if not 0 <= factor < 1:
        return None
    if factor == 0:
        return 1
    return math.ceil(math.log(0.5) / math.log(factor))


def plain(text: str) -> str:
    """Text with its numbers and symbols in ASCII: ``1.2e-6`` for ``1.2 × 10⁻⁶``."""
    return POWER.sub(lambda found: f"{found[1] or 1}e{found[2].translate(DIGITS)}", text).translate(
        PLAIN
    )


def finite(value: float | None) -> float | None:
    """The number, or None if it is infinite or NaN, which JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def errors(found: Mapping[str, Any]) -> str:
    """An error as ``Dataset.error`` gives it."""
    if (wrong := found.get("error")) is not None:
        return f"{percent(wrong)} classified wrongly"
    r2 = found["r2"]
    shown = "undefined (constant target)" if r2 is None else number(r2)
    return f"RMSE {number(found['rmse'])} in the target's units, R² {shown}"
