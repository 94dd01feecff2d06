"""G4: Clopper-Pearson against exact rationals, empirical Bernstein by hand, both by coverage."""

from fractions import Fraction
from math import comb, log, sqrt

import numpy as np
import pytest
from scipy.stats import binomtest

from overparam.errors import InputError
from overparam.risk.held_out import (
    clopper_pearson_upper,
    empirical_bernstein_upper,
)


def tail(errors: int, n: int, p: Fraction) -> Fraction:
    """P(Binomial(n, p) <= errors), exactly."""
    return sum((comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(errors + 1)), Fraction(0))


@pytest.mark.parametrize(("errors", "n"), [(0, 1), (0, 50), (3, 40), (39, 40), (20, 60)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_tail_at_the_bound_is_delta_in_exact_arithmetic(errors, n, confidence):
    upper = Fraction(clopper_pearson_upper(errors, n, confidence))
    assert float(tail(errors, n, upper)) == pytest.approx(1 - confidence, rel=1e-9)


def test_against_scipys_interval():
    ours = clopper_pearson_upper(5, 359, 0.95)
    theirs = binomtest(5, 359, alternative="less").proportion_ci(0.95, method="exact").high
    assert ours == pytest.approx(theirs, rel=1e-10)
    assert clopper_pearson_upper(7, 7, 0.95) == 1.0


def test_no_errors_give_a_closed_form():
    assert clopper_pearson_upper(0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-12)


def test_empirical_bernstein_by_hand():
    losses = np.array([0.0, 1.0, 0.0, 0.5])
    logarithm = log(2 / 0.1)
    variance = np.var(losses, ddof=1)
    expected = 0.375 + sqrt(2 * variance * logarithm / 4) + 7 * 2.0 * logarithm / 9
    assert empirical_bernstein_upper(losses, 2.0, 0.9) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_coverage_over_200_samples_of_known_risk(confidence):
    """A loss that is 1/2 with probability 0.2, 1 with probability 0.1, else 0: risk 0.2."""
    rng = np.random.default_rng(0)
    draws = rng.choice([0.0, 0.5, 1.0], p=[0.7, 0.2, 0.1], size=(200, 120))
    allowed = 200 * (1 - confidence)
    errors = np.sum(draws > 0, axis=1)  # probability 0.3
    assert sum(clopper_pearson_upper(int(e), 120, confidence) < 0.3 for e in errors) <= allowed
    assert sum(empirical_bernstein_upper(d, 1.0, confidence) < 0.2 for d in draws) <= allowed


@pytest.mark.parametrize(
    ("errors", "n", "confidence", "message"),
    [
        (1, 10, 0.0, "confidence is 0.0: choose it between 0 and 1"),
        (1, 10, 1.0, "confidence is 1.0"),
        (1, 10, float("nan"), "confidence is nan"),
        (0, 0, 0.95, "the sample has 0 points"),
        (11, 10, 0.95, "errors is 11"),
    ],
)
def test_bad_input_is_refused_in_one_line(errors, n, confidence, message):
    with pytest.raises(InputError, match=message) as caught:
        clopper_pearson_upper(errors, n, confidence)
    assert "\n" not in str(caught.value)


def test_losses_outside_the_bound_are_refused():
    with pytest.raises(InputError, match=r"a loss is 1.5, outside \[0, 1\]: clip the loss"):
        empirical_bernstein_upper(np.array([0.0, 1.5]), 1.0, 0.95)
    with pytest.raises(InputError, match="needs at least 2"):
        empirical_bernstein_upper(np.array([0.5]), 1.0, 0.95)
