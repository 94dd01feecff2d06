"""Directed rounding against exact rationals, over the whole range of float64."""

from fractions import Fraction
from math import inf, isinf, nextafter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overparam.enclosures import rounding as r
from overparam.errors import InputError

finite = st.floats(allow_nan=False, allow_infinity=False)


def exactly(value: float) -> Fraction | float:
    return value if isinf(value) else Fraction(value)


@pytest.mark.parametrize(
    ("up", "down", "exact"),
    [
        (r.add_up, r.add_down, lambda a, b: a + b),
        (r.sub_up, r.sub_down, lambda a, b: a - b),
        (r.mul_up, r.mul_down, lambda a, b: a * b),
        (r.div_up, r.div_down, lambda a, b: a / b),
    ],
)
@given(a=finite, b=finite)
def test_results_bracket_the_exact_one_within_two_neighbours(up, down, exact, a, b) -> None:
    assume(not (b == 0 and up is r.div_up))
    truth = exact(Fraction(a), Fraction(b))
    low, high = down(a, b), up(a, b)
    assert exactly(low) <= truth <= exactly(high)
    assert nextafter(nextafter(low, inf), inf) >= high


@given(st.floats(0, allow_infinity=False))
def test_square_roots(a: float) -> None:
    low, high = r.sqrt_down(a), r.sqrt_up(a)
    assert low >= 0
    assert Fraction(low) ** 2 <= Fraction(a) <= Fraction(high) ** 2


@given(finite, st.integers(-900, 900))
def test_scaling_by_powers_of_two_is_exact_where_it_can_be(a: float, exponent: int) -> None:
    truth = Fraction(a) * Fraction(2) ** exponent
    low, high = r.scale_down(a, exponent), r.scale_up(a, exponent)
    assert exactly(low) <= truth <= exactly(high)
    if 2.0**-1000 < abs(truth) < 2.0**1000:
        assert low == high


@given(st.integers(0, 2**40))
def test_gamma_is_rounded_up(k: int) -> None:
    truth = Fraction(k, 2**53) / (1 - Fraction(k, 2**53))
    assert truth <= Fraction(r.gamma(k)) <= truth * (1 + Fraction(1, 2**50))


def test_gamma_refuses_what_has_no_bound() -> None:
    for k in (-1, 2**53):
        with pytest.raises(InputError, match="no finite error bound"):
            r.gamma(k)


@given(st.lists(st.floats(-1e300, 1e300), max_size=8))
def test_sums(terms: list[float]) -> None:
    assert sum(Fraction(t) for t in terms) <= Fraction(r.sum_up(*terms))


@given(arrays(float, st.integers(1, 30), elements=st.floats(-1e150, 1e150)))
def test_norms_of_arrays(a: np.ndarray) -> None:
    squares = sum(Fraction(float(x)) ** 2 for x in a)
    bound = Fraction(r.square_sum_up(a))
    assert squares <= bound <= squares * (1 + Fraction(1, 2**45)) + Fraction(1, 2**1000)


@given(arrays(float, st.integers(1, 30), elements=finite))
def test_frobenius_norms_over_the_whole_range(a: np.ndarray) -> None:
    squares = sum(Fraction(float(x)) ** 2 for x in a)
    bound = r.frobenius_up(a)
    if isinf(bound):
        assert squares > Fraction(2) ** 2040
    else:
        assert squares <= Fraction(bound) ** 2
    if 2.0**-500 < bound < inf:
        assert Fraction(bound) ** 2 <= squares * (1 + Fraction(1, 2**45))


def test_array_neighbours_enclose() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200))
    low, high = r.array_down(a * b), r.array_up(a * b)
    for x, y, p, q in zip(a, b, low, high, strict=True):
        assert Fraction(p) < Fraction(x) * Fraction(y) < Fraction(q)
