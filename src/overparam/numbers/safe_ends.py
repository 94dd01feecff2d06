"""Which end of a bound is the safe one: a theorem's result says so of each of its numbers."""

from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

from overparam.numbers.generic import Number
from overparam.numbers.interval import Interval

UPPER = MappingProxyType({"side": "upper"})
"""Metadata of a field that bounds from above: its upper end is true."""
LOWER = MappingProxyType({"side": "lower"})
"""Metadata of a field that bounds from below: its lower end is true."""

Result = TypeVar("Result")


def safe(result: Result) -> Result:
    """A theorem's result with floats in place of intervals, each the end that stays true.

    Args:
        result: A dataclass whose numbers have ``UPPER`` or ``LOWER`` as their field's metadata.
    """
    ends = {"upper": safe_upper, "lower": safe_lower}
    return replace(  # type: ignore[type-var]
        result,
        **{
            field.name: ends[field.metadata["side"]](getattr(result, field.name))
            for field in fields(result)  # type: ignore[arg-type]
            if field.metadata
        },
    )


def upper_of(bound: Number) -> Any:
    """Upper bounds as floats, or an array of them, that are not below."""
    return bound.upper if isinstance(bound, Interval) else bound


def safe_upper(bound: Number) -> float:
    """An upper bound as a float that is not below it."""
    return float(upper_of(bound))


def safe_lower(bound: Number) -> float:
    """A lower bound as a float that is not above it."""
    return float(bound.lower if isinstance(bound, Interval) else bound)
