"""A short run of ``fuzz_verify.py``, which takes as long as one likes."""

from pathlib import Path

import pytest
from fuzz_verify import KILOBYTES, honest_runs, outcome, peak
from mutations import false_in, fresh_copy

from overparam.verification import verify

CASES = 40
"""For each seed of the test, so that workers share them and a failure names a few."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    return honest_runs(tmp_path_factory.mktemp("honest"))


@pytest.mark.parametrize("part", range(10))
@pytest.mark.sample(4)
def test_no_traceback_no_hang_no_false_ok(runs, tmp_path, part):
    before = peak()
    for seed in range(part * CASES, (part + 1) * CASES):
        _, complaint = outcome(seed, runs, tmp_path / "copy")
        assert complaint is None, f"seed {seed}: {complaint}"
    assert peak() - before < KILOBYTES / 4


def test_honest_runs_pass_and_are_true(runs, tmp_path):
    for honest in runs:
        folder = fresh_copy(honest, tmp_path / "copy")
        assert verify(folder / "certificate.json").ok
        assert false_in(folder, honest) is None


def test_the_judge_knows_a_false_ok(runs, tmp_path):
    """It is what the fuzz rests on: stronger numbers and other arrays do not escape it."""
    for number, honest in ((0, runs[0]), (1, runs[1])):
        folder = fresh_copy(honest, tmp_path / f"copy{number}")
        path = folder / "certificate.json"
        text = path.read_text()
        value = tiny_value(text, "radius")
        path.write_text(text.replace(value, repr(float(value) * (1 - 1e-3))))
        assert "radius" in false_in(folder, honest)
        path.write_text(text.replace('"points": 2', '"points": 3'))
        assert "another problem" in false_in(folder, honest)
        path.write_text(text)
        (folder / "data.npz").write_bytes((folder / "params.npz").read_bytes())
        with pytest.raises(KeyError):
            false_in(folder, honest)


def tiny_value(text: str, name: str) -> str:
    return text.split(f'"{name}": ')[1].split(",")[0]
