"""Theorem W6: what is certified of a step before the draw goes to every larger width."""

import jax
import numpy as np
import pytest

from overparam import MLP, InputError, Measure, Problem
from overparam.steps.transfer import transfer_step


def problem(width, scale, centred=True):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6))
    x *= np.sqrt(6) / np.linalg.norm(x, axis=1, keepdims=True)
    model = MLP(6, (width,), 1, "sin", output_scale=scale)
    with jax.enable_x64(True):
        params = model.init(jax.random.key(0), dtype=np.float64)
    measure = Measure(x, np.sign(x[:, 0]))
    return Problem(model, measure, centered_at=params if centred else None), params


def test_a_step_certified_before_the_draw_is_certified_at_a_larger_width():
    narrow, params = problem(1024, 8.0)
    step, key = 2e-3, jax.random.key(1)
    moved = transfer_step(
        narrow, params, 2048, key=key, step_size=step, steps=5, failure_probability=0.1
    )
    before = moved.before_draw
    assert before.certified
    assert before["step_size"] == step
    assert "with probability 0.9 over the initialisation" in moved.guarantee
    assert "(Theorem W6)" in moved.guarantee
    # The draw is one of those of which it speaks: what was promised is no better than what it does.
    assert moved.transfers
    assert moved.wide.level == "converges"
    assert moved.wide.certificate.min_eigenvalue >= before["min_eigenvalue"]
    assert moved.wide.certificate.rate <= before["rate"]


def test_what_is_not_certified_is_said():
    narrow, params = problem(16, 1.0)
    moved = transfer_step(
        narrow, params, 32, key=jax.random.key(1), steps=5, failure_probability=0.1
    )
    assert not moved.before_draw.certified
    assert "nothing is certified of the narrow network's step at widths 16" in moved.guarantee
    uncentred, params = problem(16, 1.0, centred=False)
    with pytest.raises(InputError, match="centre the problem at params"):
        transfer_step(
            uncentred, params, 32, key=jax.random.key(1), steps=5, failure_probability=0.1
        )
