"""A row's prediction by a network without it, against training without it."""

from functools import cache

import jax
import numpy as np
import pytest

from overparam import InputError, Measure, Problem
from overparam.train import leave_one_out as module
from overparam.train.decayed_minimum import decayed_minimum
from overparam.train.leave_one_out import leave_one_out
from tiny import Tiny

WIDE = Tiny((12,), "gelu", 1)


@cache
def trained(tiny=WIDE, decay=0.2, loss="squared"):
    start = tiny.start(0)
    problem = Problem(tiny.model, tiny.measure(0), loss, start, decay)
    return problem, decayed_minimum(problem, start).params


def retrained(problem, row):
    """Of the minimum without the row, reached from the initialisation: its prediction there."""
    measure, others = problem.measure, np.arange(problem.measure.n) != row
    rest = Measure(measure.x[others], problem.targets[others], measure.weights[others])
    alone = Problem(problem.model, rest, problem.loss, problem.centered_at, problem.weight_decay)
    found = decayed_minimum(alone, problem.centered_at, tolerance=1e-12)
    return np.asarray(problem.predict(found.params, measure.x[[row]]))[0], found.params


@pytest.mark.parametrize(
    "about",
    [
        {},
        pytest.param({"loss": "cross_entropy"}, marks=pytest.mark.slow),
        pytest.param({"tiny": Tiny((6, 5), "tanh", 2), "decay": 0.4}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_predictions_are_those_of_training_without_the_row(about):
    problem, params = trained(**about)
    found = leave_one_out(problem, params, rows=[0, 3])
    assert found.certified == 2
    for i, row in enumerate((0, 3)):
        expected, there = retrained(problem, row)
        off = np.linalg.norm(found.predictions[i] - expected)
        assert off <= found.errors[i] + 1e-11
        leaves = zip(jax.tree.leaves(params), jax.tree.leaves(there), strict=True)
        moved = np.sqrt(sum(float(((np.asarray(a) - b) ** 2).sum()) for a, b in leaves))
        assert moved == pytest.approx(found.distances[i], abs=1e-5)
    assert found.errors.max() < 1e-4
    seen = np.asarray(problem.predict(params))[[0, 3]]
    assert np.abs(found.predictions - seen).max() > 0.1  # having seen a row makes a difference


def test_the_bound_holds_where_newtons_method_is_far_from_done(monkeypatch):
    problem, params = trained()
    monkeypatch.setattr(module, "TOLERANCE", 0.03)
    found = leave_one_out(problem, params)
    assert (found.errors > 1e-7).sum() > 1
    for row in np.flatnonzero(np.isfinite(found.errors)):
        expected, _ = retrained(problem, row)
        assert np.linalg.norm(found.predictions[row] - expected) <= found.errors[row] + 1e-11


def test_where_nothing_is_certified_nothing_is_said_of_the_error(monkeypatch):
    problem, params = trained()
    monkeypatch.setattr(module, "TOLERANCE", 1.0)  # no step at all
    found = leave_one_out(problem, params, rows=[1])
    assert found.errors[0] == np.inf
    assert found.certified == 0


def test_rows_that_are_not_there():
    problem, params = trained()
    for row in (-1, 5):
        with pytest.raises(InputError, match=f"row {row} is none of the 5 rows"):
            leave_one_out(problem, params, rows=[row])
    plain = Problem(WIDE.model, WIDE.measure(0))
    with pytest.raises(InputError, match="Theorem R is about weight decay"):
        leave_one_out(plain, params)
    single = Measure(np.ones((1, 3)), [[1.0]])
    with pytest.raises(InputError, match="one row"):
        leave_one_out(Problem(WIDE.model, single, weight_decay=0.1), params)
