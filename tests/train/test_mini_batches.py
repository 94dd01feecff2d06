"""Mini-batches: steps against a plain loop, the law of the draws, resuming, bad input."""

from functools import partial

import jax
import numpy as np
import pytest

from networks import draw_inputs, draw_params
from overparam import MLP, InputError, Measure, Problem, gradient_descent
from overparam.problem.batches import Batches, get_batches

MODEL = MLP(3, (4,), 2, "tanh")
PARAMS = draw_params(MODEL, np.float32)
STEP, STEPS, SIZE = 0.1, 7, 2
MEASURE = Measure(draw_inputs(6, MODEL, 1), draw_inputs(6, MLP(2), 2), np.arange(1.0, 7.0))


@pytest.fixture(scope="module")
def problem():
    return Problem(MODEL, MEASURE, "squared", centered_at=draw_params(MODEL, seed=9))


def mean_slope(v, rows, each):
    return np.tensordot(v[rows], np.asarray(each)[rows], 1) / SIZE


@pytest.mark.parametrize("sampling", ["subsets", "replacement", "epochs"])
@pytest.mark.sample(1)
def test_steps_are_those_of_a_plain_loop(problem, sampling):
    """theta - eta / b sum over the batch of v_i grad l_i, by the definition."""
    result = gradient_descent(
        *(problem, PARAMS, STEP, STEPS),
        **{"batch_size": SIZE, "sampling": sampling, "key": jax.random.key(3), "dtype": "float64"},
    )
    w = MEASURE.weights
    v = np.ones(6) if sampling == "replacement" else 6 * w

    def point_losses(params):
        seen = MODEL.apply(params, MEASURE.x) - problem.offset
        return ((seen - MEASURE.y) ** 2).sum(axis=1) / 2

    with jax.enable_x64(True):
        slopes = jax.jit(jax.jacobian(point_losses))
        theta = jax.tree.map(np.float64, PARAMS)
        for step in range(STEPS):
            rows = Batches(SIZE, sampling).drawn(MEASURE, 3, step)
            each = slopes(theta)
            slope = jax.tree.map(partial(mean_slope, v, rows), each)
            theta = jax.tree.map(lambda a, g: a - STEP * g, theta, slope)
        excess = float(w @ np.asarray(point_losses(theta)))
    for ours, plain in zip(jax.tree.leaves(result.params), jax.tree.leaves(theta), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=1e-14)
    assert result.history.excess[-1] == pytest.approx(excess, rel=1e-12)
    assert result.certificate_held is None


def test_batches_are_drawn_as_they_are_said_to_be():
    """Frequencies within five standard errors; an epoch holds every point once."""
    draws = 3000
    for sampling, expected in (
        ("subsets", np.full(6, 2 / 6)),
        ("replacement", 2 * MEASURE.weights),
    ):
        drawn = [Batches(2, sampling).drawn(MEASURE, 0, step) for step in range(draws)]
        found = np.bincount(np.concatenate(drawn), minlength=6) / draws
        assert (np.abs(found - expected) < 5 * np.sqrt(2 * expected / draws)).all()
        assert any(a == b for a, b in drawn) == (sampling == "replacement")
    epochs = Batches(2, "epochs")
    orders = [
        np.concatenate([epochs.drawn(MEASURE, 0, 3 * e + j) for j in range(3)]) for e in (0, 1)
    ]
    assert [sorted(order) for order in orders] == [list(range(6))] * 2
    assert list(orders[0]) != list(orders[1])


def test_a_resumed_run_takes_the_same_batches(problem, tmp_path):
    given = {"batch_size": 2, "key": jax.random.key(5), "dtype": "float64"}
    whole = gradient_descent(problem, PARAMS, STEP, 300, **given)
    kept = {**given, "checkpoint": tmp_path / "run.npz"}
    gradient_descent(problem, PARAMS, STEP, 260, **kept)
    again = gradient_descent(problem, PARAMS, STEP, 300, **kept)
    np.testing.assert_array_equal(again.history.excess, whole.history.excess)
    with pytest.raises(InputError, match="another run"):
        gradient_descent(problem, PARAMS, STEP, 300, **{**kept, "batch_size": 3})


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "batch_size must be a whole number, 1 or more, not 0"),
        (-3, "batch_size must be a whole number, 1 or more, not -3"),
        (2.5, "batch_size must be a whole number, 1 or more, not 2.5"),
        (True, "batch_size must be a whole number, 1 or more, not True"),
        (7, "batch_size must be at most the 6 points, not 7"),
    ],
)
def test_a_batch_has_from_one_to_all_points(size, message):
    with pytest.raises(InputError, match=message):
        get_batches(MEASURE, size)


def test_training_says_so_before_any_step(problem):
    with pytest.raises(InputError, match="batch_size must be a whole number, 1 or more, not 0"):
        gradient_descent(problem, PARAMS, STEP, 1, batch_size=0)


def test_epochs_leave_nothing_over():
    with pytest.raises(InputError, match="batches of 4 leave 2 of the 6 points over"):
        get_batches(MEASURE, 4, "epochs")
    with pytest.raises(InputError, match="unknown sampling 'epoch': did you mean 'epochs'"):
        get_batches(MEASURE, 3, "epoch")
