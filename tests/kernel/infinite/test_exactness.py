"""Closed forms, and the compiled recursion of all layers, against the same at 60 digits."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from overparam.kernel.infinite.closed_forms import CLOSED_FORMS
from overparam.kernel.infinite.dual_functions import Pairs
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP


def relu(q1, q2, c):
    if q1 * q2 == 0:
        return mp.mpf(0), mp.mpf(1) / 4
    angle = mp.acos(max(-1, min(1, c / mp.sqrt(q1 * q2))))
    rest = mp.pi - angle
    return (mp.sqrt(q1 * q2) * mp.sin(angle) + rest * c) / (2 * mp.pi), rest / (2 * mp.pi)


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

        def first(a, b):
            return weight * mp.fdot(a, b) / model.in_dim + bias

        def variances(row):
            found = [first(row, row)]
            for _ in model.hidden_widths[1:]:
                found.append(weight * pair(*3 * found[-1:])[0] + bias)
            return found

        by_layer = [variances(row) for row in rows]
        ntk, nngp = np.empty((2, len(x), len(x)))
        for i, a in enumerate(rows):
            for j, b in enumerate(rows[: i + 1]):
                kernel = c = first(a, b)
                for q1, q2 in zip(by_layer[i], by_layer[j], strict=True):
                    value, slope = pair(q1, q2, c)
                    c = weight * value + bias
                    kernel = c + weight * kernel * slope
                ntk[i, j] = ntk[j, i] = kernel
                nngp[i, j] = nngp[j, i] = c
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


SMOOTH = pytest.mark.parametrize(
    "pair", [erf, gelu, sin, cos, gaussian], ids=lambda pair: pair.__name__
)


@SMOOTH
@pytest.mark.parametrize(("depth", "scale"), [(1, 100), (3, 3)])
@pytest.mark.parametrize("bias", [0.1, 1.0])
def test_13_digits_are_kept_at_a_large_weight_scale(pair, depth, scale, bias):
    """The inputs' layer at variances up to 1e7 and 1e4 or so; the layers after it see 900."""
    model = MLP(4, (1,) * depth, 1, pair.__name__, weight_scale=30.0, bias_scale=bias)
    x = scale * points()
    got, exact = infinite_ntk(model, x), at_60_digits(pair, model, x)
    assert worst(got.ntk, exact[0]) < 1e-13
    assert worst(got.nngp, exact[1]) < 1e-13


def angle(gap, lean):
    """What the next layer makes of a gap: an angle, up to a factor."""
    return mp.sqrt(max(gap, 0) + lean)


@SMOOTH
def test_gaps_keep_the_angle_to_a_few_units(pair):
    """Of e1 e2 -+ E act(u) act(v), of which a plain difference keeps half the digits only."""
    rng = np.random.default_rng(0)
    n = 120
    r1 = 10 ** rng.uniform(-2, 3, n)
    r2 = r1 * (1 + rng.choice([0, 1e-9, 1e-4, 0.1], n) * rng.standard_normal(n))
    less = rng.choice([0, 1e-16, 1e-10, 1e-5, 1e-2, 0.3, 1.0], n) * rng.uniform(0.5, 1, n)
    opposite = rng.random(n) < 0.3
    minus, plus = np.where(opposite, 2 - less, less), np.where(opposite, less, 2 - less)
    dual = CLOSED_FORMS[pair.__name__]
    with jax.enable_x64(True):
        pairs = Pairs(*map(jnp.asarray, (r1, r2, minus, plus)))
        (e1, left), (e2, right) = dual.features(pairs.r1), dual.features(pairs.r2)
        found = dual(pairs, e1, e2, left, right)
        found = jax.tree.map(np.asarray, found)
    for i in range(n):
        with mp.workdps(60):
            s, t = mp.mpf(r1[i]), mp.mpf(r2[i])
            rho = (mp.mpf(less[i]) - 1) if opposite[i] else (1 - mp.mpf(less[i]))
            value, slope = pair(s * s, t * t, s * t * rho)
            roots = [mp.sqrt(pair(r * r, r * r, r * r)[0]) for r in (s, t)]
            size, lean = roots[0] * roots[1], (roots[0] - roots[1]) ** 2 / 2
            for gap, got in ((size - value, found.below[i]), (size + value, found.above[i])):
                off = angle(mp.mpf(float(got)) / size, lean / size) - angle(gap / size, lean / size)
                # gelu is nearly odd at small deviations only: its sum is a plain one.
                near = gap < 1e-3 * size and (rho > 0 or pair is not gelu)
                assert abs(off) < (1e-15 if near else 2e-14)
            assert abs(found.value[i] - value) < 1e-15 * size
            assert abs(found.slope[i] - slope) < 1e-11 * abs(slope) + 1e-100


@pytest.mark.parametrize(
    "pair", [relu, erf, gelu, sin, cos, gaussian], ids=lambda pair: pair.__name__
)
@pytest.mark.parametrize("scale", [1, 8, 300])
@pytest.mark.sample(1)
def test_float32_is_right_to_a_few_of_its_units(pair, scale):
    """Layers in float32 up to deviations of 16, else in float64; nearly parallel inputs, too."""
    model = MLP(4, (1, 1, 1), 1, pair.__name__, weight_scale=1.4, bias_scale=0.1)
    x = (scale * points()[[0, 2, 5, 7]]).astype(np.float32)
    got, exact = infinite_ntk(model, x), at_60_digits(pair, model, x)
    assert worst(got.ntk, exact[0]) < 6e-7
    assert worst(got.nngp, exact[1]) < 4e-7


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e13, 1e16])
@pytest.mark.sample(2)
def test_float32_does_not_leave_its_range_on_the_way(scale):
    """On both sides of where relu's layers may be computed in float32."""
    model = MLP(4, (1, 1, 1), 1, "relu", weight_scale=1.4, bias_scale=0.0)
    x = (scale * points()).astype(np.float32)
    got, exact = infinite_ntk(model, x), infinite_ntk(model, x.astype(np.float64))
    assert worst(got.ntk, exact.ntk) < 6e-7
    assert worst(got.nngp, exact.nngp) < 4e-7
