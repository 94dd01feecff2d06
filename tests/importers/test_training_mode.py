"""Modules whose layers drop or normalise as in training: one line that says what to do."""

import jax
import pytest

import overparam as op
from overparam import importers


def test_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1))
    with pytest.raises(op.InputError, match=r"layer 2 \(Dropout\) is in training mode.*eval\(\)"):
        importers.from_torch(module)
    assert "Dropout" in importers.from_torch(module.eval()).notes[0]
    normed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    with pytest.raises(op.InputError, match="fold it into the linear layer"):
        importers.from_torch(normed)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    nn, keys = eqx.nn, jax.random.split(jax.random.key(0))
    layers = [nn.Linear(3, 4, key=keys[0]), nn.Lambda(jax.nn.tanh), nn.Dropout(0.5)]
    module = nn.Sequential([*layers, nn.Linear(4, 1, key=keys[1])])
    with pytest.raises(op.InputError, match=r"layer 2 \(Dropout\) is in training mode.*inference"):
        importers.from_equinox(module)
    network = importers.from_equinox(nn.inference_mode(module))
    assert "Dropout" in network.notes[0]


def test_flax():
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(
        nnx.Linear(3, 4, rngs=rngs),
        nnx.tanh,
        nnx.Dropout(0.5, rngs=rngs),
        nnx.Linear(4, 1, rngs=rngs),
    )
    with pytest.raises(op.InputError, match=r"layer 2 \(Dropout\) is in training mode.*eval\(\)"):
        importers.from_flax(module)
    module.eval()
    assert "Dropout" in importers.from_flax(module).notes[0]
