"""Bad input ends with exit status 2 and one clear line on stderr, and writes nothing."""

import numpy as np
import pytest

from overparam.cli.main import as_typed, main


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "points.csv"
    rows = ["a,b,y"] + [f"{i},{i * i % 7},{i % 2}" for i in range(12)]
    path.write_text("\n".join(rows))
    return path


def refuse(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["certify", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("overparam: ")
    assert captured.err.count("\n") == 1
    assert captured.err[:-1].isprintable()
    assert len(captured.err) < 700
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digitz"], "did you mean 'digits'"),
        (["wine", "--target", "flavour"], "flavour"),
        (["wine", "--activation", "geluu"], "did you mean 'gelu'"),
        (["wine", "--loss", "squrd"], "did you mean 'squared'"),
        (["wine", "--width", "0"], "--width must be a whole number, 1 or more"),
        (["wine", "--depth", "-1"], "depth must be a whole number, 0 or more"),
        (["wine", "--width", "many"], "not a valid integer"),
        (["wine", "--steps", "-5"], "steps must be a whole number"),
        (["wine", "--samples", "100000"], "samples is 100000"),
        (["wine", "--output-scale", "nan"], "--output-scale must be positive"),
        (["wine", "--learning-rate", "0"], "--learning-rate must be positive"),
        (["wine", "--weight-decay", "-1e-3"], "--weight-decay must be a number, 0 (none) or more"),
        (["wine", "--weight-decay", "nan"], "--weight-decay must be a number, 0 (none) or more"),
        (["wine", "--weight-decay", "inf"], "--weight-decay must be a number, 0 (none) or more"),
        (
            ["wine", "--weight-decay", "0.1", "--rigor", "proved", "--loss", "cross_entropy"],
            "the rounding of cross_entropy is not bounded",
        ),
        (
            ["wine", "--weight-decay", "0.1", "--theorem", "1"],
            "about problems without --weight-decay",
        ),
        (
            ["wine", "--weight-decay", "0.1", "--activation", "relu", "--learning-rate", "0.1"],
            "Theorem R needs bounds on three derivatives",
        ),
        (["wine", "--theorem", "R"], "Theorem R is about problems with --weight-decay"),
        (["wine", "--optimizer", "sgdd"], "sgdd"),
        (["wine", "--memory", "some"], "memory size"),
        (["wine", "--loss", "squared", "--no-such-option"], "no-such-option"),
        (["diabetes", "--loss", "squared_hinge"], "the squared hinge needs -1 and +1"),
        (
            ["wine", "--loss", "smoothed_cross_entropy:0"],
            "smoothing 0: its infimum is not attained",
        ),
        (["wine", "--loss", "smoothed_cross_entropy:1.5"], "choose it between 0 and 1"),
        (["wine", "--loss", "cross_entropy"], "use smoothed_cross_entropy"),
        (["diabetes", "--loss", "quantile"], "use expectile"),
        (["diabetes", "--loss", "smoothed_cross_entropy"], "needs labels"),
        (
            ["diabetes", "--loss", "huber:-1"],
            "delta of the loss huber must be positive and finite, not -1.0",
        ),
        (["wine", "--loss", "weighted_quadratic:1,2"], "a weight for each output"),
        (["wine", "--seed", "99999999999999999999999"], "seed must be at most 4,294,967,295"),
        (["wine", "--steps", "99999999999999999999999"], "steps must be at most 2,147,483,647"),
        (
            ["wine", "--steps", "2000000000", "--memory", "9GB"],
            "the history of 2,000,000,000 steps",
        ),
        (["wine", "--width", "9" * 400], "width must be at most"),
        (["wine", "--depth", "99999999999"], "depth must be at most 1,000"),
        (["wine", "--output-scale", "1e300"], "--output-scale 1e+300 is out of range"),
        (["wine", "--output-scale", "1e-300"], "--output-scale 1e-300 is out of range"),
        (["wine", "--weight-scale", "1e200"], "--weight-scale 1e+200 is out of range"),
        (["wine", "--bias-scale", "1e200"], "--bias-scale 1e+200 is out of range"),
        (["wine", "--activation", "relu"], "no bound on act'', its second derivative"),
        (["a" * 5000 + ".csv"], "name too long"),
        (["wine", "--out", "a" * 5000], "name too long"),
        (["a\x1b[31mb\u202e.csv"], r"no file a\x1b[31mb\u202e.csv;"),
        ([], "DATA"),
    ],
)
def test_unusable_arguments(capsys, arguments, message):
    assert message in refuse(capsys, *arguments)


def test_memory_that_does_not_suffice_is_said_with_what_is_needed(capsys):
    error = refuse(capsys, "digits", "--memory", "100MB")
    assert "14380 x 14380" in error
    assert "GiB" in error
    assert "95.4 MiB may be used" in error


def test_contradicting_points_are_named_by_line(capsys, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("a,b,y\n0,1,0\n2,3,1\n0,1,1\n4,-4,0\n")
    assert "lines 2 and 4" in refuse(capsys, path, "--test-fraction", "0")


def test_a_folder_that_cannot_be_written_is_found_out_before_any_work(capsys, table, tmp_path):
    (tmp_path / "taken").write_text("a file")
    assert "cannot write" in refuse(capsys, table, "--out", tmp_path / "taken")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["points.csv", "taken"]


def test_a_job_that_fails_writes_no_results(capsys, table, tmp_path):
    out = tmp_path / "out"
    refuse(capsys, table, "--width", "0", "--out", out)
    assert not out.exists() or not list(out.iterdir())


def test_ctrl_c_exits_with_130(capsys, monkeypatch, table, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("overparam.cli.certify.run_job", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["certify", str(table), "--out", str(tmp_path / "out")])
    assert stop.value.code == 130
    assert "interrupted" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_kernel_needs_a_npy_file(capsys, table, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["kernel", str(table), "--out", str(tmp_path / "kernel.txt")])
    assert stop.value.code == 2
    assert "must end in .npy" in capsys.readouterr().err


def test_kernel_writes_what_empirical_ntk_computes(capsys, table, tmp_path):
    out = tmp_path / "kernel.npy"
    with pytest.raises(SystemExit) as stop:
        main(["kernel", str(table), "--width", "16", "--test-fraction", "0", "--out", str(out)])
    assert stop.value.code == 0
    kernel = np.load(out)
    assert kernel.shape == (12, 12)
    assert kernel.dtype == np.float64
    assert np.array_equal(kernel, kernel.T)
    assert np.linalg.eigvalsh(kernel)[0] > 0


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("width must be 1", "--width must be 1"),
        ("samples is 9; choose", "--samples is 9; choose"),
        ("a kernel of width must be", "a kernel of width must be"),
        ("choose tanh, or give learning_rate", "choose tanh, or give --learning-rate"),
        ("column 'test_fraction' is empty", "column 'test_fraction' is empty"),
        ("my/batch_size.csv is empty", "my/batch_size.csv is empty"),
        ("encode it with --one-hot (one_hot=True)", "encode it with --one-hot (one_hot=True)"),
    ],
)
def test_messages_name_options_as_they_are_typed(message, typed):
    assert as_typed(message) == typed


def test_an_entry_is_found_by_its_file_and_missing_columns_by_those_there_are(table, capsys):
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:3], "7,,1", *lines[3:]]))
    assert f"{table}: line 4, column 'b' is empty" in refuse(capsys, table)
    assert "it has 'a', 'b', 'y'" in refuse(capsys, table, "--target", "nope")
