"""Activations and their slopes in ball arithmetic, for steps that float64 rounds too much."""

from collections.abc import Callable

from flint import arb

Pair = tuple[arb, arb]


def _gelu(z: arb) -> Pair:
    half = arb(1) / 2
    root = half.sqrt()
    below = half * (-root * z).erfc()
    return z * below, below + z * (-half * z * z).exp() * root / arb.const_sqrt_pi()


def _tanh(z: arb) -> Pair:
    t = z.tanh()
    return t, (1 - t) * (1 + t)


def _erf(z: arb) -> Pair:
    return z.erf(), 2 / arb.const_sqrt_pi() * (-(z * z)).exp()


def _softplus(z: arb) -> Pair:
    e = z.exp()
    return e.log1p(), e / (1 + e)


def _sigmoid(z: arb) -> Pair:
    s = (1 + (z / 2).tanh()) / 2
    return s, s * (1 - s)


def _silu(z: arb) -> Pair:
    s, slope = _sigmoid(z)
    return z * s, s + z * slope


def _sin(z: arb) -> Pair:
    return z.sin(), z.cos()


def _cos(z: arb) -> Pair:
    return z.cos(), -z.sin()


def _gaussian(z: arb) -> Pair:
    bell = (-(z * z) / 2).exp()
    return bell, -z * bell


BALL_ACTIVATIONS: dict[str, Callable[[arb], Pair]] = {
    "gelu": _gelu,
    "tanh": _tanh,
    "erf": _erf,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "sin": _sin,
    "cos": _cos,
    "gaussian": _gaussian,
    "identity": lambda z: (z, arb(1)),
}
"""By name; those that are not here have no steps in balls."""
