"""The binary relative entropy and its inverses, against 50 digits and closed forms."""

import math

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings

from overparam.errors import InputError
from overparam.risk.binary_kl import (
    ROUNDING,
    binary_kl,
    kl_lower_inverse,
    kl_upper_inverse,
)

UNIT = st.floats(0, 1)
INSIDE = st.floats(1e-12, 1 - 1e-12)
BUDGET = st.floats(1e-12, 30)


def exact_kl(q: float, p: float) -> mpmath.mpf:
    with mpmath.workdps(60):
        q, p = mpmath.mpf(q), mpmath.mpf(p)
        first = q * mpmath.log(q / p) if q else mpmath.mpf(0)
        second = (1 - q) * mpmath.log((1 - q) / (1 - p)) if q < 1 else mpmath.mpf(0)
        return first + second


@settings(deadline=None)
@given(INSIDE, INSIDE)
def test_kl_against_sixty_digits(q, p):
    assert binary_kl(q, p) == pytest.approx(float(exact_kl(q, p)), rel=3e-15, abs=0)


@settings(deadline=None)
@given(INSIDE, st.floats(-1e-6, 1e-6))
def test_no_digits_are_lost_where_the_arguments_are_close(q, shift):
    p = min(max(q * (1 + shift), 1e-300), 1 - 1e-16)
    assert binary_kl(q, p) == pytest.approx(float(exact_kl(q, p)), rel=3e-15, abs=0)


@settings(deadline=None)
@given(INSIDE, BUDGET)
def test_inverses_err_outwards_and_by_rounding_only(q, budget):
    for inverse, end in ((kl_upper_inverse, 1.0), (kl_lower_inverse, 0.0)):
        p = inverse(q, budget)
        if p != end:
            assert exact_kl(q, p) >= budget
        inwards = math.nextafter(math.nextafter(p, q), q)
        assert exact_kl(q, inwards) <= budget * (1 + 2 * ROUNDING)


@settings(deadline=None)
@given(BUDGET)
def test_closed_forms_at_the_ends(budget):
    assert kl_upper_inverse(0.0, budget) == pytest.approx(-math.expm1(-budget), rel=1e-14)
    assert kl_lower_inverse(1.0, budget) == pytest.approx(math.exp(-budget), rel=1e-14)
    assert kl_upper_inverse(1.0, budget) == 1.0
    assert kl_lower_inverse(0.0, budget) == 0.0


@settings(deadline=None)
@given(UNIT, st.floats(0, 30), st.floats(0, 30))
def test_a_larger_budget_reaches_further(q, a, b):
    a, b = sorted((a, b))
    lower, upper = kl_lower_inverse(q, a), kl_upper_inverse(q, a)
    assert kl_lower_inverse(q, b) <= lower <= q <= upper <= kl_upper_inverse(q, b)


@settings(deadline=None)
@given(INSIDE, BUDGET)
def test_the_inverses_are_mirror_images(q, budget):
    mirrored = 1 - kl_lower_inverse(1 - q, budget)
    assert kl_upper_inverse(q, budget) == pytest.approx(mirrored, rel=1e-9, abs=1e-9)


def test_pinsker():
    rng = np.random.default_rng(0)
    for q, p in rng.uniform(size=(200, 2)):
        assert binary_kl(q, p) >= 2 * (q - p) ** 2


def test_values_that_are_infinite():
    assert binary_kl(0.5, 0.0) == math.inf
    assert binary_kl(0.5, 1.0) == math.inf
    assert binary_kl(0.0, 0.0) == 0.0
    assert binary_kl(1.0, 1.0) == 0.0
    assert kl_upper_inverse(0.3, math.inf) == 1.0
    assert kl_lower_inverse(0.3, math.inf) == 0.0


@pytest.mark.parametrize("arguments", [(-0.1, 1.0), (1.1, 1.0), (0.5, -1.0), (math.nan, 1.0)])
def test_arguments_out_of_range(arguments):
    for inverse in (kl_upper_inverse, kl_lower_inverse):
        with pytest.raises(InputError):
            inverse(*arguments)
