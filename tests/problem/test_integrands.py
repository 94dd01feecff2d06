"""Every integrand against automatic differentiation, and its constants under attack."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from overparam.errors import InputError
from overparam.problem.integrands import (
    INTEGRANDS,
    Integrand,
    SquaredHinge,
    SquaredLoss,
    get_integrand,
    register,
)


@dataclass(frozen=True)
class LogCosh(Integrand):
    """l = sum_k log cosh(z_k - y_k) of one output: smooth with M = 1, PL on sublevel sets only.

    With r = z - y and l = e: cosh r = exp(e), so 1/2 tanh(r)^2 = (1 - exp(-2 e)) / 2, and its
    quotient by e decreases in e.
    """

    name: ClassVar[str] = "log_cosh"

    @property
    def smoothness(self) -> float:
        return 1.0

    def pl_constant(self, excess: float) -> float:
        return -np.expm1(-2 * excess) / (2 * excess)

    def value(self, z, y):
        xp = (z - y).__array_namespace__()
        return (xp.logaddexp(z - y, y - z) - np.log(2)).sum(axis=-1)

    def gradient(self, z, y):
        return (z - y).__array_namespace__().tanh(z - y)

    def infimum(self, y):
        return np.zeros(len(y))

    def nearest_minimiser(self, z, y):
        return y


LOSSES = {"squared": SquaredLoss(), "squared_hinge": SquaredHinge(), "log_cosh": LogCosh()}
EVERY = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
OUTPUTS = pytest.mark.parametrize("outputs", [1, 3])


def random_pair(seed, n=200, k=1, scale=3.0):
    """Predictions in float64 and targets +-1, which every loss accepts."""
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(n, k)), rng.choice([-1.0, 1.0], size=(n, k))


def test_each_registered_loss_is_tested_here():
    assert set(INTEGRANDS) <= set(LOSSES)


@OUTPUTS
def test_values_by_hand(outputs):
    z, y = random_pair(0, k=outputs)
    np.testing.assert_allclose(
        SquaredLoss().value(z, y), [sum((a - b) ** 2 / 2) for a, b in zip(z, y, strict=True)]
    )
    by_hand = [
        sum(max(0.0, 1 - b * a) ** 2 / 2 for a, b in zip(*rows, strict=True))
        for rows in zip(z, y, strict=True)
    ]
    np.testing.assert_allclose(SquaredHinge().value(z, y), by_hand)


@EVERY
@OUTPUTS
def test_gradient_is_the_one_of_the_value(loss, outputs):
    z, y = random_pair(1, k=outputs)
    z[0] = y[0]  # at a minimiser, on the kink of the hinge's slope
    with jax.enable_x64(True):
        by_jax = jax.grad(lambda z: loss.value(z, jnp.asarray(y)).sum())(jnp.asarray(z))
    np.testing.assert_allclose(loss.gradient(z, y), by_jax, rtol=1e-12, atol=1e-14)


@EVERY
@OUTPUTS
def test_nearest_minimiser_attains_the_infimum_and_is_nearest(loss, outputs):
    z, y = random_pair(2, k=outputs)
    nearest = loss.nearest_minimiser(z, y)
    np.testing.assert_array_equal(loss.value(nearest, y), loss.infimum(y))
    np.testing.assert_array_equal(loss.gradient(nearest, y), 0.0)
    distance = np.linalg.norm(z - nearest, axis=1)
    rng = np.random.default_rng(3)
    for _ in range(300):  # any other minimiser found nearby is no closer
        other = nearest + rng.normal(size=z.shape) * 10.0 ** rng.uniform(-4, 0.5)
        minimal = loss.value(other, y) <= loss.infimum(y)
        assert np.all(np.linalg.norm(z - other, axis=1)[minimal] >= distance[minimal])


@pytest.mark.parametrize("loss", [SquaredLoss(), SquaredHinge()])
@OUTPUTS
def test_distance_losses_are_half_the_squared_distance_to_their_minimisers(loss, outputs):
    """With the nearest minimiser found by bounded optimisation, not by ``nearest_minimiser``."""
    z, y = random_pair(4, n=20, k=outputs)
    for row, target, value in zip(z, y, loss.value(z, y), strict=True):
        inside = [
            (b, b) if loss.quadratic else ((1, None) if b > 0 else (None, -1)) for b in target
        ]
        found = minimize(
            lambda p, row=row: 0.5 * np.sum((p - row) ** 2),
            target,
            bounds=inside,
            method="L-BFGS-B",
        )
        assert value == pytest.approx(found.fun, abs=1e-9)


def functional(loss, weights, y):
    """f - f*, its gradient in L2(mu) and the norm of L2(mu), in NumPy float64."""

    def excess(h):
        return float(weights @ (loss.value(h, y) - loss.infimum(y)))

    def norm(h):
        return float(np.sqrt(weights @ (h * h).sum(axis=1)))

    return excess, lambda h: loss.gradient(h, y), norm


def random_measure(seed, outputs, n=6):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(n))
    return rng, weights, rng.choice([-1.0, 1.0], size=(n, outputs))


@EVERY
@OUTPUTS
def test_smoothness_under_attack(loss, outputs):
    """Maximise |grad f(a) - grad f(b)| / |a - b| over pairs of functions."""
    rng, weights, y = random_measure(5, outputs)
    _, gradient, norm = functional(loss, weights, y)

    def quotient(pair):
        a, b = pair.reshape(2, *y.shape)
        return norm(gradient(a) - gradient(b)) / norm(a - b)

    starts = [rng.normal(size=2 * y.size) * 10.0 ** rng.uniform(-2, 1) for _ in range(300)]
    tops = sorted(starts, key=quotient)[-3:]
    found = max(-minimize(lambda p: -quotient(p), top, options={"maxiter": 60}).fun for top in tops)
    assert found <= loss.smoothness * (1 + 1e-7)
    assert found > 0.5 * loss.smoothness  # the attack has teeth


@EVERY
@pytest.mark.parametrize("level", [1e-3, 0.3, 5.0])
def test_pl_constant_under_attack(loss, level):
    """Minimise 1/2 |grad f|^2 / (f - f*) over the sublevel set {f - f* <= level}."""
    rng, weights, y = random_measure(6, outputs=1)
    excess, gradient, norm = functional(loss, weights, y)
    alpha = loss.functional_pl_constant(level, weights)
    assert 0 < alpha <= loss.smoothness

    def quotient(h):
        return 0.5 * norm(gradient(h)) ** 2 / excess(h)

    candidates = [y + rng.normal(size=y.shape) * 10.0 ** rng.uniform(-3, 1) for _ in range(500)]
    for i in range(len(y)):  # the whole excess at one point
        for step in np.geomspace(1e-3, 1000, 600):
            h = y.copy()
            h[i] -= step * y[i]
            candidates.append(h)
    inside = [h for h in candidates if 0 < excess(h) <= level]
    assert len(inside) > 100
    found = min(quotient(h) for h in inside)
    assert found >= alpha * (1 - 1e-12)
    assert found <= alpha * 1.1  # and the constant is nearly attained


def test_a_pointwise_constant_needs_the_weights_on_a_sublevel_set_of_the_functional():
    """A point of small weight may be far away while the functional is close to its infimum."""
    weights, y = np.array([0.01, 0.99]), np.ones((2, 1))
    excess, gradient, norm = functional(LogCosh(), weights, y)
    h = y + np.array([[50.0], [0.0]])
    level = excess(h)
    quotient = 0.5 * norm(gradient(h)) ** 2 / level
    assert quotient < 0.1 * LogCosh().pl_constant(level)
    assert quotient >= LogCosh().functional_pl_constant(level, weights)


@pytest.mark.parametrize("loss", INTEGRANDS)
def test_numpy_stays_float64_on_the_host_and_jax_traces_in_float32(loss):
    loss = get_integrand(loss)
    z, y = random_pair(8, k=2)
    z32, y32 = jnp.asarray(z, jnp.float32), jnp.asarray(y, jnp.float32)
    for method in (loss.value, loss.gradient):
        host, device, mixed = method(z, y), jax.jit(method)(z32, y32), method(z32, y)
        assert isinstance(host, np.ndarray)
        assert host.dtype == np.float64
        assert device.dtype == mixed.dtype == jnp.float32
        np.testing.assert_allclose(device, host, rtol=1e-5, atol=1e-5)
    assert loss.infimum(y).dtype == np.float64
    assert loss.infimum(y32).dtype == jnp.float32


def test_losses_are_values():
    assert SquaredLoss() == SquaredLoss()
    assert len({SquaredLoss(), SquaredLoss(), SquaredHinge()}) == 2
    assert SquaredLoss().quadratic
    assert not SquaredHinge().quadratic


def test_hinge_refuses_targets_that_are_not_classes():
    SquaredHinge().validate_targets(np.array([[1.0], [-1.0]]))
    with pytest.raises(InputError, match=r"row 1, column 0 is 0\.0: .* -1 and \+1"):
        SquaredHinge().validate_targets(np.array([[1.0], [0.0]]))
    with pytest.raises(InputError, match="row 0, column 1 is nan"):
        SquaredHinge().validate_targets(np.array([[1.0, np.nan]]))
    with pytest.raises(InputError, match="row 1 is not finite"):
        SquaredLoss().validate_targets(np.array([[1.0], [np.inf]]))


def test_a_new_loss_is_one_registered_class():
    try:
        register(LogCosh)
        assert get_integrand("log_cosh") == LogCosh()
        with pytest.raises(InputError, match="'log_cosh' is taken"):
            register(LogCosh)
    finally:
        INTEGRANDS.pop("log_cosh")


@pytest.mark.parametrize(
    ("given", "message"),
    [("sqared", "did you mean 'squared'"), ("mse", "choose one of squared"), (3, "loss is 3")],
)
def test_unknown_losses_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        get_integrand(given)


def test_instances_pass_through():
    loss = SquaredHinge()
    assert get_integrand(loss) is loss
    assert get_integrand("squared_hinge") == loss
