"""Counted roundings in both precisions, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from flint import arb, fmpq

from overparam.numbers.upper import EXTENDED, Upper, hypot, strict
from overparam.verification.balls import bound_of, upper_of

EITHER = pytest.mark.parametrize("dtype", [np.float64, EXTENDED])


def fraction(value: float) -> Fraction:
    return Fraction(float(value))


def as_ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


@EITHER
@pytest.mark.parametrize("seed", range(20))
def test_sums_and_products_are_never_below_the_exact_value(seed, dtype):
    numbers = 10.0 ** np.random.default_rng(seed).uniform(-8, 8, (3, 50))
    a, b, c = (Upper.exact(row, dtype) for row in numbers)
    value = (a * b + 2 * c).squared().sum(0)
    rows = ([fraction(number) for number in row] for row in numbers)
    truth = as_ball(sum((x * y + 2 * z) ** 2 for x, y, z in zip(*rows, strict=True)))
    for bound in (bound_of(value), value.bound()):
        assert truth <= bound < truth * (1 + arb(1e-13))


@EITHER
@pytest.mark.parametrize("seed", range(20))
def test_roots_are_never_below_the_exact_value(seed, dtype):
    a, b = 10.0 ** np.random.default_rng(seed).uniform(-8, 8, 2)
    squared = as_ball(fraction(a) ** 2 + fraction(b) ** 2)
    value = hypot(Upper.exact(a, dtype), Upper.exact(b, dtype))
    for bound in (bound_of(value), arb(value.bound())):
        assert squared <= bound**2 < squared * (1 + arb(1e-14))


def test_conversion_of_balls_covers_their_upper_ends():
    for ball in (arb(1) / 3, arb(2).sqrt() * 1e-200, arb(5, 0.1), arb(0)):
        assert ball.upper() <= bound_of(upper_of(ball))
    many = upper_of([arb(1) / 3, arb(1) / 7])
    assert arb(1) / 3 <= bound_of(many) < 0.3334


@EITHER
def test_quotients(dtype):
    for numerator in range(1, 30):
        quotient = Upper.exact(np.array([float(numerator)]), dtype).over(np.array([31.0]))
        exact = as_ball(Fraction(numerator, 31))
        assert exact <= bound_of(quotient)
        assert exact <= quotient.bound()


def test_roundings_too_many_to_count_bound_nothing():
    assert Upper(np.ones(3), 2**52).bound() == np.inf


def test_only_powers_of_two_are_factors():
    one = Upper.exact(1.0)
    assert (0.5 * one).bound() == pytest.approx(0.5)
    assert (0.5 * one).roundings == 0
    with pytest.raises(TypeError, match="no power of two"):
        3 * one


@pytest.mark.skipif(EXTENDED is np.float64, reason="there is one precision only")
def test_roundings_of_two_precisions_are_not_mixed():
    rounded = Upper.exact(1.0) + Upper.exact(2.0)
    wide = Upper.exact(1.0, EXTENDED)
    assert (wide + Upper.exact(2.0)).roundings == 1  # an exact number has no roundings to mix
    for operation in (wide.__add__, wide.__mul__, wide.minimum):
        with pytest.raises(TypeError, match="different precisions"):
            operation(rounded)


def repeated_square(value: float) -> Upper:
    """value^(2^16), beyond any floating type's range for the extremes of float64."""
    power = Upper.exact(value, EXTENDED)
    with strict():
        for _ in range(16):
            power = power.squared()
    return power


@pytest.mark.parametrize("value", [1e-308, 1e308])
def test_leaving_the_range_raises(value):
    with pytest.raises(FloatingPointError):
        repeated_square(value)
