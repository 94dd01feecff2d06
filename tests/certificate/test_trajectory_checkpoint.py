"""A run that was interrupted goes on to the same certificate, bit for bit."""

import tempfile
from functools import cache
from pathlib import Path

import pytest

import one_run
from overparam import InputError, certify
from overparam.certificate import trajectory_checkpoint, trajectory_run


def uninterrupted(rigor):
    return one_run.certified(rigor)[2]


def certified(path, rigor="computed", stop=None, seed=0, step=None):
    """Certify with a checkpoint; after ``stop`` cells somebody presses Ctrl-C."""
    told = []
    problem, _, _ = one_run.certified(rigor)
    start = one_run.TINY.start(seed)

    def progress(what, done, total):
        if what.startswith("steps of gradient descent"):
            told.append(done)
            if len(told) == stop:
                raise KeyboardInterrupt

    found = certify(
        *(problem, start, step),
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


@cache
def stopped():
    """The content of a checkpoint of a run that was stopped after three cells."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        with pytest.raises(KeyboardInterrupt):
            certified(path, stop=3)
        return path.read_bytes()


@pytest.fixture
def interrupted(at_once, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(stopped())
    return path


def test_a_run_goes_on_to_the_same_bits(interrupted):
    _, before = certified(interrupted.with_name("another.npz"))
    found, told = certified(interrupted)
    assert told == before[3:]
    assert found == uninterrupted("computed")


@pytest.mark.slow
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


@pytest.mark.parametrize("other", [{"step": 0.1}, {"rigor": "proved"}, {"seed": 1}])
def test_another_runs_checkpoint_is_refused_and_kept(interrupted, other):
    content = interrupted.read_bytes()
    with pytest.raises(InputError, match="belongs to another run: delete it or name another"):
        certified(interrupted, **other)
    assert interrupted.read_bytes() == content


def test_so_is_one_of_another_version(interrupted, monkeypatch):
    monkeypatch.setattr(trajectory_checkpoint, "VERSION", "0.0.1")
    with pytest.raises(InputError, match="belongs to another run: delete it or name another"):
        certified(interrupted)


def test_so_is_one_with_other_bounds_on_curvature(interrupted, monkeypatch):
    """Which of them a forecast chooses, and that may differ from machine to machine."""
    monkeypatch.setattr(trajectory_run, "curvature_of", lambda network, sampled: "layers")
    with pytest.raises(InputError, match="curvature was bounded in another way: delete it"):
        certified(interrupted)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[::-1]])
def test_a_damaged_checkpoint_is_refused_in_one_line(interrupted, damage):
    interrupted.write_bytes(damage(interrupted.read_bytes()))
    with pytest.raises(InputError, match="is damaged: delete it to start anew") as error:
        certified(interrupted)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_said_before_the_run(tmp_path):
    with pytest.raises(InputError, match="create it first"):
        certified(tmp_path / "nowhere" / "run.npz")
