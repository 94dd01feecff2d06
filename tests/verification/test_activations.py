"""The activations in balls, against mpmath."""

import mpmath
import pytest
from flint import arb, ctx

from overparam.verification.activations import ACTIVATIONS

POINTS = [-40.0, -3.5, -1.0, -1e-3, 0.0, 1e-9, 0.7, 1.4142135, 2.4, 9.0, 60.0]


def _normal(z):
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def _gelu_tanh(z):
    u = mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf("0.044715") * z**3)
    return z / 2 * (1 + mpmath.tanh(u))


EXACT = {
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "gelu": lambda z: z * _normal(z),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "sin": mpmath.sin,
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "identity": lambda z: z,
    "cos": mpmath.cos,
    "gaussian": lambda z: mpmath.exp(-z * z / 2),
    "gelu_tanh": _gelu_tanh,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "relu": lambda z: max(z, 0),
    "leaky_relu": lambda z: max(z, z / 100),
}
SMOOTH = [name for name in ACTIVATIONS if ACTIVATIONS[name].curvature_bound is not None]


def holds(ball: arb, number: mpmath.mpf) -> bool:
    """Whether a tight ball contains a number known to 60 digits."""
    with ctx.workprec(300):
        near = arb(mpmath.nstr(number, 60)) + arb(0, 1e-45)
    return ball.overlaps(near) and ball.rad() < 1e-30 * (1 + abs(ball.mid()))


def test_every_activation_has_a_reference():
    assert EXACT.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", EXACT)
def test_values_and_slopes(name):
    with ctx.workprec(160), mpmath.workdps(80):
        for point in POINTS:
            value, slope = ACTIVATIONS[name].value_and_slope(arb(point))
            z = mpmath.mpf(point)
            assert holds(value, EXACT[name](z)), point
            if name in SMOOTH:
                assert holds(slope, mpmath.diff(EXACT[name], z)), point


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.sample(6)
def test_bounds_are_the_suprema(name, order):
    activation = ACTIVATIONS[name]
    bound = activation.slope_bound() if order == 1 else activation.curvature_bound()
    with mpmath.workdps(30):
        grid = [mpmath.mpf(i) / 50 for i in range(-400, 401)] + [mpmath.mpf(40)]
        seen = max(abs(mpmath.diff(EXACT[name], z, order)) for z in grid)
    assert seen <= float(bound) * (1 + 1e-15)
    assert seen >= 0.999 * float(bound)


def test_a_ball_across_the_kink_contains_both_sides():
    value, slope = ACTIVATIONS["relu"].value_and_slope(arb(0, 0.5))
    assert value.contains(arb(0))
    assert value.contains(arb(0.5))
    assert slope.contains(arb(0))
    assert slope.contains(arb(1))
