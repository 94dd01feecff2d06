"""Progress: a line drawn anew on a terminal, a line for each phase elsewhere, nothing on stdout."""

import io
import re

import pytest

from overparam.cli import progress
from overparam.cli.progress import Bar, Lines, ProgressBar, duration


def test_elsewhere_each_phase_is_a_line_when_it_begins(capsys):
    with ProgressBar() as bar:
        bar("reading the data", 0, 0)
        bar("kernel", 0, 0)
        assert capsys.readouterr().err == ""  # what is wrong with the input would be said here
        for done in range(5):
            bar("kernel", done, 4)
        bar("descent", 0, 100)
        bar("kernel", 1, 4)
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r"^ +\d+\.\d s  ", "", line) for line in err.splitlines()] == [
        "kernel",
        "descent",
    ]


def test_a_closed_stderr_does_not_end_the_work(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    lines = Lines()
    lines.show("kernel", 0, 0)
    lines.show("descent", 0, 0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def take_terminal(monkeypatch, kind="xterm"):
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr("sys.stderr", Terminal())


def left(bar):
    return bar.bar.tasks[0].fields["left"]


def test_a_terminal_says_how_long_it_will_still_take(clock, monkeypatch):
    take_terminal(monkeypatch)
    bar = ProgressBar().display
    assert isinstance(bar, Bar)
    bar.show("kernel", 0, 40)
    assert left(bar) == ""
    clock[0] = 3.0
    bar.show("kernel", 10, 40)
    assert left(bar) == "9 s left"
    bar.show("kernel", 40, 40)
    assert left(bar) == ""
    # What an earlier run did took this one no time.
    bar.show("study", 90, 100)
    clock[0] += 60.0
    bar.show("study", 91, 100)
    assert left(bar) == "9 min left"
    # A length may be unknown.
    bar.show("Gauss-Newton", 3, 0)
    assert left(bar) == ""


def test_a_terminal_that_draws_nothing_gets_lines(monkeypatch):
    take_terminal(monkeypatch, "dumb")
    assert isinstance(ProgressBar().display, Lines)


def test_results_have_the_terminal_to_themselves(monkeypatch):
    take_terminal(monkeypatch)
    with ProgressBar() as bar:
        assert bar.display.bar.live.is_started
        with bar.hidden():
            assert not bar.display.bar.live.is_started
        assert bar.display.bar.live.is_started


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (99.0, "99 s"), (100.0, "2 min"), (9000.0, "2.5 h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_long_phase_says_how_far_it_is(capsys, clock):
    lines = Lines()
    for second, (done, total) in enumerate([(0, 0), (0, 400), *((5 * i, 400) for i in range(70))]):
        clock[0] = float(second)
        lines.show("the run", done, total)
    clock[0] = 200.0
    lines.show("steps", 7, 0)
    clock[0] = 240.0
    lines.show("steps", 1234, 0)
    assert capsys.readouterr().err.splitlines() == [
        "    0.0 s  the run",
        "   30.0 s  the run: 140 of 400",
        "   60.0 s  the run: 290 of 400",
        "  200.0 s  steps",
        "  240.0 s  steps: 1,234",
    ]
