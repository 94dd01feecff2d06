"""Checkpoints as Lightning writes them: the state dict beside all that training goes on with."""

from collections import OrderedDict

import pytest
from reference import points

from overparam.errors import InputError
from overparam.importers import load_network

torch = pytest.importorskip("torch")
nn = torch.nn

X = points(20, 6)


def checkpoint(module, **more):
    """The keys of PyTorch Lightning 2.6, for a module that calls its network ``net``."""
    adam = torch.optim.Adam(module.parameters())
    module(torch.from_numpy(X).to(next(module.parameters()).dtype)).sum().backward()
    adam.step()
    return {
        "epoch": 3,
        "global_step": 240,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": OrderedDict((f"net.{k}", v) for k, v in module.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": None}},
        "optimizer_states": [adam.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"hidden": 7, "activation": "tanh", "rates": [1e-3, 1e-4]},
    } | more


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 2)).double()


def test_a_lightning_checkpoint_is_read_like_a_state_dict(tmp_path):
    module = network()
    torch.save(checkpoint(module), tmp_path / "last.ckpt")
    read = load_network(tmp_path / "last.ckpt", "tanh")
    with torch.no_grad():
        expected = module(torch.from_numpy(X)).numpy()
    assert read.model.widths == (6, 7, 2)
    assert read.check(X, expected) <= 1e-12


def test_objects_among_the_hyper_parameters_are_not_unpickled(tmp_path):
    content = checkpoint(network(), hyper_parameters={"loss": nn.MSELoss()})
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="save the state dict"):
        load_network(tmp_path / "last.ckpt", "tanh")


def test_what_is_no_layer_is_named(tmp_path):
    content = checkpoint(network())
    content["state_dict"]["accuracy.total"] = torch.zeros(())
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"'accuracy.total' .* is neither a weight nor a bias"):
        load_network(tmp_path / "last.ckpt", "tanh")
