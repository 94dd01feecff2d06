"""`overparam predict`: the network of a job's folder on new rows, against plain NumPy."""

import json

import numpy as np
import polars as pl
import pytest

from overparam.cli.main import main

NETWORK = ("--width", "8", "--depth", "1", "--activation", "tanh", "--weight-decay", "0.1")
QUICK = ("--steps", "2", "--budget", "0", "--no-consequences", "--one-hot")


def run(*arguments, status=0):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert stop.value.code == status


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Prices of 24 things, some of them red: the folder, and the table."""
    folder = tmp_path_factory.mktemp("prices")
    rng = np.random.default_rng(0)
    size, red = rng.uniform(1, 9, 24).round(3), np.arange(24) % 3 == 0
    colour = np.where(red, "red", "blue")
    price = (100 + 7 * size + 20 * red + rng.standard_normal(24)).round(3)
    kind = np.where(size > 5, "large", "small")
    frame = pl.DataFrame({"size": size, "colour": colour, "kind": kind, "price": price})
    frame.drop("kind").write_csv(folder / "prices.csv")
    frame.drop("price").write_csv(folder / "kinds.csv")
    for name in ("prices", "kinds"):
        run("certify", folder / f"{name}.csv", *NETWORK, *QUICK, "--out", folder / name)
    return folder


def by_hand(folder, size, red):
    """The centred network's outputs, from the numbers in the folder alone."""
    summary = json.loads((folder / "summary.json").read_text())
    prepared = summary["preprocessing"]
    assert summary["feature_names"] == ["size", "colour=blue", "colour=red"]
    x = np.column_stack([size, ~red, red]).astype(float)
    x = (x - np.array(prepared["mean"])) / np.array(prepared["scale"])
    x = np.append(x, np.full((len(x), 1), 0.5 * np.sqrt(3)), axis=1)
    x *= 2.0 / np.linalg.norm(x, axis=1, keepdims=True)  # the norm sqrt(4)
    file = np.load(folder / "params.npz")

    def network(prefix):
        w, b = (
            [np.float64(file[f"{prefix}{kind}_{layer}"]) for layer in (0, 1)]
            for kind in ("weights", "biases")
        )
        hidden = np.tanh(x @ w[0].T / np.sqrt(4) + 0.1 * b[0])
        return hidden @ w[1].T / np.sqrt(8) + 0.1 * b[1]

    return summary["target"], (network("") - network("initial_"))[:, 0]


def test_numbers_are_in_the_targets_units(job, capsys):
    """The columns in another order, and without the target."""
    (job / "new.csv").write_text("colour,size\nred,2.5\nblue,7\nred,8.25\n")
    run("predict", job / "prices", job / "new.csv")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "price"
    coding, outputs = by_hand(
        job / "prices", np.array([2.5, 7, 8.25]), np.array([True, False, True])
    )
    expected = outputs * coding["scale"][0] + coding["mean"][0]
    np.testing.assert_allclose(list(map(float, lines)), expected, rtol=1e-9)


def test_classes_are_named_and_a_file_is_written_once(job, capsys):
    """A target in the table is left alone."""
    out = job / "predicted.csv"
    run("predict", job / "kinds", job / "kinds.csv", "--out", out)
    table = pl.read_csv(job / "kinds.csv")
    size, red = table["size"].to_numpy(), (table["colour"] == "red").to_numpy()
    coding, outputs = by_hand(job / "kinds", size, red)
    expected = [coding["classes"][int(value > 0)] for value in outputs]
    assert pl.read_csv(out)["kind"].to_list() == expected
    assert set(expected) == {"large", "small"}
    run("predict", job / "kinds", job / "new.csv", "--out", out, status=2)
    assert "exists: name another file with --out, or say --overwrite" in capsys.readouterr().err
    assert len(pl.read_csv(out)) == 24
    run("predict", job / "kinds", job / "kinds.csv", "--out", out, "--overwrite")
    run("predict", job / "kinds", job / "kinds.csv", "--json")
    assert json.loads(capsys.readouterr().out) == {"kind": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size,color\n1,red\n", "has no column 'colour'"),
        ("size,colour\nbig,red\n", "column 'size' holds text ('big'); the network was trained on"),
        ("size,colour\n1,red\n,red\n", "line 3, column 'size' is empty"),
        ("size,colour\n1,red\n2,\n", "line 3, column 'colour' is empty"),
        ("size,colour\n", "row"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(job, capsys, text, message):
    (job / "bad.csv").write_text(text)
    run("predict", job / "prices", job / "bad.csv", status=2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bad.csv" in said
    assert message in said


def test_a_folder_of_no_job_or_of_an_older_one_is_one_line(job, tmp_path, capsys):
    run("predict", tmp_path, job / "new.csv", status=2)
    assert "has no summary.json: give the folder of a job" in capsys.readouterr().err
    for text, message in (("{", "is damaged"), ("[]", "no summary"), ("{}", "run the job again")):
        (tmp_path / "summary.json").write_text(text)
        run("predict", tmp_path, job / "new.csv", status=2)
        assert message in capsys.readouterr().err


def test_a_category_that_training_did_not_have_is_none_of_its_own(job, capsys):
    (job / "green.csv").write_text("colour,size\ngreen,2.5\n")
    run("predict", job / "prices", job / "green.csv")
    assert np.isfinite(float(capsys.readouterr().out.splitlines()[1]))
