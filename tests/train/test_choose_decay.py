"""The weight decay by the leave-one-out error, against networks trained without a row."""

from functools import cache

import numpy as np
import pytest

from overparam import InputError, Measure, Problem
from overparam.train.choose_decay import choose_decay
from overparam.train.decayed_minimum import decayed_minimum
from overparam.train.leave_one_out import estimate_left_out
from tiny import Tiny

SMALL = Tiny((12,), "gelu", 1)
MANY = Tiny((12,), "gelu", 1, points=30)
NOISY = Tiny((3,), "gelu", 1, points=30)
PAIR = Tiny((12,), "gelu", 2, points=30)
ROWS = [0, 7, 19]


@cache
def problem_of(tiny=SMALL, decay=0.3, loss="squared"):
    return Problem(tiny.model, tiny.measure(0), loss, tiny.start(0), decay)


def retrained(problem, rows):
    """Predictions for rows by the minimum of all others, from the initialisation."""
    measure, found = problem.measure, []
    for row in rows:
        others = np.arange(measure.n) != row
        rest = Measure(measure.x[others], problem.targets[others], measure.weights[others])
        start, decay = problem.centered_at, problem.weight_decay
        alone = Problem(problem.model, rest, problem.loss, start, decay)
        params = decayed_minimum(alone, start).params
        found.append(np.asarray(problem.predict(params, measure.x[[row]]))[0])
    return np.array(found)


@pytest.mark.parametrize(
    ("tiny", "loss"),
    [(MANY, "squared"), pytest.param(PAIR, "cross_entropy", marks=pytest.mark.slow)],
)
def test_the_estimate_is_that_of_retraining_up_to_what_bends_and_a_rows_share(tiny, loss):
    for decay, share in ((0.3, 0.25), (10.0, 0.08)):
        problem = problem_of(tiny, decay, loss)
        params = decayed_minimum(problem, problem.centered_at).params
        exact = retrained(problem, ROWS)
        seen = np.asarray(problem.predict(params))[ROWS]
        off = np.abs(estimate_left_out(problem, params)[ROWS] - exact).max()
        assert off < share * np.abs(exact - seen).max()


@pytest.mark.slow
def test_the_best_certified_decay_is_chosen():
    problem = problem_of()
    found = choose_decay(problem, problem.centered_at, [3.0, 0.3], certified=True)
    assert [trial.weight_decay for trial in found.trials] == [3.0, 0.3]
    errors = []
    for trial in found.trials:
        assert trial.certified
        alone = problem_of(decay=trial.weight_decay)
        gap = retrained(alone, range(5)) - alone.targets
        exact = alone.measure.weights @ (gap**2).sum(axis=1) / 2
        assert abs(trial.left_out - exact) <= trial.left_out_error + 1e-9
        errors.append(exact)
    assert found.best is found.trials[int(np.argmin(errors))]
    assert found.certified


@pytest.mark.slow
def test_what_cannot_be_certified_ends_the_search_and_is_not_chosen():
    problem = problem_of(NOISY, 1.0)
    found = choose_decay(problem, problem.centered_at, [10.0, 1e-3, 1e-4])
    assert [trial.certified for trial in found.trials] == [True, False]
    assert found.best is found.trials[0]
    assert not found.certified  # errors are estimated
    none = choose_decay(problem, problem.centered_at, [1e-3])
    assert none.best is none.trials[0]
    assert not none.best.certified


def test_decays_that_are_none():
    problem = problem_of()
    with pytest.raises(InputError, match="decays is empty"):
        choose_decay(problem, problem.centered_at, [])
    with pytest.raises(InputError, match="weight_decay must be a number"):
        choose_decay(problem, problem.centered_at, [-1.0])
    with pytest.raises(InputError, match="Theorem R is about weight decay"):
        choose_decay(problem_of(decay=0.0), problem.centered_at)
