"""Counted roundings, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from flint import arb, fmpq

from overparam.verification.upper import Upper, hypot, strict


def exact(value: float) -> Fraction:
    return Fraction(float(value))


def as_ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


@pytest.mark.parametrize("seed", range(20))
def test_sums_and_products_are_never_below_the_exact_value(seed):
    rng = np.random.default_rng(seed)
    a, b, c = 10.0 ** rng.uniform(-8, 8, (3, 50))
    value = (Upper.exact(a) * Upper.exact(b) + Upper.exact(c)).squared().sum(0).bound()
    truth = sum((exact(x) * exact(y) + exact(z)) ** 2 for x, y, z in zip(a, b, c, strict=True))
    assert as_ball(truth) <= value < as_ball(truth) * (1 + arb(1e-13))


@pytest.mark.parametrize("seed", range(20))
def test_roots_are_never_below_the_exact_value(seed):
    a, b = 10.0 ** np.random.default_rng(seed).uniform(-8, 8, 2)
    squared = as_ball(exact(a) ** 2 + exact(b) ** 2)
    value = hypot(Upper.exact(a), Upper.exact(b)).bound()
    assert squared <= value**2 < squared * (1 + arb(1e-14))


def test_conversion_of_balls_covers_their_upper_ends():
    for ball in (arb(1) / 3, arb(2).sqrt() * 1e-200, arb(5, 0.1), arb(0)):
        assert ball.upper() <= Upper.of_balls(ball).bound()
    many = Upper.of_balls([arb(1) / 3, arb(1) / 7])
    assert arb(1) / 3 <= many.bound() < 0.3334


def test_quotients():
    quotients = Upper.ratio(np.arange(1, 30), 31)
    for numerator, value in zip(range(1, 30), quotients.values, strict=True):
        assert as_ball(Fraction(numerator, 31)) <= Upper(value, quotients.roundings).bound()


def repeated_square(value: float) -> Upper:
    """value^1024, beyond any floating type's range for the extremes of float64."""
    power = Upper.exact(value)
    with strict():
        for _ in range(10):
            power = power.squared()
    return power


@pytest.mark.parametrize("value", [1e-308, 1e308])
def test_leaving_the_range_raises(value):
    with pytest.raises(FloatingPointError):
        repeated_square(value)
