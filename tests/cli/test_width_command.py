"""``overparam width``: the answer, its files, and one clear line for what cannot be."""

import json
import math

import pytest

from overparam.apriori.coefficients import SOURCES
from overparam.cli import width as command
from overparam.cli.main import main

SMALL = ("--samples", "8", "--test-fraction", "0", "--activation", "tanh", "--target", "parity")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["width", *map(str, arguments)])
    captured = capsys.readouterr()
    text = captured.out if "--json" in arguments else " ".join(captured.out.split())
    return stop.value.code, text, captured.err


def test_the_answer_in_words_and_in_files(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PLOTTED", 3)
    code, text, _ = run(capsys, "digits", *SMALL, "--depth", 1, "--out", tmp_path / "answer")
    assert code == 0
    assert "with probability 0.95 over the initialisation; so at each larger width" in text
    assert "risk" not in text
    assert "theorem W" in text
    folder = tmp_path / "answer"
    assert sorted(p.name for p in folder.iterdir()) == ["summary.json", "width.png", "width.svg"]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["coefficients"]) == set(SOURCES)
    assert f"dominated by {summary['dominating']}" in text
    widths, margins = (summary["by_width"][name] for name in ("width", "margin"))
    for w, margin in zip(widths, margins, strict=True):
        assert (margin is not None and margin > 1) == (w >= summary["width"])
    svg = (folder / "width.svg").read_text(encoding="utf-8")
    assert "kernel drift" in svg or "<path" in svg


def test_machine_readable_and_how_little_may_be_known(capsys):
    widths = {}
    for knowing in ("points", "norms"):
        code, text, _ = run(
            capsys, "digits", *SMALL, "--knowing", knowing, "--assume-limit", "--json"
        )
        assert code == 0
        summary = json.loads(text)
        widths[knowing] = summary["width"]
        assert summary["coefficients"]["rate"]["kind"] == "assumed"
        assert summary["n"] == 8
    assert widths["points"] <= widths["norms"]


def test_a_given_step(capsys):
    code, text, _ = run(capsys, "digits", *SMALL, "--step", 0.125)
    assert code == 0
    assert "step size 0.125" in text
    assert "the same step at each larger width, at this rate or a better one" in text


@pytest.mark.slow
def test_the_options_of_the_model_reach_the_search(capsys):
    once, ten = (
        json.loads(run(capsys, "digits", *SMALL, "--output-scale", c, "--json")[1])["width"]
        for c in (1, 10)
    )
    assert ten < once


def test_an_assumption_that_may_fail_is_counted(capsys):
    assumed = ("--assume-limit", "--eigenvalue-failure-probability", 0.1)
    code, text, _ = run(capsys, "digits", *SMALL, "--knowing", "moments", *assumed)
    assert code == 0
    assert "with probability 0.85 over the initialisation" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--failure-probability", "1"], "choose it between 0 and 1"),
        (["--min-eigenvalue", "5"], "above the kernel's diagonal"),
        (["--min-eigenvalue", "0.01", "--assume-limit"], "not both"),
        (["--knowing", "moments"], "add --assume-limit or --min-eigenvalue"),
        (["--depth", "0"], "no hidden layer"),
        (["--activation", "relu"], "no bound on its second derivative"),
        (["--min-eigenvalue", "1e-160"], "beyond 1e+300"),
        (["--step-fraction", "0"], "--step-fraction is 0"),
        (["--depth", "200"], "at most 10 hidden layers"),
        (["--output-scale", "1e300"], "--output-scale 1e+300 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(capsys, tmp_path, arguments, message):
    code, out, err = run(capsys, "digits", *SMALL, *arguments, "--out", tmp_path / "none")
    assert code == 2
    assert out == ""
    assert message in err
    assert [line.startswith("overparam: ") for line in err.splitlines()].count(True) == 1
    assert err.splitlines()[-1].startswith("overparam: ")  # after the phases, if it got that far
    assert not list((tmp_path / "none").iterdir())


@pytest.mark.slow
def test_a_width_out_of_reach_is_rounded_and_said_to_be_so(capsys, monkeypatch):
    asked = ("iris", "--samples", 30, "--test-fraction", 0)
    answers, search = [], command.width_for
    monkeypatch.setattr(command, "width_for", lambda *a: answers.append(search(*a)) or answers[-1])
    code, text, _ = run(capsys, *asked)
    assert code == 0
    exact = answers[0].width
    assert exact > 10**9
    mantissa = math.ceil(exact / 10 ** (len(str(exact)) - 2)) / 10
    assert f"width {mantissa:g}e{len(str(exact)) - 1} " in text
    assert str(exact)[:6] not in text.replace(",", "")
    assert "out of reach: the parameters alone take" in text


@pytest.mark.slow
def test_the_search_tells_how_far_it_is(capsys, monkeypatch):
    seen = []

    class Listening(command.ProgressBar):
        def __call__(self, phase, done, total):
            seen.append((phase, done))

    monkeypatch.setattr(command, "ProgressBar", Listening)
    assert run(capsys, "digits", *SMALL)[0] == 0
    assert ("looking for the width", 3) in seen
