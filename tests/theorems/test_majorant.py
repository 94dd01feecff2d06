"""The majorant Psi against exact arithmetic and closed forms."""

import math
from fractions import Fraction

import numpy as np
import pytest

from overparam.theorems.majorant import Majorant


def quadratic(sigma: float, slope: float, nodes: int = 4000) -> Majorant:
    """Psi for omega(s) = slope s, on nodes up to where omega reaches sigma."""
    radii = np.linspace(0, sigma / slope, nodes + 1)[1:]
    return Majorant(sigma, radii, slope * radii)


def test_psi_at_the_nodes_by_hand():
    majorant = Majorant(2.0, np.array([1.0, 3.0, 4.0]), np.array([0.5, 1.5, 3.0]))
    np.testing.assert_array_equal(majorant.values, [1.5, 2.5, 1.5])
    assert majorant.peak == 1
    assert majorant.maximum == 2.5


def test_the_crossing_is_the_smallest_root():
    majorant = Majorant(2.0, np.array([1.0, 3.0, 4.0]), np.array([0.5, 1.5, 3.0]))
    first = majorant.crossing(0.75)
    assert (first.radius, first.modulus, first.sigma, first.node) == (0.5, 0.5, 1.5, 0)
    second = majorant.crossing(2.0)
    assert (second.radius, second.modulus, second.sigma, second.node) == (2.0, 1.5, 0.5, 1)


def test_at_a_node_the_larger_modulus_counts():
    # Psi = 1.5 at s = 1 exactly: what lies beyond is bounded by the next value of omega.
    majorant = Majorant(2.0, np.array([1.0, 3.0]), np.array([0.5, 1.5]))
    crossing = majorant.crossing(1.5)
    assert (crossing.radius, crossing.sigma) == (1.0, 0.5)


def test_the_level_zero_is_crossed_at_once():
    crossing = Majorant(2.0, np.array([1.0]), np.array([0.5])).crossing(0.0)
    assert (crossing.radius, crossing.sigma) == (0.0, 1.5)


@pytest.mark.parametrize("level", [2.5, 3.0])
def test_touching_the_level_is_not_enough(level):
    majorant = Majorant(2.0, np.array([1.0, 3.0, 4.0]), np.array([0.5, 1.5, 3.0]))
    assert majorant.crossing(level) is None


def test_a_singular_kernel_crosses_nothing():
    majorant = Majorant(0.0, np.array([1.0]), np.array([0.5]))
    assert majorant.maximum == 0
    assert majorant.crossing(0.0) is None


def test_random_majorants_agree_with_exact_rationals():
    rng = np.random.default_rng(0)
    for _ in range(50):
        radii = np.cumsum(rng.integers(1, 8, 6)) / 8
        modulus = np.cumsum(rng.integers(0, 4, 6)) / 8
        majorant = Majorant(1.0, radii, modulus)
        exact, psi, last = [], Fraction(0), Fraction(0)
        for r, w in zip(map(Fraction, radii), map(Fraction, modulus), strict=True):
            psi, last = psi + (1 - w) * (r - last), r
            exact.append(psi)
        assert [Fraction(v) for v in majorant.values] == exact
        level = 0.7 * majorant.maximum
        crossing = majorant.crossing(level)
        if majorant.maximum > 0:
            below = np.concatenate([[0.0], radii[: crossing.node]])
            psi = np.concatenate([[0.0], majorant.values[: crossing.node]])
            value = psi[-1] + crossing.sigma * (crossing.radius - below[-1])
            assert value == pytest.approx(level, rel=1e-14)
            assert (psi <= level).all()


def test_psi_of_a_linear_modulus_converges_from_below():
    sigma, slope = 1.3, 0.7
    for nodes in (10, 100, 1000):
        majorant = quadratic(sigma, slope, nodes)
        exact = sigma * majorant.radii - slope * majorant.radii**2 / 2
        gap = exact - majorant.values
        assert (gap >= -1e-14).all()
        assert gap.max() <= sigma**2 / slope / 2 / nodes * (1 + 1e-9)


def test_the_crossing_bounds_the_newton_kantorovich_root_from_above():
    sigma, slope = 1.3, 0.7
    for h in (0.01, 0.2, 0.4, 0.49):
        rho = h * sigma**2 / slope
        exact = (sigma - np.sqrt(sigma**2 - 2 * slope * rho)) / slope
        crossing = quadratic(sigma, slope).crossing(rho)
        assert exact <= crossing.radius <= exact * 1.01
        assert crossing.sigma <= np.sqrt(sigma**2 - 2 * slope * rho)


def test_beyond_the_last_node_no_integral_is_known_not_even_where_the_path_ends_there():
    majorant = Majorant(1.0, np.array([1.0, 2.0]), np.array([0.1, 0.2]))
    for path in (3.0, 4.0):
        assert majorant.integral_along(path, 3.0) == math.inf
