"""Adapters of low rank: the network that they make, and how much its Jacobian can change."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam import InputError, Problem, certify, gradient_descent
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.low_rank_bounds import LowRankBounds
from overparam.kernels import tangent_kernel
from overparam.model import LowRank
from tiny import Tiny

TINY = Tiny((8, 6), "gelu", outputs=2, bias_scale=0.5)


@cache
def adapted(names: str = "weights.1, weights.2", moved: bool = True):
    """A problem of rank 2, and adapters that have left their start."""
    network = LowRank(TINY.model, TINY.start(0), 2, names)
    adapters = jax.tree.map(np.asarray, network.init(jax.random.key(1)))
    rng = np.random.default_rng(0)
    if moved:
        adapters = jax.tree.map(lambda a: a + 0.3 * rng.standard_normal(a.shape), adapters)
    measure = TINY.measure(0)
    return Problem(network, measure, centered_at=adapters), adapters


def dense_jacobian(problem, adapters):
    """A compiled function of flat adapters, in coordinates of L2(mu), and where they are."""
    flat, back = ravel_pytree(adapters)
    (weights, biases), x = problem.model.params, problem.measure.x
    roots = np.repeat(np.sqrt(problem.measure.weights), problem.outputs)

    def values(theta):  # written out, with W + B A / sqrt(2)
        h, act = x, problem.model.model.act.fn
        for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
            parts = back(theta).get(f"weights.{layer}")
            w = w if parts is None else w + parts["b"] @ parts["a"] / jnp.sqrt(2.0)
            z = h @ w.T / jnp.sqrt(w.shape[1] * 1.0) + 0.5 * b[None]
            h = act(z)
        return roots * z.reshape(-1)

    return jax.jit(jax.jacobian(values)), flat


def test_adapters_start_at_the_network():
    problem, _ = adapted()
    start, x = problem.model.init(jax.random.key(3)), problem.measure.x
    kept = jax.tree.map(np.float32, problem.model.params)
    np.testing.assert_array_equal(problem.model(start, x), TINY.model.apply(kept, x))


@pytest.mark.parametrize(
    "names", ["weights.1, weights.2", pytest.param("weights.0", marks=pytest.mark.slow)]
)
def test_kernel_and_modulus_hold_against_dense_jacobians_and_an_attack(names):
    problem, adapters = adapted(names)
    bounds = jacobian_bounds(problem, adapters)
    assert isinstance(bounds, LowRankBounds)
    with jax.enable_x64(True):
        jacobian, flat = dense_jacobian(problem, adapters)
        before = np.asarray(jacobian(flat))
        kernel = tangent_kernel(problem, adapters)
        np.testing.assert_allclose(kernel, before @ before.T, rtol=1e-10, atol=1e-13)

        @jax.jit
        def steepest(theta):
            return jax.value_and_grad(lambda t: jnp.linalg.norm(jacobian(t) - before, 2))(theta)

        for radius in (0.1, 1.0):
            omega, lipschitz = bounds.on_ball(radius)
            way = np.random.default_rng(1).standard_normal(len(flat))
            for _ in range(10):
                way *= radius / np.linalg.norm(way)
                found, slope = steepest(flat + way)
                assert 0 < found <= omega
                assert found <= lipschitz * radius
                way = way + radius * np.asarray(slope) / np.linalg.norm(slope)
            assert found > omega / 60


@pytest.mark.slow
def test_small_targets_are_certified_and_a_run_follows():
    network = LowRank(TINY.model, TINY.start(0), 4)
    adapters = jax.tree.map(np.asarray, network.init(jax.random.key(1)))
    measure = TINY.measure(0)
    small = type(measure)(measure.x, 1e-6 * measure.y, measure.weights)
    problem = Problem(network, small, centered_at=adapters)
    certificate = certify(problem, adapters)
    assert certificate.certified
    assert certificate.rigor == "computed"
    run = gradient_descent(
        problem, adapters, certificate.step_size, 100, certificate=certificate, dtype="float64"
    )
    assert run.certificate_held


@pytest.mark.parametrize(
    ("rank", "names", "message"),
    [
        (0, "weights", "rank must be a whole number, 1 or more"),
        (2, "biases", "names no weights"),
        (2, "weights.7", "does not have"),
    ],
)
def test_what_makes_no_adapters_is_refused(rank, names, message):
    with pytest.raises(InputError, match=message):
        LowRank(TINY.model, TINY.start(0), rank, names)
