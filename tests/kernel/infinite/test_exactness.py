"""The compiled recursion of all layers against the same recursion at 60 digits."""

import mpmath as mp
import numpy as np
import pytest

from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP


def erf(q1, q2, c):
    n = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(n)), 4 / mp.pi / mp.sqrt(n - 4 * c * c)


def gelu(q1, q2, c):
    n = (1 + q1) * (1 + q2)
    square = n - c * c
    orthant = mp.mpf(1) / 4 + mp.asin(c / mp.sqrt(n)) / (2 * mp.pi)
    density = 1 / (2 * mp.pi * mp.sqrt(square))
    value = c * orthant + density * (q1 * q2 * square + c * c) / n
    return value, orthant + c * density * (1 / (1 + q1) + 1 / (1 + q2) + 1 / square)


def sin(q1, q2, c):
    damp = mp.exp(-(q1 + q2) / 2)
    return damp * mp.sinh(c), damp * mp.cosh(c)


def cos(q1, q2, c):
    return sin(q1, q2, c)[::-1]


def gaussian(q1, q2, c):
    square = (1 + q1) * (1 + q2) - c * c
    return 1 / mp.sqrt(square), c / square / mp.sqrt(square)


def points():
    """Repeated, opposite, collinear and nearly parallel points, and a zero row."""
    x = np.random.default_rng(0).standard_normal((11, 4))
    x[1], x[2], x[3] = x[0], -x[0], 3 * x[0]
    x[4], x[5], x[6] = x[0] * (1 + 1e-7), x[0] + 1e-9, -x[0] + 1e-8
    x[7] = 0
    return x


def at_60_digits(pair, model, x):
    """(ntk, nngp) by the recursion on covariances."""
    with mp.workdps(60):
        weight, bias = mp.mpf(model.weight_scale) ** 2, mp.mpf(model.bias_scale) ** 2
        rows = [[mp.mpf(float(entry)) for entry in row] for row in x]
        ntk, nngp = np.empty((2, len(x), len(x)))
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                q1, q2, c = (
                    weight * mp.fdot(s, t) / model.in_dim + bias
                    for s, t in ((a, a), (b, b), (a, b))
                )
                kernel = c
                for _ in model.hidden_widths:
                    value, slope = pair(q1, q2, c)
                    q1, q2 = (weight * pair(q, q, q)[0] + bias for q in (q1, q2))
                    c = weight * value + bias
                    kernel = c + weight * kernel * slope
                ntk[i, j], nngp[i, j] = kernel, c
        return ntk, nngp


def worst(got, exact):
    """The largest error relative to the geometric mean of the two diagonal entries."""
    size = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    return np.max(np.abs(got - exact) / np.where(size > 0, size, 1))


BOUNDED = [(pair, scale) for pair in (erf, sin, cos, gaussian) for scale in (1, 100, 1e4)]


@pytest.mark.parametrize(
    ("pair", "scale"), [*BOUNDED, (gelu, 1), (gelu, 100)], ids=lambda v: getattr(v, "__name__", v)
)
@pytest.mark.parametrize(("weight", "bias"), [(1.4, 0.3), (2.0, 0.0)])
def test_three_layers_keep_13_digits_at_large_variances_of_the_inputs(pair, scale, weight, bias):
    """Up to variances of 1e9 in the first layer; of gelu, which hands them on, up to 1e5."""
    model = MLP(4, (1, 1, 1), 1, pair.__name__, weight_scale=weight, bias_scale=bias)
    x = scale * points()
    got, exact = infinite_ntk(model, x), at_60_digits(pair, model, x)
    assert worst(got.ntk, exact[0]) < 1e-13
    assert worst(got.nngp, exact[1]) < 1e-13


@pytest.mark.parametrize("pair", [erf, gelu, sin, cos, gaussian], ids=lambda pair: pair.__name__)
def test_one_layer_keeps_13_digits_at_any_weight_scale(pair):
    model = MLP(4, (1,), 1, pair.__name__, weight_scale=30.0, bias_scale=1.0)
    x = 100 * points()
    got, exact = infinite_ntk(model, x), at_60_digits(pair, model, x)
    assert worst(got.ntk, exact[0]) < 1e-13
    assert worst(got.nngp, exact[1]) < 1e-13
