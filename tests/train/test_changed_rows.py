"""Rows removed, added and relabelled, against exact minimisers of dense retraining."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam import InputError, Measure, Problem
from overparam.train.changed_rows import added, relabelled, removed
from overparam.train.decayed_minimum import decayed_minimum
from tiny import Tiny

SMALL = Tiny((12,), "gelu", 1)
NEW_X, NEW_Y = np.array([[0.3, -0.2, 0.9], [1.0, 0.1, 0.0]]), np.array([[1.0], [-1.0]])
AT = np.random.default_rng(8).standard_normal((4, 3))


@cache
def trained(tiny=SMALL, decay=0.2, loss="squared", tolerance=1e-11):
    start = tiny.start(0)
    problem = Problem(tiny.model, tiny.measure(0), loss, start, decay)
    return problem, decayed_minimum(problem, start, tolerance=tolerance).params


@cache
def dense(problem):
    """The objective's gradient and whole Hessian by automatic differentiation, for any rows."""
    with jax.enable_x64(True):
        flat, back = ravel_pytree(problem.centered_at)
    decay, loss, model = problem.weight_decay, problem.loss, problem.model

    def objective(theta, x, y, weights):
        values = model.apply(back(theta), x) - model.apply(back(flat), x)
        away = theta - flat
        return weights @ loss.value(values, y) + decay / 2 * away @ away

    return jax.jit(jax.grad(objective)), jax.jit(jax.hessian(objective)), back


def retrained(problem, params, measure):
    """Plain Newton's method with the whole Hessian, until rounding: parameters, flat."""
    gradient, hessian, _ = dense(problem)
    with jax.enable_x64(True):
        theta = np.asarray(ravel_pytree(params)[0])
        data = measure.x, measure.y, measure.weights
        for _ in range(30):
            g = np.asarray(gradient(theta, *data))
            if np.linalg.norm(g) < 1e-14:
                break
            theta = theta - np.linalg.solve(np.asarray(hessian(theta, *data)), g)
        assert np.linalg.norm(g) < 1e-12
        assert np.linalg.eigvalsh(np.asarray(hessian(theta, *data)))[0] > 0
    return theta


def predictions(problem, theta):
    _, _, back = dense(problem)
    with jax.enable_x64(True):
        params = jax.tree.map(np.asarray, back(jnp.asarray(theta)))
    return np.asarray(problem.predict(params, AT))


def changes(problem):
    """What is done to the rows, and the data as they should then be."""
    measure = problem.measure
    x, y, w = measure.x, measure.y, measure.weights
    flipped = np.concatenate([y[:2], -y[2:3], y[3:]])
    new = np.tile(NEW_Y, (1, y.shape[1]))
    more = [np.concatenate(pair) for pair in ((x, NEW_X), (y, new), (w, [0.2, 0.2]))]
    left = [0, 2, 3]
    return {
        "removed": (
            lambda p: removed(problem, p, [1, 4], at=AT),
            Measure(x[left], y[left], w[left]),
        ),
        "added": (lambda p: added(problem, p, NEW_X, new, at=AT), Measure(*more)),
        "relabelled": (
            lambda p: relabelled(problem, p, [2], -y[2:3], at=AT),
            Measure(x, flipped, w),
        ),
    }


@pytest.mark.parametrize("what", ["removed", "added", "relabelled"])
@pytest.mark.parametrize(
    "about",
    [
        {"tolerance": 0.01},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"loss": "cross_entropy"}, marks=pytest.mark.slow),
        pytest.param({"tiny": Tiny((6, 5), "tanh", 2), "decay": 0.4}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.sample(1)
def test_networks_change_as_retraining_changes_them(what, about):
    problem, params = trained(**about)
    change, data = changes(problem)[what]
    found = change(params)
    assert found.certified
    old, new = (retrained(problem, params, each) for each in (problem.measure, data))
    apart = np.linalg.norm(new - old)
    assert abs(apart - found.distance) <= found.distance_error + 1e-11
    exact = predictions(problem, new) - predictions(problem, old)
    off = np.linalg.norm(found.change - exact, axis=1)
    assert np.all(off <= found.errors + 1e-11)
    assert np.abs(exact).max() > 0.01  # there is a change
    if "tolerance" in about:  # an old network that is not quite there: the bounds are of its size
        assert off.max() > 1e-6
        assert found.errors.max() < 100 * off.max()
    else:
        assert found.errors.max() < 1e-6


def test_where_the_change_is_small_descent_goes_from_the_old_minimum_to_the_new_one():
    problem, params = trained()
    measure, target = problem.measure, 0.9999 * problem.targets[:1]
    found = relabelled(problem, params, [0], target)
    assert found.reached
    far = relabelled(problem, params, [0], -target)
    assert far.certified
    assert not far.reached  # the regions are tiny, and this is far away
    targets = np.concatenate([target, problem.targets[1:]])
    data = measure.x, targets, measure.weights
    new = retrained(problem, params, Measure(*data))
    gradient, _, _ = dense(problem)
    with jax.enable_x64(True):
        theta = retrained(problem, params, measure)
        assert np.linalg.norm(theta - new) > 1e-6
        for _ in range(400):
            theta = theta - 0.3 * np.asarray(gradient(theta, *data))
    assert np.linalg.norm(theta - new) < 1e-9


def test_far_from_a_minimum_nothing_is_said():
    problem, _ = trained()
    found = relabelled(problem, problem.centered_at, [0], -problem.targets[:1], at=AT)
    assert not found.certified
    assert not found.reached
    assert np.all(np.isinf(found.errors))


def test_rows_that_do_not_fit():
    problem, params = trained()
    with pytest.raises(InputError, match="row 5 is none of the 5 rows"):
        removed(problem, params, [5])
    with pytest.raises(InputError, match="different numbers"):
        relabelled(problem, params, [1, 1], [[1.0], [1.0]])
    with pytest.raises(InputError, match="no row is left"):
        removed(problem, params, range(5))
    with pytest.raises(InputError, match="y has 2 columns"):
        relabelled(problem, params, [1], [[1.0, 0.0]])
    with pytest.raises(InputError, match="the new rows have 2 features"):
        added(problem, params, [[1.0, 2.0]], [[1.0]])
    with pytest.raises(InputError, match="at has 2 features"):
        removed(problem, params, [1], at=[[1.0, 2.0]])
    plain = Problem(SMALL.model, SMALL.measure(0))
    with pytest.raises(InputError, match="Theorem R is about weight decay"):
        removed(plain, params, [0])
