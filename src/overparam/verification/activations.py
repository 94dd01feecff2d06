"""The built-in activations in ball arithmetic: value, slope, and the two constants.

The constants' proofs stand in docs/activations.md; here they are evaluated from the closed forms,
not read from the table of floats that certificates are computed with.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flint import arb

Ball = Callable[[arb], tuple[arb, arb]]


@dataclass(frozen=True)
class BallActivation:
    """An activation: z -> (act(z), act'(z)), beta_1, beta_2 (None where act' jumps), inf act'.

    ``lowest`` gives a lower bound on act' from beta_1.
    """

    value_and_slope: Ball
    slope_bound: Callable[[], arb]
    curvature_bound: Callable[[], arb] | None
    lowest: Callable[[arb], arb] = lambda steepest: -steepest


def _tanh(z: arb) -> tuple[arb, arb]:
    t = z.tanh()
    return t, 1 - t * t


def _erf(z: arb) -> tuple[arb, arb]:
    return z.erf(), 2 * (-z * z).exp() / arb.const_sqrt_pi()


def _normal(z: arb) -> tuple[arb, arb]:
    """The normal distribution function and its density."""
    root = arb(2).sqrt()
    return (-z / root).erfc() / 2, (-z * z / 2).exp() / (root * arb.const_sqrt_pi())


def _gelu(z: arb) -> tuple[arb, arb]:
    below, density = _normal(z)
    return z * below, below + z * density


def _sigmoid(z: arb) -> arb:
    return 1 / (1 + (-z).exp())


def _softplus(z: arb) -> tuple[arb, arb]:
    return z.exp().log1p(), _sigmoid(z)


def _sin(z: arb) -> tuple[arb, arb]:
    return z.sin_cos()


def _cos(z: arb) -> tuple[arb, arb]:
    return z.cos(), -z.sin()


def _gaussian(z: arb) -> tuple[arb, arb]:
    value = (-z * z / 2).exp()
    return value, -z * value


def _silu(z: arb) -> tuple[arb, arb]:
    s = _sigmoid(z)
    return z * s, s * (1 + z * _sigmoid(-z))


def _gelu_tanh(z: arb) -> tuple[arb, arb]:
    kappa, cubic = (2 / arb.pi()).sqrt(), arb(44715) / 1000000
    u = kappa * z * (1 + cubic * z * z)
    s, rest = _sigmoid(2 * u), _sigmoid(-2 * u)
    return z * s, s * (1 + 2 * kappa * z * (1 + 3 * cubic * z * z) * rest)


def _logistic(z: arb) -> tuple[arb, arb]:
    return _sigmoid(z), _sigmoid(z) * _sigmoid(-z)


def _identity(z: arb) -> tuple[arb, arb]:
    return z, arb(1)


def _relu(z: arb) -> tuple[arb, arb]:
    if z > 0:
        return z, arb(1)
    if z <= 0:
        return arb(0), arb(0)
    return z.nonnegative_part(), arb(0).union(arb(1))


def _leaky_relu(z: arb) -> tuple[arb, arb]:
    if z >= 0:
        return z, arb(1)
    if z < 0:
        return z / 100, arb(1) / 100
    return z.union(z / 100), (arb(1) / 100).union(arb(1))


def _one() -> arb:
    return arb(1)


def _gelu_slope_bound() -> arb:
    root = arb(2).sqrt()
    below, density = _normal(root)
    return below + root * density


def _root(increasing: Callable[[arb], arb]) -> arb:
    """A ball around the root in [1, 2] of an increasing function, by bisection."""
    low, high = arb(1), arb(2)
    while True:
        middle = ((low + high) / 2).mid()
        value = increasing(middle)
        if value < 0:
            low = middle
        elif value > 0:
            high = middle
        else:
            return low.union(high)


def _silu_slope_bound() -> arb:
    """(1 + u) / 2 for the root u of u tanh u = 1."""
    return (1 + _root(lambda u: u * u.tanh() - 1)) / 2


def _gelu_tanh_slope_bound() -> arb:
    """The slope at its only critical point on s > 0, the zero of act''."""
    kappa, cubic = (2 / arb.pi()).sqrt(), arb(44715) / 1000000

    def increasing(s: arb) -> arb:
        t = cubic * s * s
        return kappa * s * (1 + 3 * t) ** 2 / (1 + 6 * t) * (kappa * s * (1 + t)).tanh() - 1

    return _gelu_tanh(_root(increasing))[1]


def _rising(_: arb) -> arb:
    return arb(0)


def _mirrored(steepest: arb) -> arb:
    """For act(z) = z / 2 plus an even function, act'(z) + act'(-z) = 1."""
    return 1 - steepest


ACTIVATIONS = {
    "tanh": BallActivation(_tanh, _one, lambda: 4 / (3 * arb(3).sqrt()), _rising),
    "erf": BallActivation(
        _erf,
        lambda: 2 / arb.const_sqrt_pi(),
        lambda: (8 / (arb.pi() * arb.const_e())).sqrt(),
        _rising,
    ),
    "gelu": BallActivation(_gelu, _gelu_slope_bound, lambda: (2 / arb.pi()).sqrt(), _mirrored),
    "softplus": BallActivation(_softplus, _one, lambda: arb(1) / 4, _rising),
    "sin": BallActivation(_sin, _one, _one),
    "silu": BallActivation(_silu, _silu_slope_bound, lambda: arb(1) / 2, _mirrored),
    "identity": BallActivation(_identity, _one, lambda: arb(0), lambda steepest: steepest),
    "cos": BallActivation(_cos, _one, _one),
    "gaussian": BallActivation(_gaussian, lambda: (-arb(1) / 2).exp(), _one),
    "gelu_tanh": BallActivation(
        _gelu_tanh, _gelu_tanh_slope_bound, lambda: (2 / arb.pi()).sqrt(), _mirrored
    ),
    "sigmoid": BallActivation(
        _logistic, lambda: arb(1) / 4, lambda: 1 / (6 * arb(3).sqrt()), _rising
    ),
    "relu": BallActivation(_relu, _one, None, _rising),
    "leaky_relu": BallActivation(_leaky_relu, _one, None, _rising),
}
"""By the names that certificates use."""
