"""Upper and lower sums against exact integrals."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from overparam.enclosures.monotone_integrals import lower_sums, upper_integral, upper_sums
from overparam.errors import InputError


def test_sums_enclose_the_integral_of_a_polynomial_at_every_node() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        nodes = np.unique(rng.uniform(-2, 3, 50))
        values = nodes**3  # rounded, so both bounds need a neighbour
        high = upper_sums(nodes, np.nextafter(np.nextafter(values, np.inf), np.inf))
        low = lower_sums(nodes, np.nextafter(np.nextafter(values, -np.inf), -np.inf))
        for x, a, b in zip(nodes, low, high, strict=True):
            truth = (Fraction(x) ** 4 - Fraction(nodes[0]) ** 4) / 4
            assert Fraction(a) <= truth <= Fraction(b)


def test_a_step_function_has_no_slack_but_rounding() -> None:
    """Constant on cells that end at the nodes: the upper sum is the integral."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        nodes = np.unique(rng.uniform(-1, 1, 40)) * 10.0 ** rng.uniform(-8, 8)
        values = np.sort(rng.standard_normal(len(nodes)))
        widths = [Fraction(b) - Fraction(a) for a, b in pairwise(nodes)]
        truth = sum(w * Fraction(v) for w, v in zip(widths, values[1:], strict=True))
        size = sum(w * abs(Fraction(v)) for w, v in zip(widths, values[1:], strict=True))
        upper = Fraction(upper_sums(nodes, values)[-1])
        assert truth <= upper <= truth + size * Fraction(1, 2**44)
        lower = Fraction(lower_sums(nodes, np.append(values[1:], 9.0))[-1])
        assert truth - size * Fraction(1, 2**44) <= lower <= truth


def test_many_tiny_cells_do_not_leak() -> None:
    """Summed naively, 10^6 cells of 0.1 / 10^6 drift; the bound stays above."""
    nodes = np.linspace(0, 1, 100_001)
    values = np.full(len(nodes), 0.1)
    upper = upper_sums(nodes, values)[-1]
    assert Fraction(0.1) <= Fraction(upper) <= Fraction(0.1) * (1 + Fraction(1, 10**9))


def test_excess_shrinks_like_one_over_the_number_of_cells() -> None:
    excess = [upper_integral(lambda x: x * x * (1 + 1e-15), 0.0, 1.0, n) - 1 / 3 for n in (10, 100)]
    assert 0 < excess[1] < excess[0]
    assert excess[0] / excess[1] == pytest.approx(10, rel=0.1)


def test_empty_interval_and_infinite_values() -> None:
    assert upper_integral(lambda x: x, 1.0, 1.0, 4) == 0
    assert upper_integral(lambda x: np.inf if x > 0.5 else 0.0, 0.0, 1.0, 4) == np.inf


@pytest.mark.parametrize(
    ("nodes", "values", "message"),
    [
        (np.array([0.0, 0.0]), np.ones(2), "do not increase"),
        (np.array([0.0, np.nan]), np.ones(2), "do not increase"),
        (np.array([0.0, 1.0]), np.array([0.0, np.nan]), "NaN"),
        (np.zeros(0), np.zeros(0), "do not match"),
    ],
)
def test_bad_grids_are_refused(nodes: np.ndarray, values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        upper_sums(nodes, values)


def test_bad_interval_is_refused() -> None:
    with pytest.raises(InputError, match="no grid"):
        upper_integral(lambda x: x, 1.0, 0.0, 4)
