"""``overparam kernel``: files, resuming, and one clear line for what cannot be."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import zarr

from overparam.cli import kernel as command
from overparam.cli.main import main
from overparam.data import load
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP
from overparam.precision import as_float64

SMALL = ("--samples", "30", "--test-fraction", "0", "--width", "8")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["kernel", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def refuse(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("overparam: ")
    assert err.count("\n") == 1
    return err


def iris():
    return load("iris", samples=30, test_fraction=0.0).train


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_empirical_kernel_of_the_training_points(capsys, tmp_path, dtype):
    out, train = tmp_path / "K.npy", iris()
    code, text, _ = run(
        capsys, "iris", *SMALL, "--block", 7, "--dtype", dtype, "--out", out, "--json"
    )
    assert code == 0
    assert json.loads(text) == {
        "out": str(out),
        "points": train.n,
        "shape": [3 * train.n, 3 * train.n],
        "dtype": dtype,
        "block": [7, 7],
        "tiles": 15,
        "computed": 15,
        "damaged": 0,
    }
    model = MLP(train.dim, (8, 8), 3)
    exact = empirical_ntk(model, as_float64(model.init(jax.random.key(0))), train.x)
    tolerance = {"float64": 1e-11, "float32": 1e-4}[dtype]
    np.testing.assert_allclose(np.load(out), exact, rtol=tolerance, atol=tolerance)


def test_it_is_of_all_rows_unless_asked(capsys, tmp_path):
    """Repeated ones, too, whatever their targets, in the table's order."""
    rows = [(0, 1, 5), (2, 3, 6), (0, 1, 7), (4, -4, 5), (2, 3, 6)]
    text = "\n".join(["a,b,y", *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "points.csv").write_text(text)
    asked = ("--infinite", "--standardize", "none", "--activation", "erf", "--json")
    out = tmp_path / "K.npy"
    code, text, _ = run(capsys, tmp_path / "points.csv", *asked, "--out", out)
    assert (code, json.loads(text)["points"]) == (0, 5)
    x = np.array([row[:2] for row in rows], dtype=np.float64)
    exact = infinite_ntk(MLP(2, (1, 1), 1, "erf"), x).ntk
    np.testing.assert_allclose(np.load(out), exact, rtol=1e-12)
    part = ("--test-fraction", "0.4", "--out", tmp_path / "part.npy")
    assert json.loads(run(capsys, tmp_path / "points.csv", *asked, *part)[1])["points"] == 3


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_the_infinite_kernel_as_a_zarr_array(capsys, tmp_path, kind):
    out, train = tmp_path / "K.zarr", iris()
    asked = ("--infinite", "--kind", kind, "--activation", "erf", "--block", "10", "--out", out)
    code, text, _ = run(capsys, "iris", *SMALL, *asked)
    assert code == 0
    assert f"{train.n} x {train.n}, float64" in text
    exact = getattr(infinite_ntk(MLP(train.dim, (8, 8), 3, "erf"), train.x), kind)
    stored = zarr.open_array(str(out), mode="r")
    assert stored.chunks == (10, 10)
    np.testing.assert_allclose(stored[:], exact, rtol=1e-12)


def test_the_same_command_again_computes_nothing(capsys, tmp_path):
    arguments = ("iris", *SMALL, "--out", tmp_path / "K.npy", "--json")
    run(capsys, *arguments)
    assert json.loads(run(capsys, *arguments)[1])["computed"] == 0


def test_ctrl_c_says_that_the_same_command_continues(capsys, tmp_path, monkeypatch):
    arguments = ("iris", *SMALL, "--block", 7, "--out", tmp_path / "K.npy", "--json")

    class Interrupting(command.ProgressBar):
        def __call__(self, phase, done, total):
            if done == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "ProgressBar", Interrupting)
        code, out, err = run(capsys, *arguments)
    assert (code, out) == (130, "")
    assert err.startswith("overparam: interrupted; with --out")
    assert err.count("\n") == 1
    assert json.loads(run(capsys, *arguments)[1])["computed"] == 15 - 6


def test_a_changed_tile_is_mended_and_told(capsys, tmp_path, monkeypatch):
    run(capsys, "iris", *SMALL, "--block", 7, "--out", tmp_path / "whole.npy")
    arguments = ("iris", *SMALL, "--block", 7, "--out", tmp_path / "K.npy")
    with monkeypatch.context() as patch:
        patch.setattr("overparam.kernel.files.write.wait_for", stop)
        with pytest.raises(RuntimeError):
            main(["kernel", *map(str, arguments)])
    (tmp_path / "K.npy.partial" / "kernel.zarr" / "c" / "0" / "0").write_bytes(b"cut short")
    code, _, err = run(capsys, *arguments)
    assert code == 0
    assert "1 tile of the unfinished" in err
    assert np.array_equal(np.load(tmp_path / "K.npy"), np.load(tmp_path / "whole.npy"))


def stop(*_):
    raise RuntimeError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "K.csv"], "must end in .npy or .zarr"),
        (["--out", "K.npy", "--kind", "nngp"], "--kind nngp needs --infinite"),
        (["--out", "K.npy", "--memory", "1KB"], "points need"),
        (["--out", "K.npy", "--memory", "much"], "memory size"),
        (["--out", "K.npy", "--block", "0"], "block must be a whole number, 1 or more"),
        (["--out", "K.npy", "--dtype", "float16"], "float16"),
        (["--out", "K.npy", "--depth", "-1"], "depth must be a whole number"),
        (["--out", "K.npy", "--width", "0"], "width must be a whole number"),
        (["--out", "K.npy", "--processes", "127.0.0.1:1", "2", "2"], "count from 0"),
        ([], "--out"),
    ],
)
def test_unusable_arguments(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuse(capsys, "iris", *SMALL, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_finite_is_named(capsys, tmp_path):
    (tmp_path / "points.csv").write_text("a,b,y\n1,2,0\n3,nan,1\n4,5,0\n")
    assert "line 3" in refuse(capsys, tmp_path / "points.csv", "--out", tmp_path / "K.npy")


def test_another_job_is_refused_unless_overwrite_is_given(capsys, tmp_path):
    out = tmp_path / "K.npy"
    run(capsys, "iris", *SMALL, "--out", out)
    before = out.read_bytes()
    error = refuse(capsys, "iris", *SMALL, "--seed", "1", "--out", out)
    assert "differs in parameters, x1" in error
    assert out.read_bytes() == before
    code, _, _ = run(capsys, "iris", *SMALL, "--seed", "1", "--out", out, "--overwrite")
    assert code == 0
    assert out.read_bytes() != before


@pytest.mark.slow
def test_a_killed_command_continues(capsys, tmp_path):
    out = tmp_path / "K.npy"
    arguments = ["kernel", "digits", "--target", "parity", "--block", "40", "--out", str(out)]
    code = "import sys; from overparam.cli.main import main; main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)
    chunks = tmp_path / "K.npy.partial" / "kernel.zarr" / "c"
    while process.poll() is None and sum(1 for _ in chunks.rglob("*")) < 20:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    status, text, _ = run(capsys, *arguments[1:], "--json")
    assert status == 0
    summary = json.loads(text)
    assert 0 < summary["computed"] < summary["tiles"]
    _, text, _ = run(capsys, *arguments[1:-1], tmp_path / "whole.npy")
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.slow
def test_two_processes_of_one_command(capsys, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    job = ["kernel", "iris", *SMALL, "--block", "7", "--json", "--out"]
    code = "import sys; from overparam.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *job, tmp_path / "K.npy", "--processes", coordinator]
    both = [
        subprocess.Popen([*command, str(number), "2"], stdout=subprocess.PIPE, text=True)
        for number in (0, 1)
    ]
    summaries = [json.loads(process.communicate(timeout=1800)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(summary["computed"] for summary in summaries) == 15
    run(capsys, *job[1:], tmp_path / "alone.npy")
    assert (tmp_path / "K.npy").read_bytes() == (tmp_path / "alone.npy").read_bytes()
