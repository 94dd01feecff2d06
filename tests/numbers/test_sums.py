"""What a computed sum may hide, against exact rationals and the least favourable orders."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overparam import InputError
from overparam.numbers import Interval
from overparam.numbers.sums import FURTHER, UNIT_ROUNDOFF, gamma, sum_error, summed

U = Fraction(UNIT_ROUNDOFF)


@pytest.mark.parametrize("k", [1, 2, 3, 1000, 2**30, 2**53 - 1])
def test_gamma_is_the_error_of_so_many_roundings(k):
    exact = k * U / (1 - k * U)
    assert exact <= Fraction(gamma(k)) <= exact * (1 + 4 * U)


def test_gamma_of_too_many_is_refused():
    assert gamma(0) == 0
    with pytest.raises(InputError, match="no finite error bound"):
        gamma(2**53)


def test_every_sum_counts_with_its_length():
    assert sum_error(7) == gamma(7 + FURTHER)
    assert sum_error(7, 100, 3) == gamma(110 + 3 * FURTHER)


@pytest.mark.parametrize("terms", [2, 100, 20_000])
def test_the_least_favourable_order_is_enclosed(terms):
    """One by one each term is lost in what is there already: half a unit, a term."""
    values = np.full(terms, 0.999 * UNIT_ROUNDOFF)
    values[0] = 1.0
    total = 0.0
    for value in values.tolist():
        total += value
    assert total == 1.0
    exact, found = sum(map(Fraction, values.tolist())), summed(total, terms)
    assert Fraction(found.lower) <= exact <= Fraction(found.upper)
    assert exact > 1 + (terms - 1) * U / 2  # a budget that does not grow with them is too small


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(1, 5))
def test_sums_of_sums_and_roots_of_them_are_enclosed(row, rows):
    array = np.array([row] * rows) ** 2
    exact = rows * sum(Fraction(value) for value in array[0].tolist())
    found = summed(float(array.sum(axis=1).sum()), len(row), rows)
    assert Fraction(found.lower) <= exact <= Fraction(found.upper)
    root = summed(float(np.sqrt(array.sum())), array.size)
    assert Fraction(root.lower) ** 2 <= exact <= Fraction(root.upper) ** 2


ends = st.sampled_from([-math.inf, -1e308, -1.5, -5e-324, 0.0, 5e-324, 0.3, 1.7, 1e308, math.inf])


@given(ends, ends, ends, ends)
def test_one_number_is_rounded_as_an_array_of_one(a, b, c, d):
    x, y = Interval(min(a, b), max(a, b)), Interval(min(c, d), max(c, d))

    def array(number):
        return Interval(np.array([number.lower]), np.array([number.upper]))

    pairs = [
        *((x + y, array(x) + array(y)), (x - y, array(x) - array(y))),
        *((x * y, array(x) * array(y)), (x / y, array(x) / array(y))),
        (x.sqrt(), array(x).sqrt()),
    ]
    for one, each in pairs:
        assert (one.lower, one.upper) == (each.lower[0], each.upper[0])
