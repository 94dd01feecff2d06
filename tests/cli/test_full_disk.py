"""Results appear together or not at all: a disk that fills leaves a folder as it was."""

import resource
import signal
from contextlib import contextmanager

import pytest

from overparam.cli.main import main
from overparam.errors import InputError
from overparam.files import write_whole, written_together

ASKED = ("--width", "32", "--steps", "2", "--no-consequences", "--test-fraction", "0")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["certify", *map(str, arguments)])
    return stop.value.code, capsys.readouterr().err


@contextmanager
def files_up_to(size):
    """The system refuses to write more than ``size`` bytes into a file, as a full disk would."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("\n".join(["a,b,y", *(f"{i},{i * i % 7},{i % 2}" for i in range(12))]))
    return path


@pytest.mark.slow
def test_no_certificate_stays_behind_without_its_parameters(capsys, table, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(capsys, table, *ASKED, "--out", whole)[0] == 0
    sizes = {path.name: path.stat().st_size for path in whole.iterdir()}
    assert sizes["report.html"] > sizes["params.npz"] > sizes["certificate.json"]
    with files_up_to(sizes["params.npz"] - 1):
        code, line = run(capsys, table, *ASKED, "--out", cut)
    assert code == 2
    *phases, error = line.splitlines()
    assert error.startswith("overparam: ")
    assert error.endswith("params.npz: File too large")
    assert not any(phase.startswith("overparam: ") for phase in phases)
    assert {path.name for path in cut.iterdir()} <= {"checkpoint.npz"}


def test_an_earlier_run_stays_whole(tmp_path):
    (tmp_path / "certificate.json").write_text("old")
    (tmp_path / "params.npz").write_text("old")

    def fills():
        with files_up_to(100), written_together(tmp_path) as new:
            write_whole(new / "certificate.json", b"new")
            write_whole(new / "params.npz", bytes(1000))

    with pytest.raises(InputError, match="cannot write"):
        fills()
    assert {path.name for path in tmp_path.iterdir()} == {"certificate.json", "params.npz"}
    assert (tmp_path / "certificate.json").read_text() == "old"


def test_what_an_earlier_run_alone_had_goes(tmp_path):
    for name in ("certificate-initialisation.json", "notes.txt"):
        (tmp_path / name).write_text("old")
    names = ("certificate.json", "certificate-initialisation.json")
    with written_together(tmp_path, names) as new:
        write_whole(new / "certificate.json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"certificate.json", "notes.txt"}


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted():
        with written_together(tmp_path) as new:
            write_whole(new / "certificate.json", b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_moved_into_is_one_line(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "b").touch()
    with pytest.raises(InputError, match="cannot write"), written_together(tmp_path) as new:
        write_whole(new / "a.json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json"}
