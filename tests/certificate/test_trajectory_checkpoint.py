"""A run that was interrupted goes on to the same certificate, bit for bit."""

from functools import cache

import pytest

from overparam import InputError, certify
from tiny import Tiny

TINY = Tiny((10,), "gelu", 1, points=3)
PROBLEM, START = TINY.problem(0, centred=True), TINY.start(0)


@cache
def uninterrupted(rigor):
    return certify(PROBLEM, START, theorem="C", rigor=rigor, budget=3600)


def certified(path, rigor="computed", stop=None, start=START, step=None):
    """Certify with a checkpoint; after ``stop`` cells somebody presses Ctrl-C."""
    told = []

    def progress(what, done, total):
        if what.startswith("steps of gradient descent"):
            told.append(done)
            if len(told) == stop:
                raise KeyboardInterrupt

    found = certify(
        *(PROBLEM, start, step),
        theorem="C",
        rigor=rigor,
        budget=3600,
        progress=progress,
        checkpoint=path,
    )
    return found, told


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("overparam.certificate.trajectory_checkpoint.SAVE_EVERY", 0.0)


@pytest.fixture
def interrupted(at_once, tmp_path):
    """The checkpoint of a run that was stopped after three cells."""
    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        certified(path, stop=3)
    assert path.exists()
    return path


def test_a_run_goes_on_to_the_same_bits(interrupted):
    _, before = certified(interrupted.with_name("another.npz"))
    found, told = certified(interrupted)
    assert told == before[3:]
    assert found == uninterrupted("computed")


def test_so_does_one_that_is_proved(at_once, tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        certified(path, "proved", stop=2)
    assert certified(path, "proved")[0] == uninterrupted("proved")


def test_what_is_saved_at_the_end_gives_the_certificate_again(at_once, tmp_path):
    path = tmp_path / "run.npz"
    assert certified(path)[0] == uninterrupted("computed")
    found, told = certified(path)
    assert found == uninterrupted("computed")
    assert told == []


@pytest.mark.parametrize("other", [{"step": 0.1}, {"rigor": "proved"}, {"start": TINY.start(1)}])
def test_another_runs_checkpoint_is_refused_and_kept(interrupted, other):
    content = interrupted.read_bytes()
    with pytest.raises(InputError, match="belongs to another run: delete it or name another"):
        certified(interrupted, **other)
    assert interrupted.read_bytes() == content


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[::-1]])
def test_a_damaged_checkpoint_is_refused_in_one_line(interrupted, damage):
    interrupted.write_bytes(damage(interrupted.read_bytes()))
    with pytest.raises(InputError, match="is damaged: delete it to start anew") as error:
        certified(interrupted)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_said_before_the_run(tmp_path):
    with pytest.raises(InputError, match="create it first"):
        certified(tmp_path / "nowhere" / "run.npz")
