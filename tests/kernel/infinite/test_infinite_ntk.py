"""The infinite-width kernels: against a naive recursion, wide networks, and at the edges."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.infinite import compiled
from overparam.kernel.infinite.fast import working_memory
from overparam.kernel.infinite.infinite_ntk import (
    InfiniteKernels,
    choose_dual,
    infinite_ntk,
    infinite_ntk_diagonal,
)
from overparam.kernel.infinite.recursion import kernels
from overparam.model.activation import ACTIVATIONS, Activation, abs_linear
from overparam.model.mlp import MLP

EVERY = pytest.mark.parametrize("name", list(ACTIVATIONS))


def delicate_points(d=4, seed=0):
    """Random points, with repetitions, opposites, multiples, near neighbours and a zero row."""
    x = np.random.default_rng(seed).standard_normal((12, d))
    x[1], x[2], x[3] = x[0], -x[0], 3 * x[0]
    x[4], x[5], x[6] = x[0] * (1 + 1e-7), x[0] + 1e-9, -x[0] + 1e-8
    x[7] = 0
    return x


def naive(model, dual_pair, x1, x2):
    """The recursion on covariances, as in the books: (ntk, nngp)."""
    weight, bias = model.weight_scale**2, model.bias_scale**2
    c = weight * x1 @ x2.T / model.in_dim + bias
    q1 = weight * np.sum(x1 * x1, 1, keepdims=True) / model.in_dim + bias
    q2 = weight * np.sum(x2 * x2, 1)[None, :] / model.in_dim + bias
    ntk = c
    for _ in model.hidden_widths:
        value, slope = dual_pair(q1, q2, c)
        q1, q2 = (weight * dual_pair(q, q, q)[0] + bias for q in (q1, q2))
        c = weight * value + bias
        ntk = c + weight * ntk * slope
    return model.output_scale**2 * ntk, model.output_scale**2 * c


def relu_pair(q1, q2, c):
    rho = np.clip(c / np.sqrt(q1 * q2), -1, 1)
    angle = np.arccos(rho)
    first = np.sqrt(q1 * q2) * (np.sin(angle) + (np.pi - angle) * rho) / (2 * np.pi)
    return first, (np.pi - angle) / (2 * np.pi)


def erf_pair(q1, q2, c):
    n = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / np.pi * np.arcsin(2 * c / np.sqrt(n)), 4 / np.pi / np.sqrt(n - 4 * c * c)


@pytest.mark.parametrize(("name", "pair"), [("relu", relu_pair), ("erf", erf_pair)])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_recursion_of_the_books(name, pair, depth):
    rng = np.random.default_rng(1)
    x1, x2 = rng.standard_normal((30, 5)), rng.standard_normal((21, 5))
    model = MLP(5, (1,) * depth, 3, name, weight_scale=1.3, bias_scale=0.4, output_scale=0.7)
    got = infinite_ntk(model, x1, x2)
    ntk, nngp = naive(model, pair, x1, x2)
    np.testing.assert_allclose(got.ntk, ntk, rtol=1e-12)
    np.testing.assert_allclose(got.nngp, nngp, rtol=1e-12)
    assert got.ntk.shape == (30, 21)
    assert got.dual_error == 0.0


def relative_gap(a, b, diagonal1, diagonal2):
    """The largest deviation, relative to the geometric mean of the two diagonal entries."""
    scale = np.sqrt(np.outer(diagonal1, diagonal2))
    return np.max(np.abs(a - b) / np.where(scale > 0, scale, 1))


@EVERY
@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.sample(1)
def test_compiled_loops_agree_with_the_readable_formulas(name, bias):
    model = MLP(4, (1, 1, 1), 1, name, weight_scale=1.4, bias_scale=bias, output_scale=1.2)
    x = delicate_points()
    got = infinite_ntk(model, x)
    with jax.enable_x64(True):
        dual, _ = choose_dual(model, x)
        slow = kernels(model, dual, jnp.asarray(x), jnp.asarray(x))
    for fast, readable in zip((got.ntk, got.nngp), slow, strict=True):
        diagonal = np.diag(fast)
        assert relative_gap(fast, np.asarray(readable), diagonal, diagonal) < 1e-14
        np.testing.assert_array_equal(fast, fast.T)
    across = infinite_ntk(model, x, x[:5])
    assert relative_gap(across.ntk, got.ntk[:, :5], np.diag(got.ntk), np.diag(got.ntk)[:5]) < 1e-14
    alone = infinite_ntk_diagonal(model, x)
    np.testing.assert_allclose(alone.ntk, np.diag(got.ntk), rtol=2e-14)
    np.testing.assert_allclose(alone.nngp, np.diag(got.nngp), rtol=2e-14)


@pytest.mark.parametrize(("name", "scale"), [("tanh", 1), ("erf", 100), ("sin", 1e-5)])
def test_float32_is_the_float64_result_rounded_once_where_float32_layers_would_lose_digits(
    name, scale
):
    """Hermite series, and deviations above 16 or below 1/4096."""
    model = MLP(4, (1, 1), 1, name, bias_scale=0.0)
    x = (scale * delicate_points()).astype(np.float32)
    narrow, wide = infinite_ntk(model, x), infinite_ntk(model, x.astype(np.float64))
    assert narrow.ntk.dtype == narrow.nngp.dtype == np.float32
    np.testing.assert_array_equal(narrow.ntk, wide.ntk.astype(np.float32))
    np.testing.assert_array_equal(narrow.nngp, wide.nngp.astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 1), (257, 1), (300, 600), (17, 5000)])
def test_panels_and_chunks_fit_together(shape):
    """Sizes across the edges of panels, tasks, chunks and blocks."""
    rng = np.random.default_rng(2)
    x1, x2 = rng.standard_normal((shape[0], 3)), rng.standard_normal((shape[1], 3))
    model = MLP(3, (1, 1), 1, "relu", bias_scale=0.2)
    got, expected = infinite_ntk(model, x1, x2), naive(model, relu_pair, x1, x2)
    np.testing.assert_allclose(got.ntk, expected[0], rtol=1e-10)
    few = x2[:1200]
    same = infinite_ntk(model, few)
    np.testing.assert_allclose(same.ntk, infinite_ntk(model, few, few).ntk, rtol=1e-12)


def wide_relu(rho_complement, depth):
    """Relu's NTK on the unit sphere without bias, in 60 digits, from the angle."""
    import mpmath as mp

    with mp.workdps(60):
        angle = 2 * mp.asin(mp.sqrt(mp.mpf(rho_complement) / 2))
        ntk, q = mp.cos(angle), mp.mpf(1)
        for _ in range(depth):
            slope = (mp.pi - angle) / (2 * mp.pi)
            value = q * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)
            q = q / 2
            ntk = value + ntk * slope
            angle = mp.acos(value / q)
        return ntk


@pytest.mark.parametrize("gap", [1e-1, 1e-4, 1e-8, 1e-12, 1e-15])
def test_nearly_parallel_points_keep_all_digits(gap):
    """The textbook formula loses half of them: arccos(1 - 1e-16) is 0 or 1.5e-8."""
    x = np.array([[1.0, 0.0], [1.0, gap]])
    model = MLP(2, (1, 1, 1), 1, "relu", weight_scale=1.0, bias_scale=0.0)
    got = infinite_ntk(model, np.sqrt(2) * x)
    import mpmath as mp

    with mp.workdps(60):
        length = mp.sqrt(1 + mp.mpf(gap) ** 2)
        exact = wide_relu(mp.mpf(1) - 1 / length, 3) * length
        assert abs(got.ntk[0, 1] / exact - 1) < 2e-15
    textbook = naive(model, relu_pair, np.sqrt(2) * x, np.sqrt(2) * x)[0][0, 1]
    if gap == 1e-8:
        assert abs(textbook / float(exact) - 1) > 1e-9


@pytest.mark.parametrize("name", ["relu", "erf", "cos", "softplus"])
@pytest.mark.sample(2)
def test_a_zero_row_without_bias_is_what_the_network_makes_of_it(name):
    """All pre-activations are 0 in the first layer; only act(0) goes on."""
    model = MLP(3, (512, 512), 1, name, bias_scale=0.0)
    x = np.array([[0.0, 0.0, 0.0], [1.0, -0.5, 0.3]])
    got = infinite_ntk(model, x)
    assert np.isfinite(got.ntk).all()
    if name in ("relu", "erf"):
        assert not got.ntk[0].any()
        assert not got.nngp[0].any()
    draws = [empirical_ntk(model, model.init(jax.random.key(i)), x) for i in range(24)]
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(np.mean(draws, axis=0) - got.ntk) <= 5 * error + 4 / 512 * np.max(got.ntk))


@EVERY
@pytest.mark.sample(1)
def test_wide_networks_are_near_the_limit(name):
    """The mean over draws within 5 standard errors and the bias of order 1 / width."""
    model = MLP(3, (512, 512), 1, name, weight_scale=1.2, bias_scale=0.3, output_scale=1.5)
    x = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
    x[1] = x[0]
    draws = [empirical_ntk(model, model.init(jax.random.key(i)), x) for i in range(16)]
    limit = infinite_ntk(model, x).ntk
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(np.mean(draws, axis=0) - limit) <= 5 * error + 4 / 512 * limit.max())


@pytest.mark.slow
def test_the_distance_to_the_limit_falls_like_the_root_of_the_width():
    x = np.random.default_rng(4).standard_normal((5, 3))
    widths, distances = [32, 128, 512], []
    for width in widths:
        model = MLP(3, (width, width), 1, "gelu", bias_scale=0.2)
        limit = infinite_ntk(model, x).ntk
        gaps = [
            np.linalg.norm(empirical_ntk(model, model.init(jax.random.key(i)), x) - limit)
            for i in range(24)
        ]
        distances.append(np.sqrt(np.mean(np.square(gaps))))
    slope = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    # The root mean square of 24 draws varies by about 15 percent, the fitted slope by 0.1.
    assert -0.8 < slope < -0.3


def test_several_outputs_share_the_scalar_kernel():
    model = MLP(2, (1024,), 2, "erf")
    x = np.random.default_rng(5).standard_normal((3, 2)).astype(np.float32)
    limit = infinite_ntk(model, x).ntk
    assert limit.shape == (3, 3)
    draws = [empirical_ntk(model, model.init(jax.random.key(i)), x) for i in range(16)]
    assert np.max(np.abs(np.mean(draws, axis=0) - np.kron(limit, np.eye(2)))) < 0.1


# --- Derivatives ----------------------------------------------------------------------------------

DEPTHS = pytest.mark.parametrize("depth", [1, 2])
"""Programs of two layers take twice as long to compile: by default they are differentiated once."""


@pytest.mark.parametrize("name", ["relu", "erf", "gelu", "sin", "cos", "gaussian", "tanh"])
@pytest.mark.sample(1)
def test_derivatives_are_those_of_finite_differences(name):
    model = MLP(3, (1, 1), 1, name, bias_scale=0.3)
    rng = np.random.default_rng(6)
    x, y, v = rng.standard_normal((1, 3)), rng.standard_normal((2, 3)), rng.standard_normal((1, 3))
    with jax.enable_x64(True):

        def both(a):
            got = infinite_ntk(model, a, y)
            return jnp.stack([jnp.asarray(got.ntk), jnp.asarray(got.nngp)])

        forward = jax.jit(lambda a, b: jax.jvp(both, (a,), (b,))[1])(x, v)
        h = 1e-5
        difference = (both(x + h * v) - both(x - h * v)) / (2 * h)
        np.testing.assert_allclose(forward, difference, rtol=1e-7, atol=1e-8)


@EVERY
@DEPTHS
@pytest.mark.sample(1)
def test_derivatives_where_inputs_coincide(name, depth):
    """By symmetry d/dx k(x, x') at x' = x is half the derivative of the diagonal."""
    model = MLP(2, (1,) * depth, 1, name, bias_scale=0.3)
    x = np.random.default_rng(7).standard_normal((1, 2))
    with jax.enable_x64(True):
        x = jnp.asarray(x)

        def both(found):
            return jnp.stack([jnp.ravel(found.ntk)[0], jnp.ravel(found.nngp)[0]])

        one = jax.jit(jax.jacrev(lambda a: both(infinite_ntk(model, a, x))))(x)
        whole = jax.jit(jax.jacrev(lambda a: both(infinite_ntk_diagonal(model, a))))(x)
        np.testing.assert_allclose(one, whole / 2, rtol=1e-9, atol=1e-10)


@EVERY
@pytest.mark.sample(1)
def test_mixed_second_derivatives_of_the_process_where_inputs_coincide(name):
    """d2 / dx dx' of the covariance is the covariance of the gradients: symmetric, semidefinite."""
    model = MLP(3, (1,), 1, name, bias_scale=0.3)
    with jax.enable_x64(True):
        x = np.random.default_rng(8).standard_normal((1, 3))

        def covariance(a, b):
            return infinite_ntk(model, a, b).nngp[0, 0]

        mixed = np.asarray(jax.jit(jax.jacfwd(jax.grad(covariance, 0), 1))(x, x)).reshape(3, 3)
        expected = model.weight_scale**2 * model.weight_scale**2 / 3
        q = np.sum(x * x) / 3 + 0.09
    np.testing.assert_allclose(mixed, mixed.T, atol=1e-12)
    assert np.linalg.eigvalsh(mixed).min() > -1e-12
    # Across x the only variation is that of the pre-activation: s_w^4 / d E act'(u)^2.
    across = np.linalg.svd(x)[2][1]
    z = (np.arange(40_000) + 0.5) / 2000 - 10  # midpoints, the kink between two of them
    with jax.enable_x64(True):
        slopes = np.asarray(ACTIVATIONS[name].slope(np.sqrt(q) * z))
    energy = np.mean(slopes**2 * np.exp(-z * z / 2)) * 20 / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(across @ mixed @ across, expected * energy, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["erf", "gelu", "sin"])
@pytest.mark.sample(1)
def test_mixed_second_derivatives_of_two_layers_where_inputs_coincide(name):
    model = MLP(3, (1, 1), 1, name, bias_scale=0.3)
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(8).standard_normal((1, 3)))
        slope = jax.jit(jax.grad(lambda a, b: infinite_ntk(model, a, b).ntk[0, 0]))
        mixed = np.asarray(jax.jit(jax.jacfwd(slope, 1))(x, x)).reshape(3, 3)
        h = 1e-4
        for column, step in zip(mixed.T, h * np.eye(3)[:, None], strict=True):
            difference = (slope(x, x + step) - slope(x, x - step))[0] / (2 * h)
            np.testing.assert_allclose(column, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["relu", "identity", "erf", "sin", "cos", "tanh"])
@DEPTHS
@pytest.mark.sample(1)
def test_derivatives_where_inputs_are_orthogonal(name, depth):
    """One-hot inputs without bias: at rho = 0, |rho| has a kink, and no kernel has one."""
    model = MLP(2, (1,) * depth, 1, name, weight_scale=1.4, bias_scale=0.0)
    with jax.enable_x64(True):
        x, y = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.5]])

        @jax.jit
        def both(a):
            got = infinite_ntk(model, a, y)
            return jnp.stack([jnp.asarray(got.ntk)[0, 0], jnp.asarray(got.nngp)[0, 0]])

        slopes, h = jax.jit(jax.jacfwd(both))(x)[:, 0], 1e-5
        for got, step in zip(slopes.T, h * np.eye(2)[:, None], strict=True):
            difference = (both(x + step) - both(x - step)) / (2 * h)
            np.testing.assert_allclose(got, difference, rtol=2e-5, atol=1e-8)


def test_traced_inputs_may_be_jitted_and_batched():
    model = MLP(3, (1, 1), 1, "relu")
    x = np.random.default_rng(9).standard_normal((6, 3)).astype(np.float32)
    jitted = jax.jit(lambda a: infinite_ntk(model, a).ntk)(x)
    np.testing.assert_allclose(jitted, infinite_ntk(model, x).ntk, rtol=2e-5)
    batched = jax.vmap(lambda a: infinite_ntk(model, a).ntk)(x.reshape(2, 3, 3))
    np.testing.assert_allclose(batched[1], jitted[3:, 3:], rtol=2e-5)
    diagonal = jax.jit(lambda a: infinite_ntk_diagonal(model, a).ntk)(x)
    np.testing.assert_allclose(diagonal, np.diag(jitted), rtol=2e-5)


# --- Any activation -------------------------------------------------------------------------------


def test_a_users_activation_has_a_stated_error():
    mine = Activation("mine", jnp.arctan, slope_bound=1.0, curvature_bound=0.65)
    model = MLP(2, (1, 1), 1, mine, weight_scale=1.2)
    x = np.random.default_rng(10).standard_normal((4, 2))
    got = infinite_ntk(model, x)
    assert got.dual_error < 1e-13

    def pair(q1, q2, c):
        z = np.arange(-120, 121) / 12
        q1, q2, c = np.broadcast_arrays(q1, q2, c)
        value, slope = np.empty(c.shape), np.empty(c.shape)
        w = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / 12
        for at in np.ndindex(c.shape):
            rho = np.clip(c[at] / np.sqrt(q1[at] * q2[at]), -1, 1)
            u = np.sqrt(q1[at]) * z[:, None]
            v = np.sqrt(q2[at]) * (rho * z[:, None] + np.sqrt(1 - rho * rho) * z[None, :])
            value[at] = w @ (np.arctan(u) * np.arctan(v)) @ w
            slope[at] = w @ (1 / (1 + u * u) / (1 + v * v)) @ w
        return value, slope

    ntk, nngp = naive(model, pair, x, x)
    np.testing.assert_allclose(got.ntk, ntk, rtol=1e-7)
    np.testing.assert_allclose(got.nngp, nngp, rtol=1e-7)


def test_abs_linear_by_name_and_by_value():
    x = delicate_points()
    relu = infinite_ntk(MLP(4, (1, 1), 1, "relu"), x)
    mine = infinite_ntk(MLP(4, (1, 1), 1, abs_linear(0.5, 0.5)), x)
    np.testing.assert_array_equal(relu.ntk, mine.ntk)


# --- The result, memory and bad input -------------------------------------------------------------


def test_the_result_is_frozen():
    got = infinite_ntk(MLP(2, (1,), 1, "relu"), np.ones((1, 2)))
    assert isinstance(got, InfiniteKernels)
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.ntk = None


def test_bad_input_is_refused():
    model = MLP(3, (1,), 1, "relu")
    good = np.ones((2, 3))
    with pytest.raises(InputError, match=r"x1 has shape \(2, 4\), the model needs \(n, 3\)"):
        infinite_ntk(model, np.ones((2, 4)))
    with pytest.raises(InputError, match=r"x2 has shape \(0, 3\).*n >= 1"):
        infinite_ntk(model, good, np.ones((0, 3)))
    with pytest.raises(InputError, match="x1 is not finite in row 2, column 3"):
        infinite_ntk(model, np.array([[1.0, 1, 1], [1, 1, np.nan]]))
    with pytest.raises(InputError, match="x1 is too large in row 1"):
        infinite_ntk(model, 1e200 * good)
    with pytest.raises(InputError, match="x has shape"):
        infinite_ntk_diagonal(model, np.ones((2, 4)))
    with jax.enable_x64(True), pytest.raises(InputError, match="the model needs"):
        jax.jit(lambda a: infinite_ntk(model, a).ntk)(np.ones((2, 4)))


def test_a_budget_too_small_says_what_is_needed():
    model = MLP(3, (1,), 1, "relu")
    x = np.ones((1000, 3))
    needed = 2 * 8 * 1000**2 + working_memory(model, 0, 1000, 1000)
    infinite_ntk(model, x, memory_budget=needed)
    with pytest.raises(InputError, match=r"needs 1[0-9]\.\d MiB of memory but 15\.0 MiB may be"):
        infinite_ntk(model, x, memory_budget=15 * 2**20)


def test_a_diverging_expectation_is_refused():
    steep = Activation("steep", lambda s: jnp.exp(0.3 * s * s), slope_bound=1.0)
    with pytest.raises(InputError, match="does not converge at variance"):
        infinite_ntk(MLP(2, (1,), 1, steep), 2 * np.ones((2, 2)))


@pytest.mark.parametrize(("real", "lowest"), [(np.float64, -700), (np.float32, -80)])
def test_polynomials_are_accurate_to_a_few_units(real, lowest):
    unit = np.finfo(real).eps / 2
    for x in np.linspace(1e-8, np.sqrt(2) - 1, 400).astype(real):
        arc = np.arctan(np.longdouble(x))
        assert abs(x + x * (x * x * compiled.arctangent_tail(x * x)) - arc) <= 4 * unit * arc
    for x in np.linspace(lowest, 0, 701).astype(real):
        exact = np.exp(np.longdouble(x))
        got, less = compiled.exponential(x)
        assert abs(got - exact) <= 4 * unit * exact
        if x > -0.34:
            assert abs(less + np.expm1(np.longdouble(x))) <= 4 * unit * abs(np.expm1(x))
    for x in np.linspace(-0.5, 0.5, 101).astype(real):
        exact = np.sinh(np.longdouble(x))
        assert abs(compiled.sinh_small(x) - exact) <= 4 * unit * abs(exact)


@pytest.mark.slow
def test_a_read_only_installation_still_computes():
    """Numba finds no folder to cache in: the code compiles without one."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from overparam.kernel.infinite.infinite_ntk import infinite_ntk\n"
        "from overparam.model.mlp import MLP\n"
        "print(infinite_ntk(MLP(2, (1,), 1, 'relu', bias_scale=0.0), np.ones((1, 2))).nngp[0, 0])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(compiled.__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(0.5, rel=1e-15)
