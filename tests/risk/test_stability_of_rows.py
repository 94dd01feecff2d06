"""Theorem G8 is about rows of equal weight, no longer than said: a heavy row moves more."""

import jax
import numpy as np
import pytest

from overparam import MLP, InputError, Measure, Problem
from overparam.risk.stability import Stability, uniform_stability
from overparam.train.decayed_minimum import decayed_minimum

RNG = np.random.default_rng(0)
MODEL = MLP(3, (40,), 1, "tanh")
START = jax.tree.map(lambda a: np.asarray(a, float), MODEL.init(jax.random.key(1)))
X = RNG.standard_normal((40, 3))
X *= 1.5 / np.linalg.norm(X, axis=1, keepdims=True)
Y = np.sign(RNG.standard_normal((40, 1)))


def problem_of(y=Y, weights=None):
    return Problem(MODEL, Measure(X, y, weights), "cross_entropy", START, 2.0)


def test_rows_that_weigh_differently_are_refused():
    beta = uniform_stability(problem_of()).change(41, 1.0)
    heavy = np.array([1000.0] + [1.0] * 39)
    other = np.concatenate([-Y[:1], Y[1:]])
    one, two = (
        np.asarray(problem_of(y).predict(decayed_minimum(problem_of(y, heavy), START).params, X))
        for y in (Y, other)
    )
    losses = np.logaddexp(0, one), np.logaddexp(0, two)
    assert np.abs(losses[0] - losses[1]).max() > 2 * beta  # what would have been claimed is false
    with pytest.raises(InputError, match="weights that differ"):
        uniform_stability(problem_of(weights=heavy))


@pytest.mark.parametrize("norm", [1.0, -1.0, float("nan"), float("inf")])
def test_points_that_are_longer_than_said_are_refused(norm):
    with pytest.raises(InputError, match=r"the longest point has 1\.5"):
        uniform_stability(problem_of(), norm)
    wider = uniform_stability(problem_of(), 2.0)
    assert wider.jacobian_norm > uniform_stability(problem_of()).jacobian_norm


def test_what_it_decays_to_may_be_named():
    named = Problem(MODEL, Measure(X, Y), "cross_entropy", START, 2.0, decay_to=START)
    assert uniform_stability(named) == uniform_stability(problem_of())
    elsewhere = jax.tree.map(lambda a: a + 1.0, START)
    with pytest.raises(InputError, match="centred at what it decays to"):
        uniform_stability(
            Problem(MODEL, Measure(X, Y), "cross_entropy", START, 2.0, decay_to=elsewhere)
        )


def test_of_a_single_row_nothing_is_said():
    with pytest.raises(InputError, match="at least 2"):
        Stability(1.0, 1.0, 1.0, 0.0, 1.0).change(1, 1.0)
