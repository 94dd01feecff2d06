"""Checks of arguments, and how large a setting may be: beyond, an index or a counter ends."""

import difflib
import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, SupportsFloat

from overparam.errors import InputError

MOST_LAYERS = 1000
"""Hidden layers: each is compiled by itself."""

MOST_WIDTH = 2**31 - 1
"""What an index holds."""

MOST_STEPS = 2**31 - 1
"""What the loop's counter holds."""

MOST_SEED = 2**32 - 1
"""Without 64-bit integers JAX takes a seed modulo 2^32: a larger one would be another's alias."""

LARGEST_GAIN = 1e8
"""Bound on what scales make of a signal: its square times another is still a float32."""


def require_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number within bounds, Python's or NumPy's.

    Raises:
        InputError: It is not; the message names it.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < least:
        raise InputError(f"{name} must be a whole number, {least} or more, not {value!r}")
    if most is not None and int(value) > most:
        raise InputError(f"{name} must be at most {most:,}")
    return int(value)


def require_positive(name: str, value: object) -> float:
    """A number above 0, and finite, whatever its type was.

    Raises:
        InputError: It is not; the message names it.
    """
    if not 0 < _number(value) < math.inf:
        raise InputError(f"{name} must be positive and finite, not {value!r}")
    return _number(value)


def require_seconds(name: str, value: object) -> float:
    """A number of seconds, 0 or more; it may be infinite.

    Raises:
        InputError: It is none; the message names it.
    """
    if not _number(value) >= 0:
        raise InputError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    return _number(value)


def _number(value: object) -> float:
    """A number as a float; a flag and what is none are no number."""
    is_flag = isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
    return float(value) if isinstance(value, SupportsFloat) and not is_flag else math.nan


def require_fraction(name: str, value: float) -> float:
    """A number strictly between 0 and 1.

    Raises:
        InputError: It is not; the message names it.
    """
    if not (isinstance(value, Real) and 0 < value < 1):
        raise InputError(f"{name} is {value}: choose it between 0 and 1")
    return float(value)


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """One of a closed set of words.

    Raises:
        InputError: It is none of them; the message names them, and the nearest.
    """
    if value not in choices:
        near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown {name} {value!r}: {hint}choose one of {', '.join(choices)}")


def require_depth(depth: object) -> int:
    """A number of hidden layers.

    Raises:
        InputError: It is none, or more than a program is compiled for.
    """
    return require_whole("depth", depth, 0, MOST_LAYERS)


def require_seed(seed: object) -> int:
    """A seed that no other is an alias of.

    Raises:
        InputError: It is negative or too large.
    """
    return require_whole("seed", seed, 0, MOST_SEED)


def require_scales(
    layers: int, *, weight_scale: float, bias_scale: float, output_scale: float
) -> None:
    """Scales with which the network, its kernel and their bounds are numbers.

    A signal is multiplied by about output_scale weight_scale^layers on its way, a bias by
    bias_scale and what is left of the way. Signs and NaN are left to the model, which checks them.

    Args:
        layers: D, one more than the hidden layers.
        weight_scale: s_w.
        bias_scale: s_b.
        output_scale: c.

    Raises:
        InputError: The product is outside 1e-8 to 1e8; the message names the scale that is most
            to blame.
    """
    if not all(0 < s < math.inf for s in (weight_scale, output_scale)) or not bias_scale >= 0:
        return
    parts = {
        "output_scale": (output_scale, math.log(output_scale)),
        "weight_scale": (weight_scale, layers * math.log(weight_scale)),
        "bias_scale": (bias_scale, math.log(max(bias_scale, 1.0))),
    }
    total = sum(part for _, part in parts.values())
    most = math.log(LARGEST_GAIN)
    if abs(total) > most or abs(parts["output_scale"][1]) > most:
        name = max(parts, key=lambda name: abs(parts[name][1]))
        raise InputError(
            f"{name} {parts[name][0]:g} is out of range: over {layers} layers the scales multiply "
            f"a signal by about 1e{total / math.log(10):+.0f}, and only {1 / LARGEST_GAIN:g} to "
            f"{LARGEST_GAIN:g} stays within floats; choose it nearer to 1"
        )
