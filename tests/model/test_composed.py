"""Layers against other libraries' formulas, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from composed_networks import IMAGE, NETWORKS, VECTOR, problem_of
from overparam import InputError, Measure, Problem, gradient_descent
from overparam.kernels import empirical_ntk
from overparam.model import (
    Activation,
    Composed,
    Conv,
    Dense,
    Flatten,
    LayerNorm,
    MeanPool,
    Normalise,
    Pointwise,
    Residual,
    Scale,
)
from overparam.model.composed_layers import Factors

FACTORS = Factors(1.3, 0.4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 2), (4, 4)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", 1])
@pytest.mark.sample(3)
def test_a_convolution_is_that_of_lax(stride, kernel, padding):
    layer, rng = Conv(3, kernel, stride, padding), np.random.default_rng(0)
    params = {"weight": rng.standard_normal((3, *kernel, 2)), "bias": rng.standard_normal(3)}
    h = rng.standard_normal((2, 5, 6, 2))
    pads = padding if isinstance(padding, str) else [(padding, padding)] * 2
    with jax.enable_x64(True):
        numbers = ("NHWC", "OHWI", "NHWC")
        z = jax.lax.conv_general_dilated(
            h, params["weight"], (stride, stride), pads, dimension_numbers=numbers
        )
        found = np.asarray(jax.jit(partial(layer, factors=FACTORS))(params, h))
    expected = 1.3 / np.sqrt(2 * np.prod(kernel)) * np.asarray(z) + 0.4 * params["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert layer.out_shape((5, 6, 2)) == found.shape[1:]


def test_means_are_those_of_windows_and_what_does_not_fill_one_is_left_out():
    h = np.random.default_rng(0).standard_normal((2, 5, 6, 3)).astype(np.float32)
    found = np.asarray(MeanPool((2, 3))({}, jnp.asarray(h), FACTORS))
    assert found.shape[1:] == MeanPool((2, 3)).out_shape((5, 6, 3)) == (2, 2, 3)
    np.testing.assert_allclose(found[:, 1, 1], h[:, 2:4, 3:6].mean(axis=(1, 2)), rtol=1e-6)
    whole = np.asarray(MeanPool(None)({}, jnp.asarray(h), FACTORS))
    np.testing.assert_allclose(whole[:, 0, 0], h.mean(axis=(1, 2)), rtol=1e-5, atol=1e-7)


def test_the_networks_are_their_formulas():
    """The residual perceptron, written out in NumPy."""
    problem, params = problem_of("vector")
    dense = lambda p, h: h @ p["weight"].T / np.sqrt(h.shape[1]) + 0.5 * p["bias"]  # noqa: E731
    first, (_, scale, up, _, (_, inner), down), _, last = params

    def norm(h, epsilon):
        return (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + epsilon)

    h = dense(first, problem.measure.x)
    z = scale["gain"] * norm(h, 1e-6) + scale["bias"]
    z = np.logaddexp(dense(up, z), 0)
    z = z + dense(inner, np.sin(z))
    h = h + dense(down, z)
    expected = dense(last, norm(h, 0.01))
    np.testing.assert_allclose(problem.predict(params), expected, atol=1e-13)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.sample(1)
def test_init_draws_weights_and_starts_scales_from_one(name):
    network = NETWORKS[name]
    params = network.init(jax.random.key(0))
    network.validate(params)
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == network.parameter_count
    scales = params[3:5] if name == "image" else params[1][:2]
    assert not np.any(np.asarray(scales[1]["gain"]) - 1)
    assert not np.any(np.asarray(scales[1]["bias"]))
    found = jax.eval_shape(network.apply, params, np.ones((4, network.in_dim)))
    assert found.shape == (4, network.out_dim)
    assert network == eval(repr(network))
    assert hash(network) == hash(eval(repr(network)))


@pytest.mark.slow
def test_a_composed_network_is_a_function_that_trains_and_has_a_kernel():
    problem, params = problem_of("vector")
    result = gradient_descent(problem, params, 0.02, 20)
    assert problem.excess(result.params) < problem.excess(params)
    kernel = empirical_ntk(problem.model, params, problem.measure.x)
    assert np.linalg.eigvalsh(kernel)[0] > 0


def test_layers_may_be_nested_and_activations_named():
    network = Composed((Dense(3), ["gelu", Pointwise(Activation("f", jnp.tanh, 1.0)), Dense(1)]), 2)
    assert [type(part) for part in network.parts] == [Dense, Pointwise, Pointwise, Dense]
    assert LayerNorm(0.1) == (Normalise(0.1), Scale())


REFUSED = {
    "Flatten": lambda: Composed((Conv(3), "gelu"), (4, 4, 1)),
    "images": lambda: Composed((Conv(3), Flatten(), Dense(1)), 16),
    "larger than": lambda: Composed((Conv(3, 5, padding="VALID"), Flatten()), (4, 4, 1)),
    "window": lambda: Composed((MeanPool(5), Flatten(), Dense(1)), (4, 4, 1)),
    "keep the shape": lambda: Composed((Residual((Dense(3),)), Dense(1)), 2),
    "no layer has parameters": lambda: Composed(("gelu",), 2),
    "is no layer": lambda: Composed((Dense(3), 7), 2),
    "unknown activation": lambda: Composed((Dense(3), "relo"), 2),
    "features": lambda: Composed((Dense(0),), 2),
    "epsilon": lambda: LayerNorm(0.0),
    "padding": lambda: Conv(3, padding="same"),
    "stride": lambda: Conv(3, stride=0),
    "kernel": lambda: Conv(3, (3, 3, 3)),
    "output_scale": lambda: Composed((Dense(1),), 2, output_scale=0.0),
    "bias_scale": lambda: Composed((Dense(1),), 2, bias_scale=-1.0),
    "in_shape": lambda: Composed((Dense(1),), 0),
    "params have arrays": lambda: IMAGE.validate(VECTOR.init(jax.random.key(0))),
    "NaN": lambda: VECTOR.validate(jax.tree.map(lambda a: a * np.nan, problem_of("vector")[1])),
    "features but": lambda: Problem(VECTOR, Measure(np.ones((2, 4)), np.ones(2))),
    "columns but": lambda: Problem(VECTOR, Measure(np.ones((2, 3)), np.ones((2, 2)))),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(says):
    with pytest.raises(InputError, match=says) as caught:
        REFUSED[says]()
    assert "\n" not in str(caught.value)
