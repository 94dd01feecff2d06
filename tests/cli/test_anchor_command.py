"""`overparam anchor` end to end: weights from elsewhere, real data, files that verify."""

import itertools
import json
import re

import numpy as np
import pytest

import overparam as op
from overparam import importers
from overparam.cli.main import main


def run(capsys, *arguments, status=0):
    with pytest.raises(SystemExit) as stop:
        main(["anchor", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == status, captured.err
    return captured


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """The network of 24 flowers that full-batch gradient descent gave, in the standard form."""
    rng = np.random.default_rng(0)
    data = op.load("iris", samples=24, test_fraction=0.0, standardize="center")
    sizes = (4, 200, 3)
    arrays = {}
    for number, (n, m) in enumerate(itertools.pairwise(sizes)):
        arrays[f"{2 * number}.weight"] = rng.standard_normal((m, n)) / np.sqrt(n)
        arrays[f"{2 * number}.bias"] = 0.1 * rng.standard_normal(m)
    start = importers.from_torch(arrays, "tanh")
    problem = op.Problem(start.model, data.train)
    trained = op.gradient_descent(problem, start.params, 0.2, 2000, dtype="float64").params
    path = tmp_path_factory.mktemp("iris") / "net.npz"
    named = {}
    layers = importers.standard_layers(start.model, trained)
    for number, (weight, bias) in enumerate(layers):
        named |= {f"{2 * number}.weight": weight, f"{2 * number}.bias": bias}
    np.savez(path, **named)
    return path


DATA = ("iris", "--samples", "24", "--standardize", "center", "--activation", "tanh")


def test_a_residual_that_is_too_large_is_said_with_the_factor(capsys, iris):
    summary = json.loads(run(capsys, iris, *DATA, "--json").out)
    assert summary["certified"] is False
    assert summary["moved"] is None
    assert summary["imported"]["short_by_factor"] > 1
    assert summary["errors"] == summary["imported_errors"]
    text = run(capsys, iris, *DATA).out
    assert "not certified: short by a factor" in text
    assert "--polish 10 moves the weights" in " ".join(text.split())


def test_polishing_is_labelled_and_verifies(capsys, iris, tmp_path):
    out = tmp_path / "out"
    text = " ".join(run(capsys, iris, *DATA, "--polish", "10", "--out", out).out.split())
    assert "the weights were MOVED by" in text
    assert "of the moved parameters" in text
    assert "layer by layer: weights" in text
    names = {
        "certificate.json",
        "params.npz",
        "data.npz",
        "summary.json",
        "history.csv",
        "report.html",
    }
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert summary["certified"]
    assert summary["anchor"]["certificate_held"]
    assert summary["imported"]["certified"] is False
    arrays = np.load(out / "params.npz")
    page = (out / "report.html").read_text()
    assert "At the weights moved by" in page
    assert "At the weights as imported" in page
    assert page.count("<figure>") == 2  # the run from the anchor, and the way to it
    squares = [
        np.sum((arrays[f"{kind}_{i}"] - arrays[f"initial_{kind}_{i}"]) ** 2)
        for kind in ("weights", "biases")
        for i in range(2)
    ]
    assert summary["moved"]["distance"] == pytest.approx(np.sqrt(np.sum(squares)), rel=1e-12)
    assert 0 < summary["moved"]["relative_distance"] < 1
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(out)])
    assert stop.value.code == 0, capsys.readouterr().out
    capsys.readouterr()
    # The folder is itself a file of weights, whose certificate needs no polishing.
    again = json.loads(run(capsys, out, *DATA[:-2], "--json", "--polish", "5").out)
    assert again["certified"]
    assert again["moved"] is None


@pytest.mark.slow
def test_a_centred_run_of_our_own_is_anchored_where_it_was(capsys, tmp_path):
    out = tmp_path / "out"
    chosen = ("--samples", "10", "--test-fraction", "0.2", "--standardize", "sphere")
    with pytest.raises(SystemExit):
        main(
            [
                "certify",
                "iris",
                *chosen,
                "--width",
                "64",
                "--steps",
                "5",
                "--no-consequences",
                "--out",
                str(out),
            ]
        )
    before = json.loads((out / "summary.json").read_text())["anchor"]
    capsys.readouterr()
    after = json.loads(run(capsys, out, "iris", *chosen, "--json").out)
    assert after["certified"]
    assert after["imported"]["radius"] == pytest.approx(before["radius"], rel=1e-6)


def test_weights_whose_squares_vanish_are_moved_by_a_share_of_their_norm(capsys, tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (1, 3), "2.bias": (1,)}
    np.savez(tmp_path / "net.npz", **{n: 1e-300 * rng.normal(size=s) for n, s in shapes.items()})
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(6, 2)), y=rng.normal(size=6))
    weights, data = tmp_path / "net.npz", tmp_path / "data.npz"
    options = ("--activation", "tanh", "--polish", "20", "--json")
    moved = json.loads(run(capsys, weights, data, *options).out)["moved"]
    assert 1e290 < moved["relative_distance"] / moved["distance"] < 1e305


def test_regression_targets_in_their_own_units(capsys, tmp_path):
    data = op.load("diabetes", samples=12, test_fraction=0.0, standardize="center")
    data_raw = op.load(
        "diabetes",
        samples=12,
        test_fraction=0.0,
        standardize="center",
        standardize_target=False,
    )
    assert data_raw.coding.mean == (0.0,)
    assert [fitted.what for fitted in data_raw.fitted] == ["the features' mean and scale"]
    np.testing.assert_allclose(data_raw.train.y, data.coding.decode(data.train.y), rtol=1e-12)
    weight, *_ = np.linalg.lstsq(
        np.hstack([data_raw.train.x, np.ones((12, 1))]), data_raw.train.y, rcond=None
    )
    np.savez(tmp_path / "linear.npz", weight=weight[:-1].T, bias=weight[-1])
    arguments = (tmp_path / "linear.npz", "diabetes", "--samples", "12", "--standardize", "center")
    raw = json.loads(run(capsys, *arguments, "--json").out)
    assert raw["errors"]["train"]["r2"] > 0.7
    assert raw["target"]["scale"] == [1.0]
    scaled = json.loads(run(capsys, *arguments, "--target-units", "standardized", "--json").out)
    assert scaled["errors"]["train"]["r2"] < 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.npz", "iris"), "there is no file absent.npz"),
        (("{net}", "iris"), "give activation= one of"),
        (("{net}", "iris", "--activation", "tahn"), "did you mean 'tanh'"),
        (("{net}", "wine", "--activation", "tanh"), "13 features but the model takes in_dim=4"),
        (("{net}", "iris", "--activation", "tanh", "--loss", "squrd"), "did you mean 'squared'"),
        (("{net}", "iris", "--activation", "tanh", "--polish", "-1"), "polish must be a whole"),
        (("{net}", "iris", "--activation", "tanh", "--layers", "a,b"), "name each of them once"),
        (("{net}", "iris", "--activation", "tanh", "--scales", "standard"), "equal numbers"),
    ],
)
def test_unusable_arguments_are_one_line(capsys, iris, arguments, message):
    filled = [argument.replace("{net}", str(iris)) for argument in arguments]
    captured = run(capsys, *filled, status=2)
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err)
