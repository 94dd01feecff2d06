"""Ctrl-C in any phase of the main job: 130, one line, and what was finished is on disk."""

import os
import signal

import pytest

import overparam as op
from overparam.cli.main import main
from overparam.cli.progress import ProgressBar
from overparam.pipeline.output import FILES

PHASES = (
    "reading the data",
    "kernel at initialisation",
    "kernel",
    "certificate from initialisation",
    "linearised prediction",
    "descent",
    "Gauss-Newton",
    "network stopped early",
    "kernel at the anchor",
    "anchored certificate",
    "descent from the anchor",
    "learning-rate transfer",
    "implicit regularisation",
    "laziness",
    "bounds on the risk",
    "writing the report",
)
VERDICT = PHASES.index("learning-rate transfer")


def certify(folder):
    small = ("--samples", "20", "--width", "64", "--depth", "1", "--steps", "12", "--budget", "0")
    with pytest.raises(SystemExit) as stop:
        main(["certify", "breast_cancer", *small, "--out", str(folder)])
    return stop.value.code


@pytest.fixture(autouse=True)
def ctrl_c_arrives():
    """Whoever started the tests may have them ignore it, as a shell does in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def on_progress(monkeypatch, act):
    shown = ProgressBar.__call__

    def call(self, phase, *numbers):
        act(phase)
        shown(self, phase, *numbers)

    monkeypatch.setattr(ProgressBar, "__call__", call)


@pytest.mark.slow
def test_these_are_the_phases(tmp_path, monkeypatch):
    seen = {}
    on_progress(monkeypatch, lambda phase: seen.setdefault(phase))
    assert certify(tmp_path) == 0
    assert tuple(seen) == PHASES


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.sample(2)
def test_what_was_finished_is_kept(phase, tmp_path, monkeypatch, capsys):
    def ctrl_c(now):
        if now == phase:
            os.kill(os.getpid(), signal.SIGINT)

    on_progress(monkeypatch, ctrl_c)
    assert certify(tmp_path) == 130
    out, err = capsys.readouterr()
    assert err.count("overparam: ") == 1
    assert err.splitlines()[-1].startswith("overparam: interrupted")
    written = {path.name for path in tmp_path.iterdir()} - {"checkpoint.npz"}
    if PHASES.index(phase) < VERDICT:
        assert not written
        assert not out
    else:
        assert written == set(FILES) - {"report.html"}
        assert "from initialisation" in out
        assert op.load_certificate(tmp_path / "certificate.json").certified
