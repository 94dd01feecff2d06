"""The layers' derivatives against automatic differentiation through shifted preactivations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import draw_inputs, draw_params
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP

MODELS = [
    MLP(3, (), 2),
    MLP(3, (5,), 1, "tanh", output_scale=2.0),
    MLP(2, (4, 6), 3, "gelu", weight_scale=1.5),
    MLP(3, (5, 2, 4), 2, "softplus", bias_scale=0.0),
]


def shifted_output(model, params, x, shift, at, after):
    """N at one point with ``shift`` added to z^at, or to h^at if ``after`` the activation."""
    h = jnp.asarray(x)
    for layer in range(model.layers - 1):
        here = layer + 1 == at
        z = model.preactivation(params, layer, h[None])[0]
        h = model.act.fn(z + shift if here and not after else z)
        h = h + shift if here and after else h
    return model.output_scale * model.preactivation(params, model.layers - 1, h[None])[0]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: str(m.widths))
@pytest.mark.sample(2)
def test_backward_is_the_derivative_by_z_and_upstream_by_h(model):
    params, x = draw_params(model), draw_inputs(3, model, 1)
    with jax.enable_x64(True):
        layers = observe_layers(model, params, jnp.asarray(x))
        for at in range(1, model.layers):
            zero = jnp.zeros(model.widths[at])
            for after, found in ((False, layers.backward), (True, layers.upstream)):

                def output(point, shift, at=at, after=after):
                    return shifted_output(model, params, point, shift, at, after)

                slope = jax.jit(jax.vmap(jax.jacobian(output, 1), (0, None)))
                np.testing.assert_allclose(found[at - 1], slope(x, zero), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: str(m.widths))
@pytest.mark.sample(2)
def test_inputs_and_output_are_those_of_the_forward_pass(model):
    params, x = draw_params(model), draw_inputs(3, model, 1)
    with jax.enable_x64(True):
        layers = observe_layers(model, params, jnp.asarray(x))
        np.testing.assert_allclose(layers.output, model.apply(params, x), rtol=1e-13)
        assert [h.shape for h in layers.inputs] == [(3, m) for m in model.widths[:-1]]
        np.testing.assert_array_equal(layers.inputs[0], x)
        for layer, h in enumerate(layers.inputs[1:]):
            z = model.preactivation(params, layer, layers.inputs[layer])
            np.testing.assert_allclose(h, model.act.fn(z), rtol=1e-13, atol=1e-15)
    assert len(layers.backward) == len(layers.upstream) == model.layers - 1
