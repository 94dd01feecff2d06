"""Weights in files: exact, in any order, and never a way to run code."""

import json
import pickle

import numpy as np
import pytest
from reference import draw_layers, forward, points, state_dict
from safetensors.numpy import save_file

import overparam as op
from overparam import importers

WIDTHS = (5, 16, 12, 3)
LAYERS = draw_layers(WIDTHS)
X = points(20, 5)
EXPECTED = forward(LAYERS, "tanh", X)


def refused(path, message, **options):
    with pytest.raises(op.InputError, match=message) as caught:
        importers.load_network(path, **options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(state_dict(LAYERS, "{}"), path)
    return path


def test_safetensors(file):
    network = importers.load_network(file, "tanh")
    assert network.check(X, EXPECTED) <= 1e-12
    assert network.source == str(file)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_safetensors_of_every_float(tmp_path, dtype):
    layers = [(w.astype(dtype), b.astype(dtype)) for w, b in LAYERS]
    save_file(state_dict(layers), tmp_path / "net.safetensors", metadata={"format": "np"})
    network = importers.load_network(tmp_path / "net.safetensors", "tanh")
    assert network.check(X, forward(layers, "tanh", X)) <= 1e-12


def write_safetensors(path, header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    weight = np.array([[1.5, -0.15625]], np.float32)
    data = (weight.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {"weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}
    network = importers.load_network(write_safetensors(tmp_path / "b.safetensors", header, data))
    assert network.check(np.eye(2), weight.T) <= 1e-15


ENTRY = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "size", "length", "message"),
    [
        ({"weight": ENTRY}, 8, 10**9, "header is cut short"),
        (b"not json", 8, None, "header is not JSON"),
        (b"[1]", 8, None, "header is no object"),
        (b'{"weight": 1, "weight": 2}', 8, None, "header is not JSON"),
        ({"weight": ENTRY}, 7, None, "does not fit its place"),
        ({"weight": ENTRY}, 9, None, "do not fill the file"),
        ({"weight": ENTRY, "bias": ENTRY}, 8, None, "overlap"),
        ({"weight": {**ENTRY, "shape": [1, 3]}}, 8, None, "does not fit its place"),
        ({"weight": {**ENTRY, "shape": [-1, -2]}}, 8, None, "no whole number"),
        ({"weight": {**ENTRY, "shape": [True, 2]}}, 8, None, "no whole number"),
        ({"weight": {**ENTRY, "data_offsets": [8, 0]}}, 8, None, "does not fit its place"),
        ({"weight": {**ENTRY, "dtype": "F8_E4M3"}}, 8, None, "the dtype 'F8_E4M3'"),
        ({"weight": {"dtype": "F32"}}, 8, None, "no dtype, shape or place"),
        ({"weight": 3}, 8, None, "no dtype, shape or place"),
    ],
)
def test_damaged_safetensors(tmp_path, header, size, length, message):
    path = tmp_path / "net.safetensors"
    refused(write_safetensors(path, header, bytes(size), length), message, activation="tanh")


def test_a_layer_that_the_library_left_out_because_it_is_another(tmp_path):
    """``safetensors.torch.save_model`` keeps one of two names of shared weights, and says so."""
    path = tmp_path / "net.safetensors"
    kept = {"inner.weight": np.ones((5, 5), np.float32), "outer.weight": np.ones((1, 5), "f4")}
    save_file(kept, path, metadata={"format": "pt", "middle.weight": "inner.weight"})
    refused(path, "'middle.weight' and 'inner.weight' in .* are one array", activation="tanh")


def test_outputs_to_compare_with_are_held_against_every_kind_of_file(tmp_path, file):
    saved = tmp_path / "net.npz"
    importers.load_network(file, "tanh", check=(X, EXPECTED)).save(saved)
    assert importers.load_network(saved, check=(X, EXPECTED)).model.widths == WIDTHS
    for path in (file, saved):
        refused(path, "deviates from", activation="sigmoid", check=(X, EXPECTED))


def test_every_truncation_of_a_file_is_one_line(file):
    content = file.read_bytes()
    for end in (0, 3, 8, 60, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:end])
        refused(file, "empty" if not end else "not a whole .safetensors", activation="tanh")


def test_sorted_names_that_do_not_tell_the_order(tmp_path):
    """The library sorts the names; the shapes decide, and if they cannot, the user."""
    path = tmp_path / "net.safetensors"
    names = ("stem", "middle", "head")
    arrays = {}
    for name, (weight, bias) in zip(names, LAYERS, strict=True):
        arrays |= {f"{name}.weight": weight, f"{name}.bias": bias}
    save_file(arrays, path)
    assert importers.load_network(path, "tanh").check(X, EXPECTED) <= 1e-12
    square = draw_layers((5, 5, 5))
    arrays = {"stem.weight": square[0][0], "head.weight": square[1][0]}
    save_file(arrays, path)
    refused(path, "nor do their shapes", activation="tanh")
    network = importers.load_network(path, "tanh", layers=("stem", "head"))
    biasless = [(weight, None) for weight, _ in square]
    assert network.check(X, forward(biasless, "tanh", X)) <= 1e-12
    save_file({"stem.weight": square[0][0], "head.weight": LAYERS[1][0]}, path)
    refused(path, "nor do their shapes", activation="tanh")


def test_npz_with_named_arrays(tmp_path):
    np.savez(tmp_path / "net.npz", **state_dict(LAYERS))
    assert importers.load_network(tmp_path / "net.npz", "tanh").check(X, EXPECTED) <= 1e-12
    kernels = {}
    for number, (weight, bias) in enumerate(LAYERS):
        kernels |= {f"params/Dense_{number}/kernel": weight.T, f"params/Dense_{number}/bias": bias}
    np.savez(tmp_path / "flax.npz", **kernels)
    assert importers.load_network(tmp_path / "flax.npz", "tanh").check(X, EXPECTED) <= 1e-12


def test_save_and_load_are_inverse(tmp_path):
    network = importers.from_torch(
        state_dict(LAYERS), "gelu_tanh", scales=importers.Scales(1.5, 0.2, 3.0)
    )
    network.save(tmp_path / "net.npz")
    again = importers.load_network(tmp_path / "net.npz")
    assert again.model == network.model
    np.testing.assert_array_equal(again.apply(X), network.apply(X))
    with pytest.raises(op.InputError, match=r"must end in \.npz"):
        network.save(tmp_path / "net.pt")


def test_a_users_activation_has_to_be_given_again(tmp_path):
    mine = op.Activation("mine", np.tanh, 1.0, 0.77)
    importers.from_torch(state_dict(LAYERS), mine).save(tmp_path / "net.npz")
    refused(tmp_path / "net.npz", "'mine', which is not built in")
    assert importers.load_network(tmp_path / "net.npz", mine).model.act == mine


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.safetensors", "there is no file"),
        ("net.h5", "unknown suffix '.h5'"),
        ("net.npz", "damaged or no .npz file"),
        ("net.pkl", "is a pickle, and reading it could run any code"),
        ("net.joblib", "is a pickle"),
        ("params.npz", "has no certificate.json"),
    ],
)
def test_other_files_are_refused(tmp_path, name, message):
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"whatever")
    refused(tmp_path / name, message, activation="tanh")


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib", ".npz", ".pt", ".pth"])
def test_a_malicious_pickle_runs_nothing(tmp_path, suffix):
    """With PyTorch its weights-only loader refuses it; without, nothing tries."""
    trace, path = tmp_path / "trace", tmp_path / f"net{suffix}"
    path.write_bytes(pickle.dumps({"0.weight": Malicious(trace)}))
    refused(path, "could run any code|needs PyTorch|damaged or no", activation="tanh")
    np.savez(tmp_path / "objects.npz", weight=np.array([Malicious(trace)], dtype=object))
    trace.unlink(missing_ok=True)
    refused(tmp_path / "objects.npz", "could run any code", activation="tanh")
    assert not trace.exists()


def test_without_pytorch_its_files_are_refused_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "net.pt").write_bytes(b"PK")
    refused(tmp_path / "net.pt", "needs PyTorch: pip install 'overparam\\[torch\\]', or save")
    (tmp_path / "empty.pt").write_bytes(b"")
    refused(tmp_path / "empty.pt", "is empty")
