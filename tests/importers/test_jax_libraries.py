"""Equinox and Flax against their own outputs; each part needs its library."""

import jax
import numpy as np
import pytest
from reference import draw_layers, forward, points

import overparam as op
from overparam import importers

X = points(30, 5)


class TestEquinox:
    eqx = pytest.importorskip("equinox")

    def mlp(self, activation, **options):
        return self.eqx.nn.MLP(5, 2, 8, 2, activation=activation, key=jax.random.key(0), **options)

    @pytest.mark.parametrize(
        ("activation", "name"),
        [
            (jax.nn.tanh, "tanh"),
            (jax.nn.relu, "relu"),
            (jax.nn.gelu, "gelu_tanh"),
            (lambda z: jax.nn.gelu(z, approximate=False), "gelu"),
            (jax.nn.swish, "silu"),
            (jax.nn.softplus, "softplus"),
            (jax.nn.sigmoid, "sigmoid"),
            (jax.nn.elu, "elu"),
            (jax.nn.selu, "selu"),
            (jax.numpy.sin, "sin"),
        ],
    )
    @pytest.mark.sample(1)
    def test_the_activation_is_read_from_the_object(self, activation, name):
        module = self.mlp(activation)
        network = importers.from_equinox(module)
        assert network.model.act.name == name
        layers = [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in module.layers]
        if name in ("tanh", "gelu", "gelu_tanh", "silu"):
            assert network.check(X, forward(layers, name, X)) <= 1e-12
        single = np.asarray(jax.vmap(module)(X.astype(np.float32)))
        assert network.check(X, single, tolerance=1e-5) > 0

    @pytest.mark.slow
    def test_layers_without_bias_and_scalars(self):
        network = importers.from_equinox(self.mlp(jax.nn.tanh, use_final_bias=False))
        assert "layer 2 had no bias" in network.notes[0]
        assert (
            importers.from_equinox(
                self.mlp(jax.nn.tanh, use_bias=False, use_final_bias=False)
            ).notes
            == ()
        )
        scalar = self.eqx.nn.MLP("scalar", "scalar", 4, 1, key=jax.random.key(0))
        assert importers.from_equinox(scalar, "relu").model.widths == (1, 4, 1)

    def test_sequential(self):
        nn, keys = self.eqx.nn, jax.random.split(jax.random.key(1))
        module = nn.Sequential(
            [
                nn.Linear(5, 6, key=keys[0]),
                nn.Lambda(jax.nn.tanh),
                nn.Dropout(0.5, inference=True),
                nn.Linear(6, 2, key=keys[1]),
            ]
        )
        network = importers.from_equinox(module)
        layers = [
            (np.asarray(module.layers[i].weight), np.asarray(module.layers[i].bias)) for i in (0, 3)
        ]
        assert network.check(X, forward(layers, "tanh", X)) <= 1e-12
        assert "Dropout is the identity" in network.notes[0]
        with pytest.raises(op.InputError, match=r"layer 0 \(Conv1d\) is not supported"):
            importers.from_equinox(nn.Sequential([nn.Conv1d(5, 3, 1, key=keys[0])]))

    def test_what_is_not_supported_is_named(self):
        with pytest.raises(op.InputError, match="final_activation is not the identity"):
            importers.from_equinox(self.mlp(jax.nn.tanh, final_activation=jax.nn.tanh))
        with pytest.raises(op.InputError, match="soft_sign, is not a known activation"):
            importers.from_equinox(self.mlp(jax.nn.soft_sign))
        with pytest.raises(op.InputError, match="deviates from MLP"):
            importers.from_equinox(self.mlp(jax.nn.soft_sign), "tanh")
        with pytest.raises(op.InputError, match=r"equinox.nn.Linear is not supported"):
            importers.from_equinox(self.eqx.nn.Linear(2, 2, key=jax.random.key(0)))
        with pytest.raises(op.InputError, match="a int is no Equinox network"):
            importers.from_equinox(3)


def linen_params(layers):
    """As ``flax.linen`` names and lays out the parameters of ``Dense`` layers."""
    return {
        f"Dense_{number}": {"kernel": weight.T, "bias": bias}
        for number, (weight, bias) in enumerate(layers)
    }


def test_linen_parameters():
    layers = draw_layers((5, *[4] * 10, 2))
    shuffled = dict(sorted(linen_params(layers).items()))  # Dense_10 before Dense_2
    for params in (shuffled, {"params": shuffled}):
        expected = forward(layers, "silu", X)
        network = importers.from_flax(params, "silu", check=(X, expected))
        assert network.check(X, expected) <= 1e-12
    with pytest.raises(op.InputError, match="the width 4 occurs more than once"):
        importers.from_flax(shuffled, "silu")
    with pytest.raises(op.InputError, match="the collection 'batch_stats' besides params"):
        importers.from_flax({"params": shuffled, "batch_stats": {}}, "silu")
    with pytest.raises(op.InputError, match="give activation="):
        importers.from_flax(linen_params(draw_layers((5, 4, 2))))
    with pytest.raises(op.InputError, match="a int is no Flax network"):
        importers.from_flax(3)


class TestFlax:
    """Flax is no development dependency: it brings a dozen packages along."""

    @pytest.fixture(autouse=True)
    def flax(self):
        self.nnx = pytest.importorskip("flax.nnx")

    def test_nnx_sequential(self):
        nnx = self.nnx
        rngs = nnx.Rngs(0)
        module = nnx.Sequential(
            nnx.Linear(5, 8, rngs=rngs),
            nnx.gelu,
            nnx.Dropout(0.3, deterministic=True, rngs=rngs),
            nnx.Linear(8, 2, use_bias=False, rngs=rngs),
        )
        network = importers.from_flax(module)
        assert network.model.act.name == "gelu_tanh"
        first, last = module.layers[0], module.layers[3]
        layers = [
            (np.asarray(first.kernel[...]).T, np.asarray(first.bias[...])),
            (np.asarray(last.kernel[...]).T, None),
        ]
        assert network.check(X, forward(layers, "gelu_tanh", X)) <= 1e-12
        with pytest.raises(op.InputError, match=r"layer 0 \(BatchNorm\) is not supported"):
            importers.from_flax(nnx.Sequential(nnx.BatchNorm(5, rngs=rngs)))

    def test_nnx_module_with_the_activation_given(self):
        nnx = self.nnx

        class Custom(nnx.Module):
            def __init__(self, rngs):
                self.outer = nnx.Linear(6, 2, rngs=rngs)
                self.inner = nnx.Linear(5, 6, rngs=rngs)

            def __call__(self, x):
                return self.outer(nnx.tanh(self.inner(x)))

        network = importers.from_flax(Custom(nnx.Rngs(0)), "tanh")
        assert network.model.widths == (5, 6, 2)
        with pytest.raises(op.InputError, match="deviates from Custom"):
            importers.from_flax(Custom(nnx.Rngs(0)), "gelu")

    def test_linen(self):
        import flax.linen as nn

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.Dense(2)(nn.tanh(nn.Dense(7)(x)))

        variables = Net().init(jax.random.key(0), np.ones((1, 5), np.float32))
        network = importers.from_flax(variables, "tanh")
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
            outputs = np.asarray(Net().apply(wide, X))
        assert network.check(X, outputs) <= 1e-12
