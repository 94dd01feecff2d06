"""Activations against 50-digit references; their constants under attack."""

import dataclasses
import itertools
import pickle

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from overparam.errors import InputError
from overparam.model.activation import (
    ACTIVATIONS,
    BOUNDS,
    Activation,
    abs_linear,
    get_activation,
    linear_pieces,
)

mp.mp.dps = 50


def normal_cdf(s):
    return mp.erfc(-s / mp.sqrt(2)) / 2


def logistic(s):
    return 1 / (1 + mp.exp(-s))


def gelu_tanh(s):
    u = mp.sqrt(2 / mp.pi) * (s + mp.mpf("0.044715") * s**3)
    return s / 2 * (1 + mp.tanh(u))


def gelu_tanh_slope(s):
    cubic, kappa = mp.mpf("0.044715"), mp.sqrt(2 / mp.pi)
    u = kappa * (s + cubic * s**3)
    return (1 + mp.tanh(u)) / 2 + s / 2 * kappa * (1 + 3 * cubic * s**2) * mp.sech(u) ** 2


# Value, slope and curvature at 50 digits, written from the definitions.
REFERENCE = {
    "tanh": (mp.tanh, lambda s: mp.sech(s) ** 2),
    "erf": (mp.erf, lambda s: 2 / mp.sqrt(mp.pi) * mp.exp(-s * s)),
    "gelu": (lambda s: s * normal_cdf(s), lambda s: normal_cdf(s) + s * mp.npdf(s)),
    "softplus": (lambda s: mp.log1p(mp.exp(s)), logistic),
    "sin": (mp.sin, mp.cos),
    "silu": (
        lambda s: s * logistic(s),
        lambda s: logistic(s) + s * logistic(s) * logistic(-s),
    ),
    "relu": (lambda s: max(s, mp.mpf(0)), lambda s: mp.mpf(s > 0)),
    "leaky_relu": (
        lambda s: max(s, s * mp.mpf(0.01)),
        lambda s: mp.mpf(1) if s >= 0 else mp.mpf(0.01),
    ),
    "identity": (lambda s: s, lambda s: mp.mpf(1)),
    "cos": (mp.cos, lambda s: -mp.sin(s)),
    "gaussian": (lambda s: mp.exp(-s * s / 2), lambda s: -s * mp.exp(-s * s / 2)),
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope),
    "sigmoid": (logistic, lambda s: logistic(s) * logistic(-s)),
}


def silu_third(v):
    """Minus the third derivative of silu at 2 v."""
    t = mp.tanh(v)
    return (1 - t**2) * (3 * t + v * (1 - 3 * t**2)) / 4


def silu_fourth(v):
    """A positive multiple of minus the fourth derivative of silu at 2 v."""
    t = mp.tanh(v)
    return 1 - 3 * t**2 - v * t * (2 - 3 * t**2)


# The suprema as the closed forms proved in docs/activations.md, of the first to fourth derivative.
ROOT = mp.findroot(lambda u: u * mp.tanh(u) - 1, 1.2)
SILU = mp.findroot(silu_fourth, 0.5)
TANH = (15 - mp.sqrt(105)) / 30
GELU = (7 - mp.sqrt(33)) / 2
# Where the slope of gelu_tanh is largest: the zero of its derivative.
PEAK = mp.findroot(lambda s: mp.diff(gelu_tanh_slope, s), 1.4)
SUPREMA = {
    "tanh": (
        *(mp.mpf(1), 4 / (3 * mp.sqrt(3)), mp.mpf(2)),
        8 * mp.sqrt(TANH) * (2 - 3 * TANH) * (1 - TANH),
    ),
    "erf": (
        *(2 / mp.sqrt(mp.pi), 4 / mp.sqrt(2 * mp.pi * mp.e), 4 / mp.sqrt(mp.pi)),
        8 / mp.sqrt(mp.pi) * mp.sqrt(9 - 3 * mp.sqrt(6)) * mp.exp((mp.sqrt(6) - 3) / 2),
    ),
    "gelu": (
        normal_cdf(mp.sqrt(2)) + mp.sqrt(2) * mp.npdf(mp.sqrt(2)),
        2 / mp.sqrt(2 * mp.pi),
        mp.sqrt(GELU) * (4 - GELU) * mp.npdf(mp.sqrt(GELU)),
        4 / mp.sqrt(2 * mp.pi),
    ),
    "softplus": (mp.mpf(1), mp.mpf(1) / 4, mp.sqrt(3) / 18, mp.mpf(1) / 8),
    "sin": (mp.mpf(1),) * 4,
    "silu": ((1 + ROOT) / 2, mp.mpf(1) / 2, silu_third(SILU), mp.mpf(1) / 2),
    "relu": (mp.mpf(1), None, None, None),
    "leaky_relu": (mp.mpf(1), None, None, None),
    "identity": (mp.mpf(1), mp.mpf(0), mp.mpf(0), mp.mpf(0)),
    "cos": (mp.mpf(1),) * 4,
    "gaussian": (
        *(mp.exp(-mp.mpf(1) / 2), mp.mpf(1)),
        mp.sqrt(18 - 6 * mp.sqrt(6)) * mp.exp((mp.sqrt(6) - 3) / 2),
        mp.mpf(3),
    ),
    "gelu_tanh": (gelu_tanh_slope(PEAK), mp.sqrt(2 / mp.pi), None, None),
    "sigmoid": (
        *(mp.mpf(1) / 4, 1 / (6 * mp.sqrt(3)), mp.mpf(1) / 8),
        mp.sqrt(TANH) * (2 - 3 * TANH) * (1 - TANH) / 4,
    ),
}

EVERY = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
SMOOTH = [a for a in ACTIVATIONS.values() if a.curvature_bound is not None]
EVERY_SMOOTH = pytest.mark.parametrize("activation", SMOOTH, ids=[a.name for a in SMOOTH])


def sample_points(dtype):
    """A dense range, and the arguments at which formulas tend to break."""
    delicate = [0.0, 1e-30, -1e-30, 1e-8, -1e-8, 100.0, -100.0, 1e4, -1e4]
    return np.concatenate([np.linspace(-30, 30, 601), delicate]).astype(dtype)


def differentiated(function):
    return lambda z: jax.jvp(function, (z,), (jnp.ones_like(z),))[1]


def derivatives(function, count):
    """The function of a number, its derivative, the derivative's, ..."""
    found = [function]
    while len(found) < count:
        found.append(jax.grad(found[-1]))
    return found


def curvature(activation, z):
    return differentiated(activation.slope)(z)


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.sample(7)
def test_value_and_slope_agree_with_mpmath(activation, dtype):
    z = sample_points(dtype)
    with jax.enable_x64(True):
        found = jax.jit(activation.value_and_slope)(z)
    eps = np.finfo(dtype).eps
    for values, reference in zip(found, REFERENCE[activation.name], strict=True):
        assert values.dtype == dtype
        for s, value in zip(z, np.asarray(values), strict=True):
            exact = reference(mp.mpf(float(s)))
            assert abs(mp.mpf(float(value)) - exact) <= 8 * eps * max(abs(exact), 1)


@EVERY_SMOOTH
@pytest.mark.sample(3)
def test_automatic_derivatives_agree_with_the_closed_forms(activation):
    """Also at 0, where a formula with |s| would differentiate wrongly."""
    with jax.enable_x64(True):
        z = np.linspace(-20.0, 20.0, 401)
        value, slope = jax.jit(activation.value_and_slope)(z)
        bend = jax.jit(lambda z: curvature(activation, z))(z)
        alone, by_jax, twice_by_jax = jax.jit(
            jax.vmap(lambda s: [f(s) for f in derivatives(activation.fn, 3)])
        )(z)
    np.testing.assert_allclose(value, alone, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(slope, by_jax, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(bend, twice_by_jax, atol=1e-12)


@EVERY
def test_bounds_are_the_smallest_floats_not_below_the_suprema(activation):
    declared = [getattr(activation, field) for field in BOUNDS]
    for bound, supremum in zip(declared, SUPREMA[activation.name], strict=True):
        if supremum is None:
            assert bound is None
        else:
            assert mp.mpf(bound) >= supremum
            assert bound == 0 or mp.mpf(np.nextafter(bound, -np.inf)) < supremum


def largest_found(function, starts):
    """Return the largest |function| over a dense grid and optimisation from many brackets."""
    grid = np.unique(np.concatenate([np.linspace(-40, 40, 40_001), np.geomspace(1e-9, 1e4, 2001)]))
    best = np.max(np.abs(np.asarray(function(jnp.asarray(grid)))))

    def negated(s):
        return -abs(float(function(jnp.float64(s))))

    for low, high in itertools.pairwise(starts):
        result = minimize_scalar(
            negated, bounds=(low, high), method="bounded", options={"xatol": 1e-9}
        )
        best = max(best, -result.fun)
    return best


@EVERY
@pytest.mark.sample(2)
def test_bounds_hold_under_attack_and_are_attained(activation):
    starts = np.linspace(-8, 8, 17) + 0.03
    with jax.enable_x64(True):
        function = activation.slope
        for field in BOUNDS:
            bound = getattr(activation, field)
            if bound:
                found = largest_found(jax.jit(function), starts)
                assert found <= bound * (1 + 1e-14)  # float64 evaluation may round up
                assert bound / found < 1 + 1e-9
            function = differentiated(function)


@EVERY
@pytest.mark.sample(7)
def test_random_pairs_do_not_break_the_lipschitz_constants(activation):
    rng = np.random.default_rng(7)
    a = rng.normal(size=100_000) * 10.0 ** rng.uniform(-3, 1.5, size=100_000)
    b = a + rng.normal(size=100_000) * 10.0 ** rng.uniform(-4, 1.5, size=100_000)
    with jax.enable_x64(True):
        (value_a, slope_a), (value_b, slope_b) = map(jax.jit(activation.value_and_slope), (a, b))
    distance = np.abs(a - b)
    rounding = 1e-13 * (1 + np.abs(a) + np.abs(b))
    assert np.all(np.abs(value_a - value_b) <= activation.slope_bound * distance + rounding)
    if activation.curvature_bound is not None:
        assert np.all(np.abs(slope_a - slope_b) <= activation.curvature_bound * distance + 1e-13)


@EVERY
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.sample(6)
def test_dtype_is_kept_and_extremes_are_finite(activation, dtype):
    z = jnp.asarray([-1e4, -300.0, -0.0, 0.0, 300.0, 1e4], dtype)
    calls = (activation, activation.slope, activation.value_and_slope)
    for found in jax.tree.leaves(jax.jit(lambda z: [call(z) for call in calls])(z)):
        assert found.dtype == dtype
        assert np.isfinite(np.asarray(found, np.float32)).all()


def test_relu_has_slope_zero_at_zero():
    assert float(ACTIVATIONS["relu"].slope(0.0)) == 0.0
    assert float(jax.grad(ACTIVATIONS["relu"].fn)(0.0)) == 0.0


def test_value_and_slope_of_tanh_share_one_tanh():
    tanh, z = ACTIVATIONS["tanh"], jnp.zeros(1000, jnp.float32)
    cost = jax.jit(tanh.value_and_slope).lower(z).compile().cost_analysis()
    assert cost["transcendentals"] == z.size


@pytest.mark.parametrize("name", ["gelu", "softplus", "silu", "gelu_tanh", "sigmoid"])
def test_lower_tails_keep_relative_accuracy(name):
    """Where 1 + erf, 1 - sigmoid or log(1 + exp) would cancel to nothing."""
    activation = ACTIVATIONS[name]
    with jax.enable_x64(True):
        for s in (-5.0, -12.5, -30.0):
            for value, exact in zip(activation.value_and_slope(s), REFERENCE[name], strict=True):
                assert float(value) == pytest.approx(float(exact(mp.mpf(s))), rel=1e-12)


@EVERY
@pytest.mark.sample(6)
def test_slopes_stay_above_their_floor(activation):
    """Against 50 digits near the lowest point of a grid; the smooth floors are attained."""
    slope = REFERENCE[activation.name][1]
    grid = np.linspace(-12, 12, 4801)
    lowest = grid[np.argmin(np.asarray(activation.slope(grid)))]
    near = [slope(mp.mpf(lowest) + mp.mpf(k) / 10**4) for k in range(-60, 61)]
    assert min(near) >= activation.lowest_slope
    if activation.name != "leaky_relu":
        assert min(near) < activation.lowest_slope + 1e-4


@EVERY
@pytest.mark.sample(2)
def test_built_in_activations_pass_their_own_check(activation):
    assert activation.bounds_kind == "proved"
    activation.check()


@EVERY
def test_activations_hash_and_pickle(activation):
    again = pickle.loads(pickle.dumps(activation))
    assert again is activation
    assert hash(again) == hash(dataclasses.replace(activation))
    mine = dataclasses.replace(activation, name="mine", fn=np.square, derivative=None)
    assert pickle.loads(pickle.dumps(mine)) == mine


def test_get_activation_by_name_or_itself():
    mine = Activation("mine", jnp.arctan, slope_bound=1.0, curvature_bound=0.65)
    assert get_activation("gelu") is ACTIVATIONS["gelu"]
    assert get_activation(mine) is mine


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Tanh", "did you mean 'tanh'"),
        ("gleu", "did you mean 'gelu'"),
        (
            "xyz",
            "choose one of tanh, erf, gelu, softplus, sin, silu, relu, leaky_relu, identity, cos, "
            "gaussian, gelu_tanh, sigmoid",
        ),
        (jnp.tanh, "Activation\\(name, fn"),
    ],
)
def test_unknown_activations_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        get_activation(given)


def test_a_users_activation_needs_no_derivative():
    """Sup |atan''| = 3 sqrt(3) / 8, where 3 s^2 = 1."""
    supremum = 3 * np.sqrt(3) / 8
    mine = Activation("atan", jnp.arctan, slope_bound=1.0, curvature_bound=supremum)
    assert mine.bounds_kind == "assumed"
    mine.check()
    with jax.enable_x64(True):
        value, slope = mine.value_and_slope(np.linspace(-3.0, 3.0, 13))
    np.testing.assert_allclose(value, np.arctan(np.linspace(-3, 3, 13)), rtol=1e-14)
    np.testing.assert_allclose(slope, 1 / (1 + np.linspace(-3, 3, 13) ** 2), rtol=1e-14)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (Activation("c1", jnp.arctan, 1.0, 0.6495), "slope 0.6495190.* at -?0.577350"),
        (Activation("c2", jnp.arctan, 0.999, 0.65), "slope 1 at 0: above slope_bound=0.999"),
        (Activation("c3", jnp.abs, 1.0, 0.0), "changes by 2 between .*curvature_bound=0.0"),
        (Activation("c4", jnp.sign, 0.0, 0.0), "changes by 1 between .*slope_bound=0.0"),
        (Activation("c5", jnp.sin, 1.0, 1.0, jnp.sin), "but the slope of fn there is"),
        (Activation("c6", jnp.sqrt, 1.0, 1.0), "fn is not finite at -50"),
        (Activation("c7", jax.nn.softmax, 1.0, 1.0), "not elementwise"),
        (
            Activation("c8", lambda s: jnp.sin(s).astype(jnp.float32), 1.0, 1.0),
            "turns float64 into float32",
        ),
        (Activation("c9", lambda s: jnp.sin(s) + jnp.sin(60.7 * s) / 1e4, 1.0061, 1.3), "slope 1."),
        (Activation("c10", jnp.sin, 1.0, 1.0, slope_floor=-0.9), "is -1: below slope_floor=-0.9"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.sample(5)
def test_false_claims_are_refuted(claim, message):
    with pytest.raises(InputError, match=message):
        claim.check()


def test_absurd_declarations_are_refused():
    with pytest.raises(InputError, match="slope_bound of activation 'mine' is -1"):
        Activation("mine", jnp.sin, slope_bound=-1.0)
    with pytest.raises(InputError, match="curvature_bound of activation 'mine' is nan"):
        Activation("mine", jnp.sin, slope_bound=1.0, curvature_bound=float("nan"))
    with pytest.raises(InputError, match="slope_floor of activation 'mine' is 2"):
        Activation("mine", jnp.sin, slope_bound=1.0, slope_floor=2.0)
    with pytest.raises(InputError, match="belongs to a built-in"):
        Activation("tanh", jnp.sin, slope_bound=1.0)
    with pytest.raises(InputError, match="radius must be positive"):
        ACTIVATIONS["tanh"].check(radius=0.0)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.3), (-0.5, 0.5), (0.0, -2.0), (0.25, 0.0)])
@pytest.mark.sample(2)
def test_abs_linear_is_what_it_says(a, b):
    mine = abs_linear(a, b)
    z = np.array([-3.0, -1e-30, 0.0, 2.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(mine(z), a * np.abs(z) + b * z, rtol=1e-15)
        np.testing.assert_allclose(mine.slope(z), np.where(z >= 0, b + a, b - a), rtol=1e-15)
    mine.check()
    assert mine.bounds_kind == "assumed"
    assert linear_pieces(mine) == (a, b)
    assert pickle.loads(pickle.dumps(mine)) == mine == abs_linear(a, b)
    assert hash(mine) == hash(abs_linear(a, b))


def test_linear_pieces_of_built_in_activations():
    for name in ("relu", "leaky_relu"):
        z = np.linspace(-2, 2, 9)
        a, b = linear_pieces(ACTIVATIONS[name])
        np.testing.assert_allclose(a * np.abs(z) + b * z, ACTIVATIONS[name](z), atol=1e-7)
    assert linear_pieces(ACTIVATIONS["gelu"]) is None
    with pytest.raises(InputError, match="give finite coefficients"):
        abs_linear(np.nan, 1.0)
