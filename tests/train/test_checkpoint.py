"""A run that is interrupted and resumed ends with the same bits."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest

from altered import altered
from networks import draw_inputs, draw_params
from overparam.checkpoint import Checkpoint
from overparam.errors import InputError, TheoremViolatedError
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import gradient_descent, train
from overparam.train.loop import Loop
from overparam.train.run_checkpoint import load

MODEL = MLP(3, (8,), 1, "tanh")
PARAMS = draw_params(MODEL, np.float32)


def make_problem():
    return Problem(MODEL, Measure(draw_inputs(5, MODEL, 1), np.array([1.0, -1, 1, 1, -1])))


def run(steps, path=None, **options):
    return gradient_descent(make_problem(), PARAMS, 0.2, steps, checkpoint=path, **options)


def assert_same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        assert a.tobytes() == b.tobytes()
    for name in ("excess", "gradient_norm", "path_length", "distance"):
        assert getattr(one.history, name).tobytes() == getattr(other.history, name).tobytes()


class InterruptedRunError(Exception):
    pass


def interrupt(at):
    def progress(_, done, total):
        if done >= at:
            raise InterruptedRunError

    return progress


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interrupted_run_resumes_bit_for_bit(tmp_path, dtype):
    path = tmp_path / "run.npz"
    with pytest.raises(InterruptedRunError):
        run(700, path, dtype=dtype, progress=interrupt(at=512))
    assert_same_bits(run(700, path, dtype=dtype), run(700, dtype=dtype))


def test_run_is_prolonged_bit_for_bit_from_the_middle_of_a_chunk(tmp_path):
    path = tmp_path / "run.npz"
    run(100, path)
    assert_same_bits(run(300, path), run(300))


def test_optimisers_with_memory_resume_too(tmp_path):
    def adam(steps, path=None):
        optimizer = optax.adam(1e-2)
        problem = make_problem()
        return train(problem, PARAMS, optimizer, steps, label="adam", checkpoint=path)

    adam(100, tmp_path / "run.npz")
    assert_same_bits(adam(300, tmp_path / "run.npz"), adam(300))


def test_finished_run_is_read_back_and_fewer_steps_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    first = run(50, path)
    before = path.read_bytes()
    assert_same_bits(run(50, path), first)
    with pytest.raises(InputError, match=r"has made 50 steps, more than steps=40: ask for 50"):
        run(40, path)
    assert path.read_bytes() == before


def test_checkpoint_of_another_run_is_neither_resumed_nor_overwritten(tmp_path):
    path = tmp_path / "run.npz"
    run(10, path)
    before = path.read_bytes()
    measure = make_problem().measure
    others = [
        {"step_size": 0.1},
        {"params": draw_params(MODEL, np.float32, seed=1)},
        {"dtype": "float64"},
        {"problem": Problem(MODEL, measure, "squared_hinge")},
        {"problem": Problem(MODEL, measure, centered_at=PARAMS)},
        {"problem": Problem(MODEL, Measure(measure.x, -measure.y))},
    ]
    usual = {"problem": make_problem(), "params": PARAMS, "step_size": 0.2, "steps": 20}
    for other in others:
        with pytest.raises(InputError, match="belongs to another run"):
            gradient_descent(**usual | other, checkpoint=path)
    assert path.read_bytes() == before


def test_every_damage_is_refused_or_harmless(tmp_path):
    path = tmp_path / "run.npz"
    run(10, path)
    whole = path.read_bytes()
    like = Loop(make_problem(), PARAMS, optax.sgd(0.2), "float32").initial()
    with np.load(path) as file:
        saved = Checkpoint(path, str(file["job"]))
    state, rows = load(saved, like)
    draw = np.random.default_rng(0)
    damaged = [whole[:cut] for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1)]
    for at in draw.integers(len(whole), size=300):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(draw.integers(8))
        damaged.append(bytes(flipped))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            found, found_rows = load(saved, like)
        except InputError:
            refused += 1
        else:  # a flip in what ZIP does not need
            assert found_rows[0].tobytes() == rows[0].tobytes()
            pairs = zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True)
            assert all(a.tobytes() == b.tobytes() for a, b in pairs)
    assert refused > len(damaged) / 2


def test_claims_are_held_against_the_steps_before_a_monitor_joined(tmp_path, certified):
    """A run begun without a certificate is checked from its first step once it has one."""
    problem, params, certificate = certified
    path = tmp_path / "run.npz"
    step = certificate.step_size
    gradient_descent(problem, params, step, 300, checkpoint=path)
    held = gradient_descent(problem, params, step, 300, checkpoint=path, certificate=certificate)
    assert held.certificate_held is True
    wrong = altered(certificate, radius=certificate.radius / 100)
    with pytest.raises(TheoremViolatedError, match="radius"):
        gradient_descent(problem, params, step, 300, checkpoint=path, certificate=wrong)


KILLED = """
import sys, time
import test_checkpoint
test_checkpoint.run(100_000, sys.argv[1], progress=lambda *told: time.sleep(0.01))
"""


@pytest.mark.slow
def test_killed_process_leaves_a_checkpoint_to_resume_from(tmp_path):
    path = tmp_path / "run.npz"
    here = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.path.dirname(here)])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], env=environment)
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with np.load(path) as file:
        done = len(file["rows"])
    assert 0 < done < 100_000
    assert_same_bits(run(done + 300, path), run(done + 300))
