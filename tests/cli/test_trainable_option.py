"""`overparam certify --trainable`: a last layer is certified, and the folder checked again."""

import json

import numpy as np
import pytest

from overparam.cli.main import main

COMMAND = ["certify", "wine", "--samples", "14", "--width", "32", "--depth", "1", "--steps", "5"]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code


@pytest.mark.slow
def test_a_last_layer_is_certified_and_nothing_else_moves(tmp_path):
    options = ["--trainable", "last layer", "--activation", "relu", "--no-consequences"]
    assert run(*COMMAND, *options, "--out", tmp_path) == 0
    for name in ("certificate-initialisation.json", "certificate.json"):
        found = json.loads((tmp_path / name).read_text())
        assert found["problem"]["trainable"] == ["weights.1", "biases.1"]
        assert found["numbers"]["modulus_at_ball"] == 0
        assert found["numbers"]["margin"] > 1
    params = np.load(tmp_path / "params.npz")
    for name in ("weights_0", "biases_0"):
        assert np.array_equal(params[name], params[f"initial_{name}"])
    assert not np.array_equal(params["weights_1"], params["initial_weights_1"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["trainable"] == ["weights.1", "biases.1"]
    assert run("verify", tmp_path) == 0


@pytest.mark.slow
def test_weights_from_elsewhere_are_an_anchor_for_their_last_layer(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {"0.weight": rng.standard_normal((40, 4)), "2.weight": rng.standard_normal((3, 40))}
    arrays |= {"0.bias": rng.standard_normal(40), "2.bias": np.zeros(3)}
    np.savez(tmp_path / "net.npz", **arrays)
    command = ["anchor", tmp_path / "net.npz", "iris", "--samples", "12", "--activation", "tanh"]
    for trainable in ("last layer", "all"):
        assert run(*command, "--trainable", trainable, "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["certified"] is (trainable == "last layer")


@pytest.mark.parametrize(
    ("trainable", "message"),
    [("last", "does not have"), ("weights.2", "layers 0 to 1"), ("layers.4:", "nothing to train")],
)
def test_layers_that_are_not_there_end_in_one_line(trainable, message, capsys):
    assert run(*COMMAND, "--trainable", trainable) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("overparam: trainable")
    assert captured.err.count("\n") == 1
    assert message in captured.err
