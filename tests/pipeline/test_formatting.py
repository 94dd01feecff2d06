"""How numbers are written."""

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overparam.pipeline import formatting as numbers


def plain(text: str) -> Fraction:
    """The exact number a text stands for."""
    text = text.replace("−", "-").replace(",", "").replace("\u202f", "")
    match = re.fullmatch(r"(?:([-0-9.]+)(?:×|$))?(?:10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+))?", text)
    assert match is not None, text
    power = (match[2] or "⁰").translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
    return Fraction(match[1] or 1) * Fraction(10) ** int(power)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.0123456, "0.01235"),
        (-0.5, "−0.5"),
        (1234.56, "1,235"),
        (65536, "65,536"),
        (12345678, "12,345,678"),
        (1.2e-6, "1.2 × 10⁻⁶"),
        (1e-6, "10⁻⁶"),
        (9.99999e-4, "0.001"),
        (-2.5e12, "−2.5 × 10¹²"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "not a number"),
        (None, "–"),
        (True, "yes"),
        ("gelu", "gelu"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert numbers.number(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (1.0, "1"),
        (0.95, "0.95"),
        (1 - 2**-16, "1 − 1.52 × 10⁻⁵"),
        (1 - 2**-53, "1 − 1.11 × 10⁻¹⁶"),
    ],
)
def test_rates(value: float, text: str) -> None:
    assert numbers.rate(value).replace("\u202f", " ") == text


@given(st.floats(1e-300, 1e300))
def test_a_shortened_bound_is_still_a_bound(value: float) -> None:
    above, below = plain(numbers.at_most(value)), plain(numbers.at_least(value))
    assert below <= Fraction(value) <= above
    assert above - below <= Fraction(value) / 999


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-4, "< 1 ms"),
        (0.0181, "18 ms"),
        (2.437, "2.44 s"),
        (59.99, "60 s"),
        (200.4, "3 min 20 s"),
        (10861.0, "3 h 1 min"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert numbers.seconds(value).replace("\u202f", " ") == text


def test_labels_of_decades() -> None:
    labels = [numbers.power_of_ten(10.0**k) for k in (-12, -1, 0, 3, 4)]
    assert labels == ["10⁻¹²", "10⁻¹", "1", "1000", "10⁴"]
    assert numbers.power_of_ten(20.0) == ""


@given(st.floats(0, 1, exclude_max=True))
def test_halving(factor: float) -> None:
    steps = numbers.steps_to_halve(factor)
    assert steps is not None
    # In logarithms, since a factor near 1 to a great power is not accurate.
    logarithm = math.log(factor) if factor else -math.inf
    assert steps * logarithm <= math.log(0.5) * (1 - 1e-12)
    assert steps == 1 or (steps - 1) * logarithm >= math.log(0.5) * (1 + 1e-12)


def test_a_rate_of_one_never_halves() -> None:
    assert numbers.steps_to_halve(1.0) is None
