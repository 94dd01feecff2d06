"""mu_t against the dense Hessian of <F, ghat>, by JAX's own second derivatives."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam import MLP
from overparam.jacobian.curvature import input_grams, neuron_curvature, third_derivative
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.precision import in_float64
from tiny import Tiny

ONE_LAYER = [
    Tiny((7,), "gelu", 1, weight_scale=1.3),
    Tiny((4,), "tanh", 3, bias_scale=0.7, output_scale=2.0),
    Tiny((5,), "sin", 2, points=12),
    Tiny((3,), "softplus", 1, points=40, in_dim=2),
    Tiny((3,), "erf", 1, bias_scale=0.0),
]


@partial(jax.jit, static_argnums=0)
def hessian_norms(model, params, shifts, x, weighted):
    """|D^2 <F, ghat>| at params, and |of its change| at each of the shifted ones; dense."""
    flat, back = ravel_pytree(params)

    def hessian(theta):
        return jax.hessian(lambda t: jnp.vdot(weighted, model.apply(back(t), x)))(theta)

    here = hessian(flat)
    changes = jax.vmap(lambda shift: hessian(flat + shift) - here)(shifts)
    return jnp.linalg.norm(here, 2), jnp.linalg.norm(changes, 2, axis=(1, 2))


def norms(tiny, params, shifts, direction, measure):
    with jax.enable_x64(True):
        weighted = measure.weights[:, None] * direction
        found = hessian_norms(tiny.model, params, shifts, measure.x, weighted)
        return tuple(np.asarray(values) for values in found)


@pytest.mark.parametrize("tiny", ONE_LAYER, ids=str)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.sample(8)
def test_neurons_bound_the_dense_hessian(tiny, seed):
    measure, params = tiny.measure(seed), tiny.start(seed)
    direction = np.random.default_rng(seed).standard_normal((tiny.points, tiny.outputs))
    none = np.zeros((0, tiny.model.parameter_count))
    exact, _ = norms(tiny, params, none, direction, measure)
    with jax.enable_x64(True):
        found = float(
            neuron_curvature(
                *(tiny.model, params, input_grams(tiny.model, measure.x), measure.x),
                measure.weights[:, None] * direction,
            )
        )
    assert exact <= found <= 3 * exact


def test_what_many_inputs_round_away_is_counted():
    """Two points whose inner products lose what they differ by: 4,095 squares below half a unit."""
    inputs = 4096
    shared = np.zeros(inputs)
    shared[0] = 1.0
    apart = np.where(shared == 0, 0.99 * 2.0**-27, 0.0)
    x, weighted = np.array([shared + apart, shared - apart]), np.array([[0.5], [-0.5]])
    model = MLP(inputs, (1,), 1, activation="identity", bias_scale=0.0)
    params = (np.ones((1, inputs)), np.ones((1, 1))), (np.zeros(1), np.zeros(1))
    found = in_float64(neuron_curvature, model, params, input_grams(model, x), x, weighted)
    # R has the one block sum_i w_i ghat_i c_1 x_i off its diagonal.
    exact = math.sqrt(sum(Fraction(t) ** 2 for t in apart.tolist()) / inputs)
    assert exact <= float(found)


@pytest.mark.parametrize("hidden", [(5,), (4, 3), (3, 3, 3)])
@pytest.mark.parametrize("activation", ["gelu", "tanh", "sin"])
@pytest.mark.sample(1)
def test_nearby_the_hessian_changes_as_little_as_it_is_said_to(hidden, activation):
    tiny = Tiny(hidden, activation, 2, weight_scale=1.2)
    measure, params = tiny.measure(0), tiny.start(0)
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((tiny.points, tiny.outputs))
    size = math.sqrt(float(measure.weights @ np.sum(direction**2, axis=1)))
    radius = 0.4
    third = third_derivative(
        measure_layer_norms(tiny.problem(0), params), tiny.model.act.third_bound, radius
    )
    scales = np.repeat([1e-3, 0.1, 0.3], 6)
    far = rng.standard_normal((len(scales), tiny.model.parameter_count))
    far *= (scales / np.linalg.norm(far, axis=1))[:, None]
    _, changes = norms(tiny, params, far, direction, measure)
    worst = np.max(changes / (size * scales))
    assert 0 < worst <= third


@pytest.mark.parametrize("activation", ["sin", "tanh", "erf"])
def test_the_blocks_of_neurons_change_about_as_much_as_they_may(activation):
    """One neuron, one point, moved a little from everywhere to everywhere: Lemma C13 is sharp."""
    tiny = Tiny((1,), activation, 1, points=1, in_dim=1, bias_scale=1.0)
    rng, third, worst = np.random.default_rng(1), tiny.model.act.third_bound, 0.0
    measure = tiny.measure(0)
    far = rng.standard_normal((200, tiny.model.parameter_count))
    far *= 1e-3 / np.linalg.norm(far, axis=1, keepdims=True)
    for seed in range(20):
        params = tiny.start(seed)
        bound = third_derivative(measure_layer_norms(tiny.problem(0), params), third, 1e-3)
        _, changes = norms(tiny, params, far, np.ones((1, 1)), measure)
        worst = max(worst, float(changes.max()) / (1e-3 * bound))
    assert 0.4 < worst <= 1
