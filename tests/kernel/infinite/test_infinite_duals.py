"""Dual functions against quadrature and mpmath, at correlations up to one."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import special

from overparam.kernel.infinite.closed_forms import closed_form
from overparam.kernel.infinite.dual_functions import Pairs, safe_sqrt, sine_minus
from overparam.kernel.infinite.quadrature import HermiteDual, choose_terms
from overparam.model.activation import ACTIVATIONS, Activation, abs_linear, get_activation

SMOOTH = {
    "erf": (special.erf, lambda s: 2 / np.sqrt(np.pi) * np.exp(-s * s)),
    "gelu": (lambda s: s * special.ndtr(s), lambda s: special.ndtr(s) + s * density(s)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda s: -np.sin(s)),
    "gaussian": (lambda s: np.exp(-s * s / 2), lambda s: -s * np.exp(-s * s / 2)),
    "identity": (lambda s: s, np.ones_like),
    "tanh": (np.tanh, lambda s: 1 - np.tanh(s) ** 2),
}
VARIANCES = [(1.0, 1.0), (0.3, 2.5), (1e-3, 1.7)]
COMPLEMENTS = [(1.0, 1.0), (0.4, 1.6), (1.9, 0.1), (1e-7, 2.0), (1e-13, 2.0), (2.0, 1e-9)]


def density(s):
    return np.exp(-s * s / 2) / np.sqrt(2 * np.pi)


def expectation(f, q1, q2, minus, plus):
    """E f(u) f(v) by the trapezoidal rule, which converges exponentially for analytic functions.

    u, v are r1 (s a + t b) and r2 (s a - t b) with a, b independent: stable for parallel pairs.
    """
    z = np.arange(-100, 101) / 10
    s, t = np.sqrt(plus / 2) * z[:, None], np.sqrt(minus / 2) * z[None, :]
    both = f(np.sqrt(q1) * (s + t)) * f(np.sqrt(q2) * (s - t))
    return density(z) @ both @ density(z) / 100


def found(dual, q1, q2, minus, plus):
    """(value, slope, below, above, e1, e2) by the code under test."""
    minus, plus = (minus, 2 - minus) if minus < plus else (2 - plus, plus)
    with jax.enable_x64(True):
        r1, r2 = jnp.sqrt(jnp.array([q1])), jnp.sqrt(jnp.array([q2]))
        (e1, f1), (e2, f2) = dual.features(r1), dual.features(r2)
        moments = dual(Pairs(r1, r2, jnp.array([minus]), jnp.array([plus])), e1, e2, f1, f2)
        return [float(part[0]) for part in (*moments, e1, e2)]


@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "tanh"])
@pytest.mark.parametrize(("q1", "q2"), VARIANCES)
@pytest.mark.parametrize(("minus", "plus"), COMPLEMENTS)
@pytest.mark.sample(3)
def test_closed_forms_agree_with_quadrature(name, q1, q2, minus, plus):
    f, slope = SMOOTH[name]
    minus, plus = (minus, 2 - minus) if minus < plus else (2 - plus, plus)
    got = found(closed_form(get_activation(name)), q1, q2, minus, plus)
    size = got[4] * got[5]
    assert abs(got[0] - expectation(f, q1, q2, minus, plus)) <= 1e-13 * size
    exact = expectation(slope, q1, q2, minus, plus)
    assert abs(got[1] - exact) <= 1e-13 * max(abs(exact), 1e-3)


def cho_saul(order, minus, plus):
    """Orders 0 and 1 of relu's dual over r1 r2, from the angle, at 60 digits."""
    with mp.workdps(60):
        if minus < plus:
            angle = 2 * mp.asin(mp.sqrt(mp.mpf(minus) / 2))
        else:
            angle = mp.pi - 2 * mp.asin(mp.sqrt(mp.mpf(plus) / 2))
        if order == 0:
            return (mp.pi - angle) / (2 * mp.pi)
        return (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)


@pytest.mark.parametrize("minus", [1.0, 0.7, 0.49, 1e-3, 1e-9, 1e-16, 1e-30, 0.0])
@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.sample(6)
def test_relu_keeps_relative_accuracy_up_to_the_poles(minus, opposite):
    pair = (2 - minus, minus) if opposite else (minus, 2 - minus)
    value, slope, below, above, _, _ = found(closed_form(get_activation("relu")), 2.0, 0.5, *pair)
    with mp.workdps(60):
        exact, turn = cho_saul(1, *pair), cho_saul(0, *pair)
        assert abs(value - exact) <= 4e-15 * exact + 1e-55
        assert abs(slope - turn) <= 4e-16 * turn + 1e-55
        assert abs(below - (mp.mpf(0.5) - exact)) <= 4e-15 * (mp.mpf(0.5) - exact) + 1e-55
        assert abs(above - (mp.mpf(0.5) + exact)) <= 4e-15


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.3), (1.0, 0.0), (-0.4, 0.9)])
def test_abs_linear_is_a_combination_of_relus(a, b):
    """a|s| + b s = (a + b) relu(s) + (a - b) relu(-s), and E relu(u) relu(-v) flips rho."""
    for minus in (0.3, 1.4):
        value, slope, *_ = found(closed_form(abs_linear(a, b)), 1.0, 1.0, minus, 2 - minus)
        same, crossed = (cho_saul(1, m, 2 - m) for m in (minus, 2 - minus))
        exact = ((a + b) ** 2 + (a - b) ** 2) * same + 2 * (a + b) * (a - b) * crossed
        assert abs(value - exact) <= 1e-15 * max(1, abs(exact))
        same, crossed = (cho_saul(0, m, 2 - m) for m in (minus, 2 - minus))
        exact = ((a + b) ** 2 + (a - b) ** 2) * same - 2 * (a + b) * (a - b) * crossed
        assert abs(slope - exact) <= 2e-15


@pytest.mark.parametrize("name", ["tanh", "erf"])
@pytest.mark.parametrize(("q1", "q2", "minus"), [(1.0, 1.0, 0.4), (0.3, 2.5, 1e-7)])
@pytest.mark.sample(1)
def test_hermite_series_agrees_with_quadrature(name, q1, q2, minus):
    f, slope = SMOOTH[name]
    with jax.enable_x64(True):
        terms, error = choose_terms(get_activation(name), np.sqrt([q1, q2]))
    assert error < 1e-14
    got = found(HermiteDual(get_activation(name), terms), q1, q2, minus, 2 - minus)
    assert abs(got[0] - expectation(f, q1, q2, minus, 2 - minus)) <= 1e-13 * got[4] * got[5]
    assert abs(got[1] - expectation(slope, q1, q2, minus, 2 - minus)) <= 1e-13


CLOSED = [name for name in ACTIVATIONS if closed_form(ACTIVATIONS[name]) is not None]


@pytest.mark.parametrize("name", [n for n in CLOSED if n not in ("relu", "leaky_relu")])
@pytest.mark.parametrize(("q1", "q2"), VARIANCES)
@pytest.mark.sample(1)
def test_closed_forms_agree_with_the_hermite_series(name, q1, q2):
    """Two independent ways, over many correlations; erf and gelu share no formula with it."""
    activation = get_activation(name)
    with jax.enable_x64(True):
        terms, error = choose_terms(activation, np.sqrt([q1, q2]))
    assert error < 1e-14
    for minus, plus in COMPLEMENTS:
        one = found(closed_form(activation), q1, q2, minus, plus)
        two = found(HermiteDual(activation, terms), q1, q2, minus, plus)
        scale = one[4] * one[5]
        np.testing.assert_allclose(one[0], two[0], rtol=0, atol=1e-14 * max(scale, 1e-3))
        np.testing.assert_allclose(one[1], two[1], rtol=0, atol=2e-14)
        np.testing.assert_allclose(one[2], two[2], rtol=0, atol=1e-14 * max(scale, 1e-3))


@pytest.mark.slow
def test_the_stated_error_of_a_series_holds_where_it_converges_slowly():
    """Relu by its Hermite series: the slope jumps, so the error is large, and says so."""
    relu = get_activation("relu")
    mine = Activation("mine", relu.fn, 1.0, None, relu.derivative)
    with jax.enable_x64(True):
        terms, error = choose_terms(mine, np.array([1.0]))
    for minus in (1e-9, 1e-4, 0.1, 1.0, 1.9):
        value, slope, *_ = found(HermiteDual(mine, terms), 1.0, 1.0, minus, 2 - minus)
        assert abs(value - cho_saul(1, minus, 2 - minus)) <= error / 2
        assert abs(slope - cho_saul(0, minus, 2 - minus)) <= error / 2
    assert 1e-4 < error < 0.1


def test_sine_minus_against_mpmath():
    t = np.concatenate([np.geomspace(1e-12, 0.69, 40), np.linspace(0.7, np.pi / 2, 20)])
    with jax.enable_x64(True):
        got = np.asarray(sine_minus(jnp.asarray(t)))
    for angle, value in zip(t, got, strict=True):
        with mp.workdps(80):
            exact = mp.sin(mp.mpf(angle)) - mp.mpf(angle) * mp.cos(mp.mpf(angle))
            assert abs(value - exact) <= 2e-15 * exact


def test_safe_sqrt_has_slope_zero_at_zero():
    assert float(jax.grad(safe_sqrt)(0.0)) == 0.0
    assert float(jax.grad(safe_sqrt)(4.0)) == 0.25
