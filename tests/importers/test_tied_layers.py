"""Layers of a ``Composed`` network that stand twice, or have arrays that the source does not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from overparam import InputError, importers

KEYS = jax.random.split(jax.random.key(0), 3)
nn = eqx.nn


def perceptron(*middle):
    """Layers of four units between two others."""
    first, last = nn.Linear(3, 4, key=KEYS[0]), nn.Linear(4, 1, key=KEYS[1])
    return nn.Sequential([first, *middle, last])


def test_a_layer_that_stands_twice_is_refused():
    """Descent moves both places alike there; as layers of their own they would part."""
    again = nn.Linear(4, 4, key=KEYS[2])
    with pytest.raises(InputError, match="tied weights"):
        importers.from_equinox(perceptron(nn.LayerNorm(4), again, nn.Lambda(jnp.tanh), again))
    conv = nn.Conv2d(2, 2, 3, padding=1, key=KEYS[2])
    convnet = [conv, nn.Lambda(jnp.tanh), conv, nn.Lambda(jnp.ravel), nn.Linear(8, 1, key=KEYS[1])]
    with pytest.raises(InputError, match="tied weights"):
        importers.from_equinox(nn.Sequential(convnet), in_shape=(2, 2, 2))
    norm = nn.LayerNorm(4)
    with pytest.raises(InputError, match="stands twice"):
        importers.from_equinox(perceptron(norm, nn.Lambda(jnp.tanh), norm))


def test_arrays_that_a_layer_norm_does_not_have_are_named():
    """Here they may move."""
    module = perceptron(nn.LayerNorm(4, use_bias=False), nn.LayerNorm(4, use_weight=False))
    notes = importers.from_equinox(module).notes
    assert notes == (
        "layer 1 (LayerNorm) had no bias: it is 0 here, and gradient descent may move it",
        "layer 2 (LayerNorm) had no gain: it is 1 here, and gradient descent may move it",
    )
