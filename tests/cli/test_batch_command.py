"""`overparam certify --batch-size` end to end: words, JSON, page and folder."""

import json

import pytest

import overparam as op
from overparam.cli.main import main
from overparam.pipeline.output import FILES

COMMAND = ["certify", "iris", "--samples", "12", "--width", "64", "--depth", "1", "--steps", "20"]
COMMAND += ["--budget", "0"]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("batches")
    assert run(*COMMAND, "--batch-size", "4", "--out", out) == 0
    return out


def test_the_anchor_is_certified_with_a_probability(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["certified"] is True
    anchor = summary["anchor"]
    assert (anchor["theorem"], anchor["batch_size"], anchor["sampling"]) == ("S", 4, "subsets")
    assert 0 < anchor["exit_probability"] < 1e-3
    assert anchor["exists"] is True
    assert summary["consequences"] is None
    assert summary["descent"]["excess_after"] < summary["descent"]["excess_before"]


def test_the_page_and_the_folder_are_whole(folder):
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    page = (folder / "report.html").read_text()
    assert "but for runs of probability" in page
    assert "so the step need not shrink (Theorem S)" in page
    assert "runs that may be lost, at most" in page


def test_the_file_is_that_certificate(folder):
    found = op.load_certificate(folder / "certificate.json")
    assert found.certified
    assert found.batches.size == 4


@pytest.mark.slow
def test_the_re_check_knows_the_anchor(folder, capsys):
    assert run("verify", folder) == 0
    printed = capsys.readouterr().out
    assert f"{folder / 'certificate.json'}: OK" in printed
    assert "certified claims only" in " ".join(printed.split())


@pytest.mark.slow
def test_epochs_are_certified_for_every_run(capsys):
    code = run(*COMMAND, "--batch-size", "5", "--sampling", "epochs")
    assert code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "certified by Theorem S (computed): batches of 5, step" in printed
    assert "every run" in printed


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--batch-size", "0"], "--batch-size must be a whole number, 1 or more, not 0"),
        (["--batch-size", "11"], "--batch-size must be at most the 10 points, not 11"),
        (["--batch-size", "2.5"], "'2.5' is not a valid integer"),
        (["--batch-size", "3", "--sampling", "epochs"], "leave 1 of the 10 points over"),
        (["--batch-size", "2", "--weight-decay", "1e-3"], "leave one of them out"),
        (["--batch-size", "2", "--loss", "huber:1"], "is about least squares"),
        (["--theorem", "S"], "Theorem S is about descent with --batch-size"),
    ],
)
def test_bad_input_is_one_line(options, line, capsys):
    assert run(*COMMAND, *options) == 2
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("overparam: ")]
    assert len(said) == 1
    assert line in said[0]
