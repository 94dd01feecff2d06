"""``doctor``, ``cite`` and ``coordcheck``."""

import json
import re
from pathlib import Path

import jax
import pytest

import overparam
from overparam.cli import doctor
from overparam.cli.main import main
from overparam.rounding.probes import ArithmeticFault

ROOT = Path(__file__).parents[2]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_doctor_says_what_it_runs_on(capsys):
    code, text, _ = run(capsys, "doctor", "--json")
    found = json.loads(text)
    assert code == 0
    assert found["overparam"] == overparam.__version__
    assert found["packages"]["jax"] == jax.__version__
    assert [each["platform"] for each in found["devices"]] == [d.platform for d in jax.devices()]
    assert found["arithmetic"]["fault"] is None
    assert 1e-9 < found["arithmetic"]["float32_error"] < 1e-5
    assert set(found["cache"]) == {"folder", "programs", "bytes"}
    code, text, _ = run(capsys, "doctor")
    assert code == 0
    assert f"jax {jax.__version__}" in text
    assert "plain sums" in text


def test_doctor_fails_where_proofs_would_not_hold(capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    code, text, _ = run(capsys, "doctor")
    assert code == 1
    assert "fast math" in text
    fault = ArithmeticFault("NumPy", 64)
    monkeypatch.setattr(doctor, "arithmetic_fault", lambda inner: fault)
    code, text, _ = run(capsys, "doctor", "--json")
    assert code == 1
    assert json.loads(text)["arithmetic"]["fault"] == str(fault)


def test_the_citation_is_that_of_the_file_and_of_this_version(capsys):
    code, text, _ = run(capsys, "cite", "--json")
    found = json.loads(text)
    assert code == 0
    file = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    title = re.search(r'^title: "(.*)"$', file, re.MULTILINE)[1]
    assert f"title = {{{title}}}" in found["software"]
    assert f"version = {{{overparam.__version__}}}" in found["software"]
    assert f"version: {overparam.__version__}\n" in file
    assert "arXiv:2205.13507" in found["paper"]
    assert "arXiv:2205.13507" in file
    assert run(capsys, "cite")[1] == f"{found['software']}\n\n{found['paper']}\n"
    for entry in found.values():
        assert entry.count("{") == entry.count("}")


SMALL = ("--samples", "20", "--widths", "16,64", "--depth", "1", "--seeds", "2", "--steps", "2")


@pytest.mark.slow
def test_coordcheck_prints_a_verdict_for_each_parametrisation(capsys):
    code, text, _ = run(capsys, "coordcheck", "iris", *SMALL, "--json")
    found = json.loads(text)
    assert code == 0
    assert [each["parametrisation"] for each in found] == ["ntk", "standard", "mup"]
    by_name = {each["parametrisation"]: each for each in found}
    assert by_name["ntk"]["verdict"] == "shrinks"
    assert by_name["ntk"]["layers"] == ["layer 1", "output"]
    assert by_name["ntk"]["widths"] == [16, 64]
    code, text, _ = run(capsys, "coordcheck", "iris", *SMALL, "--parametrisation", "mup")
    assert code == 0
    assert text.startswith("mup")
    assert "width^" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--widths", "16"], "two or more"),
        (["--widths", "a,b"], "--widths must be numbers such as"),
        (["--widths", "16,99999999999"], "at most"),
        (["--widths", "16,2000000", "--depth", "2"], "memory"),
        (["--depth", "0"], "--depth must be 1 or more"),
        (["--steps", "5000"], "steps must be at most"),
        (["--activation", "rleu"], "rleu"),
        (["--parametrisation", "muP"], "'muP' is not one of"),
    ],
)
def test_what_cannot_be_checked_is_one_line(capsys, arguments, says):
    code, out, err = run(capsys, "coordcheck", "iris", *SMALL, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("overparam: ") == 1
    assert says in err
