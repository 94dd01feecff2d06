"""Convolutions, means and layer norm from Equinox and Flax, against their own outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import InputError, Measure, Problem, importers
from overparam.importers.imported_network import scales_for
from overparam.importers.layer_steps import convolution, means
from overparam.jacobian.bounds import jacobian_bounds
from overparam.model import (
    Conv,
    Dense,
    Flatten,
    MeanPool,
    Normalise,
    Pointwise,
    Residual,
    Scale,
)


class TestEquinox:
    eqx = pytest.importorskip("equinox")

    def network(self, **conv):
        nn, keys = self.eqx.nn, jax.random.split(jax.random.key(0), 3)
        return nn.Sequential(
            [
                nn.Conv2d(2, 3, (3, 2), **{"padding": 1, "stride": 1, "key": keys[0]} | conv),
                nn.Lambda(jnp.tanh),
                nn.AvgPool2d((2, 3), (2, 3)),
                nn.Lambda(jnp.ravel),
                nn.LayerNorm(12),
                nn.Linear(12, 4, use_bias=False, key=keys[1]),
                nn.Dropout(0.5, inference=True),
                nn.Lambda(jax.nn.silu),
                nn.Linear(4, 2, key=keys[2]),
            ]
        )

    def test_a_convnet_is_read_layer_by_layer(self):
        """Its outputs are compared inside; here once more, at images of its own layout."""
        module = self.network()
        network = importers.from_equinox(module, in_shape=(4, 5, 2), scales=importers.Scales(2.0))
        kinds = [type(part) for part in network.model.parts]
        assert kinds == [
            *(Conv, Pointwise, MeanPool, Flatten, Normalise, Scale, Dense, Pointwise, Dense)
        ]
        assert "layer 5 (Linear) had no bias" in network.notes[-1]
        assert "Dropout is the identity" in network.notes[0]
        images = np.random.default_rng(1).standard_normal((3, 2, 4, 5)).astype(np.float32)
        inference = self.eqx.nn.inference_mode(module)
        expected = np.asarray(jax.vmap(inference)(images))
        x = np.moveaxis(images, 1, -1).reshape(3, -1)
        assert network.check(x, expected, tolerance=1e-5) > 0
        problem = Problem(network.model, Measure(x, expected))
        assert jacobian_bounds(problem, network.params).kind == "computed"
        assert problem.excess(network.params) < 1e-8

    def test_activations_may_differ_and_vectors_need_no_shape(self):
        nn, keys = self.eqx.nn, jax.random.split(jax.random.key(0), 2)
        module = nn.Sequential(
            [nn.Linear(3, 4, key=keys[0]), nn.LayerNorm(4), nn.Linear(4, 1, key=keys[1])]
        )
        assert importers.from_equinox(module).model.shape == (3,)

    def test_a_residual_perceptron(self):
        """A module of one's own that holds a Sequential, added to its input or not."""
        eqx, nn, keys = self.eqx, self.eqx.nn, jax.random.split(jax.random.key(0), 3)

        class Skip(eqx.Module):
            block: nn.Sequential

            def __call__(self, h, *, key=None):
                return h + self.block(h)

        class Chain(eqx.Module):
            block: nn.Sequential

            def __call__(self, h, *, key=None):
                return self.block(h)

        def module(kind):
            block = [nn.LayerNorm(4), nn.Linear(4, 4, key=keys[1]), nn.Lambda(jnp.sin)]
            layers = [nn.Linear(3, 4, key=keys[0]), kind(nn.Sequential(block))]
            return nn.Sequential([*layers, nn.Linear(4, 1, key=keys[2])])

        network = importers.from_equinox(module(Skip), scales=importers.Scales(1.0, 0.2, 3.0))
        assert [type(part) for part in network.model.parts] == [Dense, Residual, Dense]
        with pytest.raises(InputError, match="deviates from Sequential"):
            importers.from_equinox(module(Chain))

    def test_what_does_not_fit_is_named(self):
        nn = self.eqx.nn
        with pytest.raises(InputError, match=r"say in_shape=\(height, width, channels\)"):
            importers.from_equinox(self.network())
        with pytest.raises(InputError, match="is in_shape right"):
            importers.from_equinox(self.network(), in_shape=(4, 5, 1))
        with pytest.raises(InputError, match="without groups or dilation"):
            importers.from_equinox(self.network(dilation=2), in_shape=(4, 5, 2))
        norm = nn.BatchNorm(3, "batch", mode="batch")
        with pytest.raises(InputError, match="fold it into the layer before it"):
            importers.from_equinox(nn.Sequential([norm]))
        with pytest.raises(InputError, match="has no linear layer"):
            importers.from_equinox(nn.Sequential([nn.LayerNorm(3)]), in_shape=(3,))
        network = importers.from_equinox(self.network(), in_shape=(4, 5, 2))
        with pytest.raises(InputError, match="save keeps perceptrons only"):
            network.save("net.npz")


class TestFlax:
    """Flax is no development dependency: it brings a dozen packages along."""

    @pytest.fixture(autouse=True)
    def flax(self):
        self.nnx = pytest.importorskip("flax.nnx")

    def test_a_convnet_is_read_layer_by_layer(self):
        nnx = self.nnx
        rngs = nnx.Rngs(0)
        module = nnx.Sequential(
            nnx.Conv(2, 3, (3, 2), strides=2, rngs=rngs),
            nnx.LayerNorm(3, rngs=rngs),
            nnx.tanh,
            lambda h: nnx.avg_pool(h, (2, 1), strides=(2, 1)),
            lambda h: h.reshape(h.shape[0], -1),
            nnx.Linear(9, 2, rngs=rngs),
        )
        network = importers.from_flax(module, in_shape=(4, 5, 2))
        kinds = [type(part) for part in network.model.parts]
        assert kinds == [Conv, Normalise, Scale, Pointwise, MeanPool, Flatten, Dense]
        images = np.random.default_rng(1).standard_normal((3, 4, 5, 2)).astype(np.float32)
        assert network.check(images.reshape(3, -1), module(images), tolerance=1e-5) > 0


def test_options_that_are_not_known_are_refused():
    weight = np.ones((1, 3, 3, 1))
    for stride, padding in (((1, 2), 0), (1, ((0, 0), (1, 1))), (1, "CIRCULAR")):
        with pytest.raises(InputError, match="layer 0 is not supported"):
            convolution("layer 0", weight, None, stride, padding, plain=True)
    with pytest.raises(InputError, match="must not overlap"):
        means("layer 1", 3, 2, 0)
    with pytest.raises(InputError, match="equal numbers of inputs"):
        scales_for("standard", [3, 4, 1])
