"""Each parametrisation against its definition: weights drawn at their own scale, plain steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from networks import dense_jacobian, draw_inputs
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.model.mlp import MLP
from overparam.precision import to_host
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import train
from overparam.train.parametrisation import PARAMETRISATIONS, Parametrised, parametrise

STEPS = 12
MODEL = MLP(
    3, (24, 16), 2, "tanh", weight_scale=1.3, bias_scale=0.4, output_scale=0.7
)  # every scale differs from 1, so a misplaced one shows
X = draw_inputs(6, MODEL, 1)
Y = np.sign(draw_inputs(6, MLP(2), 2))
WEIGHTS = np.arange(1.0, 7.0) / 21


def start(model, seed=0):
    """Independent N(0, 1) entries, float64."""
    with jax.enable_x64(True):
        return to_host(model.init(jax.random.key(seed), jnp.float64))


def plain_descent(forward, params, step_size, y=Y, steps=STEPS):
    """Outputs on the data along plain gradient descent, in float64; (steps + 1, n, k)."""
    with jax.enable_x64(True):
        loss = lambda p: jnp.sum(WEIGHTS[:, None] * (forward(p) - y) ** 2) / 2  # noqa: E731

        @jax.jit
        def step(p):
            return jax.tree.map(lambda a, g: a - step_size * g, p, jax.grad(loss)(p)), forward(p)

        seen = []
        for _ in range(steps + 1):
            params, outputs = step(params)
            seen.append(np.asarray(outputs))
    return np.stack(seen)


def package_descent(network: Parametrised, params, step_size, y=Y, steps=STEPS):
    """The same by the network and the optimiser of the package."""
    problem = Problem(network.model, Measure(X, y, WEIGHTS))
    optimizer = network.optimizer(step_size)
    with jax.enable_x64(True):

        @jax.jit
        def step(params, state):
            gradient = jax.grad(problem.objective)(params)
            update, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, update), state

        seen, state = [problem.predict(params)], optimizer.init(params)
        for _ in range(steps):
            params, state = step(params, state)
            seen.append(problem.predict(params))
    return np.stack(seen)


def standard_forward(params):
    """The textbook network: weights N(0, s_w^2 / fan_in), biases N(0, s_b^2), no factors."""
    weights, biases = params
    h = X
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        h = jnp.tanh(h @ w.T + b[None])
    return MODEL.output_scale * (h @ weights[-1].T + biases[-1][None])


def test_standard_is_the_textbook_network_under_plain_descent():
    weights, biases = start(MODEL)
    own = (
        tuple(MODEL.weight_scale / np.sqrt(w.shape[1]) * w for w in weights),
        tuple(MODEL.bias_scale * b for b in biases),
    )
    expected = plain_descent(standard_forward, own, 0.02)
    found = package_descent(parametrise(MODEL, "standard"), (weights, biases), 0.02)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1  # it did train
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_mup_is_the_abc_parametrisation_of_the_literature():
    """a = (-1/2, 0, 1/2), b = 1/2 everywhere, c = 0; biases follow the hidden units' input layer.

    W^l = m^{-a_l} w^l with w^l ~ N(0, m^{-2 b_l}), the learning rate is m^{-c} eta = eta. A bias
    of a hidden layer acts like a column of the input layer's weights, a = -1/2 and b = 1/2; the
    output's has a = 0.
    """
    m = 20
    model = MLP(3, (m, m), 1, "tanh", weight_scale=1.3, bias_scale=0.4, output_scale=0.7)
    weights, biases = start(model)
    drawn = jax.tree.map(lambda a: a / np.sqrt(m), (weights, biases))  # b = 1/2
    c = (1.3 / np.sqrt(3), 1.3, 1.3)  # s_w, and the input's fan-in, which does not scale
    in_, out = np.sqrt(m), 1 / np.sqrt(m)

    def forward(params):
        (w1, w2, w3), (b1, b2, b3) = params
        h = jnp.tanh(c[0] * X @ (in_ * w1).T + 0.4 * (in_ * b1)[None])
        h = jnp.tanh(c[1] * h @ w2.T + 0.4 * (in_ * b2)[None])
        return 0.7 * (c[2] * h @ (out * w3).T + 0.4 * b3[None])

    expected = plain_descent(forward, drawn, 0.3, Y[:, :1])
    found = package_descent(parametrise(model, "mup"), (weights, biases), 0.3, Y[:, :1])
    assert np.abs(expected[-1] - expected[0]).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_ntk_is_the_network_itself():
    network = parametrise(MODEL, "ntk")
    assert network.model is MODEL
    params = start(MODEL)
    expected = plain_descent(lambda p: MODEL.apply(p, X), params, 0.1)
    np.testing.assert_allclose(package_descent(network, params, 0.1), expected, atol=1e-12)


@pytest.mark.parametrize("name", PARAMETRISATIONS)
@pytest.mark.sample(1)
def test_the_training_loop_takes_the_optimiser(name):
    network, params = parametrise(MODEL, name, 8), start(MODEL)
    problem = Problem(network.model, Measure(X, Y, WEIGHTS))
    optimizer = network.optimizer(0.02)
    result = train(problem, params, optimizer, STEPS, label=name, dtype="float64")
    expected = package_descent(network, params, 0.02)
    found = problem.predict(result.params)
    np.testing.assert_allclose(found, expected[-1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", PARAMETRISATIONS)
@pytest.mark.parametrize("bias_scale", [0.0, 0.4])
@pytest.mark.slow
def test_the_kernel_is_that_of_the_dense_jacobian(name, bias_scale):
    model = MLP(3, (12, 8), 2, "softplus", bias_scale=bias_scale, output_scale=0.7)
    network, params = parametrise(model, name, 4), start(model, 3)
    jacobian = dense_jacobian(network.model, params, X)
    pairs = (network.weight_multipliers, network.bias_multipliers)
    parts = [
        np.full(a.size, d)
        for ds, arrays in zip(pairs, params, strict=True)
        for d, a in zip(ds, arrays, strict=True)
    ]
    multipliers = np.concatenate(parts)
    roots = np.repeat(np.sqrt(WEIGHTS), 2)
    expected = (roots[:, None] * jacobian * multipliers) @ (roots[:, None] * jacobian).T
    found = network.tangent_kernel(Measure(X, Y, WEIGHTS), params)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_at_initialisation_mup_has_the_kernel_of_ntk():
    params = start(MODEL)
    problem = Problem(MODEL, Measure(X, Y, WEIGHTS))
    kernel = tangent_kernel(problem, params)
    for base_width in (1, 7, 16):
        network = parametrise(MODEL, "mup", base_width)
        np.testing.assert_allclose(
            network.tangent_kernel(problem.measure, params), kernel, rtol=1e-12
        )


def test_mup_is_ntk_at_its_base_width():
    network = parametrise(MODEL, "mup", MODEL.hidden_widths[-1])
    assert network.model == MODEL
    assert set(network.weight_multipliers + network.bias_multipliers) == {1.0}


def test_the_multipliers_are_the_table():
    network = parametrise(MODEL, "standard")
    np.testing.assert_allclose(network.weight_multipliers, np.array([3, 24, 16]) / 1.3**2)
    np.testing.assert_allclose(network.bias_multipliers, 1 / 0.4**2)
    network = parametrise(MODEL, "mup", 4)
    assert network.weight_multipliers == network.bias_multipliers == (4.0,) * 3
    assert network.model.output_scale == pytest.approx(0.7 / 2)


def test_it_refuses_what_it_cannot_use():
    with pytest.raises(InputError, match="choose one of ntk, standard, mup"):
        parametrise(MODEL, "mean-field")
    with pytest.raises(InputError, match="base_width must be a whole number, 1 or more"):
        parametrise(MODEL, "mup", 0)
    with pytest.raises(InputError, match="hidden layer"):
        parametrise(MLP(3, ()), "mup")
