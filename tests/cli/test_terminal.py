"""What leaves for the terminal: nothing that it would obey, and one line where it cannot leave."""

import json
import subprocess
import sys
import warnings

import pytest

from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import LONGEST, complain, escaped, quiet_libraries, say, say_json


def overparam(*arguments, **options):
    command = [sys.executable, "-m", "overparam", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=240, **options)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("µ ≥ 1.2\u202f×\u202f10⁻⁶", "µ ≥ 1.2\u202f×\u202f10⁻⁶"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("abc\u202egpj.exe\u2066", r"abc\u202egpj.exe\u2066"),
        ("\udcff.csv", r"\udcff.csv"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_a_terminal_obeys_is_spelled_out(capsys, text, shown):
    assert escaped(text) == shown
    say(text)
    assert capsys.readouterr().out == shown + "\n"


def test_json_is_ascii_that_reads_back_the_same(capsys):
    content = {"name": "\x1b\x7f\x9bé\u202e"}
    say_json(content)
    text = capsys.readouterr().out
    assert json.loads(text) == content
    assert text.replace("\n", "").isprintable()
    assert text.isascii()


def test_an_error_is_one_line_of_bounded_length(capsys):
    complain("cannot\nread " + "x" * 5000 + ": no such file")
    line = capsys.readouterr().err
    assert line.startswith("overparam: cannot read xxx")
    assert line.endswith("xxx: no such file\n")
    assert len(line) <= LONGEST + 10


def test_warnings_of_libraries_stay_off_the_terminal(recwarn):
    with quiet_libraries():
        warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
    assert len(recwarn) == 0
    with pytest.warns(RuntimeWarning):
        warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)


def test_a_column_that_would_clear_the_screen(tmp_path):
    (tmp_path / "t\x1b]0;x\x07.csv").write_text("a,\x1b[2Jb\n1,2\n3,4\n5,6\n")
    asked = ("width", "t\x1b]0;x\x07.csv", "--standardize", "sphere")
    found = overparam(*asked, cwd=tmp_path, stdout=subprocess.PIPE)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert found.stderr[:-1].isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("study", "--list"), ("--help",)])
@pytest.mark.sample(1)
def test_a_full_disk_behind_stdout_is_one_line(arguments):
    with open("/dev/full", "w", encoding="utf-8") as full:
        found = overparam(*arguments, stdout=full)
    assert found.returncode == 2
    assert found.stderr == ("overparam: cannot read or write the output: No space left on device\n")


def test_a_terminal_that_cannot_show_superscripts(monkeypatch):
    environment = {"PYTHONIOENCODING": "ascii"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = "from overparam.cli.terminal import say; say('10⁻⁶')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stdout == rb"10\u207b\u2076" + b"\n"


def test_phases_are_named_without_controls(capsys):
    with ProgressBar() as progress:
        for phase in ("first", "certificate\x1b[2J[/].json: kernel"):
            progress(phase, 0, 0)
    assert r"certificate\x1b[2J[/].json: kernel" in capsys.readouterr().err
